import json

import pytest
from fake_run import PLAN, adapter, write_fake_run

from fedpeft.journal import EventKind, Journal
from fedpeft.report.summary import RunPlan, stored_plan, summarise, wilson
from fedpeft.types import ClientId


def summary_of(folder):
    with Journal.read(folder) as journal:
        return summarise(journal)


def test_result_of_a_whole_run(tmp_path):
    result = summary_of(write_fake_run(tmp_path / "demo"))
    assert (result.name, result.rounds, result.rounds_asked, result.finished) == ("demo", 6, 6, True)
    assert result.adapter_hash == adapter(6)
    assert result.zero_shot == 0.61
    assert result.federated == pytest.approx(0.61 + 0.24 * (1 - 0.6**6))
    assert result.centralised == 0.88
    assert result.test_examples == 800
    assert result.frame_up == 6 * 4 * 170_000
    assert result.wire_down == 6 * 4 * 171_000
    assert len(result.client_accuracy_before) == len(result.client_accuracy_after) == 12
    assert [refusal.reason for refusal in result.refused] == [
        f"client {result.refused[0].client}: delta has 5 values that are not finite"
    ]


def test_short_attempt_counts_its_asks_but_not_its_training(tmp_path):
    result = summary_of(write_fake_run(tmp_path / "demo"))
    assert result.full_model_bytes == 2 * (6 * 4 + 4) * PLAN.full_model_bytes
    assert result.example_passes == (4 + 4 + 3 + 3 + 4 + 4) * 8 * 16
    assert result.centralised_passes == result.example_passes


def test_attempt_cut_by_a_crash_is_not_counted(tmp_path):
    folder = write_fake_run(tmp_path / "cut", rounds=2, asked_rounds=9, finished=False, incidents=False)
    before = summary_of(folder)
    with Journal.open(folder) as journal:
        journal.record(EventKind.ROUND_OPENED, round=3, attempt=1, cohort=["c00"])
        who = {"round": 3, "attempt": 1, "client": ClientId("c00")}
        journal.record(EventKind.ASKED, **who, bytes=1, version=2, base=-1, steps=8)
        journal.record(
            EventKind.ACCEPTED, **who, weight=1.0, norm=1.0, bytes=1, seconds=1.0, loss_first=1.0, loss_last=1.0
        )
        journal.record(EventKind.RUN_STARTED, version="0.1.0", resumed=True)
        journal.commit(3, {}, adapter=adapter(3), attempt=2, accepted=0, seconds=0.0)
    after = summary_of(folder)
    assert (after.rounds, before.rounds) == (3, 2)
    assert after.full_model_bytes == before.full_model_bytes
    assert after.example_passes == before.example_passes


def test_interrupted_run_has_what_there_is(tmp_path):
    result = summary_of(write_fake_run(tmp_path / "cut", rounds=4, asked_rounds=20, finished=False))
    assert (result.rounds, result.rounds_asked, result.finished) == (4, 20, False)
    assert result.centralised is None
    assert result.client_accuracy_after == {}


def test_export_after_the_end_leaves_a_run_finished(tmp_path):
    folder = write_fake_run(tmp_path / "demo", rounds=1)
    with Journal.open(folder) as journal:
        journal.record(EventKind.EXPORTED, path="elsewhere")
    assert summary_of(folder).finished


def test_passes_of_the_centralised_run_and_last_bytes_are_taken_from_their_events(tmp_path):
    folder = write_fake_run(tmp_path / "demo", rounds=1, finished=False, incidents=False)
    with Journal.open(folder) as journal:
        journal.record(EventKind.EVALUATED, split="centralised", accuracy=0.9, loss=0.1, examples=800, passes=777)
        journal.record(EventKind.RUN_FINISHED, adapter=adapter(1), rounds=1, frame_up=5, wire_up=7)
    result = summary_of(folder)
    assert result.centralised_passes == 777
    assert (result.frame_up, result.wire_up) == (4 * 170_000 + 5, 4 * 170_900 + 7)


def test_nothing_moved_gives_no_ratio(tmp_path):
    result = summary_of(write_fake_run(tmp_path / "new", rounds=0, asked_rounds=3, evaluations=False, finished=False))
    assert result.saving is None
    assert result.federated is None


def test_result_as_json_is_json_with_intervals(tmp_path):
    document = json.loads(json.dumps(summary_of(write_fake_run(tmp_path / "demo")).to_json(), allow_nan=False))
    low, high = document["intervals"]["centralised"]
    assert low < 0.88 < high
    assert document["refused"][0]["client"].startswith("c")


def test_plan_survives_the_journal(tmp_path):
    with Journal.read(write_fake_run(tmp_path / "demo", rounds=1)) as journal:
        assert stored_plan(journal) == PLAN
    assert RunPlan.from_payload({**PLAN.to_payload(), "of_a_newer_version": 1}) == PLAN


@pytest.mark.parametrize(
    ("right", "of", "low", "high"),
    # Newcombe 1998, Statistics in Medicine 17, table I, method 3.
    [(81, 263, 0.2553, 0.3662), (15, 148, 0.0624, 0.1605), (0, 20, 0.0, 0.1611), (1, 29, 0.0061, 0.1718)],
)
def test_wilson_interval_agrees_with_published_values(right, of, low, high):
    assert wilson(right / of, of) == pytest.approx((low, high), abs=5e-5)


def test_wilson_interval_of_nothing_is_refused():
    with pytest.raises(ValueError, match="examples = 0"):
        wilson(0.5, 0)
