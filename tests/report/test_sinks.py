"""Sinks: every one takes every point of a run once, and trouble in one costs nobody else."""

import csv
import importlib.util
import json
import os
import sys
import types

import pytest
from fake_run import write_fake_run
from tiny import run_tiny

from fedpeft.errors import ConfigError, PluginError
from fedpeft.journal import Event, EventKind, Journal
from fedpeft.registry import names
from fedpeft.report.points import PointReader
from fedpeft.report.sinks import Feed, check_sinks, feeding


def read_csv(folder):
    with (folder / "points.csv").open(encoding="utf-8") as file:
        return [(int(row["step"]), row["name"], float(row["value"])) for row in csv.DictReader(file)]


def read_jsonl(folder):
    lines = map(json.loads, (folder / "points.jsonl").read_text(encoding="utf-8").splitlines())
    return [(line["step"], line["name"], line["value"]) for line in lines]


def read_tensorboard(folder):
    pytest.importorskip("tensorboard")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    events = EventAccumulator(str(folder / "tensorboard"), size_guidance={"scalars": 0})
    events.Reload()
    return [(scalar.step, name, scalar.value) for name in events.Tags()["scalars"] for scalar in events.Scalars(name)]


def read_trackio(folder):
    points = sys.modules["trackio"].DATABASE["fedpeft"]["demo"]
    return [(step, name, value) for metrics, step in points for name, value in metrics.items()]


class StandIn(types.ModuleType):
    """What the sink uses of trackio, in memory: it is no dependency of the tests."""

    def __init__(self):
        super().__init__("trackio")
        self.__spec__ = importlib.util.spec_from_loader("trackio", loader=None)
        self.DATABASE = {}

    def Api(self):
        def runs(project):
            if project not in self.DATABASE:
                raise ValueError(f"project {project} does not exist")
            known = self.DATABASE[project]
            return [types.SimpleNamespace(name=name, delete=lambda name=name: known.pop(name)) for name in list(known)]

        return types.SimpleNamespace(runs=runs)

    def init(self, project, *, name, **settings):
        print("* Trackio project initialized")
        assert settings == {"embed": False, "auto_log_gpu": False, "auto_log_cpu": False}
        points = self.DATABASE.setdefault(project, {}).setdefault(name, [])
        return types.SimpleNamespace(
            log=lambda metrics, step: points.append((metrics, step)), finish=lambda: print("* Run finished")
        )


@pytest.fixture
def stand_in(monkeypatch):
    module = StandIn()
    monkeypatch.setitem(sys.modules, "trackio", module)
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    return module


READERS = {"csv": read_csv, "jsonl": read_jsonl, "tensorboard": read_tensorboard, "trackio": read_trackio}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return write_fake_run(tmp_path_factory.mktemp("sinks") / "demo")


def expected(folder):
    reader = PointReader()
    with Journal.read(folder) as journal:
        return [(p.step, p.name, p.value) for event in journal.events() for p in reader.read(event)]


def test_the_list_is_complete():
    assert sorted(READERS) == names("sink")


@pytest.mark.parametrize("name", READERS)
def test_every_sink_holds_every_point_once_however_often_the_run_is_resumed(folder, name, stand_in):
    for _ in range(3):
        with Journal.open(folder) as journal, feeding([name], journal) as feed:
            assert feed.troubles == []
        assert sorted(READERS[name](folder)) == [
            (step, label, pytest.approx(value, rel=1e-6)) for step, label, value in sorted(expected(folder))
        ]


def test_trackio_is_told_to_send_nothing_and_to_leave_stdout_alone(folder, stand_in, monkeypatch, capsys):
    monkeypatch.setenv("TRACKIO_SPACE_ID", "somebody/board")
    with Journal.open(folder) as journal, feeding(["trackio"], journal) as feed:
        assert feed.troubles == []
    assert "TRACKIO_SPACE_ID" not in os.environ
    assert capsys.readouterr().out == ""


