"""Which rule mixes a run's LoRA factors, and whether strategy and run file let it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from fedpeft.adapters import FlatAdapter
from fedpeft.adapters.scalings import lora_scalings
from fedpeft.aggregation.lora import lora_layers
from fedpeft.aggregation.rules import ExactMix, RankDecay, Rule
from fedpeft.config import AggregationTable, RunConfig
from fedpeft.config.pruning import is_pruned
from fedpeft.config.scheduler import axes_of
from fedpeft.errors import ConfigError, ModelError
from fedpeft.registry import build
from fedpeft.server.mixing import MixingSettings
from fedpeft.simulation.class_codecs import is_relaxed, upward
from fedpeft.strategies import FedAvg, Strategy
from fedpeft.training.objectives import half_of
from fedpeft.types import ALL_COMPONENTS

if TYPE_CHECKING:
    from fedpeft.simulation.federation import Federation

DEFAULT = "exact-mix"
"""Where device classes or arms have ranks and nothing stands against it."""


def leaves_rule_open(config: RunConfig) -> bool:
    """Whether a run file with these ranks names no rule: a run of it takes the default, where it goes with the rest."""
    return config.aggregation.rule is None and _ranks_differ(config)


def rule_of(config: RunConfig, strategy: Strategy) -> Rule | None:
    """The rule that `aggregation.rule` names; None: none is.

    Raises:
        PluginError: no such rule, or it refuses its parameters.
        ConfigError: the rule does not go with the strategy or with another key; names both.
    """
    name = config.aggregation.rule
    if name is None:
        return None
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


def settle_rule(config: RunConfig, strategy: Strategy, adapter: FlatAdapter) -> RunConfig:
    """The run file with the default rule named where it applies: what a run keeps says how its factors were mixed."""
    if not leaves_rule_open(config) or not lora_layers(adapter.layout, {}):
        return config
    if _against(ExactMix(), config, strategy) is not None:
        return config
    return config.model_copy(update={"aggregation": AggregationTable(rule=DEFAULT)})


def mixing_settings(federation: Federation) -> MixingSettings | None:
    """What the coordinator of a run with a rule knows; None of any other.

    Raises:
        ModelError: nothing that is trained is a pair of LoRA factors.
    """
    config = federation.config
    rule = rule_of(config, federation.strategy)
    if rule is None:
        return None
    layers = lora_layers(federation.sharing.shared, lora_scalings(federation.adapter))
    if not layers:
        raise ModelError(
            f'aggregation.rule = "{config.aggregation.rule}" mixes pairs lora_A and lora_B, and this adapter has none',
            code="adapter.no-lora",
            allowed="adapter.type = lora, rslora, pissa or dora",
            remedy="remove aggregation.rule, or train LoRA",
        )
    units = None if federation.pruner is None else federation.pruner.units
    return MixingSettings(rule, layers, tuple(sorted(_ranks_of(config))), config.adapter.merged, units)


def mixing_notes(config: RunConfig, strategy: Strategy) -> list[str]:
    """What a person should know of the rule before the run, or of there being none."""
    rule, name, codec = rule_of(config, strategy), config.aggregation.rule, config.codec.up
    if rule is None:
        if not _ranks_differ(config):
            return []
        found = _against(ExactMix(), config, strategy)
        why = found[0] if found is not None else f'adapter.type = "{config.adapter.type}", which is no LoRA'
        return [f"ranks differ, and factors are averaged zero-padded, each by itself: {DEFAULT} does not go with {why}"]
    notes = [f"ranks differ: LoRA factors are mixed by {name} (aggregation.rule)"] if _ranks_differ(config) else []
    if merged := config.adapter.merged:
        notes.append(
            f"each LoRA layer has {merged} components more that clients use and nobody trains (adapter.merged): "
            f"{name} puts there what the trained ones cannot hold, and they travel down"
        )
    if rule.turns_basis and codec != "fp32":
        lost = f'what codec.up = "{codec}" loses is not carried into a client\'s next update'
        notes.append(f"{name} turns the basis of the factors in every round: {lost}")
    if rule.rank_decay is not None:
        falls = f"{rule.rank_decay.decay:g} of its rank, rounded down and never below {rule.rank_decay.min_rank}"
        notes.append(f"{name} lowers ranks: a client whose last components shrink as it trains goes on with {falls}")
    return notes


def _ranks_differ(config: RunConfig) -> bool:
    return any(rank not in (config.adapter.rank, ALL_COMPONENTS) for rank in _ranks_of(config))


def _ranks_of(config: RunConfig) -> set[int]:
    """The ranks of all device classes and arms that have one."""
    arms = axes_of(config)[0] if config.scheduler is not None else []
    return {*arms, *(table.rank for table in config.devices if table.rank is not None)}


def _against(rule: Rule, config: RunConfig, strategy: Strategy) -> tuple[str, str, str] | None:
    """What stands against a rule: key and value, what is allowed, what to do; None: nothing."""
    rounds, named = config.round, f'strategy.name = "{config.strategy.name}"'
    merged = config.adapter.merged
    if rule.merges == ("no" if merged else "must"):
        why = "it has no use for them" if merged else "what it merges goes into components that nobody trains"
        allowed = "adapter.merged of 1 or more with fedex, flora or exact-mix; 0 with the others and exact-mix"
        return f"adapter.merged = {merged}: {why}", allowed, "correct adapter.merged"
    if rule.restarts and any(strategy.frozen_in(number) for number in range(1, config.run.rounds + 1)):
        what = f"{named}, which freezes tensors in turns: B is 0 as each round begins, and against it A has no gradient"
        return what, "a strategy that trains both factors in every round, e.g. fedavg", "choose one of these"
    if merged and rule.rank_decay is not None:
        what = f"adapter.merged = {merged}: a client's last components are then not its own to give up"
        return what, "adapter.merged = 0 with a rule that lowers ranks", "remove adapter.merged"
    if is_pruned(config) and not rule.partial:
        what = (
            "pruned clients (devices.pruning, scheduler.arms.pruning): it averages whole factors, and theirs have gaps"
        )
        return what, "exact-mix, fedit, lora-fair, fedex or flora where clients are pruned", "choose one of these"
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
    allowed = "fedavg, fedprox, or one derived from FedAvg that leaves begin, accept, finish and step as they are"
    remedy = 'choose one of these, or aggregation.rule = "fedit"'
    if not rule.any_step and not _averages_plainly(strategy):
        return f"{named}, which folds or steps in its own way in the basis of the factors", allowed, remedy
    relaxed = [f'{key} = "{codec}"' for key, codec in upward(config).items() if is_relaxed(codec)]
    if rule.turns_basis and relaxed:
        what = f"{relaxed[0]}: it sends further than it means, and there is no error feedback here to take that back"
        return what, "codecs without relax(...)", "name the codec without that stage"
    if rule.turns_basis and half_of(build("objective", strategy.objective, strategy.objective_params)) is not None:
        return f"{named}, whose client half may remember vectors of an older basis", allowed, remedy
    return None if rule.rank_decay is None else _against_falling(rule.rank_decay, config, strategy)


def _against_falling(decay: RankDecay, config: RunConfig, strategy: Strategy) -> tuple[str, str, str] | None:
    """What stands against a rule that lowers ranks, as above."""
    if config.scheduler is not None and config.scheduler.arms.rank:
        what = f"scheduler.arms.rank = {list(config.scheduler.arms.rank)}: both would choose the clients' ranks"
        return what, "one of the two", "remove scheduler.arms.rank, or set aggregation.decay = 1"
    if decay.regularisation > 0 and strategy.objective != "plain":
        what = f'strategy.name = "{config.strategy.name}", whose clients have the objective "{strategy.objective}": '
        what += f'a client has one, and to shrink its last components it would have "{decay.objective}"'
        allowed = 'a strategy with the objective "plain", e.g. fedavg, rolora'
        return what, allowed, "choose one of these, or set aggregation.regularisation = 0 or aggregation.decay = 1"
    return None


def _averages_plainly(strategy: Strategy) -> bool:
    kind = type(strategy)
    return isinstance(strategy, FedAvg) and all(
        getattr(kind, method) is getattr(FedAvg, method) for method in ("begin", "accept", "finish", "step")
    )
