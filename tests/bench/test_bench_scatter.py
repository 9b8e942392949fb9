"""Points of two measures: what is named, what is a curve, and when there is nothing to draw."""

import json

import pytest
from fake_benchmarks import measurement

from fedpeft.bench.figure import Figure
from fedpeft.bench.page import write_page
from fedpeft.bench.results import Results
from fedpeft.bench.scatter import points


def point(name, x, y, role="own"):
    return Figure.of(name, y, "error", group="g", role=role, across=("bits", x))


GROUP = [
    point("small", 1.0, 0.6),
    point("exact", 8.0, 0.01),
    point("beaten", 8.0, 0.7),
    point("theirs", 14.0, 0.001, role="peer"),
    point("two bits", 2.0, 0.25, role="limit"),
    point("one bit", 1.0, 0.5, role="limit"),
]


def test_who_is_beaten_in_both_measures_bears_no_name():
    own, theirs, bound = points(GROUP)["data"]
    assert (own["x"], own["y"]) == ([1.0, 8.0, 8.0], [0.6, 0.01, 0.7])
    assert own["text"] == ["small", "exact", ""]
    assert own["hovertext"] == ["small", "exact", "beaten"]
    assert theirs["text"] == ["theirs"]
    assert (bound["mode"], bound["x"], bound["y"]) == ("lines", [1.0, 2.0], [0.5, 0.25])


def test_axes_are_logarithmic_and_say_what_they_are():
    plot = points(GROUP)
    assert [plot["layout"][axis]["type"] for axis in ("xaxis", "yaxis")] == ["log", "log"]
    assert plot["layout"]["xaxis"]["title"]["text"] == "bits (log)"
    assert plot["layout"]["yaxis"]["title"]["text"] == "error (log)"
    assert json.loads(json.dumps(plot, allow_nan=False)) == plot


@pytest.mark.parametrize(
    "group",
    [[], [point("a", 1.0, 1.0)], [point("a", 1.0, 1.0), Figure.of("b", 1.0, "error")], [point("a", 0.0, 1.0)] * 2],
)
def test_nothing_to_compare_is_not_drawn(group):
    assert points(group) is None


def test_the_page_draws_them_where_there_are_any(tmp_path):
    page = write_page(tmp_path, Results((measurement(found=tuple(GROUP)),)))
    assert '"hovertext"' in page.read_text(encoding="utf-8")
