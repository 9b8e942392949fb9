"""simulations/CODECS.md: its run file can be run, and so can every contender of its sweeps."""

import re
import shlex
import tomllib
from itertools import pairwise
from pathlib import Path

import pytest

from fedpeft.cli.vary import contenders, parse_vary
from fedpeft.config import parse_config
from fedpeft.simulation.codecs import check_codecs

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "simulations" / "CODECS.md").read_text(encoding="utf-8")
MINIMAL = {
    "run": {"name": "x", "rounds": 10},
    "model": {"source": "m"},
    "devices": [{"name": "d", "clients": 4}],
    "round": {"ask": 2},
}
SWEEPS = re.findall(r"^fedpeft run .*$", PAGE, re.M)


def test_every_block_is_part_of_a_run_file():
    blocks = re.findall(r"```toml\n(.*?)```", PAGE, re.S)
    assert blocks
    for block in blocks:
        check_codecs(parse_config(MINIMAL | tomllib.loads(block), origin="CODECS.md"))


@pytest.mark.parametrize("command", SWEEPS)
def test_every_contender_of_a_sweep_can_be_run(command, monkeypatch, tmp_path):
    monkeypatch.setenv("FEDPEFT_DATA", str(tmp_path))
    words = shlex.split(command)
    vary = parse_vary(words[words.index("--vary") + 1])
    told = [value for key, value in pairwise(words) if key == "--set"]
    told.append("run.name=" + words[words.index("--name") + 1])
    for config in contenders(ROOT / words[2], told, [vary], smoke=False):
        check_codecs(config)
    assert len(vary.values) >= 6


def test_both_ways_and_both_kinds_are_swept_and_what_is_searched():
    varied = [parse_vary(shlex.split(line)[-1]) for line in SWEEPS]
    assert {one.key for one in varied} == {"codec.up", "codec.down"}
    upward = {
        value.partition("+")[0].partition("(")[0] for one in varied if one.key == "codec.up" for value in one.values
    }
    assert {"fp32", "forget", "relax", "topk", "compeft", "lgreco"} <= upward
