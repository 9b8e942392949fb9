"""What a step computes: passes of examples through the model, told in the plan and drawn in comparisons."""

import json
import re

import pytest
from tiny_text import write_run

from fedpeft import api
from fedpeft.config import load_run_file
from fedpeft.journal import Journal
from fedpeft.report.comparison import write_comparison
from fedpeft.report.history import read_history
from fedpeft.report.record import record_of
from fedpeft.report.seeds import group_runs
from fedpeft.simulation.plan import step_passes

ZEROTH = {"zeroth__size": 64, "local__optimizer": "sgd"}


@pytest.mark.parametrize(
    ("changes", "passes"),
    [
        ({}, 4 * 2),
        ({"local__checkpointing": True}, 4 * 3),
        ({"adapter": {"type": "full"}}, 4 * 3),
        (ZEROTH, 4 * 2),
        (ZEROTH | {"zeroth__conservative": True}, 4 * 5),
        (ZEROTH | {"zeroth__estimator": {"name": "forward", "queries": 3}}, 4 * 4),
        (ZEROTH | {"zeroth__estimator": {"name": "forward-gradient", "queries": 3}}, 4 * 6),
    ],
)
def test_a_step_passes_each_of_its_examples_so_often(tmp_path, changes, passes):
    assert step_passes(load_run_file(write_run(tmp_path, **changes))) == passes


@pytest.mark.slow
def test_with_and_without_gradients_lie_on_one_axis(tmp_path):
    runs = []
    for name, changes in (("first", {}), ("zeroth", ZEROTH)):
        result = api.run(load_run_file(write_run(tmp_path, **changes), {"run.name": name}))
        with Journal.read(result.folder) as journal:
            history = read_history(list(journal.events()))
            runs.append(record_of(journal))
        assert [row.passes for row in history.rounds] == [0, 32, 32]  # the first is that of round 0
    page = write_comparison(tmp_path / "page.html", group_runs(runs)).read_text()
    found = re.search(r'<script type="application/json" id="figures">(.*?)</script>', page, re.DOTALL)
    traces = json.loads(found[1])["metric0-passes"]["data"]
    assert [trace["x"] for trace in traces] == [[0, 0.032, 0.064]] * 2
