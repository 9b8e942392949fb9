"""RUN.md and PRUNING.md: every block is what a run file may hold, and the sink of one's own keeps the contract."""

import re
import tomllib
from pathlib import Path

import pytest
import tomlkit

from fedpeft.config import load_run_file, parse_config
from fedpeft.report.sinks import check_sinks

GUIDE = (Path(__file__).parents[1] / "simulations" / "RUN.md").read_text(encoding="utf-8")
PRUNING = (Path(__file__).parents[1] / "simulations" / "PRUNING.md").read_text(encoding="utf-8")
MINIMAL = {
    "run": {"name": "x", "rounds": 10},
    "model": {"source": "m"},
    "devices": [{"name": "d", "clients": 4}],
    "round": {"ask": 2},
}


@pytest.mark.parametrize("block", re.findall(r"```toml\n(.*?)```", GUIDE + PRUNING, re.S))
def test_every_block_is_part_of_a_run_file(block):
    table = tomllib.loads(block)
    config = parse_config(MINIMAL | table, origin="RUN.md")
    check_sinks([name for name in config.report.sinks if name != "tensorboard"])


@pytest.mark.parametrize("text", re.findall(r"^\| `--set '?(.*?)'?` \|", GUIDE, re.M))
def test_every_override_of_the_table_works(tmp_path, text):
    table = {**MINIMAL, "devices": [{"name": "old-phone", "clients": 4}]}
    (tmp_path / "run.toml").write_text(tomlkit.dumps(table), encoding="utf-8")
    key = text.partition("=")[0].split(".")[0]
    assert getattr(load_run_file(tmp_path / "run.toml", [text]), key) != getattr(parse_config(table, origin="x"), key)


def test_the_sink_of_ones_own_is_one(tmp_path):
    (code,) = re.findall(r"```python\n(.*?)```", GUIDE, re.S)
    (tmp_path / "my_sink.py").write_text(code, encoding="utf-8")
    check_sinks([f"{tmp_path}/my_sink.py:Loudspeaker"])
