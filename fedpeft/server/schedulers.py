"""The scheduler that a run file names, told of its run."""

from __future__ import annotations

from collections.abc import Mapping

from fedpeft.config import RunConfig
from fedpeft.errors import ConfigError
from fedpeft.registry import build
from fedpeft.scheduling import ClassTimes, Grid, Load, Scheduler, Setting


def load_scheduler(
    config: RunConfig, grid: Grid, times: Mapping[str, ClassTimes] | None, loads: tuple[Load, ...] = ()
) -> Scheduler:
    """The scheduler that the run file names, told of its arms.

    Args:
        config: of a run with a `[scheduler]`.
        grid: of its arms.
        times: of a simulated fleet, by device class; None where the clock is real.
        loads: of the arms, by place; empty: not known.

    Raises:
        PluginError: there is none of that name, or it refuses its parameters.
        ConfigError: what the name stands for is not a Scheduler, or its parameters do not fit the arms.
    """
    table = config.scheduler
    assert table is not None
    scheduler = build("scheduler", table.name, table.params)
    if not isinstance(scheduler, Scheduler):
        raise ConfigError(
            f'scheduler.name = "{table.name}" is a {type(scheduler).__name__}, not a Scheduler',
            code="config.not-a-scheduler",
            allowed="a class derived from fedpeft.scheduling.Scheduler",
            remedy="derive it, or name another class",
        )
    if scheduler.needs_times and times is None:
        raise ConfigError(
            f'scheduler.name = "{table.name}" needs the time model of a simulated fleet, and this run is on a real '
            "clock: nobody knows beforehand how long its devices take",
            code="config.scheduler-times",
            allowed='engine.name = "local" or "ray", and no deployment',
            remedy="simulate the run, or name a scheduler that learns, e.g. ucb",
        )
    try:
        deadline = config.round.deadline_s
        scheduler.begin(Setting(grid, table.slowness, config.round.mode == "sync", times, loads, deadline))
    except (TypeError, ValueError) as error:
        raise ConfigError(
            f'scheduler "{table.name}" does not go with the arms of this run: {error}',
            code="config.scheduler-arms",
            allowed="parameters that name values of scheduler.arms",
            remedy="correct the parameter, or add the value to scheduler.arms",
        ) from error
    return scheduler


__all__ = ["load_scheduler"]
