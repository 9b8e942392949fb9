"""Clients that give up rank, from the run file to the journal: they fall, stay fallen, and a kill changes nothing."""

import io

import pytest
from rich.console import Console
from tiny import Stop, run_tiny, stop_at

from fedpeft.cli.tables import ranks_table
from fedpeft.config import parse_config
from fedpeft.errors import ConfigError
from fedpeft.journal import EventKind, Journal
from fedpeft.report.history import read_history
from fedpeft.report.sections import ranks_table as section
from fedpeft.server.client_evaluations import ClientEvaluations
from fedpeft.simulation.federation import check_plugins
from fedpeft.simulation.mixing import mixing_notes
from fedpeft.strategies.rolora import RoLoRA

pytestmark = pytest.mark.slow

FALLING = {"rule": "hetlora", "decay": 0.5, "regularisation": 1.0}


def falling(folder, **options):
    return run_tiny(folder, **{"aggregation": FALLING, "rounds": 6, "ask": 4, **options})


def events_of(found):
    with Journal.read(found.folder) as journal:
        return list(journal.events())


def told(events):
    """By round: whose rank fell, and to what; and who was asked below its class's rank."""
    fell = {event.round: event.payload["ranks"] for event in events if "ranks" in event.payload}
    asked = [event for event in events if event.kind is EventKind.ASKED]
    return fell, {(event.round, event.client): event.payload.get("rank") for event in asked}


def test_ranks_fall_and_stay_fallen(tmp_path):
    found = falling(tmp_path)
    fell, asked = told(events_of(found))
    down: dict[str, int] = {}
    for number in range(1, 7):
        for client in (client for round_, client in asked if round_ == number):
            assert asked[number, client] == down.get(client)
        assert not down.keys() & fell.get(number, {}).keys()  # 1 is the least: nobody falls twice from 2
        down |= fell.get(number, {})
    assert set(down.values()) == {1}
    assert any(asked.values())


@pytest.mark.parametrize("count", [14, 19])
def test_killed_and_resumed_it_ends_alike(tmp_path, count):
    whole = falling(tmp_path / "whole")
    with pytest.raises(Stop):
        falling(tmp_path / "cut", observers=[stop_at(EventKind.ACCEPTED, count)])
    resumed = falling(tmp_path / "cut", resume=True)
    assert resumed.adapter_hash == whole.adapter_hash
    assert told(events_of(resumed)) == told(events_of(whole))
    fell, _ = told(events_of(whole))
    assert min(fell) * 4 < count  # somebody was down when it was killed


def test_workers_end_in_the_same_adapter(tmp_path):
    alone = falling(tmp_path / "1", rounds=4)
    shared = falling(tmp_path / "2", rounds=4, engine__workers=2)
    assert alone.adapter_hash == shared.adapter_hash
    assert told(events_of(alone)) == told(events_of(shared))
    assert told(events_of(alone))[0]


def test_trained_together_or_alone_the_same_ranks_fall(tmp_path):
    more = {"local__optimizer": "sgd", "local__learning_rate": 0.3, "local__steps": 6}
    together = falling(tmp_path / "batched", engine__trainer="batched", **more)
    alone = falling(tmp_path / "sequential", engine__trainer="sequential", **more)
    assert told(events_of(together)) == told(events_of(alone))
    assert told(events_of(together))[0]


def test_unless_asked_for_ranks_stay(tmp_path):
    plain = falling(tmp_path / "plain", rounds=3, aggregation={"rule": "hetlora"})
    at_one = falling(tmp_path / "one", rounds=3, aggregation=FALLING | {"decay": 1.0})
    assert plain.adapter_hash == at_one.adapter_hash
    assert told(events_of(at_one)) == ({}, dict.fromkeys(told(events_of(plain))[1]))


def test_factors_that_take_turns_may_fall_too(tmp_path):
    found = falling(tmp_path, strategy=RoLoRA(), aggregation=FALLING | {"regularisation": 3.0}, rounds=8)
    assert told(events_of(found))[0]


def test_a_client_s_own_steps_are_at_the_rank_that_it_is_down_to(tmp_path, monkeypatch):
    seen = {}
    plan = ClientEvaluations._plan

    def noted(self, info, number):
        made = plan(self, info, number)
        seen[info.client] = made.rank
        return made

    monkeypatch.setattr(ClientEvaluations, "_plan", noted)
    found = falling(tmp_path, evaluation__clients=True, evaluation__personalised_steps=1)
    down = {}
    for ranks in told(events_of(found))[0].values():
        down |= ranks
    assert down
    assert {client: rank for client, rank in seen.items() if client in down} == down
    assert all(rank > 2 for client, rank in seen.items() if client not in down)


def test_the_history_has_a_table_of_who_is_down(tmp_path):
    classes = [{"name": "phone", "clients": 3}, {"name": "watch", "clients": 2, "rank": 1}]
    history = read_history(events_of(falling(tmp_path, devices=classes)))
    (phone,) = history.ranks  # a watch has the least rank from the start
    assert (phone.device, phone.clients) == ("phone", 3)
    assert 1 <= phone.fell <= 3
    assert (phone.lowest, phone.mean, phone.highest) == (1, 1.0, 1)
    out = io.StringIO()
    Console(file=out, width=80).print(ranks_table(history.ranks))
    assert "rank fell" in out.getvalue()
    assert "phone" in out.getvalue()
    assert "phone" in section(history)
    assert section(read_history([])) == ""


def config_with(**tables):
    table = {
        "run": {"name": "x", "rounds": 2},
        "model": {"source": "no-such-model", "task": "label-names"},
        "adapter": {"rank": 8},
        "round": {"ask": 2},
        "devices": [{"name": "phone", "clients": 3}],
        "aggregation": FALLING,
    }
    return parse_config(table | tables, origin="test")


@pytest.mark.parametrize(
    ("tables", "named"),
    [
        ({"strategy": {"name": "fedprox", "mu": 0.1}}, ['strategy.name = "fedprox"', '"proximal"', '"small-tail"']),
        ({"scheduler": {"name": "random", "arms": {"rank": [2, 8]}}}, ["scheduler.arms.rank = [2, 8]"]),
    ],
)
def test_what_would_set_the_same_is_refused_by_name(tables, named):
    with pytest.raises(ConfigError) as caught:
        check_plugins(config_with(**tables))
    assert caught.value.code == "config.rule"
    for part in ('aggregation.rule = "hetlora"', *named):
        assert part in caught.value.message
    assert "aggregation.decay = 1" in caught.value.remedy
    check_plugins(config_with(**tables, aggregation={"rule": "hetlora"}))


def test_without_the_term_a_strategy_may_have_an_objective():
    config = config_with(strategy={"name": "fedprox", "mu": 0.1}, aggregation=FALLING | {"regularisation": 0.0})
    check_plugins(config)


def test_the_plan_tells_that_ranks_fall():
    config = config_with(aggregation=FALLING | {"min_rank": 2})
    (note,) = mixing_notes(config, check_plugins(config))
    assert "hetlora lowers ranks" in note
    assert "0.5 of it" in note
    assert "below 2" in note
