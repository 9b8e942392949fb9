"""Schedules, best rounds, early ends, personalisation and sinks in whole runs, cut and resumed ones among them."""

import csv
import json
import tomllib

import pytest
from tiny import Stop, run_tiny, stop_at, tiny_arguments

from fedpeft import api
from fedpeft.config import parse_config
from fedpeft.errors import ConfigError, JournalError
from fedpeft.journal import EventKind, Journal
from fedpeft.server.best import read_best
from fedpeft.simulation.kept import adapter_of, newest_commit

BUSY = {
    "rounds": 6,
    "local__schedule": {"name": "cosine", "warmup": 1},
    "local__learning_rate": 0.05,
    "evaluation__clients_every": 2,
    "evaluation__clients_fraction": 0.6,
    "evaluation__personalised_steps": 2,
    "evaluation__keep": "best",
    "report__sinks": ["csv", "jsonl"],
}
EARLY = {"rounds": 8, "evaluation__patience": 1, "evaluation__min_delta": 0.9}  # nothing improves by so much


def told(folder, *kinds):
    with Journal.read(folder / "tiny") as journal:
        return sorted(
            (event.kind, event.round, event.client or "", json.dumps(event.payload, sort_keys=True))
            for event in journal.events()
            if event.kind in kinds
        )


EVALUATIONS = (
    EventKind.EVALUATED,
    EventKind.CLIENT_EVALUATED,
    EventKind.CLIENT_TUNED,
    EventKind.CLIENTS_EVALUATED,
    EventKind.STOPPED,
)


@pytest.fixture(scope="module")
def busy(tmp_path_factory):
    folder = tmp_path_factory.mktemp("busy")
    return folder, run_tiny(folder, **BUSY)


def test_one_at_a_time_is_the_same_as_together(busy, tmp_path):
    _, result = busy
    alone = run_tiny(tmp_path, **BUSY, engine__trainer="sequential")
    assert alone.client_values.keys() == {"before", "after", "tuned"}
    for stage, values in alone.client_values.items():
        assert values == pytest.approx(dict(result.client_values[stage]), abs=0.13)  # one of eight examples
    assert alone.clients["tuned"]["loss"].mean == pytest.approx(result.clients["tuned"]["loss"].mean, rel=1e-4)
    assert result.clients["tuned"]["loss"].mean < result.clients["after"]["loss"].mean


@pytest.mark.parametrize("at", [("client_tuned", 1), ("client_tuned", 3), ("clients_evaluated", 2), ("committed", 4)])
def test_cut_and_resumed_it_has_the_same_evaluations(busy, tmp_path, at):
    folder, result = busy
    kind, count = at
    with pytest.raises(Stop):
        run_tiny(tmp_path, observers=[stop_at(EventKind(kind), count)], **BUSY)
    resumed = run_tiny(tmp_path, resume=True, **BUSY)
    assert resumed.adapter_hash == result.adapter_hash
    assert told(tmp_path, *EVALUATIONS) == told(folder, *EVALUATIONS)
    assert points(tmp_path) == points(folder)


def points(folder):
    """What a sink holds, without the times."""
    with (folder / "tiny" / "points.csv").open(encoding="utf-8") as file:
        rows = [(row["step"], row["name"], row["value"]) for row in csv.DictReader(file)]
    lines = [json.loads(line) for line in (folder / "tiny" / "points.jsonl").read_text().splitlines()]
    assert [(str(line["step"]), line["name"], repr(line["value"])) for line in lines] == rows
    of_a_session = ("round/frame_up", "round/frame_down", "round/seconds")  # counts and the clock begin anew with each
    return sorted(row for row in rows if row[1] not in of_a_session)


def test_a_point_is_in_a_sink_once(busy):
    folder, _ = busy
    keys = [row[:2] for row in points(folder)]
    assert len(set(keys)) == len(keys)
    assert {("6", "tuned/accuracy/mean"), ("4", "clients/loss/worst"), ("3", "round/learning_rate")} <= set(keys)


