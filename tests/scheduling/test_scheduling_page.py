"""simulations/SCHEDULING.md: its blocks are parts of run files, its table names every scheduler and its parameters."""

import re
import tomllib
from pathlib import Path

import pytest

from fedpeft.config import parse_config
from fedpeft.registry import BUILTIN, build, parameters

PAGE = (Path(__file__).parents[2] / "simulations" / "SCHEDULING.md").read_text(encoding="utf-8")
MINIMAL = {
    "run": {"name": "x", "rounds": 10},
    "model": {"source": "m"},
    "devices": [{"name": "d", "clients": 4}],
    "round": {"ask": 2},
}
ROWS = dict(re.findall(r"^\| `([a-z0-9]+)` \| (.*?) \|", PAGE, re.M))


@pytest.mark.parametrize("block", re.findall(r"```toml\n(.*?)```", PAGE, re.S))
def test_every_block_is_part_of_a_run_file(block):
    config = parse_config(MINIMAL | tomllib.loads(block), origin="SCHEDULING.md")
    if config.scheduler is not None:
        build("scheduler", config.scheduler.name, config.scheduler.params)


def test_the_table_has_every_scheduler():
    assert set(ROWS) == set(BUILTIN["scheduler"])


@pytest.mark.parametrize("name", BUILTIN["scheduler"])
def test_the_table_has_every_parameter_with_its_default(name):
    told = re.findall(r"`(\w+)(?: = ([\d.]+))?`", ROWS[name])
    assert {key for key, _ in told} == set(parameters("scheduler", name))
    made = build("scheduler", name, {key: float(value) for key, value in told if value and key != "split"})
    for key, value in told:
        if value:
            assert getattr(build("scheduler", name, {}), key) == float(value)
            assert getattr(made, key) == float(value)
