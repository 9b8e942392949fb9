"""`fedpeft evaluate RUN`: what a run has trained, on its test set; and what pruning would leave of it."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Annotated

import typer

from fedpeft.cli.find import RunArgument, find_run
from fedpeft.cli.output import Format, FormatOption, console, print_json
from fedpeft.cli.which import ClientOption, Which, WhichOption

if TYPE_CHECKING:
    from rich.console import RenderableType

    from fedpeft.simulation.evaluated import Evaluated, RunEvaluation


def evaluate(
    run: RunArgument,
    which: WhichOption = Which.KEPT,
    pruned: Annotated[
        list[float] | None,
        typer.Option("--pruned", help="Also without this share of heads and channels, as export --pruned; repeat it."),
    ] = None,
    client: ClientOption = None,
    format: FormatOption = Format.TEXT,
) -> None:
    """Evaluate a run's adapter on its test set, or on what a client holds out; and what pruning would leave of it."""
    folder = find_run(run)
    from rich.progress import Progress

    from fedpeft import api

    screen = console(stderr=True)
    with Progress(console=screen, disable=not screen.is_terminal, transient=True) as bar:
        task = bar.add_task("loading model and data", total=None)

        def on_progress(done: int, total: int) -> None:
            bar.update(task, description="examples", completed=done, total=total)

        found = api.evaluate(folder, which=which.value, client=client, pruned=pruned or (), on_progress=on_progress)
    name = folder.resolve().name  # also of "."
    if format is Format.JSON:
        print_json(_document(name, client, found))
    else:
        console().print(_page(name, client, found))


def _document(name: str, client: str | None, found: RunEvaluation) -> dict[str, object]:
    return {
        "run": name,
        "client": client,
        "round": found.round,
        "committed": found.committed,
        "rounds": found.rounds,
        "recorded": None if found.recorded is None else dict(found.recorded),
        "models": [_model(one) for one in found.models],
    }


def _model(one: Evaluated) -> dict[str, object]:
    judged = one.evaluation
    return {
        "pruned": one.pruned,
        "parameters": one.parameters,
        "quantization": one.quantization,
        "examples": judged.examples,
        "loss": _finite(judged.loss),
        "metrics": {name: _finite(value) for name, value in judged.metrics.items()},
    }


def _finite(value: float) -> float | None:
    """JSON has no words for the others."""
    return value if math.isfinite(value) else None


def _page(name: str, client: str | None, found: RunEvaluation) -> RenderableType:
    from rich.console import Group
    from rich.text import Text

    from fedpeft.report.units import count_text

    examples = count_text(found.models[0].evaluation.examples)
    which = f"round {found.round} of {found.rounds}"
    if found.committed not in (found.round, found.rounds):
        which += f" ({found.committed} committed)"
    where = f"{examples} test examples" + (f" of {client}" if client else "")
    head = Text.assemble((name, "bold"), f" — {which}{', untrained' * (not found.round)}, {where}")
    lines: list[RenderableType] = [head, "", _table(found)]
    if found.differs:
        lines += ["", f"note: {_recorded(found)}"]
    if len({one.quantization for one in found.models}) > 1:
        lines += ["", "note: the smaller models are cut from the base as it is, not quantised"]
    return Group(*lines)


def _recorded(found: RunEvaluation) -> str:
    """What the run itself had said, and why it may be something else now."""
    from fedpeft.journal import measured
    from fedpeft.report.units import count_text, metric_label, metric_text

    assert found.recorded is not None
    known = measured(found.recorded).items()
    told = ", ".join(f"{metric_label(name)} {metric_text(name, value)}" for name, value in known)
    examples = count_text(found.recorded["examples"])
    return (
        f"after that round the run itself had {told} on {examples} examples: "
        "model, data, library versions or the device have changed since"
    )


def _size(parameters: int) -> str:
    from fedpeft.report.units import count_text

    for unit, word in ((1e9, "B"), (1e6, "M")):
        if parameters >= unit:
            return f"{parameters / unit:.1f} {word}"
    return count_text(parameters)


def _table(found: RunEvaluation) -> RenderableType:
    from fedpeft.cli.look import plain_table
    from fedpeft.journal.headline import ACCURACY, LOSS
    from fedpeft.report.units import metric_interval, metric_label, metric_text

    metrics = list(found.models[0].evaluation.metrics)
    head = ["heads and channels", "parameters"]
    for metric in metrics:
        head += [metric_label(metric), *(["95 % interval"] if metric == ACCURACY else [])]
    table = plain_table(*head, LOSS)
    for one in found.models:
        judged, cells = one.evaluation, []
        for metric in metrics:
            value = judged.metrics[metric]
            cells.append(metric_text(metric, value))
            cells += [metric_interval(metric, value, judged.examples)] if metric == ACCURACY else []
        table.add_row(
            f"without {100 * one.pruned:g} %" if one.pruned else "all",
            _size(one.parameters),
            *cells,
            metric_text(LOSS, judged.loss),
        )
    return table
