"""The meeting before the first round: who cannot take part is named, with the reason, and costs nobody else."""

from __future__ import annotations

import pytest
from fake_fleet import FakeFleet, FakeRun

from fedpeft.errors import RoundError
from fedpeft.journal import EventKind

UNFIT = {
    "no examples": ({"examples": 0}, "no training examples"),
    "another layout": ({"layout": "ff" * 32}, "layout ffffffffffff"),
    "no codec": ({"codecs": ("int8",)}, 'lacks the codec "fp32"'),
    "no objective": ({"objectives": ("proximal",)}, 'lacks the objective "plain"'),
    "a name that is taken": ({"client": "c00"}, "already stands for client c00"),
}


@pytest.mark.parametrize("case", UNFIT)
def test_who_cannot_take_part_is_named_and_left_out(tmp_path, case):
    info, words = UNFIT[case]
    fleet = FakeFleet(3)
    fleet["c01"].info = info
    run = FakeRun(fleet, tmp_path, run__rounds=1, round__ask=3)
    run.run()
    ((_, client, reason),) = run.told(EventKind.HELLO_FAILED, "reason")
    assert client == info.get("client", "c01")
    assert words in reason
    assert [client for _, client in run.told(EventKind.ACCEPTED)] == ["c00", "c02"]
    assert next(run.journal.events(EventKind.HELLO)).payload["examples"] == 10


@pytest.mark.parametrize(
    ("hello", "words"),
    [(lambda frame: RuntimeError("no data folder"), "no data folder"), (lambda frame: b"rubbish", "malformed frame")],
    ids=["error", "rubbish"],
)
def test_a_node_that_fails_its_hello_is_named_by_its_number(tmp_path, hello, words):
    fleet = FakeFleet(2)
    fleet.clients[1].hello = hello
    run = FakeRun(fleet, tmp_path, run__rounds=1, round__ask=2)
    run.run()
    ((_, client, reason),) = run.told(EventKind.HELLO_FAILED, "reason")
    assert client == "node 1"
    assert words in reason


def test_nobody_fit_is_an_error_with_the_reasons(tmp_path):
    fleet = FakeFleet(2)
    for client in fleet.clients:
        client.info = {"examples": 0}
    run = FakeRun(fleet, tmp_path)
    with pytest.raises(RoundError, match="no training examples") as caught:
        run.run()
    assert caught.value.code == "round.no-clients"


def test_no_node_at_all_is_an_error(tmp_path):
    fleet = FakeFleet(1)
    run = FakeRun(fleet, tmp_path)
    fleet.clients.clear()
    with pytest.raises(RoundError, match="no node is there"):
        run.run()
