"""Bad input, as a person meets it: one error with key, value, what is allowed and what to do; no traceback.

Each case is asked twice: of `fedpeft validate` and `fedpeft run` in this process, and, a representative dozen, of the
real command in a process of its own.
"""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from tiny_text import rows, write_csv, write_run

from fedpeft.cli.main import perform
from fedpeft.cli.output import Session


def _label_only_in_test(folder):
    path = write_run(folder)
    write_csv(folder / "data" / "test.csv", [*rows(8), ("the green", "grass")])
    return path


def _client_left_empty(folder):
    return write_run(folder, devices=[{"name": "phone", "clients": 49}])


def _model_without_config(folder):
    path = write_run(folder)
    (folder / "model" / "config.json").unlink()
    return path


def _with_file(name, text, **changes):
    def make(folder):
        path = write_run(folder, **changes)
        (folder / name).write_text(text)
        return path

    return make


def _changed(**changes):
    return lambda folder: write_run(folder, **changes)


def _syntax(folder):
    path = write_run(folder)
    path.write_text(path.read_text() + "\n[round\n")
    return path


def _no_data_folder(folder):
    return write_run(folder, data__folder="elsewhere")


def _broken_loss(folder):
    """A plug-in task whose loss is NaN for every client: nobody's update can be used."""
    (folder).mkdir(parents=True, exist_ok=True)
    (folder / "task.py").write_text(
        "from dataclasses import replace\n"
        "from fedpeft.training.tasks.label_names import LabelNames\n"
        "class Poisoned(LabelNames):\n"
        "    def outcomes(self, model, batch, prepared):\n"
        "        found = super().outcomes(model, batch, prepared)\n"
        "        return replace(found, losses=found.losses * float('nan')) if found.losses.requires_grad else found\n"
    )
    return write_run(folder, model__task="task.py:Poisoned")


