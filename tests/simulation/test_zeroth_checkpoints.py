"""A checkpoint in the place of old coefficients: the same bits, in fewer bytes, whatever happens on the way."""

from __future__ import annotations

import pytest
from quadratic import run_quadratic

from fedpeft.journal import EventKind, Journal
from fedpeft.strategies import FedAvg, FedAvgM

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
