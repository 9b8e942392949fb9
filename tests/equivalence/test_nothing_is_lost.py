"""Error feedback, both ways: what was sent and what is owed add up to the true updates, whatever happened in between.

Real coordinator, real agents, scripted training. Clients are cut off before and after they have trained, updates are
damaged on their way and refused, and the coordinator is killed, with the agents' process, and goes on.
"""

from __future__ import annotations

import tempfile
from pathlib import Path

import numpy as np
import pytest
from agent_fleet import FATES, AgentFleet, ScriptedTrainer
from fake_fleet import FakeRun
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tiny import Stop, stop_at

from fedpeft.codecs.broadcast import dequantise
from fedpeft.journal import EventKind
from fedpeft.strategies import FedAvg
from fedpeft.types import ClientId

SIZE, CLIENTS, ROUNDS = 65, 3, 6
UP = ["lgreco(0.33)+zstd", "lowrank(1)+int4", "int8", "sign", "topk(0.1)+sign", "int4(dither)", "rotate+int4"]
UP += ["relax(1.5)+topk(0.1)+sign"]
DOWN = ["int8", "lgreco(0.33)+zstd", "sign", "topk(0.1)+sign", "int4(dither)", "uniform(1.2)+zstd", "topk(0.2)+int4"]
DOWN += ["relax(1.5)+topk(0.1)+sign"]


class Recording(FedAvg):
    """Remembers what it folded in and what came of it, by round; a round that is attempted again counts once."""

    def __init__(self):
        super().__init__()
        self.folded, self.thetas, self.open = {}, [], []

    def begin(self, theta):
        self.open = []
        super().begin(theta)

    def accept(self, update, weight):
        self.open.append((update.client, update.round, update.delta.copy()))
        super().accept(update, weight)

    def finish(self):
        theta = super().finish()
        self.folded[self.open[0][1]] = self.open
        return theta


def run_once(folder, up, down, fates, trainer, strategy, kill=None):
    """Run to the end, or to the kill: the run and its fleet, and whether it reached the end."""
    fleet = AgentFleet(CLIENTS, folder / "clients", down=down, size=SIZE, fates=fates, trainer=trainer)
    run = FakeRun(fleet, folder, strategy, run__rounds=ROUNDS, codec__up=up, codec__down=down, round__ask=2)
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
        trainer, strategy = ScriptedTrainer(SIZE), Recording()
        run, fleet, theta = run_once(folder / "parts", up, down, fates, trainer, strategy, kill)
        if theta is None:
            again = Recording()
            again.folded = strategy.folded
            strategy = again
            run, fleet, theta = run_once(folder / "parts", up, down, fates, trainer, strategy)
        np.testing.assert_array_equal(theta, whole)
        check_uplink(fleet, trainer, strategy)
        check_downlink(run, fleet, trainer, theta)


def check_uplink(fleet, trainer, strategy):
    """Of every client: Σ Δ̂_t + e_T = Σ Δ_t over the rounds that were folded in."""
    for client, store in fleet.stores.items():
        own = [(number, delta) for folded in strategy.folded.values() for who, number, delta in folded if who == client]
        if not own:
            continue
        arrived = np.sum([delta for _, delta in own], axis=0, dtype=np.float64)
        meant = np.sum([trainer.deltas[client, number] for number, _ in own], axis=0, dtype=np.float64)
        owed = store.residual(max(number for number, _ in own))
        np.testing.assert_allclose(arrived + (0.0 if owed is None else owed), meant, atol=1e-5)


def check_downlink(run, fleet, trainer, theta):
    """Σ (b_t − b_{t−1}) + (θ_T − b_T) = θ_T − θ_0, with b_t as the clients hold it: all of them the same bits."""
    assert trainer.starts.keys() <= set(range(ROUNDS))
    for version, starts in trainer.starts.items():
        assert all((start == starts[0]).all() for start in starts), f"version {version}"
    broadcasts = run.coordinator.broadcasts
    last = dequantise(broadcasts._codes[ROUNDS])
    held = [trainer.starts[version][0] for version in sorted(trainer.starts)] + [last]
    sent = np.sum(np.diff(np.array(held, dtype=np.float64), axis=0), axis=0)  # from version 0 on, which is θ_0 = 0
    np.testing.assert_allclose(sent + (theta - last), theta, atol=1e-6)
    for store in fleet.stores.values():
        for version in store.versions():
            if version in trainer.starts:
                np.testing.assert_array_equal(dequantise(store.broadcast(version)), trainer.starts[version][0])
    # Nothing is lost for good: while the adapter stands still, what is owed goes out.
    for version in range(ROUNDS + 1, ROUNDS + 100):
        broadcasts.publish(version, theta, held=())
    assert broadcasts.owed is None or broadcasts.owed <= 0.02
