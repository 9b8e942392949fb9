"""What an arm costs a simulated device: its share of a step's arithmetic, its bytes, its memory, and so its seconds.

Per token, a frozen matrix of n values takes 2n operations forward and 2n for the gradient of its input; none for its
own gradient. A LoRA pair of m values takes 2m, 2m, and 2m more for its own gradient. With P values in all frozen
matrices and d trained values at the full rank R, a step at rank r is this share of one at rank R:

    share(r) = (4 P + 6 d r / R) / (4 P + 6 d)

Attention's products of tokens with tokens, normalisation and the optimizer are left out: small for short texts, and
the same for every rank. Where clients may be pruned, products are counted one by one instead, attention's too
(`fedpeft.pruning.cost`): share(r, ρ). `step_seconds` of a device class is told at rank R and ratio 0.

A step's memory is measured on the real model at rank R (`fedpeft.training.memory`), and on the smaller one of each
ratio. A smaller rank saves none of it: the components that it leaves out are zeros in factors, gradient and moments of
full length.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import replace
from functools import cache, partial
from typing import TYPE_CHECKING

import torch
from transformers.pytorch_utils import Conv1D

from fedpeft.config import DeviceTable, RunConfig
from fedpeft.config.scheduler import axes_of
from fedpeft.errors import ConfigError
from fedpeft.pruning.ramp import Ramp
from fedpeft.report.summary import OracleArm
from fedpeft.scheduling import Arm, ClassTimes, Grid, Load, Request, Setting
from fedpeft.scheduling.fixed import Fixed
from fedpeft.scheduling.oracle import Oracle
from fedpeft.server.offers import Offers, SchedulingSettings
from fedpeft.server.schedulers import load_scheduler
from fedpeft.simulation.codecs import broadcast_bytes, load_codec, sent_bytes, update_bytes
from fedpeft.simulation.memory import step_megabytes
from fedpeft.simulation.pruning import pruned_megabytes, ratio_mask
from fedpeft.simulation.ranks import full_rank
from fedpeft.simulation.validation import search_steps
from fedpeft.types import ALL_COMPONENTS, ClientId, Plan

if TYPE_CHECKING:
    from fedpeft.simulation.federation import Federation

VIRTUAL_CLOCK = ("local", "ray")
"""Engines on which devices take the seconds that the time model says."""


class ArmCosts:
    """The costs of arms in one federation.

    Args:
        federation: ready to run.
    """

    def __init__(self, federation: Federation) -> None:
        self.federation = federation
        self.trained = federation.adapter.layout.size  # d
        self.full_rank = full_rank(federation.config, federation.adapter)  # R
        self.frozen = frozen_values(federation.adapter.model)  # P
        self._broadcast = broadcast_bytes(federation)
        self._validation = sum(map(len, federation.validation.values())) / max(1, len(federation.train))  # of a client
        self.update_bytes = cache(self._update_bytes)
        self._sent_bytes = cache(partial(sent_bytes, federation))
        self._megabytes = cache(self._measured_mb)

    def step_share(self, rank: int, ratio: float = 0.0) -> float:
        """Arithmetic of a step at `rank` without a `ratio` of heads and channels, where one of all is 1."""
        arithmetic = self.federation.step_arithmetic
        if arithmetic is not None:
            return arithmetic.share(rank, ratio)
        whole = 4 * self.frozen + 6 * self.trained
        return (4 * self.frozen + 6 * self.trained * self._rank_share(rank)) / whole if whole else 1.0

    def _update_bytes(self, codec: str, rank: int = ALL_COMPONENTS, ratio: float = 0.0) -> int:
        """Nominal bytes of an update, with what goes beside it."""
        return update_bytes(self.federation, codec, rank, ratio_mask(self.federation, ratio) if ratio > 0 else b"")

    def sent_bytes(self, plan: Plan) -> int:
        """Nominal bytes of the update that a plan asks for."""
        if self.federation.replica is not None:
            return self.update_bytes(plan.codec)
        return self._sent_bytes(plan.codec, plan.rank, plan.mask, plan.frozen)

    def memory_mb(self, arm: Arm) -> float:
        """Megabytes of a step; the same at any rank."""
        return self._megabytes(arm.pruning)

    def load(self, arm: Arm) -> Load:
        """What an arm has any client do."""
        steps = arm.steps + search_steps(self.federation, arm.codec, self._validation)
        return Load(
            1e-6 * self.update_bytes(arm.codec, arm.rank, arm.pruning), steps * self.step_share(arm.rank, arm.pruning)
        )

    def seconds(self, table: DeviceTable, arm: Arm) -> float:
        """Expected from asking to the answer, for a device of a class that is on, cool and as fast as is usual."""
        load = self.load(arm)
        network = self._broadcast * 8 / (table.down_mbps * 1e6) + load.megabytes * 8 / table.up_mbps
        return network + load.steps * table.step_seconds

    def _measured_mb(self, ratio: float) -> float:
        """Of a step at the full rank."""
        return pruned_megabytes(self.federation, ratio) if ratio > 0 else step_megabytes(self.federation)

    def _rank_share(self, rank: int) -> float:
        return min(1.0, rank / self.full_rank)


def frozen_values(model: torch.nn.Module) -> int:
    """P: values in the frozen matrices of a model that tokens are multiplied with; embeddings are looked up instead."""
    total = 0
    for module in model.modules():
        weight = getattr(module, "weight", None)
        if isinstance(module, torch.nn.Linear) and not weight_is_trained(weight):
            total += module.in_features * module.out_features  # of a quantised matrix too
        elif isinstance(module, Conv1D) and not weight_is_trained(weight):
            total += module.weight.numel()
    return total


def weight_is_trained(weight: object) -> bool:
    """Whether a module's matrix is among what is trained."""
    return isinstance(weight, torch.Tensor) and weight.requires_grad


