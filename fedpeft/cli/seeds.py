"""`fedpeft run FILE --seeds 1,2,3 --vary KEY=A,B`: several runs of one run file, and what they come to together."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fedpeft.cli.output import Format, Session, console, print_json
from fedpeft.errors import ConfigError

if TYPE_CHECKING:
    from fedpeft.config import RunConfig
    from fedpeft.report.record import RunRecord
    from fedpeft.report.seeds import Group
    from fedpeft.report.summary import RunPlan, RunResult


def parse_seeds(text: str) -> list[int]:
    """`1,2,3` or `1-5` or both -> seeds, in that order.

    Raises:
        ConfigError: the text is not of that form, or a seed comes twice.

    >>> parse_seeds("7, 1-3")
    [7, 1, 2, 3]
    """
    seeds: list[int] = []
    for part in text.split(","):
        found = re.fullmatch(r"\s*(\d{1,19})\s*(?:-\s*(\d{1,19})\s*)?", part)
        ends = (int(found[1]), int(found[2] or found[1])) if found else (1, 0)
        if ends[1] < ends[0] or ends[1] - ends[0] >= 1000:
            raise ConfigError(
                f'--seeds "{text}" is not a list of seeds',
                code="config.seeds",
                allowed="whole numbers and ranges, e.g. 1,2,3 or 1-5",
                remedy="write it so",
            )
        seeds += range(ends[0], ends[1] + 1)
    if len(set(seeds)) < len(seeds):
        raise ConfigError(
            f'--seeds "{text}" has a seed twice',
            code="config.seeds",
            allowed="each seed once",
            remedy="remove the second one: it would be the same run",
        )
    return seeds


LONGEST_NAME = 100
"""Characters that the name of a run may have."""


def with_seed(config: RunConfig, seed: int) -> RunConfig:
    """The run file under another seed, in a folder of its own: NAME-seed7.

    Raises:
        ConfigError: the name would be too long.
    """
    name = f"{config.run.name}-seed{seed}"
    if len(name) > LONGEST_NAME:
        raise ConfigError(
            f'run.name = "{config.run.name}" is too long for --seeds: with -seed{seed} it has {len(name)} characters',
            code="config.seeds",
            allowed=f"{LONGEST_NAME} characters with the seed",
            remedy="give the run a shorter name, e.g. with --name",
        )
    run = config.run.model_copy(update={"seed": seed, "name": name})
    return config.model_copy(update={"run": run})


def with_seeds(configs: Sequence[RunConfig], seeds: Sequence[int] | None) -> list[RunConfig]:
    """Every configuration under every seed, seed by seed, so that what is compared is complete as early as can be."""
    return list(configs) if seeds is None else [with_seed(config, seed) for seed in seeds for config in configs]


def run_all(session: Session, configs: Sequence[RunConfig], *, fresh: bool, format: Format) -> None:
    """Run what is not finished yet, one after the other, then print the table; the same command goes on after a crash.

    Raises:
        FedpeftError: what ended a run; those before it are finished.
    """
    from fedpeft.cli.group_tables import print_groups
    from fedpeft.report.seeds import group_runs

    screen = console(stderr=format is Format.JSON)
    folders = []
    for place, own in enumerate(configs, start=1):
        screen.print(f"run {place} of {len(configs)}, seed {own.run.seed}: {own.run.name}", style="bold")
        result = _one(session, own, fresh=fresh, format=format, first=place == 1)
        screen.print(_line(result), "", sep="\n")
        folders.append(own.folder)
    groups = group_runs(read_runs(folders))
    if format is Format.JSON:
        print_json(groups_document(groups))
    else:
        print_groups(screen, groups)


def read_runs(folders: Sequence[Path]) -> list[RunRecord]:
    """The runs in these folders that have finished."""
    from fedpeft.journal import Journal
    from fedpeft.report.record import record_of

    found = []
    for folder in folders:
        with Journal.read(folder) as journal:
            found.append(record_of(journal))
    return [one for one in found if one is not None]


def groups_document(groups: Sequence[Group]) -> dict[str, Any]:
    """Groups and their differences from the first, as JSON values."""
    from fedpeft.report.seeds import differences

    return {
        "groups": [group.to_json() for group in groups],
        "differences": [one.to_json() for one in differences(groups)],
    }


def _one(session: Session, config: RunConfig, *, fresh: bool, format: Format, first: bool) -> RunResult:
    from fedpeft import api
    from fedpeft.cli.progress import Screen
    from fedpeft.cli.tables import plan_table
    from fedpeft.journal import Event, Journal
    from fedpeft.report.summary import summarise

    begun = not fresh and (config.folder / "journal.sqlite").is_file()
    if begun:
        with Journal.read(config.folder) as journal:
            _same_run_file(config, journal)
            result = summarise(journal)
        if result.finished:
            return result
    screen = Screen(console(stderr=format is Format.JSON), config.run.rounds, config.folder if begun else None)

    def started(_: Event) -> None:
        session.again = "the same command" + (" without --fresh" if fresh else "")

    def show_plan(plan: RunPlan) -> None:
        if first:
            screen.console.print(plan_table(plan))

    watching: dict[str, Any] = {
        "observers": [started, screen.observe],
        "on_plan": show_plan,
        "on_progress": screen.progress,
    }
    with screen:
        return api.resume(config.folder, **watching) if begun else api.run(config, fresh=fresh, **watching)


def _same_run_file(config: RunConfig, journal: Any) -> None:
    """Refuse to go on with a run of another run file."""
    from fedpeft.report.summary import stored_config
    from fedpeft.simulation.same_run import changed_keys, told

    if changed := changed_keys(stored_config(journal), config):
        raise ConfigError(
            f"the run in {config.folder} began with another run file: {told(changed)}",
            code="config.other-run-file",
            allowed=f"the run file as it was then: {config.folder / 'run.toml'}",
            remedy="change it back to go on with them, give the new runs another --name, or replace them: --fresh",
        )


def _line(result: RunResult) -> str:
    from fedpeft.report.units import metric_label, metric_text

    name = result.metric
    told = [("federated", result.federated), ("centralised", result.centralised)]
    values = [f"{label} {metric_text(name, value)}" for label, value in told if value is not None]
    return f"{metric_label(name)}: {', '.join(values)}" if values else "no evaluation"
