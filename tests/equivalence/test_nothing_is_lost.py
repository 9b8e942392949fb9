"""Error feedback, both ways: what was sent and what is owed add up to the true updates, whatever happened in between.

Real coordinator, real agents, scripted training. Clients are cut off before and after they have trained, updates are
damaged on their way and refused, and the coordinator is killed, with the agents' process, and goes on.
"""

from __future__ import annotations

import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from agent_fleet import FATES, AgentFleet, ScriptedTrainer
from fake_fleet import FakeRun
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tiny import Stop, stop_at

from fedpeft.client.starts import Starts
from fedpeft.codecs.broadcast import dequantise, quantise
from fedpeft.codecs.feedback_downlink import FeedbackDownlink
from fedpeft.journal import EventKind
from fedpeft.strategies import FedAvg
from fedpeft.types import ClientId

SIZE, CLIENTS, ROUNDS = 65, 3, 6
UP = ["lgreco(0.33)+zstd", "lowrank(1)+int4", "int8", "sign", "topk(0.1)+sign", "int4(dither)", "rotate+int4"]
UP += ["relax(1.5)+topk(0.1)+sign"]
DOWN = ["int8", "lgreco(0.33)+zstd", "sign", "topk(0.1)+sign", "int4(dither)", "uniform(1.2)+zstd", "topk(0.2)+int4"]
DOWN += ["relax(1.5)+topk(0.1)+sign"]


class Recording(FedAvg):
    """Remembers what it folded in, by round; a round that is attempted again counts once."""

    def __init__(self):
        super().__init__()
        self.folded, self.open = {}, []

    def begin(self, theta):
        self.open = []
        super().begin(theta)

    def accept(self, update, weight):
        self.open.append((update.client, update.round, update.delta.copy(), weight))
        super().accept(update, weight)

    def finish(self):
        theta = super().finish()
        self.folded[self.open[0][1]] = self.open
        return theta


@dataclass(frozen=True)
class Published:
    """A version as the coordinator holds it."""

    theta: Any  # θ_t, shape (d,)
    start: Any  # b_t, shape (d,)
    step: bytes | None  # the body of C; None where b_t was made from θ_t alone


def record(broadcasts, published):
    """Have a coordinator's broadcasts tell what they publish; a version that is published again is the same."""
    publish = broadcasts.publish

    def told(version, theta, *about):
        publish(version, theta, *about)
        one = Published(theta.copy(), broadcasts.start().copy(), broadcasts._steps.get(version))
        before = published.setdefault(version, one)
        assert (before.theta == one.theta).all()
        assert (before.start == one.start).all()

    broadcasts.publish = told


def run_once(folder, up, down, fates, trainer, strategy, kill=None, published=None):
    """Run to the end, or to the kill: the run and its fleet, and whether it reached the end."""
    fleet = AgentFleet(CLIENTS, folder / "clients", down=down, size=SIZE, fates=fates, trainer=trainer)
    run = FakeRun(fleet, folder, strategy, run__rounds=ROUNDS, codec__up=up, codec__down=down, round__ask=2)
    record(run.coordinator.broadcasts, {} if published is None else published)
    if kill is not None:
        run.journal.subscribe(stop_at(*kill))
    try:
        return run, fleet, run.run()
    except Stop:
        return run, fleet, None
    finally:
        run.journal.close()


FATE_OF = st.dictionaries(
    st.tuples(st.sampled_from([ClientId("c01"), ClientId("c02")]), st.integers(1, ROUNDS)), st.sampled_from(FATES[1:])
)
KILLS = st.tuples(st.sampled_from([EventKind.ASKED, EventKind.ACCEPTED, EventKind.COMMITTED]), st.integers(1, ROUNDS))


@pytest.mark.slow
@settings(max_examples=12, deadline=None, suppress_health_check=list(HealthCheck))
@given(up=st.sampled_from(UP), down=st.sampled_from(DOWN), fates=FATE_OF, kill=KILLS)
def test_what_was_sent_and_what_is_owed_are_the_true_updates(up, down, fates, kill):
    with tempfile.TemporaryDirectory() as where:
        folder = Path(where)
        _, _, whole = run_once(folder / "whole", up, down, fates, ScriptedTrainer(SIZE), Recording())
        trainer, strategy, published = ScriptedTrainer(SIZE), Recording(), {}
        run, fleet, theta = run_once(folder / "parts", up, down, fates, trainer, strategy, kill, published)
        if theta is None:
            again = Recording()
            again.folded = strategy.folded
            strategy = again
            run, fleet, theta = run_once(folder / "parts", up, down, fates, trainer, strategy, None, published)
        np.testing.assert_array_equal(theta, whole)
        check_uplink(fleet, trainer, strategy)
        check_downlink(run, fleet, trainer, strategy, published)


@pytest.mark.parametrize("down", DOWN)
def test_every_broadcast_tells_what_clients_still_lack(tmp_path, down):
    trainer, strategy, published = ScriptedTrainer(SIZE), Recording(), {}
    run, fleet, _ = run_once(tmp_path, "int8", down, {}, trainer, strategy, None, published)
    assert sum(one.step is not None for one in published.values()) >= (0 if down == "int8" else 4)
    check_downlink(run, fleet, trainer, strategy, published)


