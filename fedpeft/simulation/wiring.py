"""From a federation to the two sides that talk: an agent for its clients, a coordinator for its rounds.

Every engine wires the same parts; engines differ in Grid and clock only.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from fedpeft.client import Agent, ClientMemory, ClientStore, Home
from fedpeft.client.allowed import Allowed
from fedpeft.config import RunConfig
from fedpeft.evaluation import Evaluation
from fedpeft.flower import GridTransport
from fedpeft.flower.mods import load_mods
from fedpeft.journal import Journal
from fedpeft.registry import Kind
from fedpeft.server import Coordinator, Settings
from fedpeft.server.catch_up import CheckpointSettings
from fedpeft.server.reading import ScalarSettings
from fedpeft.simulation.class_codecs import class_codecs, upward
from fedpeft.simulation.devices import Device
from fedpeft.simulation.federation import Federation, evaluation_sample
from fedpeft.simulation.mixing import mixing_settings
from fedpeft.simulation.pruning import pruning_settings
from fedpeft.simulation.ranks import class_rank
from fedpeft.simulation.zeroth_local import optimizer_kind
from fedpeft.training import Trainer
from fedpeft.types import ClientId, Clock, FloatArray, Transport
from fedpeft.wire.files import publish
from fedpeft.wire.frame import FrameLimits

FORWARD = 0.35
"""Work of passing an example forward only, where forward and backward is 1."""


def frame_limits(config: RunConfig) -> FrameLimits:
    """What either side accepts of a frame."""
    return FrameLimits(max_body_bytes=int(config.limits.max_frame_mb * 1e6))


def make_agent(
    federation: Federation,
    devices: Mapping[ClientId, Device],
    folder: Path,
    on_examples: Callable[[float], None] = lambda examples: None,
    trainer: Trainer | None = None,
) -> Agent:
    """An agent for the clients in `devices`; their state goes to `folder`, a folder each.

    Args:
        federation: ready to run.
        devices: the clients to serve, and their devices.
        folder: created when something is first kept.
        on_examples: called with the work done, in examples; a trainer given here tells of its own.
        trainer: of the clients; default: in this process.
    """
    batch, run = federation.config.local.batch_size, federation.config.run.name
    sharing = federation.sharing
    homes = {
        client: Home(
            federation.train[client],
            federation.held_out[client],
            ClientStore(folder / client, sharing.shared.size, downlink=federation.downlink, run=run),
            device.table.name,
            device.table.memory_mb,
            federation.validation.get(client, ()),
        )
        for client, device in devices.items()
    }
    return Agent(
        trainer or federation.trainer(on_step=lambda: on_examples(batch)),
        counted_evaluation(federation, on_examples),
        federation.shared_initial,
        sharing.shared,
        homes,
        frame_limits(federation.config),
        federation.downlink,
        ClientMemory(sharing, federation.private_initial),
        load_mods(federation.config.client.mods),
        Allowed(named_here(federation), optimizer_kind(federation.config)),
        None if federation.replica is None else federation.replica.begin_from,
        None if federation.pruner is None else federation.pruner.units,
        federation.config.adapter.merged,
        lambda theta, data: federation.evaluate(theta, data, losses_only=True).loss,
    )


def named_here(federation: Federation) -> Iterator[tuple[Kind, str]]:
    """(kind, name) of the plug-ins that plans of this run file name."""
    config = federation.config
    for codec in (*upward(config).values(), *class_codecs(config).values(), config.codec.auxiliary):
        yield "codec", codec
    yield "objective", federation.strategy.objective
    yield optimizer_kind(config), config.local.optimizer
    yield "importance", config.pruning.importance.name


def make_coordinator(
    federation: Federation,
    transport: Transport,
    clock: Clock,
    journal: Journal,
    *,
    poll_s: float,
    on_examples: Callable[[float], None] = lambda examples: None,
) -> Coordinator:
    """A coordinator that goes on from the journal's last commit.

    Args:
        federation: ready to run.
        transport: moves frames.
        clock: measures deadlines.
        journal: open for writing.
        poll_s: between looks at the transport, in seconds of `clock`.
        on_examples: called with the work done, in examples.
    """
    config, test = federation.config, federation.test
    for kind, name in named_here(federation):
        publish(kind, name)
    if isinstance(transport, GridTransport):
        transport.limit(frame_limits(config))
    evaluate = counted_evaluation(federation, on_examples)
    sample = evaluation_sample(len(test), config.evaluation.examples, config.run.seed)
    part = federation.task.select(test, sample) if len(sample) < len(test) else test
    return Coordinator(
        config,
        Settings(
            layout=federation.sharing.shared,
            initial=federation.shared_initial,
            steps={table.name: federation.steps(table.name) for table in config.devices},
            ranks={table.name: class_rank(config, federation.adapter, table) for table in config.devices},
            codecs=class_codecs(config),
            poll_s=poll_s,
            headline=getattr(federation.task, "headline", ""),
            larger_is_better=getattr(federation.task, "larger_is_better", None),
            downlink=federation.downlink,
            scheduling=federation.scheduling,
            pruning=pruning_settings(federation),
            scalars=scalar_settings(federation),
            checkpoints=checkpoint_settings(federation),
            mixing=mixing_settings(federation),
        ),
        transport,
        clock,
        federation.strategy,
        journal,
        lambda theta, whole: evaluate(theta, test if whole else part) if len(test) else None,
    )


def scalar_settings(federation: Federation) -> ScalarSettings | None:
    """What the coordinator of a zeroth-order run knows; None of any other."""
    replica, table = federation.replica, federation.config.zeroth
    if replica is None or table is None:
        return None
    clip = 1.0 if table.scalars == "sign" else table.clip
    return ScalarSettings(replica.coordinates, clip, replica.digest, table.deviations)


def checkpoint_settings(federation: Federation) -> CheckpointSettings | None:
    """How the coordinator of a zeroth-order run with several epochs sends θ_e; None where it does not."""
    replica, table = federation.replica, federation.config.zeroth
    if replica is None or table is None or table.refresh == 0 or table.checkpoint == 0:
        return None
    most = frame_limits(federation.config).max_body_bytes
    return CheckpointSettings(replica.coordinates, replica.initial, replica.after, table.checkpoint, most)


def counted_evaluation(
    federation: Federation, on_examples: Callable[[float], None]
) -> Callable[[FloatArray, Any], Evaluation]:
    """`Federation.evaluate` that tells how much work it was."""

    def evaluate(theta: FloatArray, data: Any) -> Evaluation:
        result = federation.evaluate(theta, data)
        on_examples(FORWARD * result.examples)
        return result

    return evaluate
