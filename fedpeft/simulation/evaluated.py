"""What a run has trained, on its test set: the whole model, and what is left of it without some heads and channels.

run folder ──reopen──> base + θ of one round ──┬─ the run's own model ────────────────> row "all"
                                               └─ Pruner.shrunk(mask of each ratio) ──> a row each

Smaller models are cut from weights that are not quantised, as an export cuts them; so the base of a quantised run is
loaded twice, and each row says which one it has.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from math import isfinite, prod
from pathlib import Path
from typing import Any

from fedpeft.adapters import FlatAdapter
from fedpeft.adapters.export import check_mergeable
from fedpeft.config import RunConfig
from fedpeft.errors import ConfigError
from fedpeft.evaluation import Evaluation, evaluate
from fedpeft.journal import Journal, measured
from fedpeft.journal.headline import LOSS
from fedpeft.pruning.shrink import Pruner
from fedpeft.simulation.federation import load_strategy
from fedpeft.simulation.finished import Finished, config_of, reopen, take
from fedpeft.simulation.kept import Kept
from fedpeft.simulation.parts import private_parts
from fedpeft.simulation.pruned_export import check_share, mask_of
from fedpeft.types import ClientId

OnProgress = Callable[[int, int], None]


@dataclass(frozen=True, slots=True)
class Evaluated:
    """A model, and how good it is."""

    pruned: float  # share of the heads and channels of each layer that it does without
    parameters: int  # of base and adapter, not merged
    quantization: str  # of the base: "none", or as `model.quantization`
    evaluation: Evaluation


@dataclass(frozen=True, slots=True)
class RunEvaluation:
    """A run's models, and which adapter it is that they have."""

    round: int  # after which the run had that adapter; 0: untrained
    committed: int  # rounds
    rounds: int  # of the run file
    recorded: Mapping[str, Any] | None  # the run's own event of that round on the whole of the same data, if any
    models: tuple[Evaluated, ...]  # the whole one, then those of the ratios in their order

    @property
    def differs(self) -> bool:
        """Whether the whole model is not what the run said: another number of examples, or a thousandth off."""
        if self.recorded is None:
            return False
        found = self.models[0].evaluation
        known, now = measured(self.recorded), {**found.metrics, LOSS: found.loss}
        both = [(known[name], now[name]) for name in known.keys() & now.keys()]
        off = any(not abs(a - b) <= 1e-3 * max(1.0, abs(a)) for a, b in both)
        overflowed = self.recorded.get(LOSS) is None and isfinite(found.loss)  # then; the journal keeps numbers only
        return off or overflowed or self.recorded["examples"] != found.examples


def evaluate_run(
    folder: Path,
    *,
    which: Kept = "kept",
    client: str | None = None,
    ratios: Sequence[float] = (),
    on_progress: OnProgress | None = None,
) -> RunEvaluation:
    """Evaluate a run's model, and smaller ones; arguments and errors as `fedpeft.api.evaluate`."""
    for ratio in ratios:
        check_share(ratio)
    with Journal.read(folder) as journal:
        config = config_of(journal)
        _check_shared(config, client)
        taken = take(journal, config, which, client)
    smaller: list[Evaluated] = []
    if ratios and config.model.quantization != "none":
        whole_weights = reopen(folder, client=client, whole_weights=True, taken=taken)
        smaller = evaluate_finished(whole_weights, ratios, client=client, whole=False, on_progress=on_progress)
        del whole_weights  # before the other base is loaded
        ratios = ()
    finished = reopen(folder, client=client, taken=taken)
    models = evaluate_finished(finished, ratios, client=client, on_progress=on_progress)
    rounds = config.run.rounds
    return RunEvaluation(finished.round, finished.committed, rounds, finished.recorded, (*models, *smaller))


def evaluate_finished(
    finished: Finished,
    ratios: Sequence[float],
    *,
    client: str | None = None,
    whole: bool = True,
    on_progress: OnProgress | None = None,
) -> list[Evaluated]:
    """Evaluate the whole model, then what `fedpeft export --pruned` would write for each ratio before it merges.

    Args:
        finished: of the run.
        ratios: each in (0, 1).
        client: on whose held-out examples; None: on the coordinator's test set.
        whole: evaluate the whole model, too.
        on_progress: called with the examples that are done, and all of them.

    Raises:
        ConfigError: there are no test examples; a ratio leaves nothing of a layer.
        ModelError: the model cannot be pruned, or the adapter not be merged.
    """
    federation = finished.federation
    test = federation.test if client is None else federation.held_out[ClientId(client)]
    if not len(test):
        raise ConfigError(
            f"run {federation.config.run.name} has no test " + ("set" if client is None else f"examples of {client}"),
            code="evaluate.no-test",
            allowed="a run whose data has one (data.test" + (")" if client is None else ", data.client_test)"),
            remedy="export the adapter, and evaluate it on data of your own",
        )
    masks: list[bytes] = []
    if ratios:
        check_mergeable(federation.adapter)
        pruner = Pruner(federation.adapter, kept=1)
        masks = [mask_of(pruner, finished.scores, ratio) for ratio in ratios]
    done, total = 0, len(test) * (whole + len(masks))

    def judged(pruned: float, adapter: FlatAdapter) -> Evaluated:
        def on_batch(examples: int) -> None:
            nonlocal done
            done += examples
            if on_progress is not None:
                on_progress(done, total)

        size = federation.config.evaluation.batch_size
        found = evaluate(adapter, federation.task, test, batch_size=size, on_batch=on_batch)
        return Evaluated(pruned, _parameters(adapter.model), federation.config.model.quantization, found)

    models = []
    federation.adapter.set(finished.theta)
    if whole:
        models.append(judged(0.0, federation.adapter))
    for ratio, mask in zip(ratios, masks, strict=True):
        smaller = pruner.shrunk(mask)
        smaller.adapter.set(finished.theta[smaller.places])
        models.append(judged(ratio, smaller.adapter))
    return models


def _check_shared(config: RunConfig, client: str | None) -> None:
    """Refuse a run whose clients keep tensors to themselves, unless one of them is asked for."""
    parts = private_parts(config, load_strategy(config))
    if parts and client is None:
        raise ConfigError(
            f"run {config.run.name} keeps tensors private (in whose names is {', '.join(parts)}): what is shared is no "
            "whole adapter",
            code="evaluate.private",
            allowed="--client NAME: a client's whole adapter, on its own held-out examples",
            remedy="name a client",
        )


def _parameters(model: Any) -> int:
    """Values, also where a matrix is packed two to a byte."""
    return sum(_count(parameter) for parameter in model.parameters())


def _count(parameter: Any) -> int:
    shape = getattr(getattr(parameter, "quant_state", None), "shape", None)  # of bitsandbytes' 4 bits
    return parameter.numel() if shape is None else prod(shape)
