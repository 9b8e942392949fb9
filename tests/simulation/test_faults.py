"""`[[faults]]`: each kind costs its client and names it, and nobody else notices."""

from __future__ import annotations

import pytest
from tiny import run_tiny

from fedpeft.config import FaultTable
from fedpeft.errors import ConfigError
from fedpeft.journal import EventKind, Journal
from fedpeft.simulation.faults import Faults
from fedpeft.strategies import FedAvg
from fedpeft.types import ClientId

ROUNDS = [1, 2, 3, 4]
EXPECTED = {
    "drop": EventKind.ABANDONED,
    "crash": EventKind.FAILED,
    "corrupt": EventKind.REFUSED,
    "nan": EventKind.REFUSED,
}


class All(FedAvg):
    """Asks everybody who is free, or all but one."""

    def __init__(self, without=""):
        super().__init__()
        self.without = without

    def select(self, available, count, seed):
        return [info.client for info in available if info.client != self.without]


def run_ten(folder, **options):
    return run_tiny(folder, clients=10, ask=10, round__deadline_s=30.0, **options)


@pytest.fixture(scope="module")
def without_c04(tmp_path_factory):
    return run_ten(tmp_path_factory.mktemp("without"), strategy=All(without="c04")).adapter_hash


@pytest.mark.slow
@pytest.mark.parametrize("kind", EXPECTED)
def test_one_bad_client_of_ten_in_every_round_is_as_if_it_were_not_there(tmp_path, without_c04, kind):
    result = run_ten(tmp_path, strategy=All(), faults=[{"client": "c04", "rounds": ROUNDS, "kind": kind}])
    assert result.adapter_hash == without_c04
    with Journal.read(result.folder) as journal:
        named = list(journal.events(EXPECTED[kind]))
        assert {event.client for event in named} == {"c04"}
        assert {event.client for event in journal.events(EventKind.ACCEPTED)} == {f"c{k:02d}" for k in range(10)} - {
            "c04"
        }
    rounds = [event.round for event in named]
    assert rounds == ROUNDS if kind != "drop" else rounds[0] == 1  # a silent device is busy, and not asked each round


@pytest.mark.parametrize("codec", ["fp32", "fp16", "int8", "lgreco(0.3)+zstd"])
@pytest.mark.parametrize("kind", ["corrupt", "nan"])
def test_damage_is_seen_whatever_the_codec(tmp_path, codec, kind):
    result = run_tiny(
        tmp_path, rounds=1, ask=5, codec__up=codec, faults=[{"client": "c02", "rounds": [1], "kind": kind}]
    )
    with Journal.read(result.folder) as journal:
        ((client, reason),) = [(e.client, e.payload["reason"]) for e in journal.events(EventKind.REFUSED)]
    assert client == "c02"
    assert "client c02" in reason


@pytest.mark.slow
def test_slow_takes_longer_and_nothing_else(tmp_path):
    seconds, hashes = {}, set()
    for factor in (1.0, 8.0):
        faults = [{"client": "c02", "rounds": [1], "kind": "slow", "factor": factor}]
        result = run_tiny(tmp_path / str(factor), rounds=1, ask=5, faults=faults)
        hashes.add(result.adapter_hash)
        with Journal.read(result.folder) as journal:
            seconds[factor] = next(
                e.payload["seconds"] for e in journal.events(EventKind.ACCEPTED) if e.client == "c02"
            )
    assert len(hashes) == 1
    assert seconds[8.0] > 4 * seconds[1.0]


def test_a_fault_of_nobody_is_an_error():
    table = FaultTable(client="c0l", rounds=[1], kind="drop")
    with pytest.raises(ConfigError, match="c0l") as caught:
        Faults([table], [ClientId("c00"), ClientId("c01")])
    assert caught.value.code == "config.fault-client"
    assert "c0" in (caught.value.remedy or "")
