"""The centralised comparison beside a run: a process that never outlives it, never harms it, and is not done twice."""

from __future__ import annotations

import hashlib
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from tiny import run_tiny, tiny_arguments
from tiny_text import write_run

from fedpeft import api
from fedpeft.config import load_run_file
from fedpeft.evaluation import Evaluation
from fedpeft.journal import EventKind, Journal
from fedpeft.simulation.centralised import RESULT, CentralisedProcess, train_centralised
from fedpeft.simulation.federation import assemble
from fedpeft.simulation.own import own_federation

PARENT = """
import sys, time
from pathlib import Path
from fedpeft.simulation.centralised import CentralisedProcess
child = CentralisedProcess(Path(sys.argv[1]), 10**8)
child.start()
print(child._process.pid, flush=True)
while True:
    time.sleep(0.1)
    print(child.done, flush=True)
"""


def run_folder(folder, **changes):
    """A folder as the child expects it."""
    config = load_run_file(write_run(folder, **changes))
    (folder / "run.toml").write_text(config.to_toml(), encoding="utf-8")
    return folder


def alive(pid):
    try:
        return "Z" not in Path(f"/proc/{pid}/stat").read_text(encoding="ascii").rsplit(")", 1)[1].split()[0]
    except OSError:
        return False


@pytest.mark.system
@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="needs /proc to see whether a process is gone")
@pytest.mark.parametrize("when", ["while it starts", "while it trains"])
def test_it_ends_when_its_parent_is_killed(tmp_path, when):
    folder = run_folder(tmp_path)
    with subprocess.Popen(
        [sys.executable, "-c", PARENT, str(folder)], stdout=subprocess.PIPE, text=True, cwd=tmp_path
    ) as parent:
        pid = int(parent.stdout.readline())
        if when == "while it trains":
            while int(parent.stdout.readline()) == 0:
                pass
        assert alive(pid)
        parent.send_signal(signal.SIGKILL)
        parent.stdout.close()
    deadline = time.monotonic() + 60
    while alive(pid) and time.monotonic() < deadline:
        time.sleep(0.1)
    assert not alive(pid)
    assert not (folder / RESULT).exists()


@pytest.mark.slow
def test_it_trains_on_all_data_and_leaves_its_result(tmp_path):
    child = CentralisedProcess(run_folder(tmp_path), 200)
    child.start()
    seen = [child.done]
    while not child.wait(0.05):
        seen.append(child.done)
    child.stop()
    evaluation, passes = child.result()
    assert child.trouble == ""
    assert passes == 200
    assert evaluation.examples == 16
    assert evaluation.accuracy > 0.9
    assert seen == sorted(seen)
    assert child.done == 200
    again = CentralisedProcess(tmp_path, 200)
    again.start()
    assert again._process is None, "what is done is not done again"
    assert again.done == 200
    assert CentralisedProcess(tmp_path, 300).result() is None, "a result for other passes is another result"
    file = tmp_path / "run.toml"
    file.write_text(file.read_text(encoding="utf-8") + "# of another run\n", encoding="utf-8")
    assert again.result() is None, "a result of another run file is another result"


@pytest.mark.parametrize("content", ["", "{", "[]", "{}", '{"wanted": 5}', '{"wanted": "5", "accuracy": 1}'])
def test_half_a_result_is_none(tmp_path, content):
    (tmp_path / RESULT).write_text(content, encoding="utf-8")
    assert CentralisedProcess(tmp_path, 5).result() is None


@pytest.mark.slow
@pytest.mark.parametrize(
    ("script", "words"),
    [
        ("echo 'RuntimeError: out of memory' >&2; exit 3", "exit status 3: RuntimeError: out of memory"),
        ("exit 1", "exit status 1: no output"),
        ("kill -9 $$", "killed by signal 9"),
        ("exit 0", "it left no result behind"),
        (None, "could not be started"),
    ],
    ids=["error", "silent", "killed", "nothing", "no-interpreter"],
)
def test_a_crash_is_reported_with_its_reason_and_costs_the_run_nothing(tmp_path, monkeypatch, script, words):
    config = load_run_file(write_run(tmp_path, evaluation__centralised=True))
    python = tmp_path / "python"
    if script is not None:
        python.write_text(f"#!/bin/sh\n{script}\n", encoding="utf-8")
        python.chmod(0o755)
    with monkeypatch.context() as patch:
        patch.setattr(sys, "executable", str(python))
        result = api.run(config)
    assert result.rounds == 2
    assert (result.folder / "adapter" / "adapter_model.safetensors").is_file()
    with Journal.read(result.folder) as journal:
        (failed,) = journal.events(EventKind.FAILED)
        assert words in failed.payload["reason"]
        assert list(journal.events(EventKind.RUN_FINISHED))


