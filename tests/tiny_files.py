"""Run files' `[data]` tables over small files: what the tests of the files source share."""

import json
from pathlib import Path

from fedpeft.config import parse_config

TRAIN = "text,label\n" + "".join(f"text {index},{('card_arrival', 'lost_card')[index % 2]}\n" for index in range(40))
TEST = "text,label\nwhere is it,card_arrival\ngone,lost_card\n"

TASKS = """
class Prompts:
    examples = "prompt"
class Images:
    examples = "image"
"""


def config_of(folder: Path | None, clients: int = 4, task: str | None = None, **data):
    table = {
        "run": {"name": "t", "rounds": 1, "seed": 7},
        "model": {"source": "m", **({"task": task} if task else {})},
        "data": {"source": "files", "train": "train.csv", "test": "test.csv", "partition": {"name": "iid"}, **data},
        "devices": [{"name": "phone", "clients": clients}],
        "round": {"ask": 1},
    }
    if folder is not None:
        table["data"]["folder"] = str(folder)
    return parse_config(table, origin="test")


def write_files(folder: Path) -> Path:
    """`train.csv`, `test.csv`, and two tasks in `tasks.py`."""
    (folder / "train.csv").write_text(TRAIN, encoding="utf-8")
    (folder / "test.csv").write_text(TEST, encoding="utf-8")
    (folder / "tasks.py").write_text(TASKS, encoding="utf-8")
    return folder


def write_lines(path: Path, rows: list) -> None:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
