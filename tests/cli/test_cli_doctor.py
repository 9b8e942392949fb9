import json
import re
from importlib.metadata import PackageNotFoundError

import pytest

from fedpeft.cli import doctor
from fedpeft.cli.main import perform
from fedpeft.cli.output import Session
from fedpeft.flower import compat


def checks(capsys):
    status = perform(["doctor", "--format", "json"], Session())
    found = {check["name"]: check for check in json.loads(capsys.readouterr().out)["checks"]}
    assert status == (1 if any(check["state"] == "fail" for check in found.values()) else 0)
    return found


@pytest.fixture(autouse=True)
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("FEDPEFT_DATA", raising=False)
    return tmp_path


def test_this_machine_is_ready(capsys):
    found = checks(capsys)
    assert {name for name, check in found.items() if check["state"] == "fail"} == set()
    assert found["flwr"]["detail"].startswith("1.41.")


def test_every_complaint_has_a_remedy(capsys, monkeypatch):
    monkeypatch.setattr(doctor, "LEAST_MEMORY_GB", 10**9)
    monkeypatch.setattr(doctor, "LEAST_DISK_GB", 10**9)
    monkeypatch.setattr(doctor, "DEMO_PACKAGE", "no_such_package")
    monkeypatch.setenv("FLWR_TELEMETRY_ENABLED", "1")
    found = checks(capsys)
    complaints = [check for check in found.values() if check["state"] != "ok"]
    assert {check["name"] for check in complaints} == {"memory", "disk", "demo model", "data", "telemetry"}
    assert all(check["remedy"] for check in complaints)


@pytest.mark.parametrize("installed", ["1.40.2", "1.42.0", "2.0.1"])
def test_other_flower_fails(capsys, monkeypatch, installed):
    monkeypatch.setattr(doctor, "version", lambda name: installed if name == "flwr" else "1.0")
    assert checks(capsys)["flwr"] == {
        "name": "flwr",
        "state": "fail",
        "detail": f"{installed}; supported is 1.41.x",
        "remedy": "pip install 'flwr~=1.41.0'",
    }


def test_missing_package_fails(capsys, monkeypatch):
    def version(name):
        raise PackageNotFoundError(name)

    monkeypatch.setattr(doctor, "version", version)
    assert checks(capsys)["peft"]["remedy"] == "pip install peft"


def test_data_folder(here, capsys, monkeypatch):
    monkeypatch.setenv("FEDPEFT_DATA", str(here))
    assert checks(capsys)["data"]["state"] == "ok"
    monkeypatch.setenv("FEDPEFT_DATA", str(here / "missing"))
    assert checks(capsys)["data"]["state"] == "fail"


def test_a_file_in_the_place_of_the_runs_fails(here, capsys):
    (here / "runs").write_text("")
    check = checks(capsys)["runs folder"]
    assert check["state"] == "fail"
    assert check["detail"].endswith("runs is a file")


def test_folder_that_cannot_be_written_fails(here, capsys, monkeypatch):
    def refuse(path, content):
        raise OSError(30, "Read-only file system")

    monkeypatch.setattr("pathlib.Path.write_bytes", refuse)
    check = checks(capsys)["runs folder"]
    assert check["state"] == "fail"
    assert check["detail"].endswith("cannot be written: Read-only file system")


def test_text_has_a_line_a_check(capsys):
    assert perform(["doctor"], Session()) == 0
    out = capsys.readouterr().out
    assert re.search(r"^ok +torch +\d", out, re.M)
    assert max(map(len, out.splitlines())) <= 80


def test_flower_s_range_is_the_one_that_the_code_was_checked_with():
    assert doctor.FLOWER == compat.SUPPORTED
