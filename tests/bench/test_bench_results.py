import pytest
from fake_benchmarks import MACHINE, figures, measurement

from fedpeft.bench.compare import changes, comparable
from fedpeft.bench.figure import Figure
from fedpeft.bench.results import LATEST, Results, dump, load, load_latest, save
from fedpeft.errors import DataError


def test_json_round_trip(tmp_path):
    missing = Figure.missing("theirs", "no wheel", "ms", group="a step")
    results = Results((measurement(), measurement("other", (missing,), failure="", quick=True)))
    path = tmp_path / "results.json"
    path.write_bytes(dump(results))
    assert load(path) == results


@pytest.mark.parametrize("text", ["", "{}x", '{"measurements": [{"subject": 3}]}', '{"format": 2, "measurements": []}'])
def test_what_is_no_result_is_refused(tmp_path, text):
    (tmp_path / LATEST).write_text(text)
    with pytest.raises(DataError, match=LATEST) as error:
        load_latest(tmp_path)
    assert error.value.code == "bench.unreadable"
    with pytest.raises(DataError):
        save(tmp_path, Results((measurement(),)))
    assert (tmp_path / LATEST).read_text() == text  # not overwritten


def test_latest_keeps_the_last_of_each_subject(tmp_path):
    first, second = measurement("a"), measurement("b")
    save(tmp_path / "new", Results((first, second)))
    again = measurement("a", figures(0.9))
    path, latest = save(tmp_path / "new", Results((again,)))
    assert latest == load_latest(tmp_path / "new") == Results((again, second))
    assert (path.name, load(path)) == ("20260102-030405.json", Results((again,)))


def test_a_failure_replaces_no_measurement():
    good, bad = measurement("a"), measurement("a", (), failure="it ended with status 1")
    assert Results((good,)).merged(Results((bad,))) == Results((good,))
    assert Results().merged(Results((bad,))) == Results((bad,))


def test_nothing_moved_within_the_spread():
    before, now = measurement(found=figures(1.0, scatter=0.1)), measurement(found=figures(1.1, scatter=0.1))
    assert changes(before, now) == []


@pytest.mark.parametrize(("own", "worse"), [(1.3, True), (0.7, False)])
def test_beyond_the_spread_is_named(own, worse):
    found = changes(measurement(), measurement(found=figures(own)))
    assert [(change.figure, change.against, change.worse) for change in found] == [
        ("a step, ours", "theirs", worse),
        ("a step, ours", "the limit", worse),
    ]
    assert f"({'worse' if worse else 'better'})" in found[0].text()


def test_a_machine_that_is_slower_today_is_no_regression():
    slow = figures(1.5, 3.0)
    slow = tuple(
        Figure.of("the limit", 0.75, "ms", group="a step", role="limit") if f.name == "the limit" else f for f in slow
    )
    assert changes(measurement(), measurement(found=slow)) == []


def test_a_value_without_contender_is_compared_itself():
    before = measurement(found=(Figure.of("memory", [0.2, 0.2], "GB"),))
    now = measurement(found=(Figure.of("memory", [0.25, 0.25], "GB"), Figure.of("new", 1.0, "s")))
    [change] = changes(before, now)
    assert change.text() == "step: memory: 0.2 → 0.25 GB (worse)"


@pytest.mark.parametrize(
    ("more", "why"),
    [
        ({"quick": True}, "quick"),
        ({"given": "--delta a.npy"}, "given --delta a.npy"),
        ({"failure": "crashed"}, "failed"),
        ({"machine": type(MACHINE)("another", 2, 16.0, "Linux 6", "3.11.7", {}, 0.5)}, "another machine"),
    ],
)
def test_what_cannot_be_compared_is_not(more, why):
    before, now = measurement(**more), measurement(found=figures(3.0))
    assert why in comparable(before, now)
    assert changes(before, now) == []
