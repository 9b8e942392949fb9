"""What the report says of a scheduler, from events written by hand; and the page of a run that had one."""

from __future__ import annotations

import pytest
from html_outline import Outline
from tiny import run_tiny

from fedpeft.cli.main import perform
from fedpeft.cli.output import Session
from fedpeft.journal import Event, EventKind
from fedpeft.report.scheduling import arm_text, schedule_history, schedule_rows
from fedpeft.report.scheduling_plots import arms_plot, completion_plot, regret_plot
from fedpeft.report.summary import OracleArm

ARMS = {0: ("int4", 2), 1: ("int8", 8)}


def event(kind, number, client=None, **payload):
    return Event(1, 0.0, kind, number, 1, client, payload)


def choice(number, client, device, place):
    codec, steps = ARMS[place]
    told = {"device": device, "place": place, "rank": 4, "pruning": 0.0, "codec": codec, "steps": steps}
    return event(EventKind.ARM_CHOSEN, number, client, **told)


def reward(number, client, device, place, value, seconds=1.0):
    codec, steps = ARMS[place]
    told = {"device": device, "place": place, "rank": 4, "pruning": 0.0, "codec": codec, "steps": steps}
    return event(EventKind.ARM_REWARDED, number, client, reward=value, seconds=seconds, **told)


def committed(number):
    return event(EventKind.COMMITTED, number)


EVENTS = [
    choice(1, "a", "phone", 0),
    choice(1, "b", "tablet", 1),
    reward(1, "a", "phone", 0, 0.2, 4.0),
    reward(1, "b", "tablet", 1, 0.6, 2.0),
    committed(1),
    choice(2, "a", "phone", 1),
    reward(2, "a", "phone", 1, 0.5, None),
    event(EventKind.ROUND_SHORT, 2),
    choice(2, "a", "phone", 1),
    reward(2, "a", "phone", 1, 0.4, 3.0),
    committed(2),
    choice(3, "a", "phone", 0),  # not committed
]


def test_only_committed_choices_count():
    history = schedule_history(EVENTS)
    assert [(one.round, one.client, one.place) for one in history.chosen] == [(1, "a", 0), (1, "b", 1), (2, "a", 1)]
    assert [one.reward for one in history.rewarded] == [0.2, 0.6, 0.4]
    assert history.names == {0: "rank 4, int4, 2 steps", 1: "rank 4, int8, 8 steps"}


def test_an_arm_that_was_played_and_never_chosen_has_its_name():
    """Before pruning.ramp has ended, an arm is rewarded as the less pruned one that it was played as."""
    played = [choice(1, "a", "phone", 0), reward(1, "a", "phone", 1, 0.5), committed(1)]
    history = schedule_history(played)
    assert schedule_rows(history, {})[0][4] == "rank 4, int8, 8 steps"
    assert arms_plot(history)["layout"]["yaxis"]["ticktext"] == ["rank 4, int4, 2 steps"], "rows are of what was chosen"


def test_regret_is_what_the_best_mean_would_have_brought_more():
    history = schedule_history(EVENTS)
    best = {device: history.best(device) for device in history.devices}
    assert best == {"phone": 1, "tablet": 1}
    assert history.regret(best) == [(1, pytest.approx(0.2)), (2, pytest.approx(0.2))]
    assert history.regret({"phone": 0, "tablet": 1}) == [(1, pytest.approx(0.0)), (2, pytest.approx(-0.2))]
    assert history.regret({"phone": 1, "tablet": 0}) == [], "never tried on a tablet"


def test_an_arm_seen_once_is_not_the_best_where_others_were_seen_often():
    often = [reward(1, "a", "phone", 0, 0.5)] * 3
    history = schedule_history([choice(1, "a", "phone", 0), *often, reward(1, "b", "phone", 1, 0.9), committed(1)])
    assert history.best("phone") == 0


