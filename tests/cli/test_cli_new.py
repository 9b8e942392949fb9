import json
import os
import shlex
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from tiny_text import write_run

from fedpeft.cli.main import perform
from fedpeft.cli.output import Session
from fedpeft.config import load_run_file
from fedpeft.contracts import StrategyContract
from fedpeft.registry import build, load
from fedpeft.simulation.federation import check_plugins
from fedpeft.types import ClientId, Update

ROOT = Path(__file__).parents[2]


def call(*arguments):
    return perform(list(arguments), Session())


def run_test(test, folder):
    return subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-W", "error", test],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.mark.parametrize(("kind", "passed"), [("codec", 11), ("partitioner", 8), ("scheduler", 7)])
def test_what_is_made_works_and_its_tests_pass(tmp_path, capsys, kind, passed):
    assert call("new", kind, "my-own", "--dir", str(tmp_path / "plugins"), "--format", "json") == 0
    made = json.loads(capsys.readouterr().out)
    assert callable(load(kind, made["name"]))
    done = run_test(made["test"], tmp_path)
    assert f"{passed} passed" in done.stdout, done.stdout + done.stderr


@pytest.mark.slow
def test_a_new_codec_and_partitioner_run_from_a_run_file(tmp_path, capsys):
    assert call("new", "codec", "halves", "--dir", str(tmp_path)) == 0
    assert call("new", "partitioner", "cards", "--dir", str(tmp_path)) == 0
    capsys.readouterr()
    path = write_run(tmp_path, codec={"up": "halves.py:Halves"}, data__partition={"name": "cards.py:cards", "start": 1})
    assert call("run", str(path), "--format", "json") == 0
    assert len(json.loads(capsys.readouterr().out)["adapter_hash"]) == 64


@pytest.mark.parametrize("kind", ["strategy", "codec", "partitioner", "scheduler"])
def test_use_it_sets_the_plugin_whatever_was_there_before(tmp_path, capsys, kind):
    assert call("new", kind, "my own", "--dir", str(tmp_path / "my plugins")) == 0
    used = shlex.split(capsys.readouterr().out.rsplit("use it: ", 1)[1])
    assert used[:4] == ["fedpeft", "run", "FILE", "--set"]
    partition = {"name": "dirichlet", "alpha": 0.5}
    path = write_run(tmp_path, strategy={"name": "fedprox", "mu": 0.1}, data__partition=partition)
    config = load_run_file(path, used[4:])
    assert "my plugins/my_own.py:" in config.to_toml()
    check_plugins(config)


def test_new_strategy_works_and_its_test_passes(tmp_path, capsys):
    assert call("new", "strategy", "my-rule", "--dir", str(tmp_path / "plugins"), "--format", "json") == 0
    made = json.loads(capsys.readouterr().out)
    strategy = build("strategy", made["name"], {"learning_rate": 2.0})
    strategy.begin(np.zeros(2, dtype=np.float32))
    strategy.accept(Update(ClientId("c00"), 1, np.ones(2, dtype=np.float32), 1.0), 1.0)
    np.testing.assert_array_equal(strategy.finish(), [2.0, 2.0])
    done = run_test(made["test"], tmp_path)
    tests = [name for name in dir(StrategyContract) if name.startswith("test_")]
    assert f"{len(tests) + 2} passed" in done.stdout, done.stdout + done.stderr


@pytest.mark.parametrize("kind", ["strategy", "codec", "partitioner"])
def test_files_are_clean_under_the_project_s_own_rules(tmp_path, capsys, kind):
    assert call("new", kind, "my_own", "--dir", str(tmp_path)) == 0
    rules = ["--config", str(ROOT / "pyproject.toml")]
    written = {"check": [str(tmp_path / "my_own.py")], "format": list(map(str, tmp_path.glob("*.py")))}
    for command in (["check", *rules], ["format", "--check", *rules]):
        done = subprocess.run(
            [sys.executable, "-m", "ruff", command[0], *command[1:], *written[command[0]]],
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stdout + done.stderr


def test_nothing_is_replaced(tmp_path, capsys):
    assert call("new", "strategy", "mine", "--dir", str(tmp_path)) == 0
    (tmp_path / "mine.py").write_text("precious")
    assert call("new", "strategy", "mine", "--dir", str(tmp_path)) == 2
    assert "error[new.exists]" in capsys.readouterr().err
    assert (tmp_path / "mine.py").read_text() == "precious"


def test_a_folder_with_a_space_is_quoted(tmp_path, capsys):
    assert call("new", "codec", "mine", "--dir", str(tmp_path / "sub dir")) == 0
    assert f"pytest '{tmp_path}/sub dir/test_mine.py'" in capsys.readouterr().out


@pytest.mark.parametrize("name", ["3x", "class", "../up", "a b/c", "_", "_1", "none", "true", "numpy", "json"])
def test_name_that_is_none(tmp_path, capsys, name):
    assert call("new", "strategy", name, "--dir", str(tmp_path)) == 2
    assert "error[new.name]" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []
