"""Which rule mixes a run's LoRA factors, and whether strategy and run file let it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from fedpeft.adapters.scalings import lora_scalings
from fedpeft.aggregation.lora import lora_layers
from fedpeft.aggregation.rules import ExactMix, Rule
from fedpeft.config import RunConfig
from fedpeft.errors import ConfigError, ModelError
from fedpeft.registry import build
from fedpeft.server.mixing import MixingSettings
from fedpeft.strategies import FedAvg, Strategy
from fedpeft.training.objectives import half_of

if TYPE_CHECKING:
    from fedpeft.simulation.federation import Federation

DEFAULT = "exact-mix"
"""Where device classes have ranks and nothing stands against it."""


def rule_of(config: RunConfig, strategy: Strategy) -> Rule | None:
    """The run's rule: the one that `aggregation.rule` names, else exact-mix where ranks differ; None: no rule.

    Raises:
        PluginError: no such rule, or it refuses its parameters.
        ConfigError: the rule does not go with the strategy or with another key; names both.
    """
    name = config.aggregation.rule
    if name is None:
        rule: Rule = ExactMix()
        return rule if _ranks_differ(config) and _against(rule, config, strategy) is None else None
    rule = build("rule", name, config.aggregation.params)
    if not isinstance(rule, Rule):
        raise ConfigError(
            f'aggregation.rule = "{name}" is a {type(rule).__name__}, not a Rule',
            code="config.not-a-rule",
            allowed="a class derived from fedpeft.aggregation.rules.Rule",
            remedy="derive it, or name another class",
        )
    if (found := _against(rule, config, strategy)) is not None:
        what, allowed, remedy = found
        raise ConfigError(
            f'aggregation.rule = "{name}" contradicts {what}', code="config.rule", allowed=allowed, remedy=remedy
        )
    return rule


def mixing_settings(federation: Federation) -> MixingSettings | None:
    """What the coordinator of a run with a rule knows; None of any other.

    Raises:
        ModelError: a rule is named, and nothing that is trained is a pair of LoRA factors.
    """
    config = federation.config
    rule = rule_of(config, federation.strategy)
    if rule is None:
        return None
    layers = lora_layers(federation.sharing.shared, lora_scalings(federation.adapter))
    if not layers and config.aggregation.rule is None:
        return None
    if not layers:
        raise ModelError(
            f'aggregation.rule = "{config.aggregation.rule}" mixes pairs lora_A and lora_B, and this adapter has none',
            code="adapter.no-lora",
            allowed="adapter.type = lora, rslora, pissa or dora",
            remedy="remove aggregation.rule, or train LoRA",
        )
    return MixingSettings(rule, layers, tuple(sorted({t.rank for t in config.devices if t.rank is not None})))


def mixing_notes(config: RunConfig, strategy: Strategy, settings: MixingSettings | None) -> list[str]:
    """What a person should know of the rule before the run."""
    if settings is None:
        if not _ranks_differ(config):
            return []
        found = _against(ExactMix(), config, strategy)
        why = found[0] if found is not None else f'adapter.type = "{config.adapter.type}", which is no LoRA'
        return [f"ranks differ, and factors are averaged zero-padded, each by itself: {DEFAULT} does not go with {why}"]
    name, codec = config.aggregation.rule or DEFAULT, config.codec.up
    notes = [] if config.aggregation.rule else [f"ranks differ: LoRA factors are mixed by {name} (aggregation.rule)"]
    if settings.rule.turns_basis and codec != "fp32":
        lost = (
            f"{name} turns the basis of the factors in every round, so a client's next update does not carry on what "
        )
        notes.append(f'{lost}codec.up = "{codec}" loses')
    return notes


def _ranks_differ(config: RunConfig) -> bool:
    return any(table.rank is not None and table.rank != config.adapter.rank for table in config.devices)


def _against(rule: Rule, config: RunConfig, strategy: Strategy) -> tuple[str, str, str] | None:
    """What stands against a rule: key and value, what is allowed, what to do; None: nothing."""
    rounds, named = config.round, f'strategy.name = "{config.strategy.name}"'
    if config.zeroth is not None:
        return "the table [zeroth], which has one rank for all", "no rule", "remove aggregation.rule"
    if rounds.mode != "sync" or rounds.late != "drop":
        key, value = ("mode", rounds.mode) if rounds.mode != "sync" else ("late", rounds.late)
        what = f'round.{key} = "{value}": it needs replies that all started from the same version'
        return what, 'round.mode = "sync" with round.late = "drop"', f"remove round.{key}, or aggregation.rule"
    parts = [*strategy.private, *config.adapter.private, *strategy.frozen, *config.adapter.frozen]
    if parts:
        what = f"private or frozen tensors ({', '.join(parts)}): it needs both factors, and the whole adapter"
        return what, "neither adapter.private nor adapter.frozen; not fedsa or ffa", "remove one of the two"
    allowed = "fedavg, fedprox, or one derived from FedAvg that leaves accept, finish and step as they are"
    remedy = 'choose one of these, or aggregation.rule = "fedit"'
    if not rule.any_step and not _averages_plainly(strategy):
        return f"{named}, which folds or steps in its own way in the basis of the factors", allowed, remedy
    if rule.turns_basis and half_of(build("objective", strategy.objective, strategy.objective_params)) is not None:
        return f"{named}, whose client half may remember vectors of an older basis", allowed, remedy
    return None


def _averages_plainly(strategy: Strategy) -> bool:
    kind = type(strategy)
    return isinstance(strategy, FedAvg) and all(
        getattr(kind, method) is getattr(FedAvg, method) for method in ("begin", "accept", "finish", "step")
    )