def scheduling_settings(federation: Federation) -> SchedulingSettings | None:
    """What the coordinator of a run with a scheduler knows; None of any other."""
    config = federation.config
    if config.scheduler is None:
        return None
    grid, costs = grid_of(config), ArmCosts(federation)
    needs = tuple(costs.memory_mb(arm) for arm in grid.arms)
    whole = tuple(costs.memory_mb(replace(arm, pruning=0.0)) for arm in grid.arms)
    loads = tuple(costs.load(arm) for arm in grid.arms)
    settings = SchedulingSettings(grid, needs, costs.full_rank, None, loads, whole)
    times: Mapping[str, ClassTimes] | None = None
    if federation.simulated and config.engine.name in VIRTUAL_CLOCK:
        times = {
            table.name: ClassTimes(
                table.clients,
                tuple(costs.seconds(table, arm) for arm in grid.arms),
                settings.offered(table.memory_mb),
            )
            for table in config.device_classes
        }
    return replace(settings, times=times)


def check_fits(federation: Federation) -> None:
    """Refuse a run with a scheduler whose first round no simulated device could take part in.

    Raises:
        ConfigError: names the memory that the devices have, and what the smallest arm needs.
    """
    config, settings = federation.config, federation.scheduling
    if settings is None or not federation.simulated:
        return
    offers = Offers(settings, Ramp(config.pruning.start, config.pruning.ramp, config.pruning.every))
    most = max(table.memory_mb for table in config.devices)
    if offers.of(most, 1):
        return
    need = min(offers.needs(place, 1) for place in range(len(settings.grid.arms)))
    remedy = "raise devices.memory_mb, or make a step smaller: local.batch_size, local.accumulate, local.checkpointing"
    if settings.offered(most):  # once the whole ratio is in force
        remedy = "prune from the first round on, pruning.start = 1 and pruning.ramp = 0, or raise devices.memory_mb"
    raise ConfigError(
        f"devices.memory_mb is {most} at most, and in round 1 no arm of scheduler.arms fits into it, the smallest "
        f"needs {need:.0f}: every client would sit out",
        code="config.no-arm-fits",
        allowed=f"devices.memory_mb = {math.ceil(need)} or more, for one class of devices at least",
        remedy=remedy,
    )


def oracle_arms(federation: Federation) -> dict[str, OracleArm]:
    """By device class, the arm that the oracle would choose; empty where nobody knows the times."""
    settings, oracle = federation.scheduling, _oracle(federation)
    if settings is None or oracle is None:
        return {}
    found = {}
    for device in federation.config.devices:
        offered = settings.offered(device.memory_mb)
        if offered:
            place = oracle.choose(Request(ClientId(""), device.name, 1, 0, offered)).place
            found[device.name] = OracleArm(place, str(settings.grid.arms[place]))
    return found