def test_a_round_takes_the_seconds_of_its_short_attempts_too():
    reader = PointReader()
    told = [
        (EventKind.ROUND_SHORT, {"accepted": 1, "needed": 2, "seconds": 30.0}),
        (EventKind.RUN_STARTED, {"resumed": True}),
        (EventKind.ROUND_SHORT, {"accepted": 1, "needed": 2}),  # as older versions wrote it
        (EventKind.COMMITTED, {"accepted": 2, "seconds": 9.0}),
        (EventKind.COMMITTED, {"accepted": 2, "seconds": 8.0}),
    ]
    points = [point for kind, payload in told for point in reader.read(Event(1, 0.0, kind, 1, 1, None, payload))]
    assert [point.value for point in points if point.name == "round/seconds"] == [39.0, 8.0]


def test_points_of_a_run(folder):
    points = {(step, name): value for step, name, value in expected(folder)}
    assert points[(0, "test/accuracy")] == 0.61
    assert points[(6, "centralised/loss")] == 0.5
    assert points[(6, "round/replies")] == 4
    assert points[(6, "round/frame_up")] == 4 * 170_000
    assert points[(2, "train/loss_first")] == pytest.approx(1.4 / 2**0.3), "of the attempt that was committed"
    assert not any(step == 0 and name.startswith("round/") for step, name in points)


def test_events_that_come_are_fed_too(tmp_path):
    run = write_fake_run(tmp_path / "demo", rounds=1, finished=False)
    with Journal.open(run) as journal, feeding(["jsonl"], journal):
        before = len(read_jsonl(run))
        journal.record(
            EventKind.EVALUATED, round=1, split="best", accuracy=0.5, loss=None, metrics={"chrf": 0.25}, examples=3
        )
        assert read_jsonl(run)[before:] == [(1, "best/accuracy", 0.5), (1, "best/chrf", 0.25)]


BROKEN = """
class Broken:
    def __init__(self, folder, run): {init}
    def write(self, points): {write}
    def close(self): pass
"""


@pytest.mark.parametrize(("init", "write"), [("1 / 0", "pass"), ("pass", "1 / 0")])
def test_a_sink_that_breaks_ends_and_the_others_go_on(tmp_path, init, write):
    run = write_fake_run(tmp_path / "demo", rounds=1)
    (tmp_path / "own.py").write_text(BROKEN.format(init=init, write=write))
    with Journal.open(run) as journal:
        feed = Feed([f"{tmp_path}/own.py:Broken", "csv"], journal)
        feed.close()
    (trouble,) = feed.troubles
    assert trouble.endswith("ended: ZeroDivisionError: division by zero")
    assert sorted(read_csv(run)) == sorted(expected(run))


def test_what_a_sink_needs_is_looked_for_before_the_run(tmp_path):
    (tmp_path / "own.py").write_text(
        "class Far:\n    needs = ('no_such_module', 'far')\n"
        "    def write(self, points): pass\n    def close(self): pass\n"
        "class Less:\n    def write(self, points): pass\n"
    )
    with pytest.raises(ConfigError, match="needs the package no_such_module") as caught:
        check_sinks([f"{tmp_path}/own.py:Far"])
    assert "pip install 'fedpeft[far]'" in caught.value.remedy
    with pytest.raises(PluginError, match="has no method close"):
        check_sinks([f"{tmp_path}/own.py:Less"])
    with pytest.raises(PluginError, match='sink "tensorbord" is not known') as caught:
        check_sinks(["csv", "tensorbord"])
    assert 'did you mean "tensorboard"?' in caught.value.remedy


def test_a_sink_that_fails_at_its_end_is_told_of(tmp_path):
    """It may keep all it was given until `close`."""
    (tmp_path / "own.py").write_text(
        "class Keeps:\n"
        "    def __init__(self, folder, run): pass\n"
        "    def write(self, points): pass\n"
        "    def close(self): raise OSError(28, 'No space left on device')\n"
    )
    result = run_tiny(tmp_path, rounds=1, report__sinks=[f"{tmp_path}/own.py:Keeps"])
    assert result.finished
    with Journal.read(result.folder) as journal:
        (failed,) = journal.events(EventKind.FAILED)
    assert failed.payload["reason"].endswith("ended: OSError: [Errno 28] No space left on device")