def test_the_best_round_is_exported_and_the_last_lies_beside_it(busy):
    folder, result = busy
    best, _ = read_best(folder / "tiny")
    assert result.best_round == best
    weights = {
        name: (folder / "tiny" / name / "adapter_model.safetensors").read_bytes()
        for name in ("adapter", "adapter-last")
    }
    accuracies = {event.round: event.payload["accuracy"] for event in evaluations(folder)}
    assert accuracies[best] == max(accuracies.values())
    assert (weights["adapter"] == weights["adapter-last"]) is (best == result.rounds)


def evaluations(folder):
    with Journal.read(folder / "tiny") as journal:
        return [event for event in journal.events(EventKind.EVALUATED) if event.payload["split"] == "test"]


def test_a_run_that_stops_early_is_finished_and_its_twin_had_as_many_passes(tmp_path):
    result = run_tiny(tmp_path, **EARLY, evaluation__centralised=True)
    assert (result.rounds, result.rounds_asked, result.finished) == (1, 8, True)
    assert result.stopped.startswith("accuracy has not improved in 1 evaluation in a row")
    assert result.centralised_passes == result.example_passes == 3 * 3 * 8
    assert (tmp_path / "tiny" / "adapter-best").is_dir()
    again = run_tiny(tmp_path, resume=True, **EARLY, evaluation__centralised=True)
    assert (again.rounds, again.adapter_hash) == (1, result.adapter_hash)
    with Journal.read(tmp_path / "tiny") as journal:
        assert len(list(journal.events(EventKind.RUN_STARTED))) == 1


@pytest.mark.parametrize("kind", ["stopped", "exported", "evaluated"])
def test_a_run_that_stops_early_can_be_cut_around_its_end(tmp_path, kind):
    whole = run_tiny(tmp_path / "whole", **EARLY)
    with pytest.raises(Stop):
        run_tiny(tmp_path / "cut", observers=[stop_at(EventKind(kind), 1)], **EARLY)
    resumed = run_tiny(tmp_path / "cut", resume=True, **EARLY)
    assert (resumed.adapter_hash, resumed.stopped, resumed.finished) == (whole.adapter_hash, whole.stopped, True)


def test_looking_for_the_best_round_changes_no_bit_of_the_last(busy, tmp_path):
    _, result = busy
    plain = {key: value for key, value in BUSY.items() if not key.startswith(("evaluation", "report"))}
    assert run_tiny(tmp_path, **plain).adapter_hash == result.adapter_hash
    flat = {key: value for key, value in plain.items() if key != "local__schedule"}
    assert run_tiny(tmp_path / "flat", **flat).adapter_hash != result.adapter_hash


def test_nothing_to_watch_is_an_error_before_the_run(tmp_path):
    given = tiny_arguments(tmp_path, evaluation__patience=2) | {"test": ()}
    with pytest.raises(ConfigError, match=r"evaluation\.patience = 2 has nothing to go by") as caught:
        api.simulate(**given)
    assert caught.value.code == "config.nothing-to-watch"


def test_a_task_without_accuracy_is_shown_by_its_loss(tmp_path):
    result = api.simulate(**tiny_arguments(tmp_path, rounds=2, evaluation__keep="best") | {"correct": None})
    assert (result.metric, result.larger_is_better) == ("loss", False)
    assert result.federated < result.zero_shot
    assert result.to_json()["intervals"] == {"zero_shot": None, "federated": None, "centralised": None, "best": None}


def test_the_best_adapter_of_a_run_that_did_not_look_for_one(tmp_path):
    run_tiny(tmp_path, rounds=1)
    with Journal.read(tmp_path / "tiny") as journal:
        config = parse_config(tomllib.loads(journal.config_toml), origin="test")
        commit = newest_commit(journal, config)
        kept, last = (adapter_of(journal, config, commit, which) for which in ("kept", "last"))
        assert kept[0] == last[0] == 1
        assert kept[1].tolist() == last[1].tolist()
        with pytest.raises(JournalError, match="has no best round"):
            adapter_of(journal, config, commit, "best")