def _oracle(federation: Federation) -> Oracle | None:
    """The oracle of a run with a scheduler, with the run file's parameters if that is what it uses."""
    settings, table = federation.scheduling, federation.config.scheduler
    if settings is None or settings.times is None or table is None:
        return None
    oracle = Oracle(**table.params) if table.name == "oracle" else Oracle()
    waits, deadline = federation.config.round.mode == "sync", federation.config.round.deadline_s
    oracle.begin(Setting(settings.grid, table.slowness, waits, settings.times, deadline_s=deadline))
    return oracle


def arm_notes(federation: Federation) -> list[str]:
    """What a person should know of the arms before the run."""
    settings, table = federation.scheduling, federation.config.scheduler
    if settings is None or table is None:
        return []
    count = len(settings.grid.arms)
    notes = [
        f'scheduler "{table.name}" picks from {count} arms for each client: the bytes of an update are those of '
        f'codec.up = "{federation.config.codec.up}", the example passes those of equally likely arms'
        if count > 1
        else f'scheduler "{table.name}" has nothing to choose: scheduler.arms is one arm, {settings.grid.arms[0]}'
    ]
    if federation.config.round.updates < 2 and count > 1:
        notes.append(
            "a round of one update teaches a scheduler nothing: a gain is what an update has in common with the "
            "others; raise round.ask (asynchronous: round.buffer)"
        )
    oracle = _oracle(federation)
    if oracle is not None and count > 1:
        factor, place = oracle.advantage()
        notes.append(
            f"by the time model the best arm of each device class gains {factor:.2f} times as much a second as the "
            f"best one for all ({settings.grid.arms[place]}): about what there is to win by choosing"
        )
    for device in federation.config.devices:
        fits = len(settings.offered(device.memory_mb))
        if fits < count:
            what = f"{fits} of {count} arms fit" if fits else "none of scheduler.arms fits"
            why = "" if fits else f", the smallest needs {min(settings.memory_mb):.0f} MB: its clients sit out"
            notes.append(f"device class {device.name}: {what} into its devices.memory_mb = {device.memory_mb}{why}")
        pruned = federation.config.pruning
        if fits and min(settings.whole_mb) > device.memory_mb and (pruned.start > 1 or pruned.ramp > 1):
            notes.append(
                f"device class {device.name}: no whole model fits into its {device.memory_mb} MB, so its clients sit "
                f"out until they are pruned enough (pruning.start = {pruned.start}, pruning.ramp = {pruned.ramp})"
            )
    return notes


def check_arms(config: RunConfig, *, simulated: bool = True) -> None:
    """Find the scheduler and every codec that its arms name, before anything slow is loaded.

    Args:
        config: of any run; one without a scheduler has nothing to check.
        simulated: see `Federation.simulated`.

    Raises:
        PluginError: there is no such scheduler or codec.
        ConfigError: the scheduler's parameters do not fit the arms or the devices, an arm cannot be had, or one that
            learns has a single arm.
    """
    if config.scheduler is None:
        return
    grid = grid_of(config)
    for name in grid.codecs:
        load_codec("scheduler.arms.codec", name)
    alike = (1.0,) * len(grid.arms)  # the real times need the model
    times = {table.name: ClassTimes(table.clients, alike) for table in config.devices}
    known = simulated and config.engine.name in VIRTUAL_CLOCK
    scheduler = load_scheduler(config, grid, times if known else None)
    if scheduler.needs_judges and len(grid.arms) == 1:
        raise ConfigError(
            f'scheduler.name = "{config.scheduler.name}" has nothing to choose: scheduler.arms lists one arm, '
            f"{grid.arms[0]}",
            code="config.one-arm",
            allowed="two values or more of one of scheduler.arms.rank, pruning, codec and steps",
            remedy="list values, e.g. scheduler.arms = { steps = [4, 8] }, or remove [scheduler]",
        )
    if isinstance(scheduler, Fixed):
        scheduler.check_classes([table.name for table in config.devices])


def grid_of(config: RunConfig) -> Grid:
    """The arms of a run file."""
    ranks, ratios, codecs, steps = axes_of(config)
    return Grid(tuple(ranks), tuple(ratios), tuple(codecs), tuple(steps))
