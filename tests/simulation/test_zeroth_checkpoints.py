"""A checkpoint in the place of old coefficients: the same bits, in fewer bytes, whatever happens on the way."""

from __future__ import annotations

import pytest
from quadratic import run_quadratic

from fedpeft.errors import ConfigError
from fedpeft.journal import EventKind, Journal
from fedpeft.strategies import FedAvg, FedAvgM

pytestmark = pytest.mark.slow

SMALL = {"zeroth__size": 64, "zeroth__refresh": 2, "local__learning_rate": 0.02}
IMPORTANCE = {"zeroth__sampling": "importance", "zeroth__temperature": 4.0}


class Awayed(FedAvg):
    """c4 is first asked in round 9, and again in round 17; c3 in the odd rounds only."""

    def select(self, available, count, seed):
        self.rounds = getattr(self, "rounds", 0) + 1
        names = sorted(info.client for info in available)
        return [n for n in names if (n != "c4" or self.rounds in (9, 17)) and (n != "c3" or self.rounds % 2)]


def run(folder, strategy=None, **options):
    return run_quadratic(folder, strategy or FedAvg(), **{"rounds": 18, "steps": 6, **SMALL, **options})


def asked(folder):
    with Journal.read(folder / "quadratic") as journal:
        return [(e.round, e.client, e.payload["form"], e.payload["bytes"]) for e in journal.events(EventKind.ASKED)]


@pytest.mark.parametrize("options", [{}, IMPORTANCE])
def test_a_late_client_is_sent_one_and_ends_with_the_same_bits(tmp_path, options):
    """Every answer was accepted, which takes the fingerprint of the model that it was measured on."""
    by_checkpoint = run(tmp_path / "own", Awayed(), **options)
    by_coefficients = run(tmp_path / "none", Awayed(), zeroth__checkpoint=0, **options)
    assert by_checkpoint.adapter_hash == by_coefficients.adapter_hash
    assert by_checkpoint.refused == by_coefficients.refused == ()
    own = {(number, client): (form, size) for number, client, form, size in asked(tmp_path / "own")}
    other = {(number, client): (form, size) for number, client, form, size in asked(tmp_path / "none")}
    assert own[9, "c4"][0] == own[17, "c4"][0] == "checkpoint"
    assert other[9, "c4"][0] == "everything"
    assert own[9, "c4"][1] < other[9, "c4"][1]
    assert {form for form, _ in other.values()} == {"everything", "changes"}
    assert sum(size for _, size in own.values()) < sum(size for _, size in other.values())


def cut(folder, after, strategy=None, **options):
    """A run that is killed right after a commit."""
    seen = []

    class Enough(BaseException):
        pass

    def stop(event):
        seen.append(event.kind)
        if seen.count(EventKind.COMMITTED) == after + 1:  # of round 0 too
            raise Enough

    with pytest.raises(Enough):
        run(folder, strategy, observers=[stop], **options)


@pytest.mark.parametrize("after", [8, 9, 12])
def test_killed_and_resumed_it_is_the_same_run(tmp_path, after):
    """Hash, forms and bytes."""
    whole = run(tmp_path / "whole", Awayed())
    cut(tmp_path / "cut", after, Awayed())
    strategy = Awayed()
    strategy.rounds = after
    assert run(tmp_path / "cut", strategy, resume=True).adapter_hash == whole.adapter_hash
    assert asked(tmp_path / "cut") == asked(tmp_path / "whole")


@pytest.mark.parametrize(
    ("strategy", "options"),
    [
        (FedAvgM, {}),
        (FedAvg, {"round__mode": "async", "round__buffer": 2, "ask": 4}),
        (FedAvg, {"evaluation__clients_every": 1, "evaluation__personalised_steps": 4}),
        (FedAvg, {"zeroth__pool": "near-gaussian", "zeroth__sparse": 0.5, "zeroth__optimizer": {"name": "momentum"}}),
    ],
    ids=["momentum", "asynchronous", "clients evaluate", "another pool"],
)
def test_it_changes_no_bit(tmp_path, strategy, options):
    by_checkpoint = run(tmp_path / "own", strategy(), **options)
    by_coefficients = run(tmp_path / "none", strategy(), zeroth__checkpoint=0, **options)
    assert by_checkpoint.adapter_hash == by_coefficients.adapter_hash
    assert by_checkpoint.refused == by_coefficients.refused == ()
    assert by_checkpoint.clients == by_coefficients.clients


def test_workers_give_the_same_bits(tmp_path):
    alone = run(tmp_path / "alone", Awayed(), rounds=10)
    two = run(tmp_path / "two", Awayed(), rounds=10, engine__workers=2)
    assert two.adapter_hash == alone.adapter_hash
    assert ("c4", "checkpoint") in {(client, form) for _, client, form, _ in asked(tmp_path / "two")}
    assert two.refused == ()


class FromNine(FedAvg):
    """c4 is asked from round 9 on."""

    rounds = 0

    def select(self, available, count, seed):
        self.rounds += 1
        return [info.client for info in available if info.client != "c4" or self.rounds >= 9]


def test_a_checkpoint_that_was_damaged_on_disk_is_named_and_sent_again(tmp_path):
    cut(tmp_path, 9, FromNine(), rounds=12)
    (path,) = tmp_path.glob("**/c4/checkpoint-*.safetensors")
    path.write_bytes(path.read_bytes()[:-5] + b"wrong")
    strategy = FromNine()
    strategy.rounds = 9
    again = run(tmp_path, strategy, resume=True, rounds=12)
    (refused,) = again.refused
    assert refused.client == "c4"
    assert "no longer holds checkpoint" in refused.reason
    forms = {number: form for number, client, form, _ in asked(tmp_path) if client == "c4"}
    assert forms == {9: "checkpoint", 10: "changes", 11: "checkpoint", 12: "changes"}
    with Journal.read(tmp_path / "quadratic") as journal:
        accepted = {event.round for event in journal.events(EventKind.ACCEPTED) if event.client == "c4"}
    assert accepted == {9, 11, 12}


def test_a_run_that_goes_on_for_more_rounds(tmp_path):
    whole = run(tmp_path / "whole", FromNine(), rounds=14)
    run(tmp_path / "more", FromNine(), rounds=10)
    strategy = FromNine()
    strategy.rounds = 10
    more = run(tmp_path / "more", strategy, rounds=14, resume=True)
    assert more.adapter_hash == whole.adapter_hash
    assert more.refused == ()


def test_with_deltas_there_is_none(tmp_path):
    with pytest.raises(ConfigError, match=r"zeroth\.checkpoint = 0\.0 contradicts zeroth\.sends"):
        run(tmp_path, zeroth__sends="delta", zeroth__checkpoint=0.0)