# name: (make the run file, code, what the message names, what is allowed, what to do, exit status)
CASES = {
    "unknown-key": (_changed(run__rouns=3), "config.unknown-key", "run.rouns = 3", "name, rounds", '"rounds"', 2),
    "wrong-type": (_changed(run__rounds="a"), "config.wrong-value", "run.rounds = 'a'", "whole number", "correct", 2),
    "contradiction": (_changed(round__ask=9), "config.contradiction", "round.ask", "at most 3", "ask fewer", 2),
    "rank-0": (_changed(adapter__rank=0), "config.wrong-value", "adapter.rank = 0", "> 0", "correct adapter.rank", 2),
    "rank-above": (_changed(adapter__rank=17), "adapter.rank", "adapter.rank = 17", "1 to 16", "lower adapter.rank", 4),
    "target": (_changed(adapter__target_modules=["qery"]), "adapter.no-module", '"qery"', "key, query", '"query"', 4),
    "empty-client": (_client_left_empty, "data.empty-client", "49", "", "", 3),
    "label-in-test": (_label_only_in_test, "data.unknown-label", '"grass"', "sky", "", 3),
    "no-config": (_model_without_config, "model.no-config", "config.json", "save_pretrained", "config.json", 4),
    "no-model": (_changed(model__source="./nowhere"), "model.no-folder", "./nowhere", "", "correct the path", 4),
    "no-package": (_changed(model__source="package:no_such"), "model.no-package", "no_such", "", "pip install", 4),
    "no-class": (
        _with_file("rule.py", "class Rule: pass\n", strategy={"name": "rule.py:Rul"}),
        "plugin.no-class",
        "rule.py has no Rul",
        "Rule",
        '"Rule"',
        5,
    ),
    "not-a-strategy": (
        _with_file("rule.py", "class Rule: pass\n", strategy={"name": "rule.py:Rule"}),
        "config.not-a-strategy",
        "is a Rule, not a Strategy",
        "derived from",
        "derive it",
        2,
    ),
    "not-a-codec": (
        _with_file("code.py", "class Code: pass\n", codec__up="code.py:Code"),
        "config.not-a-codec",
        "is a Code, not a Codec",
        "fedpeft.codecs.Codec",
        "add what it lacks",
        2,
    ),
    "not-a-task": (
        _with_file("task.py", "class Task: pass\n", model__task="task.py:Task"),
        "config.not-a-task",
        "is not a task",
        "fedpeft.training.tasks.linear_head.LinearHead",
        "add what it lacks",
        2,
    ),
    "import-fails": (
        _with_file("rule.py", "import no_such_module\n", strategy={"name": "rule.py:Rule"}),
        "plugin.import",
        "no_such_module",
        "",
        "run the file with python",
        5,
    ),
    "no-plugin-file": (_changed(strategy={"name": "rule.py:R"}), "plugin.no-file", "rule.py", "relative", "path", 5),
    "strategy": (_changed(strategy={"name": "fedprx"}), "plugin.unknown-strategy", "fedprx", "fedavg", '"fedprox"', 5),
    "codec": (_changed(codec__up="int9"), "plugin.unknown-codec", "int9", "fp16", '"int8"', 5),
    "codec-value": (
        _changed(codec__up="topk(1.5)+sign"),
        "plugin.stage-parameter",
        "share = 1.5 must be above 0 and at most 1",
        "share",
        "correct the value",
        5,
    ),
    "codec-budget": (
        _changed(codec__up="lgreco(bits=0.01)+zstd"),
        "codec.budget",
        "a budget of 0.01 bits a value is",
        "bits on",
        "raise bits",
        5,
    ),
    "optimizer": (_changed(local__optimizer="adam"), "plugin.unknown-optimizer", "adam", "sgd", '"adamw"', 5),
    "task": (
        _changed(model__task="label-name"),
        "plugin.unknown-task",
        "label-name",
        "linear-head",
        '"label-names"',
        5,
    ),
    "source": (_changed(data__source="cvs"), "plugin.unknown-source", '"cvs"', "assistant", '"csv"', 5),
    "partitioner": (
        _changed(data__partition={"name": "idd"}),
        "plugin.unknown-partitioner",
        '"idd"',
        "dirichlet",
        '"iid"',
        5,
    ),
    "parameter-unknown": (
        _changed(strategy={"name": "fedprox", "nu": 1.0}),
        "plugin.strategy-parameter",
        "nu (= 1.0)",
        "mu",
        '"mu"',
        5,
    ),
    "parameter-refused": (
        _changed(strategy={"name": "fedprox", "mu": -1.0}),
        "plugin.strategy-parameter",
        "-1.0",
        "mu",
        "correct the value",
        5,
    ),
    "partition-parameter": (
        _changed(data__partition={"name": "dirichlet", "alpha": -1.0}),
        "plugin.partitioner-parameter",
        "alpha",
        "alpha",
        "correct data.partition",
        5,
    ),
    "fault-client": (
        _changed(faults=[{"client": "c9", "rounds": [1], "kind": "nan"}]),
        "config.fault-client",
        '"c9"',
        "c00 to c02",
        "",
        2,
    ),
    "syntax": (_syntax, "config.syntax", "not valid TOML", "", "correct the line", 2),
    "missing-file": (lambda folder: folder / "no.toml", "config.no-file", "no.toml", "", "name a TOML run file", 2),
    "no-data-folder": (_no_data_folder, "data.no-file", "elsewhere", "", "", 3),
    "seed": (_changed(run__seed=2**64), "config.wrong-value", str(2**64), "2^64", "correct run.seed", 2),
    "name": (_changed(run__name="../up"), "config.wrong-value", "'../up'", "letters", "correct run.name", 2),
    "nan": (_changed(local__learning_rate=float("nan")), "config.wrong-value", "nan", "finite", "correct", 2),
}
RUNS = {  # found out only once clients train
    "nobody-usable": (
        _broken_loss,
        "round.too-few-replies",
        "the training loss is nan at step 1",
        "min_replies",
        "",
        6,
    ),
    "nobody-answers": (
        _changed(faults=[{"client": f"c0{i}", "rounds": [1], "kind": "drop"} for i in range(3)]),
        "round.too-few-replies",
        "round 1 got 0 usable replies",
        "min_replies",
        "fedpeft resume",
        6,
    ),
}
DOZEN = [
    "unknown-key",
    "wrong-type",
    "contradiction",
    "rank-0",
    "rank-above",
    "target",
    "empty-client",
    "label-in-test",
    "no-config",
    "no-class",
    "import-fails",
    "syntax",
    "missing-file",
    "nobody-answers",
]


