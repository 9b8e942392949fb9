"""The picture of the split: what is drawn, what is written beside it, and what it weighs."""

import base64
import json
from dataclasses import replace

import fake_run
import numpy as np
import pytest

from fedpeft.data.split import DataSplit
from fedpeft.journal import Journal
from fedpeft.report import write_report
from fedpeft.report.split_plot import split_caption, split_plot
from fedpeft.report.summary import stored_plan


def split_with(clients: int, labels: int, names: tuple[str, ...] | None = None) -> DataSplit:
    """Client i has 10 + i examples, all but one of label i, that one of the next."""
    rows = tuple((i % labels, 9 + i, (i + 1) % labels, 1) for i in range(clients))
    return DataSplit(
        labels=tuple(f"label {i}" for i in range(labels)),
        clients=names or tuple(f"c{i:03}" for i in range(clients)),
        sizes=tuple(10 + i for i in range(clients)),
        counts=rows,
        of=clients,
    )


def cells(figure) -> np.ndarray:
    z = figure["data"][0]["z"]
    assert z["dtype"] == "u1"
    return np.frombuffer(base64.b64decode(z["bdata"]), dtype=np.uint8).reshape(*map(int, z["shape"].split(",")))


def test_cells_are_percent_of_the_clients_examples():
    figure = split_plot(split_with(3, 4))
    heat, bars = figure["data"]
    assert heat["y"] == bars["y"] == ["c000", "c001", "c002"]
    assert heat["x"] == ["label 0", "label 1", "label 2", "label 3"]
    assert cells(figure).tolist() == [[90, 10, 0, 0], [0, 91, 9, 0], [0, 0, 92, 8]]
    assert bars["x"] == [10, 11, 12]


def test_the_smallest_share_is_still_seen():
    split = DataSplit(("a", "b"), ("c0",), (1000,), ((0, 999, 1, 1),), 1)
    assert cells(split_plot(split)).tolist() == [[100, 1]]


def test_labels_follow_the_clients_that_hold_most_of_them():
    split = DataSplit(("a", "b", "c"), ("x", "y"), (10, 10), ((2, 10), (0, 7, 1, 3)), 2)
    figure = split_plot(split)
    assert figure["data"][0]["x"] == ["c", "a", "b"]
    assert cells(figure).tolist() == [[100, 0, 0], [0, 70, 30]]


def test_few_clients_are_named_and_many_are_sorted():
    few, many = split_plot(split_with(20, 77)), split_plot(split_with(406, 355))
    assert few["layout"]["yaxis"]["dtick"] == 1
    assert few["data"][1]["y"][0] == "c000"
    assert many["layout"]["yaxis"]["showticklabels"] is False
    assert many["data"][1]["y"][0] == "c405"  # the largest first
    assert many["data"][1]["x"] == sorted(many["data"][1]["x"], reverse=True)
    assert many["layout"]["height"] < 800
    assert "largest first" in split_caption(split_with(406, 355))
    assert "largest first" not in split_caption(split_with(20, 77))


@pytest.mark.parametrize(("clients", "labels", "kilobytes"), [(20, 77, 8), (10, 150, 8), (406, 355, 220)])
def test_it_is_light(clients, labels, kilobytes):
    assert len(json.dumps(split_plot(split_with(clients, labels)))) < 1000 * kilobytes


def test_long_names_are_cut_unless_they_would_be_one():
    names = ("c0 " + "x" * 40, "c1 " + "y" * 40 + "1", "c1 " + "y" * 40 + "2", "c2 <b>")
    shown = split_plot(split_with(4, 2, names))["data"][1]["y"]
    assert shown[0] == "c0 " + "x" * 22 + "…"
    assert shown[1:3] == list(names[1:3])
    assert shown[3] == "c2 &lt;b&gt;"


def test_without_labels_there_are_bars_only():
    split = DataSplit((), ("c0", "c1"), (3, 4), ((), ()), 2)
    figure = split_plot(split)
    assert [trace["type"] for trace in figure["data"]] == ["bar"]
    assert split_caption(split) == "Training examples of 2 clients."


def test_a_choice_of_the_clients_is_told():
    split = DataSplit(("a",), ("c0", "c2"), (3, 4), ((0, 3), (0, 4)), 5000)
    assert split_caption(split).startswith("Who holds what: 2 of 5000 clients, 1 labels.")


def test_it_is_in_the_report(tmp_path, monkeypatch):
    monkeypatch.setattr(fake_run, "PLAN", replace(fake_run.PLAN, data_split=split_with(12, 5)))
    folder = fake_run.write_fake_run(tmp_path / "demo", rounds=1)
    with Journal.read(folder) as journal:
        assert stored_plan(journal) == fake_run.PLAN
    text = write_report(folder).read_text(encoding="utf-8")
    assert "<h2>Data</h2>" in text
    assert 'id="split"' in text
    assert '"shape": "12, 5"' in text


def test_no_clients_no_figure():
    assert split_plot(DataSplit((), (), (), (), 0)) is None
