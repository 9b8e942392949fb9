"""The `local` engine: ServerApp and ClientApp over an in-process Grid, on a virtual clock.

All clients share one agent; each has its own data, disk folder and device. The apps, the coordinator and the agent are
those of a deployment. The agent's trainer is in this process, in several, or on Ray: only training leaves it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from fedpeft.errors import ClientFault
from fedpeft.flower import LocalGrid, make_client_app, make_server_app, run_server_app
from fedpeft.journal import EventKind, Journal
from fedpeft.simulation.arm_costs import ArmCosts
from fedpeft.simulation.clock import VirtualClock
from fedpeft.simulation.devices import reply_seconds
from fedpeft.simulation.faults import Faults
from fedpeft.simulation.federation import Federation
from fedpeft.simulation.fleet import Fleet
from fedpeft.simulation.validation import search_steps
from fedpeft.simulation.wiring import frame_limits, make_agent, make_coordinator
from fedpeft.simulation.workers import open_trainer
from fedpeft.training import Trainer
from fedpeft.types import ClientId, FloatArray, MessageKind, NodeId, Transport
from fedpeft.wire.frame import decode_frame, decode_header

POLL_S = 0.1
"""Virtual seconds between two looks of the coordinator: the resolution of the devices' times."""


def run_local(
    federation: Federation, journal: Journal, on_examples: Callable[[float], None]
) -> tuple[FloatArray, dict[str, Any]]:
    """Run the federation to its last round.

    Args:
        federation: ready to run.
        journal: open for writing; the run goes on from its last commit.
        on_examples: called with the work done since the last call, in examples.

    Returns:
        θ, shape (d,), and the bytes that moved since the last commit or outside of rounds, as `committed` names them.
    """
    batch = federation.config.local.batch_size

    def tell(sentence: str) -> None:
        journal.record(EventKind.FAILED, reason=sentence)

    with open_trainer(federation, lambda: on_examples(batch), tell) as (trainer, workers):
        return _run(federation, journal, on_examples, trainer, workers)


def _run(
    federation: Federation, journal: Journal, on_examples: Callable[[float], None], trainer: Trainer, workers: int
) -> tuple[FloatArray, dict[str, Any]]:
    config = federation.config
    clients = list(federation.train)
    nodes = {NodeId(index + 1): client for index, client in enumerate(clients)}
    devices = federation.devices
    faults = Faults(config.faults, clients)
    limits = frame_limits(config)
    costs, fleet, clock = ArmCosts(federation), Fleet(devices, config.run.seed), VirtualClock()
    for event in journal.events():
        fleet.observe(event)
    journal.subscribe(fleet.observe)
    agent = make_agent(federation, devices, journal.folder / "clients", on_examples, trainer)
    for home in agent.homes.values():
        home.store.flush = False  # two flushes of one disk for each of a thousand clients cost more than their training

    def seconds(node: NodeId, kind: MessageKind, data: bytes) -> float:
        frame, client = decode_header(data, limits), nodes[node]
        batches = -(-len(federation.held_out[client]) // config.local.batch_size)
        plan = frame.plan if kind == "train" else None
        searching = search_steps(federation, plan.codec, len(federation.validation.get(client, ()))) if plan else 0.0
        now = fleet.now(clock.now()) if plan else 0.0
        plain = reply_seconds(
            devices[client],
            kind,
            bytes_down=len(data),
            bytes_up=costs.sent_bytes(plan) if plan else 0,
            steps=frame.plan.steps + searching if frame.plan else batches,
            seed=config.run.seed,
            round_number=frame.round,
            client=client,
            slowdown=fleet.slowdown(client, now) * costs.step_share(plan.rank, plan.pruning) if plan else 1.0,
        )
        plain = faults.seconds(client, frame, plain)
        return fleet.until_done(client, now, plain) if plan else plain

    def look_ahead(requests: Sequence[tuple[NodeId, bytes]]) -> None:
        agent.train_ahead([(nodes[node], data) for node, data in requests])

    def distort(node: NodeId, asked: bytes, reply: bytes) -> bytes:
        try:
            return faults.distort(nodes[node], decode_frame(asked, limits), reply)
        except ClientFault:
            return reply

    grid = LocalGrid(
        make_client_app(lambda node, run: (agent, ClientId(str(node["client"])))),
        {node: {"client": client} for node, client in nodes.items()},
        clock=clock,
        seconds=seconds,
        through_wire=config.engine.wire,
        look_ahead=look_ahead,
        cohort=workers * config.engine.lookahead,
        distort=distort if config.faults else None,
    )
    reached: list[tuple[FloatArray, dict[str, Any]]] = []

    def main(transport: Transport, run: object) -> None:
        coordinator = make_coordinator(federation, transport, clock, journal, poll_s=POLL_S, on_examples=on_examples)
        theta = coordinator.run()
        reached.append((theta, coordinator.post.moved_since_last("hello", "train", "evaluate")))

    run_server_app(make_server_app(main), grid, {})
    return reached[0]
