"""`kill -9` at any moment: what was acknowledged is on disk, and the last commit is whole."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

import fedpeft
from fedpeft.journal import EventKind, Journal

KILLS = 20
WRITER = """
import hashlib, os, sys
from pathlib import Path
from fedpeft.journal import EventKind, Journal

folder = Path(sys.argv[1])
print("ready", flush=True)  # the kill may come from here on, also while the journal is made or opened
if (folder / "journal.sqlite").exists():
    journal = Journal.open(folder)
else:
    journal = Journal.create(folder, run="kill", config_toml="")
last = journal.last_commit()
round = last.round if last else 0
while True:
    round += 1
    attempt = journal.next_attempt(round)
    journal.record(EventKind.ROUND_OPENED, round=round, attempt=attempt, cohort=["c00", "c01"])
    for client in ("c00", "c01"):
        event = journal.record(EventKind.ACCEPTED, round=round, attempt=attempt, client=client, weight=1.0)
        print("event", event.seq, flush=True)
    theta = os.urandom(60_000)
    journal.commit(round, {"theta": theta, "constant": b"c" * 9000}, adapter=hashlib.sha256(theta).hexdigest())
    print("commit", round, flush=True)
"""


def write_and_kill(folder, seconds):
    """Let a writer work for some time, kill it; returns the last event and the last commit that it acknowledged."""
    root = str(Path(fedpeft.__file__).parents[1])
    environment = {**os.environ, "PYTHONPATH": root, "PYTHONDONTWRITEBYTECODE": "1"}
    with subprocess.Popen(
        [sys.executable, "-c", WRITER, str(folder)], stdout=subprocess.PIPE, text=True, env=environment
    ) as writer:
        assert writer.stdout is not None
        assert writer.stdout.readline() == "ready\n"
        time.sleep(seconds)
        writer.send_signal(signal.SIGKILL)
        lines = [line.split() for line in writer.stdout.read().splitlines(keepends=True) if line.endswith("\n")]
    assert writer.returncode == -signal.SIGKILL
    acknowledged = {"event": 0, "commit": 0}
    for word, number in lines:
        acknowledged[word] = int(number)
    return acknowledged


@pytest.mark.system
def test_a_killed_writer_loses_nothing_it_acknowledged(tmp_path):
    folder = tmp_path / "runs" / "kill"
    draw = random.Random(7)
    highest = {"event": 0, "commit": 0}
    unfinished = 0
    for number in range(KILLS):
        acknowledged = write_and_kill(folder, seconds=draw.uniform(0, 0.004 if number < 6 else 0.12))
        highest = {word: max(highest[word], acknowledged[word]) for word in highest}
        if not (folder / "journal.sqlite").exists():
            assert highest == {"event": 0, "commit": 0}
            continue
        for opener in (Journal.read, Journal.open):  # reading comes first: nothing has recovered the log yet
            with opener(folder) as journal:  # either checks the whole file
                events = list(journal.events())
                commit = journal.last_commit()
                if commit is not None:
                    parts = {part: len(journal.blob(digest)) for part, digest in commit.snapshot.items()}
                    assert parts == {"theta": 60_000, "constant": 9000}
                    assert commit.adapter == commit.snapshot["theta"]
        assert [event.seq for event in events] == list(range(1, len(events) + 1))
        rounds = [event.round for event in events if event.kind == EventKind.COMMITTED]
        assert rounds == list(range(1, len(rounds) + 1))
        assert (commit.round if commit else 0) == len(rounds)
        assert len(events) >= highest["event"]
        assert len(rounds) >= highest["commit"]
        unfinished += bool(events) and events[-1].kind != EventKind.COMMITTED
    assert highest["commit"] > KILLS, "the writers hardly worked: this run shows nothing"
    assert unfinished > 0, "no kill came in the middle of a round: this run shows nothing"
