"""SCAFFOLD against a transcription of the paper's Algorithm 1, and against FedAvg on unlike clients."""

import signal

import numpy as np
import pytest
from quadratic import CENTRES, CLIENTS, CURVATURES, OPTIMUM, D, committed, run_quadratic
from tiny import Stop, run_tiny, start_tiny, stop_at

from fedpeft.errors import ClientFault
from fedpeft.journal import EventKind, Journal
from fedpeft.registry import build
from fedpeft.strategies import FedAvg, FedSA, Scaffold
from fedpeft.types import ClientId, Update


def algorithm_1(cohorts, steps=20, rate=0.1, server_rate=1.0):
    """The paper's Algorithm 1 with option II, in float64, for full-batch clients."""
    a, b = CURVATURES.astype(np.float64), CENTRES.astype(np.float64)
    x, c, own = np.zeros(D), np.zeros(D), np.zeros((CLIENTS, D))
    for cohort in cohorts:
        moved, changed = [], []
        for i in cohort:
            y = x.copy()
            for _ in range(steps):
                y -= rate * (a[i] * (y - b[i]) - own[i] + c)
            new = own[i] - c + (x - y) / (steps * rate)
            moved.append(y - x)
            changed.append(new - own[i])
            own[i] = new
        x = x + server_rate * np.mean(moved, axis=0)
        c = c + len(cohort) / CLIENTS * np.mean(changed, axis=0)
    return x, c


def cohorts_of(folder):
    with Journal.read(folder / "quadratic") as journal:
        return [[int(client[1:]) for client in e.payload["cohort"]] for e in journal.events(EventKind.ROUND_OPENED)]


@pytest.mark.parametrize(("ask", "server_rate"), [(CLIENTS, 1.0), (2, 0.7)])
def test_a_run_is_the_papers_algorithm(tmp_path, ask, server_rate):
    run_quadratic(tmp_path, Scaffold(server_rate), rounds=8, ask=ask)
    x, c = algorithm_1(cohorts_of(tmp_path), server_rate=server_rate)
    found = committed(tmp_path)
    np.testing.assert_allclose(found["theta"], x, rtol=2e-5, atol=2e-5)
    np.testing.assert_allclose(found["controls"] / CLIENTS, c, rtol=2e-5, atol=2e-5)


@pytest.mark.slow
def test_many_local_steps_do_not_pull_it_from_the_optimum_as_they_do_fedavg(tmp_path):
    run_quadratic(tmp_path / "avg", FedAvg())
    run_quadratic(tmp_path / "scaffold", Scaffold())
    apart = {name: float(np.abs(committed(tmp_path / name)["theta"] - OPTIMUM).max()) for name in ("avg", "scaffold")}
    assert apart["avg"] > 0.3, "the clients' pulls do not cancel"
    assert apart["scaffold"] < 1e-3


@pytest.mark.slow
@pytest.mark.parametrize("codec", ["fp16", "int8"])
def test_a_lossy_codec_of_the_control_variates_costs_no_accuracy_in_the_end(tmp_path, codec):
    """c stays the mean of all c_i, since each client keeps what the server decodes; what a codec lost comes again."""
    run_quadratic(tmp_path, Scaffold(), codec__auxiliary=codec)
    found = committed(tmp_path)
    assert float(np.abs(found["theta"] - OPTIMUM).max()) < 0.05
    own = [own_control(tmp_path, client) for client in range(CLIENTS)]
    np.testing.assert_allclose(found["controls"], np.sum(own, axis=0), atol=1e-5)


def own_control(folder, client):
    from fedpeft.client import ClientStore

    return ClientStore(folder / "quadratic" / "clients" / f"c{client}", D).memory(30)["half.c_i"]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("kind", "count", "codec"),
    [(EventKind.ACCEPTED, 5, "int8"), (EventKind.COMMITTED, 4, "fp32"), (EventKind.ASKED, 8, "bitdelta")],
)
def test_interrupted_and_resumed_is_as_uninterrupted(tmp_path, kind, count, codec):
    options = {"rounds": 5, "ask": 3, "codec__auxiliary": codec}
    whole = run_quadratic(tmp_path / "whole", Scaffold(), **options)
    with pytest.raises(Stop):
        run_quadratic(tmp_path / "parts", Scaffold(), observers=[stop_at(kind, count)], **options)
    parts = run_quadratic(tmp_path / "parts", Scaffold(), resume=True, **options)
    assert parts.adapter_hash == whole.adapter_hash
    assert committed(tmp_path / "parts")["controls"].tobytes() == committed(tmp_path / "whole")["controls"].tobytes()


