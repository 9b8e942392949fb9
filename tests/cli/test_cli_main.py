import json
import subprocess
import sys

import click
import pytest

from fedpeft import __version__
from fedpeft.cli import main as entry
from fedpeft.cli.main import perform
from fedpeft.cli.output import Session
from fedpeft.errors import DataError

COMMANDS = ["run", "validate", "resume", "ls", "show", "report", "evaluate", "export", "new", "doctor"]


def call(*arguments, session=None):
    return perform(list(arguments), session or Session())


@pytest.fixture
def failing(monkeypatch):
    """Makes `fedpeft ls` raise what it is given."""

    def fail(error):
        def broken(folder):
            raise error

        monkeypatch.setattr("fedpeft.journal.list_runs", broken)

    return fail


def test_help_names_every_command_and_loads_no_torch():
    script = (
        "import sys\nfrom fedpeft.cli.main import perform, Session\nstatus = perform(['--help'], Session())\n"
        "heavy = {'torch', 'transformers', 'peft', 'flwr', 'numpy', 'plotly', 'pydantic'} & set(sys.modules)\n"
        "assert not heavy, heavy\nsys.exit(status)"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    assert all(f" {command} " in done.stdout for command in COMMANDS)


def test_listing_runs_loads_no_torch(tmp_path):
    script = (
        "import sys\nfrom fedpeft.cli.main import perform, Session\nstatus = perform(['ls'], Session())\n"
        "assert 'torch' not in sys.modules\nsys.exit(status)"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False, cwd=tmp_path)
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.parametrize("command", COMMANDS)
def test_each_command_has_help(command, capsys):
    assert call(command, "--help") == 0
    assert "Usage" in capsys.readouterr().out


def test_version(capsys):
    assert call("--version") == 0
    assert capsys.readouterr().out == f"fedpeft {__version__}\n"


def test_no_arguments_show_the_help(capsys):
    assert call() == 2
    assert "Commands" in "".join(capsys.readouterr())


def test_error_shows_code_cause_allowed_and_remedy(failing, capsys):
    failing(DataError("file [bold]x[/] is empty", code="data.empty", allowed="a row", remedy="add one"))
    assert call("ls") == 3
    out, err = capsys.readouterr()
    assert out == ""
    assert err == "error[data.empty]: file [bold]x[/] is empty\n  allowed: a row\n  do: add one\n"


@pytest.mark.parametrize("option", [["--format", "json"], ["--format=json"]])
def test_error_as_json_is_one_document_on_stdout(failing, capsys, option):
    failing(DataError("empty", code="data.empty", remedy="add one"))
    assert call("ls", *option) == 3
    out, err = capsys.readouterr()
    assert json.loads(out) == {
        "error": {"code": "data.empty", "message": "empty", "allowed": None, "do": "add one"}
    }  # fmt: skip
    assert err == ""


def test_wrong_command_line(capsys):
    assert call("ls", "--nonsense") == 2
    assert "--nonsense" in capsys.readouterr().err
    assert call("ls", "--nonsense", "--format", "json") == 2
    assert json.loads(capsys.readouterr().out)["error"]["code"] == "usage"


def test_a_bug_is_one_line_and_a_way_to_report_it(failing, capsys):
    failing(KeyError("surprise"))
    assert call("ls") == 70
    err = capsys.readouterr().err
    assert err == (
        "error[bug]: KeyError: 'surprise'\n  do: this is a bug: run with --debug and report what it prints\n"
    )


@pytest.mark.parametrize("by", ["option", "option behind the command", "environment"])
def test_debug_shows_the_traceback(failing, capsys, monkeypatch, by):
    failing(DataError("empty", code="data.empty"))
    if by == "environment":
        monkeypatch.setenv("FEDPEFT_DEBUG", "1")
    words = {"option": ["--debug", "ls"], "option behind the command": ["ls", "--debug"]}.get(by, ["ls"])
    assert call(*words) == 3
    assert "Traceback (most recent call last)" in capsys.readouterr().err


@pytest.mark.parametrize("error", [KeyboardInterrupt(), click.Abort()])
def test_interrupt_says_how_to_go_on(failing, capsys, error):
    failing(error)
    assert call("ls") == 130
    assert capsys.readouterr().err == "interrupted\n"
    assert call("ls", session=Session(run="demo")) == 130
    assert capsys.readouterr().err == "interrupted; `fedpeft resume demo` goes on\n"
    assert call("ls", "--format", "json", session=Session(run="demo")) == 130
    assert json.loads(capsys.readouterr().out)["error"]["do"] == "fedpeft resume demo"


@pytest.mark.parametrize("arguments", [["doctor", "--help"], ["ls", "--format", "json"], ["ls"]])
def test_reader_that_has_seen_enough_is_no_error(tmp_path, arguments):
    script = f"from fedpeft.cli.main import main\nmain({arguments})"
    with subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        process.stdout.close()
        assert process.stderr.read() == b""
    assert process.returncode == 1


def test_a_run_that_nobody_reads_says_how_it_goes_on():
    script = (
        "import sys\nfrom fedpeft.cli import main\nfrom fedpeft.cli.output import Session, console\n"
        "def printing(folder):\n    console().print('x')\n"
        "import fedpeft.journal\nfedpeft.journal.list_runs = printing\n"
        "sys.exit(main.perform(['ls'], Session(run='demo')))"
    )
    with subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        process.stdout.close()
        assert process.stderr.read() == b"interrupted: nobody reads the output; `fedpeft resume demo` goes on\n"
    assert process.returncode == 1


def test_arguments_say_what_they_are(capsys):
    assert call("show", "--help") == 0
    assert "A run's name under runs/, or its folder." in capsys.readouterr().out


def test_a_wrong_command_is_corrected_once(capsys):
    assert call("list") == 2
    assert capsys.readouterr().err.count("Did you mean") == 1


def test_main_leaves_with_the_exit_code(capsys):
    with pytest.raises(SystemExit) as left:
        entry.main(["--version"])
    assert left.value.code == 0
