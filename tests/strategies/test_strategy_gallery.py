"""The gallery in strategies/: what each plug-in claims beyond the contract, and the README's own example."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from fake_fleet import FakeFleet, FakeRun
from tiny_text import write_run

from fedpeft.cli.main import perform
from fedpeft.cli.output import Session
from fedpeft.errors import PluginError
from fedpeft.flower.stock import known
from fedpeft.journal import EventKind
from fedpeft.registry import BUILTIN, build
from fedpeft.strategies.client_half import settle_objective
from fedpeft.types import ClientId, ClientInfo, NodeId, Plan, Update

GALLERY = Path(__file__).parents[2] / "strategies"


def fair_sampling():
    return build("strategy", "fair_sampling.py:FairSampling", {}, relative_to=GALLERY)


def infos(*indices):
    return [ClientInfo(ClientId(f"c{index:02d}"), NodeId(index), 5) for index in indices]


def fair_round(strategy, available, count, seed):
    """A round as the coordinator plays it, to whom all answer; returns the cohort."""
    strategy.begin(np.zeros(1, dtype=np.float32))
    cohort = strategy.select(available, count, seed)
    for client in cohort:
        strategy.accept(Update(client, 1, np.ones(1, dtype=np.float32), 1), 1)
    strategy.finish()
    return cohort


def fold(strategy, values, theta=0.0):
    strategy.begin(np.array([theta], dtype=np.float32))
    for index, value in enumerate(values):
        delta = np.array([value], dtype=np.float32)
        strategy.accept(Update(ClientId(f"c{index:02d}"), 1, delta, 1), 1)
    return strategy.finish()[0]


def test_fair_sampling_never_lets_counts_differ_by_more_than_one():
    strategy, available = fair_sampling(), infos(*range(7))
    for seed in range(40):
        fair_round(strategy, available, 3, seed)
        counts = [strategy.asked.get(one.client, 0) for one in available]
        assert max(counts) - min(counts) <= 1
        assert sum(counts) == 3 * (seed + 1)


def test_fair_sampling_lets_a_late_client_catch_up():
    strategy = fair_sampling()
    for seed in range(10):
        fair_round(strategy, infos(0, 1, 2), 1, seed)
    cohorts = [fair_round(strategy, infos(0, 1, 2, 3), 1, seed) for seed in range(10, 13)]
    assert cohorts == [["c03"]] * 3


def test_fair_sampling_breaks_ties_by_the_seed():
    assert len({tuple(fair_sampling().select(infos(*range(6)), 3, seed)) for seed in range(40)}) > 20


def test_fair_sampling_state_survives_names_beyond_ascii():
    strategy = fair_sampling()
    fair_round(strategy, [ClientInfo(ClientId("klinik-köln"), NodeId(1), 5), *infos(1)], 2, seed=0)
    resumed = fair_sampling()
    resumed.restore(strategy.state())
    assert resumed.asked == {"c01": 1, "klinik-köln": 1}


class Stop(Exception):
    """Stands for `kill -9`."""


def fair_cohorts(folder, broken, *, stop=False, **options):
    """Cohorts of a run in which some clients' answers are rubbish when `broken(frame)` says so; and its last θ."""
    fleet = FakeFleet(8)
    for client in fleet.clients:
        client.train = lambda frame, own=client: b"rubbish" if broken(own, frame) else own.honest(frame)
    table = {"ask": 3, "min_replies": 2, "attempts": 3, "deadline_s": 10.0, **options}
    run = FakeRun(fleet, folder, fair_sampling(), run={"name": "fake", "rounds": 6, "seed": 1}, round=table)
    if stop:
        record = run.journal.record

        def killed(kind, /, **payload):
            event = record(kind, **payload)
            if kind is EventKind.ROUND_SHORT:
                raise Stop
            return event

        run.journal.record = killed
    try:
        theta = run.run().tobytes()
        return [(e.round, e.attempt, e.payload["cohort"]) for e in run.journal.events(EventKind.ROUND_OPENED)], theta
    finally:
        run.journal.close()


def test_fair_sampling_asks_the_same_clients_when_it_is_killed_between_two_attempts(tmp_path):
    def broken(client, frame):
        return (frame.round, frame.attempt) == (2, 1)

    whole = fair_cohorts(tmp_path / "whole", broken)
    with pytest.raises(Stop):
        fair_cohorts(tmp_path / "parts", broken, stop=True)
    assert fair_cohorts(tmp_path / "parts", broken) == whole


def test_fair_sampling_is_not_held_up_by_a_client_that_never_answers_well(tmp_path):
    cohorts, _ = fair_cohorts(tmp_path, lambda client, frame: client.name == "c03", min_replies=3)
    assert max(number for number, _, _ in cohorts) == 6
    assert max(attempt for _, attempt, _ in cohorts) == 2  # the next attempt asks others
    assert sum("c03" in cohort for _, _, cohort in cohorts) in (2, 3)  # as often as anybody: 3 of 8 in 6 rounds


@pytest.mark.parametrize(
    ("values", "stretch"),
    [
        ([1.0, 1.0, 1.0], 1.0),  # all agree: FedAvg
        ([3.0, -1.0], 10 / (2 * 2 * 1.0)),  # 9 + 1 over 2 M times the square of the mean, which is 1
        ([9.0, -9.0], 1.0),  # the mean is 0: no direction, whatever the stretch
        ([100.0, -99.0], 5.0),  # 199 is cut to `largest`
    ],
)
def test_extrapolation_stretches_the_mean_by_the_equation(values, stretch):
    rule = build("strategy", "extrapolation.py:FedExP", {"epsilon": 1e-12, "largest": 5.0}, relative_to=GALLERY)
    assert fold(rule, values) == pytest.approx(stretch * np.mean(values), rel=1e-5)