@pytest.mark.system
@pytest.mark.parametrize("kill", ["accepted:5", "committed:3"])
@pytest.mark.parametrize("strategy", [Scaffold, FedSA])
def test_a_killed_process_leaves_what_the_next_one_goes_on_from(tmp_path, kill, strategy):
    whole = run_tiny(tmp_path / "whole", strategy=strategy())
    process = start_tiny(tmp_path / "parts", kill=kill, strategy=strategy())
    process.join(120)
    assert process.exitcode == -signal.SIGKILL
    assert run_tiny(tmp_path / "parts", strategy=strategy(), resume=True).adapter_hash == whole.adapter_hash


@pytest.mark.slow
def test_the_bytes_of_both_vectors_are_counted(tmp_path):
    sizes = {}
    for name, strategy in (("avg", FedAvg()), ("scaffold", Scaffold())):
        result = run_quadratic(tmp_path / name, strategy, rounds=2)
        with Journal.read(result.folder) as journal:
            last = list(journal.events(EventKind.COMMITTED))[-1].payload
            accepted = list(journal.events(EventKind.ACCEPTED))[-1].payload["bytes"]
        sizes[name] = (last["frame_up"], last["frame_down"], accepted)
    for more, plain in zip(sizes["scaffold"][:2], sizes["avg"][:2], strict=True):
        assert 4 * D * CLIENTS < more - plain < (4 * D + 60) * CLIENTS
    assert 4 * D < sizes["scaffold"][2] - sizes["avg"][2] < 4 * D + 30


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("clipped steps", {"rounds": 60, "local__max_grad_norm": 1.0}),
        ("AdamW", {"rounds": 40, "local__optimizer": "adamw", "local__learning_rate": 0.05}),
        ("asynchronous rounds", {"rounds": 60, "ask": 3, "round__mode": "async", "round__buffer": 2}),
    ],
)
def test_beyond_the_papers_setting_it_still_comes_closer_than_fedavg(tmp_path, name, options):
    run_quadratic(tmp_path / "avg", FedAvg(), **options)
    run_quadratic(tmp_path / "scaffold", Scaffold(), **options)
    apart = {name: float(np.abs(committed(tmp_path / name)["theta"] - OPTIMUM).max()) for name in ("avg", "scaffold")}
    assert apart["scaffold"] < 0.2 * apart["avg"], (name, apart)


# --- the server half alone -------------------------------------------------------------------------------------------


def update(client, delta, change, weight=1.0):
    vectors = {} if change is None else {"c": np.array(change, dtype=np.float32)}
    return Update(ClientId(client), 1, np.array(delta, dtype=np.float32), weight, auxiliary=vectors)


def test_every_client_counts_the_same_and_c_grows_by_its_share_of_all():
    rule = Scaffold()
    rule.meet(10)
    rule.begin(np.zeros(1, dtype=np.float32))
    assert rule.auxiliary() == {}
    rule.accept(update("c0", [1.0], [4.0], weight=90), 90)
    rule.accept(update("c1", [3.0], [6.0], weight=10), 10)
    assert rule.finish() == 2.0  # (1 + 3) / 2
    assert rule.auxiliary()["c"] == 1.0  # 2/10 · (4 + 6)/2
    rule.meet(20)
    assert rule.auxiliary()["c"] == 0.5, "ten more clients, all with c_i = 0"


def test_a_late_reply_is_discounted_in_x_and_not_in_c():
    rule = Scaffold()
    rule.meet(2)
    rule.begin(np.zeros(1, dtype=np.float32))
    rule.accept(update("c0", [1.0], [4.0], weight=8), 8)
    rule.accept(update("c1", [4.0], [6.0], weight=8), 4)
    assert rule.finish() == 2.0  # (1 + ½ · 4) / 1.5
    assert rule.auxiliary()["c"] == 5.0


def test_a_control_variate_out_of_range_costs_its_client_only():
    rule = Scaffold()
    rule.meet(1)
    rule.begin(np.zeros(1, dtype=np.float32))
    with pytest.raises(ClientFault, match=r"client c0, round 1: its control variate has an element of size 4e\+06"):
        rule.accept(update("c0", [1.0], [4e6]), 1.0)
    rule.accept(update("c1", [2.0], [1.0]), 1.0)
    assert (rule.finish(), rule.auxiliary()["c"]) == (2.0, 1.0)


def test_its_remark_is_for_optimizers_that_the_paper_does_not_know():
    from fake_fleet import fleet_config

    rule = build("strategy", "scaffold", {})
    assert rule.remarks(fleet_config(2, local__optimizer="sgd")) == []
    (remark,) = rule.remarks(fleet_config(2))
    assert 'local.optimizer = "adamw"' in remark
