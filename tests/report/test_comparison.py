"""Curves of several runs: means and intervals over seeds, against rounds and bytes."""

import json
import re
from dataclasses import replace

import pytest
from fake_run import fake_config, write_fake_run

from fedpeft.errors import DataError
from fedpeft.journal import Journal
from fedpeft.report.comparison import AXES, _plot, curve, write_comparison
from fedpeft.report.record import CurvePoint, RunRecord, record_of
from fedpeft.report.seeds import differences, group_runs


def run_of(values, sent=100, passes=0):
    """A run whose accuracy after each round is given."""
    tests = tuple(CurvePoint(n, float(n), n * sent, n * passes, {"accuracy": v}) for n, v in enumerate(values))
    return RunRecord("run", 1, "accuracy", {}, sent, 0, "", tests, {})


def groups_of(folder, *names):
    records = []
    for place, name in enumerate(names):
        config = fake_config(name)
        local = config.local.model_copy(update={"steps": 1 + place // 2})
        run = config.run.model_copy(update={"seed": 1 + place % 2})
        config = config.model_copy(update={"local": local, "run": run})
        with Journal.read(write_fake_run(folder / name, config=config)) as journal:
            records.append(record_of(journal))
    return group_runs(records)


def test_a_curve_is_the_mean_of_its_seeds_where_all_were_evaluated():
    points = curve([run_of([0.1, 0.2, 0.6]), run_of([0.3, 0.4])], "accuracy")
    assert [(point.round, point.uplink) for point in points] == [(0, 0.0), (1, 100.0)]
    assert [point.value.mean for point in points] == pytest.approx([0.2, 0.3])
    assert points[0].value.half == pytest.approx(12.7062 * 0.1)  # t of one degree of freedom · s / sqrt(2)
    assert curve([run_of([0.1])], "rouge") == []
    assert curve([], "accuracy") == []


def test_bytes_are_those_sent_until_then():
    points = curve([run_of([0, 0, 0], sent=10), run_of([0, 0, 0], sent=30)], "accuracy")
    assert [point.uplink for point in points] == [0, 20, 40]


def test_passes_are_those_of_the_steps_until_then():
    points = curve([run_of([0, 0, 0], passes=384), run_of([0, 0, 0], passes=768)], "accuracy")
    assert [point.passes for point in points] == [0, 12 * 48, 24 * 48]


def test_differences_are_paired_by_seed(tmp_path):
    first, second = groups_of(tmp_path, "a-seed1", "a-seed2", "b-seed1", "b-seed2")
    (found,) = differences([first, second])
    assert (found.name, found.against, found.seeds) == ("b", "a", (1, 2))
    assert found.difference.mean == pytest.approx(0.0)
    assert differences([first]) == differences([]) == []


def test_runs_without_a_seed_in_common_have_no_difference(tmp_path):
    one, two = groups_of(tmp_path, "a-seed1", "a-seed2", "b-seed1")
    two = replace(two, records=(replace(two.records[0], seed=9),))
    assert differences([one, two]) == []


def test_the_page_holds_a_line_for_each_group(tmp_path):
    groups = groups_of(tmp_path, "a-seed1", "a-seed2", "b-seed1")
    groups[1] = replace(groups[1], name="b<i>")
    page = write_comparison(tmp_path / "page.html", groups).read_text()
    data = re.search(r'<script type="application/json" id="figures">(.*?)</script>', page, re.DOTALL)
    figures = json.loads(data[1])
    assert "metric0-passes" not in figures  # these runs do not tell how much a step computes
    over_rounds = figures["metric0-rounds"]["data"]
    assert [trace["name"] for trace in over_rounds] == ["a", "b&lt;i&gt;"]
    own = groups[0].records[0].tests
    assert len(own) > 1
    assert over_rounds[0]["y"] == pytest.approx([100 * item.metrics["accuracy"] for item in own])
    assert "error_y" in over_rounds[0]
    assert "error_y" not in over_rounds[1]
    assert "b&lt;i&gt;" in page
    assert "b<i>" not in page.replace(data[0], "")


def test_a_metric_of_any_name_is_text_on_the_page(tmp_path):
    named = '"><img src=x onerror=alert(1)>'
    run = run_of([0.1, 0.4])
    run = replace(run, metric=named, tests=tuple(replace(item, metrics={named: 1.0}) for item in run.tests))
    page = write_comparison(tmp_path / "page.html", group_runs([run])).read_text()
    assert "<img" not in page
    assert "&lt;img src=x" in page


def test_what_is_far_apart_is_drawn_on_a_logarithmic_axis(tmp_path):
    first, second = groups_of(tmp_path, "a-seed1", "a-seed2", "b-seed1")
    little, much = ([run_of([0.1, 0.2, 0.3], sent=sent)] for sent in (10, 1000))
    curves = [(first, curve(little, "accuracy")), (second, curve(much, "accuracy"))]
    rounds, sent, *_ = AXES
    far, near = _plot(curves, "accuracy", sent), _plot(curves[:1] * 2, "accuracy", sent)
    assert far["layout"]["xaxis"]["type"] == "log"
    assert [trace["x"] for trace in far["data"]] == [pytest.approx([1e-5, 2e-5]), pytest.approx([1e-3, 2e-3])]
    assert "type" not in near["layout"]["xaxis"]
    assert len(near["data"][0]["x"]) == 3
    assert "type" not in _plot(curves, "accuracy", rounds)["layout"]["xaxis"]


def test_a_page_that_cannot_be_written(tmp_path):
    with pytest.raises(DataError, match="cannot be written"):
        write_comparison(tmp_path / "no" / "page.html", groups_of(tmp_path, "a-seed1"))
