import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from fedpeft.cli.main import perform
from fedpeft.cli.output import Session
from fedpeft.registry import build
from fedpeft.types import ClientId, Update

ROOT = Path(__file__).parents[2]


def call(*arguments):
    return perform(list(arguments), Session())


def test_new_strategy_works_and_its_test_passes(tmp_path, capsys):
    assert call("new", "strategy", "my-rule", "--dir", str(tmp_path / "plugins"), "--format", "json") == 0
    made = json.loads(capsys.readouterr().out)
    strategy = build("strategy", made["name"], {"learning_rate": 2.0})
    strategy.begin(np.zeros(2, dtype=np.float32))
    strategy.accept(Update(ClientId("c00"), 1, np.ones(2, dtype=np.float32), 1.0), 1.0)
    np.testing.assert_array_equal(strategy.finish(), [2.0, 2.0])
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-W", "error", made["test"]],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert "5 passed" in done.stdout, done.stdout + done.stderr


def test_files_are_clean_under_the_project_s_own_rules(tmp_path, capsys):
    assert call("new", "strategy", "my_rule", "--dir", str(tmp_path)) == 0
    rules = ["--config", str(ROOT / "pyproject.toml")]
    for command in (["check", *rules], ["format", "--check", *rules]):
        done = subprocess.run(
            [sys.executable, "-m", "ruff", command[0], *command[1:], str(tmp_path / "my_rule.py")],
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


@pytest.mark.parametrize("name", ["3x", "class", "../up", "a b/c"])
def test_name_that_is_none(tmp_path, capsys, name):
    assert call("new", "strategy", name, "--dir", str(tmp_path)) == 2
    assert "error[new.name]" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []
