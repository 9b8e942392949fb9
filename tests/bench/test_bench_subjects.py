import re
from pathlib import Path

import pytest
from fake_benchmarks import BROKEN, FAST, READER, write_checkout

from fedpeft.bench import subjects
from fedpeft.bench.command import main
from fedpeft.bench.figure import Figure, Goal
from fedpeft.bench.results import load
from fedpeft.bench.session import measure_subject
from fedpeft.bench.subjects import Subject, find_subjects, read_subject
from fedpeft.errors import ConfigError


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return write_checkout(tmp_path, fast=FAST, broken=BROKEN, shared='"""No benchmark."""\nX = 1\n')


def test_benchmarks_are_found_by_their_measure(folder):
    fast, broken = sorted(find_subjects(), key=lambda subject: subject.name, reverse=True)
    assert fast == Subject(
        "fast", folder / "fast.py", "Counts to a thousand, against a peer that counts backwards.", ("counter",)
    )
    assert broken.peers == ()
    assert find_subjects(["fast", "fast"]) == [fast]
    assert find_subjects([str(folder / "broken.py")]) == [broken]


@pytest.mark.parametrize(
    ("name", "code"),
    [("fats", "bench.unknown"), ("nowhere.py", "bench.no-benchmark"), ("shared.py", "bench.no-benchmark")],
)
def test_what_is_no_benchmark_is_named(folder, monkeypatch, name, code):
    monkeypatch.chdir(folder.parents[1])
    with pytest.raises(ConfigError, match=name.removesuffix(".py")) as error:
        find_subjects([str(folder / name) if name.endswith(".py") else name])
    assert error.value.code == code


def test_outside_of_a_checkout_it_says_what_to_do(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(subjects, "_INSTALLED_IN", tmp_path / "site-packages")
    with pytest.raises(ConfigError) as error:
        find_subjects()
    assert error.value.code == "bench.no-checkout"
    assert "clone" in str(error.value.remedy)


def test_the_page_of_the_run_files_names_every_subject():
    root = Path(__file__).resolve().parents[2]
    page = (root / "simulations" / "README.md").read_text(encoding="utf-8")
    table = page.partition("| subject | measures |")[2].partition("\n\n")[0]
    here = sorted((root / subjects.PLACE).glob("*.py"))
    ours = [subject.name for path in here if (subject := read_subject(path)) is not None]
    assert sorted(re.findall(r"^\| `(\w+)` \|", table, re.M)) == ours


def test_our_own_benchmarks_say_what_they_show():
    here = Path(__file__).resolve().parents[2] / subjects.PLACE
    found = [subject for path in here.glob("*.py") if (subject := read_subject(path)) is not None]
    assert {"limits", "local_step", "codecs", "round", "startup", "scale", "ray_round"} <= {item.name for item in found}
    for item in found:
        assert len(item.about) > 20, item.name
        for peer in item.peers:
            assert "==" in (here / "peers" / f"{peer}.txt").read_text()


def test_a_file_is_a_command(folder, capsys, tmp_path):
    def measure(quick):
        return [Figure.of("a", [1.0, 2.0] if quick else [3.0], "s", goals=[Goal(2.0)])]

    assert main(str(folder / "fast.py"), measure, ["--quick"]) == 0
    assert "met" in capsys.readouterr().out
    assert main(str(folder / "fast.py"), measure, ["--json", str(tmp_path / "out.json")]) == 0
    [measured] = load(tmp_path / "out.json").measurements
    assert (measured.subject, measured.quick, measured.figures[0].value) == ("fast", False, 3.0)


def test_each_subject_runs_in_a_process_of_its_own(folder):
    [fast] = find_subjects(["fast"])
    told = []
    measured = measure_subject(fast, quick=True, peers=False, on_say=told.append)
    assert told == ["counting"]
    assert (measured.subject, measured.quick, measured.failure) == ("fast", True, "")
    backwards, forwards = measured.figures
    assert forwards.value == 1.0
    assert backwards.value is None
    assert "--no-peers" in backwards.note


def test_what_a_measure_takes_beside_quick_is_an_option(folder, tmp_path, capsys):
    (folder / "reader.py").write_text(READER)
    (tmp_path / "delta").write_bytes(b"12345")
    reader, fast = find_subjects(["reader", "fast"])
    assert (reader.takes, fast.takes) == (("delta", "since"), ())
    given = {"delta": tmp_path / "delta"}
    measured = measure_subject(reader, quick=True, peers=False, given=given)
    assert (measured.figures[0].value, measured.given) == (5.0, f"--delta {tmp_path / 'delta'}")
    plain = measure_subject(reader, quick=True, peers=False)
    assert (plain.figures[0].value, plain.given) == (0.0, "")
    assert measure_subject(fast, quick=True, peers=False, given=given).given == ""  # it takes none
    failed = measure_subject(reader, quick=True, peers=False, given={"since": tmp_path / "none"})
    assert failed.failure.startswith("FileNotFoundError")
    assert failed.given == f"--since {tmp_path / 'none'}"


def test_a_subject_that_fails_says_why(folder):
    [broken] = find_subjects(["broken"])
    measured = measure_subject(broken, quick=True, peers=False)
    assert measured.figures == ()
    assert measured.failure == "RuntimeError: no such luck"


def test_what_was_measured_before_a_failure_is_kept(folder, tmp_path, capsys):
    def measure(quick):
        yield Figure.of("a", 1.0, "s")
        raise RuntimeError("out of\nluck")

    assert main(str(folder / "fast.py"), measure, ["--json", str(tmp_path / "out.json")]) == 1
    assert "Traceback" in capsys.readouterr().err
    [measured] = load(tmp_path / "out.json").measurements
    assert (measured.failure, len(measured.figures)) == ("RuntimeError: out of luck", 1)


def test_a_goal_that_names_no_figure_is_told(folder, capsys):
    assert main(str(folder / "fast.py"), lambda quick: [Figure.of("a", 1.0, "s", goals=[Goal(2.0, "b")])], []) == 1
    assert 'compared with "b"' in " ".join(capsys.readouterr().out.split())


SLOW = '''"""Sleeps."""
import os, sys, time
from pathlib import Path
from fedpeft.bench import main, say

def measure(quick):
    Path(__file__).with_suffix(".pid").write_text(str(os.getpid()))
    say("sleeping")
    time.sleep(60)

if __name__ == "__main__":
    sys.exit(main(__file__, measure))
'''


def test_an_interrupt_ends_the_process_too(folder):
    (folder / "slow.py").write_text(SLOW)
    [slow] = find_subjects(["slow"])

    def interrupt(what):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        measure_subject(slow, quick=True, peers=False, on_say=interrupt)
    assert not Path("/proc", (folder / "slow.pid").read_text()).exists()
