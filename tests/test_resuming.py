"""`fedpeft.simulate(..., resume=True)` goes on with the run that began: with more rounds, and nothing else changed."""

from __future__ import annotations

import tomllib

import pytest
from tiny import run_tiny, tiny_arguments

from fedpeft import simulate
from fedpeft.errors import ConfigError
from fedpeft.journal import EventKind, Journal
from fedpeft.report.record import record_of
from fedpeft.simulation import arithmetic


def record(result):
    with Journal.read(result.folder) as journal:
        return record_of(journal)


def test_a_run_with_more_rounds_is_the_run_that_was_asked_for_them_at_once(tmp_path):
    at_once = run_tiny(tmp_path / "once", rounds=4)
    run_tiny(tmp_path / "parts", rounds=2)
    parts = run_tiny(tmp_path / "parts", rounds=4, resume=True)
    assert parts.adapter_hash == at_once.adapter_hash
    assert (parts.rounds, parts.rounds_asked, parts.example_passes) == (4, 4, at_once.example_passes)
    assert tomllib.loads((parts.folder / "run.toml").read_text())["run"]["rounds"] == 4
    page = (parts.folder / "report.html").read_text()
    assert "4 of 4 rounds" in page
    assert "It was first asked for 2 rounds, and went on to 4" in page
    assert "first asked for" not in (at_once.folder / "report.html").read_text()
    assert dict(record(parts).settings) == dict(record(at_once).settings), "compared as runs of one kind"


def test_the_centralised_twin_is_trained_for_as_many_rounds(tmp_path):
    first = run_tiny(tmp_path, rounds=2, evaluation__centralised=True)
    assert first.centralised_passes == first.example_passes
    more = run_tiny(tmp_path, rounds=6, evaluation__centralised=True, resume=True)
    assert more.centralised_passes == more.example_passes == 3 * first.example_passes


def test_the_best_round_of_a_run_that_went_on_is_told_with_its_own_figure(tmp_path):
    """Its first part ended with a best round behind it, and said so; the last round of its second part is better."""
    options = {"evaluation__keep": "best", "local__learning_rate": 0.02}
    run_tiny(tmp_path, rounds=2, **options)
    with Journal.open(tmp_path / "tiny") as journal:
        journal.record(EventKind.EVALUATED, round=1, split="best", accuracy=0.25, loss=2.0, examples=64)
    result = run_tiny(tmp_path, rounds=6, resume=True, **options)
    assert result.best_round != 1, "else this shows nothing"
    assert result.best != 0.25


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"local__learning_rate": 0.5, "local__batch_size": 4}, "local.batch_size = 4 (was 8), local.learning_rate"),
        ({"ask": 2}, "round.ask = 2 (was 3)"),
        ({"run__seed": 4}, "run.seed = 4 (was 3)"),
    ],
)
def test_other_settings_are_refused_and_nothing_is_lost(tmp_path, options, words):
    before = run_tiny(tmp_path, rounds=2)
    with pytest.raises(ConfigError) as caught:
        run_tiny(tmp_path, rounds=4, resume=True, **options)
    assert words in caught.value.message
    assert "fresh=True" in caught.value.remedy
    assert run_tiny(tmp_path, rounds=2, resume=True).adapter_hash == before.adapter_hash


def test_fewer_rounds_than_there_are_cannot_be_asked_for(tmp_path):
    run_tiny(tmp_path, rounds=3)
    with pytest.raises(ConfigError, match=r"rounds = 2, and the run in .* has 3 behind it"):
        run_tiny(tmp_path, rounds=2, resume=True)


def test_a_run_that_stopped_by_its_own_rule_has_all_its_rounds(tmp_path):
    options = {"evaluation__target": 0.1}
    stopped = run_tiny(tmp_path, rounds=4, **options)
    assert stopped.rounds < 4
    again = run_tiny(tmp_path, rounds=8, resume=True, **options)
    assert (again.rounds, again.rounds_asked, again.adapter_hash) == (stopped.rounds, 4, stopped.adapter_hash)


def test_fresh_replaces_a_journal_that_cannot_be_read(tmp_path):
    """As the error about it advises."""
    first = run_tiny(tmp_path, rounds=2)
    (tmp_path / "tiny" / "journal.sqlite").write_bytes(b"\xff" * 5000)
    assert simulate(**tiny_arguments(tmp_path, rounds=2), fresh=True).adapter_hash == first.adapter_hash


def test_a_client_with_less_than_a_batch_passes_what_it_has(tmp_path):
    arguments = tiny_arguments(tmp_path, clients=2, rounds=2, ask=2, local__batch_size=16)
    arguments["clients"] = {client: items[:2] for client, items in arguments["clients"].items()}
    result = simulate(**arguments)
    steps = 2 * 2 * 3  # rounds, clients, steps
    assert result.example_passes == steps * 2
    assert record(result).tests[-1].passes == steps * 2 * 2  # forward and backward


@pytest.mark.parametrize("told", [{}, {"engine__kernel": "auto"}])
def test_a_run_goes_on_with_the_kernel_that_it_began_with(tmp_path, monkeypatch, told):
    """Measured anew, "auto" might come out as another one, and the run be refused."""
    run_tiny(tmp_path, rounds=2, **told)
    asked, choose = [], arithmetic.choose_kernel

    def chosen(wanted, *shapes, **where):
        asked.append(wanted)
        return choose(wanted, *shapes, **where)

    monkeypatch.setattr(arithmetic, "choose_kernel", chosen)
    run_tiny(tmp_path, rounds=3, resume=True, **told)
    assert asked == ["torch"]
