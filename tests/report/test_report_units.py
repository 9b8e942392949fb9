import pytest

from fedpeft.report.units import (
    bytes_text,
    count_text,
    interval_text,
    percent_text,
    points_text,
    ratio_text,
    seconds_text,
)


@pytest.mark.parametrize(
    ("count", "text"),
    [(0, "0 B"), (999, "999 B"), (1000, "1.00 kB"), (999_499, "999 kB"), (999_600, "1.00 MB"), (1_310_000, "1.31 MB"),
     (14_230_000_000, "14.2 GB"), (5e15, "5000 TB")],
)  # fmt: skip
def test_bytes(count, text):
    assert bytes_text(count) == text


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0, "0.0 s"), (9.94, "9.9 s"), (9.96, "10 s"), (59.4, "59 s"), (59.6, "1 min 0 s"), (200, "3 min 20 s"),
     (7500, "2 h 5 min")],
)  # fmt: skip
def test_seconds(seconds, text):
    assert seconds_text(seconds) == text


def test_the_rest():
    assert count_text(22_713_216).split() == ["22", "713", "216"]
    assert percent_text(0.8432) == "84.3 %"
    assert percent_text(None) == "–"
    assert interval_text(0.8, 0) == "–"
    assert interval_text(0.5, 100) == "40.4 to 59.6 %"
    assert points_text(-0.018) == "−1.8 points"
    assert points_text(0.231) == "+23.1 points"
    assert (ratio_text(None), ratio_text(411.7), ratio_text(7.25)) == ("–", "412×", "7.25×")