def check(document, case):
    _, code, named, allowed, remedy, _ = case
    error = document["error"]
    assert error["code"] == code
    assert named in error["message"]
    assert allowed in (error["allowed"] or "")
    assert error["do"]
    assert remedy in error["do"]


@pytest.mark.parametrize("name", CASES)
def test_validate_says_what_is_wrong(tmp_path, capsys, monkeypatch, name):
    monkeypatch.delenv("FEDPEFT_DATA", raising=False)
    case = CASES[name]
    status = perform(["validate", str(case[0](tmp_path)), "--format", "json"], Session())
    out, err = capsys.readouterr()
    check(json.loads(out), case)
    assert status == case[-1]
    assert "Traceback" not in err
    assert not (tmp_path / "runs").exists()


@pytest.mark.parametrize("name", RUNS)
def test_run_says_what_went_wrong(tmp_path, capsys, name):
    case = RUNS[name]
    status = perform(["run", str(case[0](tmp_path)), "--format", "json"], Session())
    check(json.loads(capsys.readouterr().out), case)
    assert status == case[-1]


@pytest.mark.parametrize(
    "override", ["rounds=3", "run.rounds", "run.rounds=x", "devices.name=x", "strategy.name=fedprx", "a.b=1"]
)
def test_a_wrong_override_is_one_error(tmp_path, capsys, override):
    status = perform(["validate", str(write_run(tmp_path)), "--set", override], Session())
    err = capsys.readouterr().err
    assert status in (2, 5)
    assert err.count("error[") == 1
    assert "do:" in err


def test_names_are_checked_before_data_and_model(tmp_path, capsys):
    path = write_run(tmp_path, codec__up="int9", model__source="./nowhere", data__folder="nowhere")
    assert perform(["validate", str(path)], Session()) == 5
    assert "int9" in capsys.readouterr().err


def test_a_client_with_a_nan_loss_is_named_and_the_run_goes_on(tmp_path, capsys):
    faults = [{"client": "c01", "rounds": [1, 2], "kind": "nan"}]
    path = write_run(tmp_path, faults=faults, round__ask=3)
    assert perform(["run", str(path), "--format", "json"], Session()) == 0
    assert json.loads(capsys.readouterr().out)["rounds"] == 2
    assert perform(["show", str(tmp_path / "runs" / "colours"), "--format", "json"], Session()) == 0
    assert "c01" in capsys.readouterr().out


def command(arguments, folder):
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1", "NO_COLOR": "1", "COLUMNS": "400"}
    environment.pop("FEDPEFT_DEBUG", None)
    return subprocess.run(
        [sys.executable, "-m", "fedpeft.cli.main", *arguments],
        env=environment,
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=240,
    )


@pytest.mark.system
@pytest.mark.slow
@pytest.mark.parametrize("name", DOZEN)
def test_the_command_ends_with_one_error_and_no_traceback(tmp_path, name):
    case = (CASES | RUNS)[name]
    path = case[0](tmp_path)
    done = command(["run", str(path)], tmp_path)
    assert done.returncode == case[-1]
    assert "Traceback" not in done.stdout + done.stderr
    assert done.stderr.count("error[") == 1
    assert f"error[{case[1]}]: " in done.stderr
    assert case[2] in done.stderr
    assert "do: " in done.stderr


@pytest.mark.system
@pytest.mark.slow
def test_debug_shows_the_traceback(tmp_path):
    done = command(["--debug", "validate", str(CASES["rank-0"][0](tmp_path))], tmp_path)
    assert done.returncode == 2
    assert "Traceback" in done.stderr
    assert Path(tmp_path / "run.toml").name in done.stderr
