"""ENGINES.md: the faults that it shows are those that there are, and their keys all of them."""

import re
import tomllib
from pathlib import Path
from typing import get_args

import pytest

from fedpeft.config import FaultTable, parse_config
from fedpeft.config.devices import FaultKind

GUIDE = (Path(__file__).parents[1] / "simulations" / "ENGINES.md").read_text(encoding="utf-8")
MINIMAL = {
    "run": {"name": "x", "rounds": 10},
    "model": {"source": "m"},
    "devices": [{"name": "d", "clients": 8}],
    "round": {"ask": 2},
}
BLOCKS = [tomllib.loads(block) for block in re.findall(r"```toml\n(.*?)```", GUIDE, re.S)]


@pytest.mark.parametrize("table", BLOCKS)
def test_every_block_is_part_of_a_run_file(table):
    parse_config(MINIMAL | table, origin="ENGINES.md")


def test_every_key_and_kind_of_a_fault_is_shown():
    shown = {key for block in BLOCKS for table in block.get("faults", []) for key in table}
    assert shown == FaultTable.model_fields.keys()
    section = GUIDE.partition("## Rehearsed faults")[2].partition("\n## ")[0]
    assert re.findall(r"^\| `(\w+)` \|", section, re.M)[1:] == list(get_args(FaultKind))
