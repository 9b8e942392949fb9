import json
import re
from dataclasses import replace

import pytest
from fake_benchmarks import MACHINE, figures, measurement
from html_outline import Outline

from fedpeft.bench.compare import changes
from fedpeft.bench.figure import Figure
from fedpeft.bench.page import write_page
from fedpeft.bench.plot import bars
from fedpeft.bench.results import Results
from fedpeft.errors import DataError


def page_of(folder, *measurements, changed=()):
    path = write_page(folder, Results(measurements), changed)
    text = path.read_text(encoding="utf-8")
    found = re.search(r'<script type="application/json" id="figures">(.*?)</script>', text, re.S)
    return text, json.loads(found[1]) if found else {}


def test_the_page_works_offline(tmp_path):
    text, drawn = page_of(tmp_path, measurement(), measurement("other"))
    outline = Outline(text)
    assert outline.loads == []
    assert outline.tags.count("script") == 3  # Plotly, the figures, the page's own
    assert set(drawn) == {"step-0", "other-0"}
    for name in drawn:
        assert f'id="{name}"' in text


def test_targets_are_counted_and_the_missed_ones_named(tmp_path):
    text, _ = page_of(tmp_path, measurement(found=figures(1.25)))
    assert re.findall(r'<div class="value">(\d) <small>of (\d)', text) == [("1", "2"), ("1", "2"), ("0", "2")]
    assert "<li>step: a step, ours: 1.60× against theirs, wanted 1.8×</li>" in text


def test_a_missing_peer_and_a_failure_are_told(tmp_path):
    missing = (Figure.missing("theirs", "no <wheel>", "ms", group="a step"), *figures()[1:])
    text, _ = page_of(tmp_path, measurement(found=missing), measurement("b", (), failure="out of <memory>"))
    assert "missing: no &lt;wheel&gt;" in text
    assert "Failed: out of &lt;memory&gt;" in text
    assert "A step of &lt;something&gt; &amp; more." in text
    assert re.findall(r'<div class="value">(\d) <small>of (\d)', text) == [("1", "2"), ("0", "2"), ("1", "2")]


def test_a_regression_is_on_the_page(tmp_path):
    now = measurement(found=figures(1.4))
    text, _ = page_of(tmp_path, now, changed=changes(measurement(), now))
    assert "2 → 1.43 × (worse)" in text


def test_quick_figures_say_so(tmp_path):
    assert "Quick:" in page_of(tmp_path, measurement(quick=True))[0]
    assert "Quick:" not in page_of(tmp_path, measurement())[0]


def test_a_busy_machine_is_told(tmp_path):
    busy = measurement(machine=replace(MACHINE, load=5.0))
    assert '<p class="state">Load 5 on 2 cores' in page_of(tmp_path, busy)[0]
    assert "Load " not in page_of(tmp_path, measurement())[0]


def test_bars_and_limits():
    plot = bars(figures()[:3])
    trace, targets = plot["data"]
    assert trace["y"] == ["theirs", "ours"]
    assert trace["x"] == [2.0, 1.0]
    assert (targets["x"], targets["y"]) == ([2.0 / 1.8], ["ours"])
    [line] = plot["layout"]["shapes"]
    assert (line["x0"], line["x1"]) == (0.5, 0.5)
    assert plot["layout"]["annotations"][0]["text"] == "the limit: 0.500 ms"
    assert json.loads(json.dumps(plot, allow_nan=False)) == plot


def test_bars_of_unlike_size_are_on_a_log_axis():
    plot = bars([Figure.of("a", 1000.0, "ms"), Figure.of("b", 1.0, "ms"), Figure.of("c", 10.0, "ms", role="limit")])
    assert plot["layout"]["xaxis"]["type"] == "log"
    assert plot["layout"]["shapes"][0]["x0"] == 10.0
    assert plot["layout"]["annotations"][0]["x"] == 1.0


@pytest.mark.parametrize(
    "group",
    [
        [],
        [Figure.of("a", 1.0, "ms")],
        [Figure.of("a", 1.0, "ms"), Figure.missing("b", "gone", "ms")],
        [Figure.of("a", 1.0, "ms"), Figure.of("b", 1.0, "MB")],
    ],
)
def test_nothing_to_compare_is_not_drawn(group):
    assert bars(group) is None


def test_limits_alone_are_bars():
    plot = bars([Figure.of(name, 1.0, "GB/s", role="limit") for name in ("read", "copy")])
    assert plot["data"][0]["y"] == ["read", "copy"]
    assert plot["layout"]["shapes"] == []


def test_a_folder_that_is_not_there(tmp_path):
    with pytest.raises(DataError, match="cannot be written"):
        write_page(tmp_path / "nowhere", Results((measurement(),)))
