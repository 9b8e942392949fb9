"""simulations/DATA.md names every source, reader and partitioner, and its `[data]` tables are valid."""

import re
import tomllib
from pathlib import Path

import pytest

from fedpeft.config import DataTable, parse_config
from fedpeft.config.data import PartitionTable
from fedpeft.registry import BUILTIN
from fedpeft.simulation.federation import check_plugins

PAGE = (Path(__file__).parents[2] / "simulations" / "DATA.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"^```toml\n(.*?)^```", PAGE, flags=re.DOTALL | re.MULTILINE)
TABLES = [block for block in BLOCKS if "[data]" in block]
PARTITIONS = re.findall(r"^partition = .*", PAGE, flags=re.MULTILINE)


@pytest.mark.parametrize("kind", ["source", "reader", "partitioner"])
def test_every_name_is_on_the_page(kind):
    assert [name for name in BUILTIN[kind] if f"`{name}`" not in PAGE] == []


def test_there_is_something_to_check():
    assert len(TABLES) >= 3
    assert len(PARTITIONS) >= 6


@pytest.mark.parametrize("block", TABLES, ids=range(len(TABLES)))
def test_a_table_of_the_page_is_valid(block):
    DataTable.model_validate(tomllib.loads(block)["data"])


@pytest.mark.parametrize("line", PARTITIONS)
def test_a_partition_of_the_page_is_valid(line):
    partition = PartitionTable.model_validate(tomllib.loads(line)["partition"])
    assert partition.name in BUILTIN["partitioner"]


def test_the_first_block_is_a_whole_run_file():
    config = parse_config(tomllib.loads(BLOCKS[0]), origin="DATA.md")
    assert config.data.source == "files"
    check_plugins(config)


def test_every_key_is_on_the_page():
    assert [key for key in DataTable.model_fields if not re.search(rf"\b{key}\b", PAGE)] == []