def only_what_is_new(downlink, values, last):
    """A step that forgets what is owed: C(θ_t − θ_{t−1})."""
    before, downlink.before = getattr(downlink, "before", 0 * values), values
    body = downlink.codec.encode(values - before)
    return body, downlink._after(body, last)


def half_of_it(downlink, values, last):
    """A step that sends half of what clients lack, and calls it all."""
    body = downlink.codec.encode((values - dequantise(last)) / 2)
    return body, downlink._after(body, last)


def elsewhere(starts, *about):
    codes, start = versioned(starts, *about)
    return codes, start + np.float32(1e-4)


versioned = Starts.versioned


@pytest.mark.parametrize(
    ("where", "name", "broken"),
    [
        (FeedbackDownlink, "step", only_what_is_new),
        (FeedbackDownlink, "step", half_of_it),
        (Starts, "versioned", elsewhere),
    ],
)
def test_a_broken_downlink_is_seen(tmp_path, monkeypatch, where, name, broken):
    monkeypatch.setattr(where, name, broken)
    trainer, strategy, published = ScriptedTrainer(SIZE), Recording(), {}
    run, fleet, _ = run_once(tmp_path, "int8", "topk(0.2)+int4", {}, trainer, strategy, None, published)
    with pytest.raises(AssertionError):
        check_downlink(run, fleet, trainer, strategy, published)


def check_uplink(fleet, trainer, strategy):
    """Of every client: Σ Δ̂_t + e_T = Σ Δ_t over the rounds that were folded in."""
    for client, store in fleet.stores.items():
        every = [one for folded in strategy.folded.values() for one in folded]
        own = [(number, delta) for who, number, delta, _ in every if who == client]
        if not own:
            continue
        arrived = np.sum([delta for _, delta in own], axis=0, dtype=np.float64)
        meant = np.sum([trainer.deltas[client, number] for number, _ in own], axis=0, dtype=np.float64)
        owed = store.residual(max(number for number, _ in own))
        np.testing.assert_allclose(arrived + (0.0 if owed is None else owed), meant, atol=1e-5)


def check_downlink(run, fleet, trainer, strategy, published):
    """With Δθ_t by the updates that were folded in, b_t by what clients decode, and e_0 = 0:

    b_t is what the coordinator takes it for;  Σ (b_t − b_{t−1}) + e_T = Σ Δθ_t  with the coordinator's own
    e_T = θ_T − b_T;  and a step is C(Δθ_t + e_{t−1}): of all that was owed, not of the change alone.
    """
    broadcasts, downlink = run.coordinator.broadcasts, fleet.agent.downlink
    assert trainer.starts.keys() == set(range(ROUNDS)), "from each version but the last somebody trained"
    told = {version: starts[0] for version, starts in trainer.starts.items()}
    told[ROUNDS] = dequantise(downlink.decode_difference(broadcasts.body(0), downlink.zero(SIZE)))
    for version, starts in trainer.starts.items():
        assert all((start == told[version]).all() for start in starts), f"version {version}"
    moved, sent, owed = np.zeros(SIZE), np.zeros(SIZE), np.zeros(SIZE)  # Σ Δθ_t, Σ (b_t − b_{t−1}), e_t
    for version in range(1, ROUNDS + 1):
        one, before = published[version], told[version - 1]
        np.testing.assert_array_equal(told[version], one.start, f"version {version}")
        _, _, deltas, weights = zip(*strategy.folded[version], strict=True)
        change = np.average(np.array(deltas, dtype=np.float64), axis=0, weights=weights)
        lacking = one.theta - before  # as the codec is given it, to the bit
        np.testing.assert_allclose(lacking, change + owed, atol=1e-5)
        if one.step is None:
            expected = quantise(one.theta)
        else:
            step = downlink.codec.decode(one.step, SIZE)
            np.testing.assert_array_equal(step, downlink.codec.decode(downlink.codec.encode(lacking), SIZE))
            expected = quantise(before + step)
        np.testing.assert_array_equal(told[version], dequantise(expected))
        step = told[version].astype(np.float64) - before
        moved, sent, owed = moved + change, sent + step, owed + change - step
    np.testing.assert_allclose(sent + (published[ROUNDS].theta - published[ROUNDS].start), moved, atol=1e-5)
    if broadcasts.owed is not None:
        assert broadcasts.owed == pytest.approx(np.linalg.norm(owed) / np.linalg.norm(moved), rel=1e-3, abs=1e-5)
    for store in fleet.stores.values():
        for version in store.versions():
            if version in trainer.starts:
                np.testing.assert_array_equal(dequantise(store.broadcast(version)), trainer.starts[version][0])
    # Nothing is lost for good: while the adapter stands still, what is owed goes out.
    for version in range(ROUNDS + 1, ROUNDS + 100):
        broadcasts.publish(version, published[ROUNDS].theta, ())
    assert broadcasts.owed is None or broadcasts.owed <= 0.02