def test_the_table_names_what_was_settled_on():
    rows = schedule_rows(schedule_history(EVENTS), {"phone": OracleArm(0, "rank 4, int4, 2 steps")})
    assert rows[0][:5] == ("phone", "2", "rank 4, int8, 8 steps", "100.0 %", "rank 4, int8, 8 steps")
    assert rows[0][6] == "rank 4, int4, 2 steps"
    assert rows[1][6] == "–", "the time model says nothing of it"


def test_plots_show_arms_regret_and_times():
    history = schedule_history(EVENTS)
    arms, oracle = arms_plot(history), {"phone": OracleArm(0, "x"), "tablet": OracleArm(1, "y")}
    assert [trace["name"] for trace in arms["data"]] == ["phone", "tablet"]
    assert arms["layout"]["yaxis"]["ticktext"] == list(history.names.values())
    assert [trace["name"] for trace in regret_plot(history, oracle)["data"]] == [
        "best arms in hindsight",
        "the oracle's arms",
    ]
    nothing = schedule_history([])
    assert arms_plot(nothing) is None
    assert regret_plot(nothing, {}) is None
    assert completion_plot(nothing, 9.0) is None


def accepted(number, client, seconds, age=0, attempt=1):
    return Event(1, 0.0, EventKind.ACCEPTED, number, attempt, client, {"seconds": seconds, "age": age})


def test_the_slowest_of_a_round_is_the_slowest_that_it_waited_for():
    """Whether or not a reply had a reward; who was given up was waited for until the deadline, and only then."""
    late = {"rule": "fold", "age": 1, "bytes": 1}
    events = [
        accepted(1, "a", 4.0),
        reward(1, "a", "phone", 0, 0.2),
        accepted(1, "b", 7.0),  # nobody could judge it: no reward
        committed(1),
        accepted(2, "a", 5.0),
        event(EventKind.ABANDONED, 2, "b"),
        event(EventKind.ROUND_SHORT, 2),  # all over again
        accepted(2, "a", 3.0),
        event(EventKind.LATE, 2, "b", rule="fold", age=0, bytes=1),
        accepted(2, "b", 12.0),  # to the attempt before: this round waited for it
        committed(2),
        accepted(3, "a", 3.0),
        accepted(3, "c", 4.0),
        event(EventKind.ABANDONED, 3, "b"),
        committed(3),
        event(EventKind.LATE, 4, "b", **late),
        accepted(3, "b", 14.0, age=1),
        accepted(4, "a", 2.0),
        committed(4),
        accepted(4, "a", 6.0, age=1),  # asynchronous: not late
        committed(5),
    ]
    slowest, middle = completion_plot(schedule_history(events), 9.0)["data"]
    assert slowest["x"] == middle["x"] == [1, 2, 3, 4, 5]
    assert slowest["y"] == [7.0, 12.0, 9.0, 2.0, 6.0]
    assert middle["y"] == [5.5, 7.5, 4.0, 2.0, 6.0]


def test_a_reply_that_nobody_could_judge_is_no_reward():
    history = schedule_history([choice(1, "a", "phone", 0), reward(1, "a", "phone", 0, None), committed(1)])
    assert history.rewarded == []
    assert history.best("phone") is None


def test_an_arm_without_a_rank_is_told_without_it():
    assert arm_text({"rank": None, "pruning": 0.25, "codec": "fp16", "steps": 3}) == "pruned 0.25, fp16, 3 steps"


def test_the_page_of_a_scheduled_run_has_the_section_and_others_do_not(tmp_path, capsys):
    scheduled = {"name": "ucb", "arms": {"codec": ["int4", "int8"], "steps": [2, 4]}}
    page = (run_tiny(tmp_path / "a", scheduler=scheduled).folder / "report.html").read_text(encoding="utf-8")
    assert "<h2>Scheduler</h2>" in page
    assert "most chosen in the last third" in page
    assert perform(["show", str(tmp_path / "a" / "tiny")], Session()) == 0
    assert "most chosen in the last third" in capsys.readouterr().out
    plain = (run_tiny(tmp_path / "b").folder / "report.html").read_text(encoding="utf-8")
    assert "<h2>Scheduler</h2>" not in plain
    Outline(page)
