"""Every run file that is shipped runs, small, through the command line: none can rot."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from fedpeft.config import load_run_file
from fedpeft.config.adapter import WITHOUT_PEFT
from fedpeft.config.data import FROM_FILES

ROOT = Path(__file__).parents[2]
RUN_FILES = sorted((ROOT / "simulations").glob("*.toml"))


def data_folder():
    """Where the public data sets are: FEDPEFT_DATA, or a folder beside the repository."""
    named = os.environ.get("FEDPEFT_DATA")
    return Path(named) if named else ROOT.parent / "shared" / "data"


def environment():
    more = {"OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1", "FEDPEFT_DATA": str(data_folder())}
    return {**os.environ, **more}


def command(*arguments, folder):
    return subprocess.run(
        [sys.executable, "-m", "fedpeft.cli.main", *map(str, arguments)],
        cwd=folder,
        env=environment(),
        capture_output=True,
        text=True,
        timeout=280,
    )


def test_there_are_run_files():
    assert {"assistant", "banking77"} <= {path.stem for path in RUN_FILES}


@pytest.mark.parametrize("path", RUN_FILES, ids=lambda path: path.stem)
def test_a_run_file_is_valid_and_named_after_its_file(path, monkeypatch):
    monkeypatch.setenv("FEDPEFT_DATA", str(data_folder()))
    config = load_run_file(path)
    assert config.run.name == path.stem
    assert f"fedpeft run simulations/{path.name}" in path.read_text(encoding="utf-8")


@pytest.mark.slow
@pytest.mark.parametrize("path", RUN_FILES, ids=lambda path: path.stem)
def test_a_run_file_runs_under_smoke(path, tmp_path, monkeypatch):
    monkeypatch.setenv("FEDPEFT_DATA", str(data_folder()))
    config = load_run_file(path)
    if config.model.source.startswith("package:"):
        pytest.importorskip(config.model.source.removeprefix("package:"))
    elif not Path(config.model.source).is_dir():
        pytest.skip(f"{config.model.source} comes from the hub; tests/simulation/test_task_runs.py takes a small one")
    for name in filter(None, (config.data.train, config.data.test)):
        name = str(name).partition("#")[0]
        if config.data.source in FROM_FILES and not (data_folder() / name).is_file():
            pytest.skip(f"there is no {data_folder() / name}; set FEDPEFT_DATA to a folder that holds it")
    done = command("run", path, "--smoke", "--format", "json", folder=tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr
    result = json.loads(done.stdout)
    assert result["rounds"] == 2
    folder = tmp_path / "runs" / path.stem
    assert (folder / "report.html").is_file()
    if config.adapter.type in WITHOUT_PEFT:
        assert config.model.name in (folder / "adapter" / "README.md").read_text()
        assert (folder / "adapter" / "trained.safetensors").is_file()
    else:
        assert (folder / "adapter" / "adapter_model.safetensors").is_file()
        base = json.loads((folder / "adapter" / "adapter_config.json").read_text())["base_model_name_or_path"]
        assert base == config.model.name
    assert command("resume", folder, folder=tmp_path).returncode == 0  # a finished run is left as it is