@pytest.mark.slow
def test_a_result_that_is_there_is_used_on_resume(tmp_path, monkeypatch):
    config = load_run_file(write_run(tmp_path, evaluation__centralised=True))
    passes = assemble(config).example_passes()

    def stop(event):
        if event.kind is EventKind.EXPORTED:
            raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(sys, "executable", "/bin/false")
        with pytest.raises(KeyboardInterrupt):
            api.run(config, observers=[stop])
        run = hashlib.sha256((config.folder / "run.toml").read_bytes()).hexdigest()
        table = {"accuracy": 0.625, "loss": 0.5, "examples": 16, "passes": passes, "wanted": passes, "run": run}
        (config.folder / RESULT).write_text(json.dumps(table), encoding="utf-8")
        result = api.resume(config.folder)
    with Journal.read(result.folder) as journal:
        tests = [e.payload for e in journal.events(EventKind.EVALUATED) if e.payload["split"] == "centralised"]
        assert [payload["accuracy"] for payload in tests] == [0.625]
        assert list(journal.events(EventKind.FAILED)) == []


@pytest.mark.slow
def test_in_this_process_it_costs_nothing_either(tmp_path, monkeypatch):
    def broken(*arguments):
        raise IndexError("the pooled data set has a hole")

    monkeypatch.setattr("fedpeft.simulation.run.train_centralised", broken)
    result = run_tiny(tmp_path, rounds=1, evaluation__centralised=True)
    with Journal.read(result.folder) as journal:
        (failed,) = journal.events(EventKind.FAILED)
    assert failed.payload["reason"].endswith("IndexError: the pooled data set has a hole")


@pytest.mark.slow
def test_in_this_process_a_loss_that_diverged_is_a_failure_not_a_figure(tmp_path, monkeypatch):
    diverged = (Evaluation(0.5, float("nan"), 10), 100)
    monkeypatch.setattr("fedpeft.simulation.run.train_centralised", lambda *arguments: diverged)
    result = run_tiny(tmp_path, rounds=1, evaluation__centralised=True)
    with Journal.read(result.folder) as journal:
        (failed,) = journal.events(EventKind.FAILED)
        assert "diverged" in failed.payload["reason"]
        assert list(journal.events(EventKind.RUN_FINISHED))


def test_stopping_what_was_never_started_is_fine(tmp_path):
    child = CentralisedProcess(tmp_path, 10)
    child.stop()
    assert child.wait(0.0)
    assert os.listdir(tmp_path) == []


def tiny_federation(folder, rounds, **options):
    arguments = tiny_arguments(folder, **options)
    return own_federation(
        **{name: arguments[name] for name in ("model", "peft_config", "clients", "loss", "test", "correct")},
        metrics={},
        collate=None,
        client_test={},
        strategy=None,
        base_name="tiny",
        table={
            "run": {"name": "tiny", "rounds": rounds},
            "model": {"source": "python-objects"},
            "devices": [{"name": "d", "clients": 5}],
            "round": {"ask": 5},
        },
        options=arguments["options"],
    )


def test_it_follows_the_schedule_of_the_rounds(tmp_path):
    """A rate of 0 from round 3 of 4 on leaves what half as many passes would have trained."""
    (tmp_path / "own.py").write_text(
        "def half():\n    return lambda round, rounds: float(round <= 2)\n", encoding="utf-8"
    )
    options = {"rounds": 4, "local__optimizer": "sgd", "local__learning_rate": 0.1}
    halved = tiny_federation(tmp_path, **options, local__schedule={"name": f"{tmp_path}/own.py:half"})
    whole = tiny_federation(tmp_path, **options)
    found = {}
    for name, federation, passes, rounds in (
        ("halved", halved, 160, 4),
        ("half", whole, 80, 2),
        ("all", whole, 160, 4),
    ):
        train_centralised(federation, passes, rounds)
        found[name] = federation.adapter.get().tobytes()
    assert found["halved"] == found["half"] != found["all"]


def test_it_is_trained_with_the_adapters_dropout(tmp_path):
    """And the same each time."""
    found = []
    for place, dropout in enumerate((0.0, 0.5, 0.5)):
        config = load_run_file(write_run(tmp_path / str(place), adapter__dropout=dropout))
        federation = assemble(config)
        train_centralised(federation, 64, 2)
        assert not federation.adapter.model.training
        found.append(federation.adapter.get())
    assert (found[1] == found[2]).all()
    assert (found[0] != found[1]).any()
