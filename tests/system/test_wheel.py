"""What users get: the wheel, installed alone into an empty folder and used from another one."""

import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
pytestmark = [pytest.mark.slow, pytest.mark.system]


def python(*arguments, folder, path=""):
    environment = {key: value for key, value in os.environ.items() if not key.startswith("PYTHON")}
    environment |= {"PYTHONPATH": str(path), "OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1"}
    done = subprocess.run(
        [sys.executable, *map(str, arguments)], cwd=folder, env=environment, capture_output=True, text=True, timeout=280
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    pytest.importorskip("build")
    pytest.importorskip("hatchling", reason="the wheel is built with the tools at hand, without a network")
    to = tmp_path_factory.mktemp("dist")
    python("-m", "build", "--wheel", "--no-isolation", "--outdir", to, ROOT, folder=to)
    (found,) = to.glob("*.whl")
    return found


@pytest.fixture(scope="module")
def installed(wheel, tmp_path_factory):
    target = tmp_path_factory.mktemp("installed")
    options = ["--no-deps", "--no-index", "--disable-pip-version-check", "--quiet", "--target", target]
    python("-m", "pip", "install", *options, wheel, folder=target)
    return target


def test_the_wheel_holds_the_package_and_all_its_files(wheel):
    names = set(zipfile.ZipFile(wheel).namelist())
    tops = {name.split("/")[0] for name in names}
    assert {top for top in tops if not top.endswith(".dist-info")} == {"fedpeft"}
    assert "fedpeft/py.typed" in names
    tracked = subprocess.run(["git", "ls-files", "fedpeft"], cwd=ROOT, capture_output=True, text=True, timeout=60)
    if tracked.returncode == 0:
        present = {name for name in tracked.stdout.split() if (ROOT / name).is_file()}
        assert present - names == set()
    for pattern in ("fedpeft/data/assistant/", "fedpeft/cli/templates/"):
        shipped = [name for name in names if name.startswith(pattern) and not name.endswith(".py")]
        assert shipped, pattern
    assert any(name.startswith("fedpeft/data/assistant/") and name.endswith(".toml") for name in names)
    assert not [name for name in names if "__pycache__" in name or name.endswith(".pyc")]


def test_the_wheel_says_what_it_needs_and_what_it_runs(wheel):
    archive = zipfile.ZipFile(wheel)
    (folder,) = {name.split("/")[0] for name in archive.namelist() if ".dist-info/" in name}
    metadata = archive.read(f"{folder}/METADATA").decode()
    for line in ("Name: fedpeft", "Requires-Python: >=3.11", "Provides-Extra: demo"):
        assert line in metadata
    assert "fedpeft = fedpeft.cli.main:main" in archive.read(f"{folder}/entry_points.txt").decode()
    assert any(name.startswith(f"{folder}/licenses/LICENSE") for name in archive.namelist())


def test_it_is_imported_from_where_it_was_installed_without_torch(installed, tmp_path):
    code = (
        "import sys, fedpeft; print(fedpeft.__file__); "
        "heavy = {'torch', 'transformers', 'peft', 'flwr'} & set(sys.modules); assert not heavy, heavy"
    )
    assert python("-c", code, folder=tmp_path, path=installed).strip() == str(installed / "fedpeft" / "__init__.py")


def test_the_command_line_works_from_another_folder(installed, tmp_path):
    assert "validate" in python("-m", "fedpeft.cli.main", "--help", folder=tmp_path, path=installed)
    assert "fedpeft" in python("-m", "fedpeft.cli.main", "--version", folder=tmp_path, path=installed)
    python("-m", "fedpeft.cli.main", "new", "strategy", "mine", folder=tmp_path, path=installed)
    assert list(tmp_path.rglob("mine.py"))
    options = ["-q", "-p", "no:cacheprovider", "-W", "error"]
    assert " passed" in python("-m", "pytest", *options, "test_mine.py", folder=tmp_path, path=installed)


def test_a_federation_trains_from_another_folder(installed, tmp_path):
    (tmp_path / "tiny.py").write_text((ROOT / "tests" / "tiny.py").read_text(encoding="utf-8"), encoding="utf-8")
    (adapter,) = python("tiny.py", tmp_path / "runs", folder=tmp_path, path=installed).split()
    assert len(adapter) == 64
    assert (tmp_path / "runs" / "tiny" / "report.html").is_file()


def test_the_assistant_s_tables_are_found(installed, tmp_path):
    code = (
        "from fedpeft.config import parse_config; from fedpeft.data import load_corpus\n"
        "config = parse_config({'run': {'name': 'a', 'rounds': 1}, 'model': {'source': 'm'}, 'round': {'ask': 1},"
        " 'devices': [{'name': 'd', 'clients': 2}]}, origin='a')\n"
        "corpus = load_corpus(config); print(len(corpus.label_names), fedpeft.__file__)\n"
    )
    labels, path = python("-c", "import fedpeft\n" + code, folder=tmp_path, path=installed).split()
    assert int(labels) >= 30
    assert Path(path).is_relative_to(installed)