def test_extrapolation_is_held_back_by_epsilon():
    steps = [
        fold(build("strategy", "extrapolation.py:FedExP", {"epsilon": e}, relative_to=GALLERY), [10.0, -9.0])
        for e in (1e-6, 10.0, 1e3)
    ]
    assert steps[0] == pytest.approx(0.5 * 100)  # `largest`
    assert steps[1] == pytest.approx(0.5 * 181 / (4 * 10.25))
    assert steps[2] == 0.5


def test_extrapolation_counts_a_late_reply_by_its_discount():
    rule = build("strategy", "extrapolation.py:FedExP", {"epsilon": 1e-12}, relative_to=GALLERY)
    assert not rule.asynchronous
    rule.begin(np.zeros(2, dtype=np.float32))
    rule.accept(Update(ClientId("c00"), 9, np.array([1, 0], dtype=np.float32), weight=7), 7.0)
    rule.accept(Update(ClientId("c01"), 8, np.array([0, 2], dtype=np.float32), weight=100), 25.0)
    mean = np.array([1, 0.25 * 2]) / 1.25
    stretch = (1 + 0.25 * 4) / (2 * 1.25 * (mean**2).sum())
    np.testing.assert_allclose(rule.finish(), stretch * mean, rtol=1e-6)


def test_elastic_net_is_the_gradient_of_its_equation():
    torch = pytest.importorskip("torch")
    half = build("objective", "elastic_net.py:ElasticNet", {"l1": 0.3, "mu": 0.5}, relative_to=GALLERY)
    way = torch.tensor([[1.5, -2.0, 0.25], [0.1, 4.0, -1.0]], requires_grad=True)
    (0.3 * way.abs().sum() + 0.25 * way.square().sum()).backward()
    start, gradient = torch.randn(2, 3), torch.zeros(2, 3)
    half.add_gradient(gradient, start + way.detach(), start)
    torch.testing.assert_close(gradient, way.grad)
    half.add_gradient(still := torch.zeros(2, 3), start, start)
    assert not still.any()


def test_elastic_net_tells_its_clients_both_strengths():
    rule = build("strategy", "elastic_net.py:FedElasticNet", {"l1": 0.5, "mu": 0}, relative_to=GALLERY)
    settle_objective(rule)
    plan = rule.plan(Plan("run", 1, 1, ClientId("c00"), 0, 1, 1, 0.1), infos(1)[0])
    assert plan.objective_params == {"l1": 0.5, "mu": 0.0}
    assert re.fullmatch(r"elastic_net\.py:ElasticNet#[0-9a-f]{12}", plan.objective)
    with pytest.raises(PluginError, match="l1 = -1 must be at least 0"):
        build("strategy", "elastic_net.py:FedElasticNet", {"l1": -1}, relative_to=GALLERY)


def test_each_plug_in_of_the_gallery_is_in_the_readme():
    text = (GALLERY / "README.md").read_text(encoding="utf-8")
    for path in GALLERY.glob("*.py"):
        assert f"({path.name})" in text
    assert all(f"`{name}`" in text for name in BUILTIN["strategy"])
    assert all(re.search(rf"\b{name}\b", text) for name in known())


# --- the README's own example ----------------------------------------------------------------------------------------


@pytest.fixture
def example(tmp_path):
    """The README's strategy and its test, in a folder."""
    text = (GALLERY / "README.md").read_text(encoding="utf-8")
    (code,) = re.findall(r"```python\n(.*?)```", text, flags=re.DOTALL)
    (test,) = re.findall(r"```python test\n(.*?)```", text, flags=re.DOTALL)
    assert len(code.splitlines()) <= 40
    (tmp_path / "careful_mean.py").write_text(code, encoding="utf-8")
    (tmp_path / "test_careful_mean.py").write_text(test, encoding="utf-8")
    return tmp_path


def test_the_example_of_the_readme_folds_as_it_says(example):
    strategy = build("strategy", "careful_mean.py:CarefulMean", {"limit": 1.0}, relative_to=example)
    assert fold(strategy, [0.5, 100.0]) == 0.75  # the second is shortened to norm 1
    with pytest.raises(PluginError, match="limit = 0 must be above 0"):
        build("strategy", "careful_mean.py:CarefulMean", {"limit": 0}, relative_to=example)


@pytest.mark.slow
def test_the_example_of_the_readme_passes_the_contract_in_its_own_folder(example):
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-W", "error"],
        cwd=example,
        env={**os.environ, "PYTHONPATH": str(GALLERY.parent)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert re.search(r"\d\d passed", done.stdout), done.stdout + done.stderr
    assert "failed" not in done.stdout


@pytest.mark.slow
def test_the_example_of_the_readme_runs_from_a_run_file(example, capsys):
    def adapter(name, **changes):
        path = write_run(example, run__name=name, **changes)
        assert perform(["run", str(path), "--format", "json"], Session()) == 0
        return json.loads(capsys.readouterr().out)["adapter_hash"]

    careful = {"name": "careful_mean.py:CarefulMean", "limit": 100.0, "mu": 2.0}
    proximal = {"name": "fedprox", "mu": 2.0}
    assert adapter("careful", strategy=careful) == adapter("proximal", strategy=proximal)  # nothing is that long
    assert adapter("plain") != adapter("short", strategy={**careful, "limit": 1e-3})
