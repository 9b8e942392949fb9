"""A run file is validated whole; every error names the key, the value, what is allowed and what to do."""

import copy
import math
import tomllib

import pytest

from fedpeft.config import SMOKE, RunConfig, load_run_file, parse_config
from fedpeft.config.pruning import PruningTable
from fedpeft.errors import ConfigError
from fedpeft.pruning.ramp import Ramp

BASE = {
    "run": {"name": "toy", "rounds": 2},
    "model": {"source": "m"},
    "round": {"ask": 2},
    "devices": [{"name": "phone", "clients": 3}],
}
CSV = {"source": "csv", "train": "a.csv", "test": "b.csv", "partition": {"name": "iid"}}


def changed(changes):
    table = copy.deepcopy(BASE)
    for key, value in changes.items():
        place = table
        *parents, last = key.split(".")
        for parent in parents:
            place = place[int(parent)] if isinstance(place, list) else place.setdefault(parent, {})
        if value is ...:
            del place[last]
        else:
            place[last] = value
    return table


def refusal(changes):
    with pytest.raises(ConfigError) as caught:
        parse_config(changed(changes), origin="toy.toml")
    return caught.value


def written(tmp_path, changes):
    import tomlkit

    path = tmp_path / "toy.toml"
    path.write_text(tomlkit.dumps(changed(changes)), encoding="utf-8")
    return path


NUMBER = "a finite number > 0"
WHOLE = "a whole number > 0 and < 2^31"
NAME = "letters, digits, '.', '_' and '-', first a letter or a digit, at most 100 characters"


@pytest.mark.parametrize(
    ("changes", "code", "key", "allowed", "remedy"),
    [
        ({"run.rouns": 3}, "unknown-key", "run.rouns = 3", "name, rounds, seed, folder", 'did you mean "rounds"?'),
        ({"devices.0.clint": 4}, "unknown-key", "devices[0].clint = 4", "name, clients", 'did you mean "clients"?'),
        ({"lcal": {"steps": 3}}, "unknown-key", "unknown key lcal", "run, model, adapter", 'did you mean "local"?'),
        ({"run.rounds": ...}, "missing-key", "run.rounds is missing", WHOLE, "add run.rounds"),
        ({"run": ...}, "missing-key", "run is missing", "a table with the keys name, rounds", "add run"),
        ({"strategy": {"mu": 1}}, "missing-key", "strategy.name is missing", "a text", "add strategy.name"),
        ({"run.rounds": "a"}, "wrong-value", "run.rounds = 'a'", WHOLE, "correct run.rounds"),
        ({"run.rounds": 2.5}, "wrong-value", "run.rounds = 2.5", WHOLE, "correct run.rounds"),
        ({"run.rounds": True}, "wrong-value", "run.rounds = True", WHOLE, "correct run.rounds"),
        ({"run.rounds": 0}, "wrong-value", "run.rounds = 0", WHOLE, "correct run.rounds"),
        ({"local.steps": 2**31}, "wrong-value", "local.steps = 2147483648", WHOLE, "correct local.steps"),
        ({"run.seed": -1}, "wrong-value", "run.seed = -1", "a whole number >= 0 and < 2^64", "correct run.seed"),
        ({"run.seed": 2**64}, "wrong-value", f"run.seed = {2**64}", "< 2^64", "correct run.seed"),
        ({"run.name": "a/b"}, "wrong-value", "run.name = 'a/b'", NAME, "correct run.name"),
        ({"run.name": "a\\b"}, "wrong-value", "run.name = ", NAME, "correct run.name"),
        ({"run.name": ".."}, "wrong-value", "run.name = '..'", NAME, "correct run.name"),
        ({"run.name": ""}, "wrong-value", "run.name = ''", NAME, "correct run.name"),
        ({"run.name": "a\n"}, "wrong-value", "run.name = ", NAME, "correct run.name"),
        ({"run.name": "x" * 101}, "wrong-value", "(103 characters)", NAME, "correct run.name"),
        ({"adapter.rank": 0}, "wrong-value", "adapter.rank = 0", WHOLE, "correct adapter.rank"),
        ({"local.learning_rate": math.nan}, "wrong-value", "local.learning_rate = nan", NUMBER, "correct local.lea"),
        ({"local.learning_rate": math.inf}, "wrong-value", "local.learning_rate = inf", NUMBER, "correct local.lea"),
        ({"round.deadline_s": math.inf}, "wrong-value", "round.deadline_s = inf", NUMBER, "correct round.deadline_s"),
        ({"round.late_discount": 2}, "wrong-value", "round.late_discount = 2", "> 0 and <= 1", "correct round.late"),
        ({"round.late": "fol"}, "wrong-value", "round.late = 'fol'", '"drop", "fold"', 'did you mean "fold"?'),
        ({"engine.wire": 1}, "wrong-value", "engine.wire = 1", "true or false", "correct engine.wire"),
        (
            {"adapter.target_modules": 3},
            "wrong-value",
            "adapter.target_modules = 3",
            "a text or a list, each a text",
            "c",
        ),
        ({"adapter.target_modules": [1]}, "wrong-value", "target_modules = [1]", "a text or a list", "correct adapter"),
        ({"devices": []}, "wrong-value", "devices = []", "at least 1", "correct devices"),
        ({"devices": {"name": "x"}}, "wrong-value", "devices is a table", "a list, each a table", "correct devices"),
        ({"devices.0.steps": "x"}, "wrong-value", "devices[0].steps = 'x'", WHOLE, "correct devices[0].steps"),
        ({"run": 3}, "wrong-value", "run = 3", "a table with the keys name, rounds, seed", "correct run"),
        ({"strategy": "fedavg"}, "wrong-value", "strategy = 'fedavg'", "name, and its parameters", "correct strategy"),
        (
            {"strategy": {"name": "fedprox", "mu": math.nan}},
            "contradiction",
            "strategy.mu = nan",
            "finite",
            "correct mu",
        ),
        ({"round.ask": 4}, "contradiction", "round.ask + round.over_select = 4", "at most 3", "ask fewer"),
        ({"round.over_select": 2}, "contradiction", "round.over_select = 4", "at most 3", "ask fewer"),
        ({"round.min_replies": 3}, "contradiction", "round.min_replies = 3", "1 to 2", "lower round.min_replies"),
        ({"data": {"source": "csv"}}, "contradiction", "data.train is missing", "data.partition", "add data.train"),
        ({"data.folder": "x"}, "contradiction", "data.folder contradicts", "data.client_test", "remove data.folder"),
    ],
)
def test_a_wrong_key_is_one_error(changes, code, key, allowed, remedy):
    error = refusal(changes)
    assert error.code == f"config.{code}"
    assert key in error.message
    assert error.message.startswith("toy.toml: ")
    assert "also" not in error.message
    assert allowed in (error.allowed or "")
    assert (error.remedy or "").startswith(remedy)
    assert error.exit_status == 2


def test_two_devices_of_one_name_contradict():
    error = refusal(
        {"devices": [{"name": "a", "clients": 1}, {"name": "b", "clients": 1}, {"name": "a", "clients": 2}]}
    )
    assert error.code == "config.contradiction"
    assert 'devices.name = "a"' in error.message


def test_all_wrong_keys_are_named_at_once():
    error = refusal({"run.rounds": 0, "run.sed": 1, "local.steps": "x"})
    for key in ("run.rounds = 0", "run.sed = 1", "local.steps = 'x'"):
        assert key in error.message
    assert error.message.count("also:") == 2


@pytest.mark.parametrize("seed", [0, 2**63, 2**64 - 1])
def test_every_uint64_is_a_seed(seed):
    config = parse_config(changed({"run.seed": seed}), origin="toy")
    assert parse_config(tomllib.loads(config.to_toml()), origin="again").run.seed == seed


def test_the_resolved_file_says_everything_and_reads_back_the_same():
    config = parse_config(changed({"strategy": {"name": "fedprox", "mu": 0.5}, "data": CSV}), origin="toy")
    table = tomllib.loads(config.to_toml())
    assert parse_config(table, origin="again") == config
    assert table["local"]["learning_rate"] == 1e-3
    assert table["strategy"] == {"name": "fedprox", "mu": 0.5}
    assert set(table) == set(RunConfig.model_fields) - {"zeroth", "scheduler"}  # neither is there unless asked for


def test_whole_numbers_will_do_where_numbers_are_asked_for():
    assert parse_config(changed({"adapter.alpha": 8}), origin="toy").adapter.alpha == 8.0


@pytest.mark.parametrize(
    ("content", "code", "part"),
    [
        (None, "config.no-file", "does not exist"),
        (b"[run\n", "config.syntax", "line 1"),
        (b"a = 1\na = 2\n", "config.syntax", "a = 2"),
        (b"name = '\xff'\n", "config.no-file", "cannot be read"),
        (b"", "config.missing-key", "run is missing"),
    ],
    ids=["missing", "syntax", "twice", "not-utf8", "empty"],
)
def test_a_file_that_is_no_run_file(tmp_path, content, code, part):
    path = tmp_path / "bad.toml"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(ConfigError) as caught:
        load_run_file(path)
    assert caught.value.code == code
    assert str(path) in caught.value.message
    assert part in caught.value.message or code == "config.syntax"
    assert caught.value.remedy


def test_a_folder_is_no_run_file(tmp_path):
    with pytest.raises(ConfigError) as caught:
        load_run_file(tmp_path)
    assert caught.value.code == "config.no-file"


def test_overrides_are_toml_and_bare_words_are_texts(tmp_path):
    path = written(tmp_path, {})
    overrides = ["run.rounds=5", "strategy.name=fedadam", "strategy.beta_1 = 0.5", "engine.wire=false", 'run.name="x"']
    config = load_run_file(path, [*overrides, 'adapter.target_modules=["a", "b"]'])
    assert (config.run.rounds, config.run.name, config.engine.wire) == (5, "x", False)
    assert (config.strategy.name, config.strategy.params) == ("fedadam", {"beta_1": 0.5})
    assert config.adapter.target_modules == ["a", "b"]
    assert load_run_file(path, {"local.steps": 3}).local.steps == 3


@pytest.mark.parametrize("override", ["", "rounds=3", "run.rounds", "=3", "run.=3", ".rounds=3", "run rounds=3"])
def test_an_override_of_a_wrong_form(tmp_path, override):
    with pytest.raises(ConfigError) as caught:
        load_run_file(written(tmp_path, {}), [override])
    assert caught.value.code == "config.override"
    assert f'"{override}"' in caught.value.message
    assert "run.rounds=3" in (caught.value.allowed or "")


def test_an_override_names_a_device_class(tmp_path):
    devices = [{"name": "phone", "clients": 2}, {"name": "old-phone", "clients": 1, "steps": 5}]
    path = written(tmp_path, {"devices": devices})
    config = load_run_file(path, ["devices.old-phone.rank=2", "devices.phone.codec=rules.py:Mine"])
    assert [table.rank for table in config.devices] == [None, 2]
    assert config.devices[0].codec == f"{tmp_path}/rules.py:Mine"
    assert load_run_file(path, ["devices.old-phone.steps=7"], smoke=True).devices[1].steps == 7
    for override, words in [
        ("devices.rank=2", "devices is a list of tables"),
        ("devices.1.rank=2", 'no table of devices has the name "1"'),
    ]:
        with pytest.raises(ConfigError, match=words) as caught:
            load_run_file(path, [override])
        assert caught.value.code == "config.override"
        assert caught.value.allowed == "devices.phone.KEY=VALUE, devices.old-phone.KEY=VALUE"


def test_an_override_may_be_a_whole_table(tmp_path):
    path = written(tmp_path, {"strategy": {"name": "fedprox", "mu": 0.1}})
    faults = 'faults=[{ client = "c00", rounds = [1], kind = "drop" }]'
    config = load_run_file(path, ['strategy={ name = "fedadam" }', faults, "local={ steps = 4 }"], smoke=True)
    assert (config.strategy.name, config.strategy.params) == ("fedadam", {})
    assert [fault.kind for fault in config.faults] == ["drop"]
    assert (config.local.steps, config.local.batch_size) == (4, SMOKE["local.batch_size"])


@pytest.mark.parametrize(
    ("override", "code"),
    [
        ("devices.name=x", "config.override"),
        ("run.rounds=x", "config.wrong-value"),
        ("run.round=3", "config.unknown-key"),
        ("local.learning_rate=nan", "config.wrong-value"),
    ],
)
def test_an_override_is_held_to_the_same_rules(tmp_path, override, code):
    with pytest.raises(ConfigError) as caught:
        load_run_file(written(tmp_path, {}), [override])
    assert caught.value.code == code


def test_smoke_lowers_and_never_raises(tmp_path):
    devices = [{"name": "a", "clients": 1, "steps": 5}, {"name": "b", "clients": 1}]
    path = written(tmp_path, {"run.rounds": 1, "round.ask": 2, "devices": devices, "local.batch_size": 99})
    config = load_run_file(path, smoke=True)
    assert (config.run.rounds, config.round.ask) == (1, 2)
    assert config.local.batch_size == SMOKE["local.batch_size"]
    assert (config.local.steps, config.devices[0].steps) == (1, 1)
    large = load_run_file(written(tmp_path, {"run.rounds": 50, "devices.0.clients": 50, "round.ask": 9}), smoke=True)
    assert (large.run.rounds, large.round.ask, large.evaluation.examples) == (2, 3, 64)
    assert load_run_file(path, ["local.steps=4"], smoke=True).local.steps == 4


def test_smoke_of_a_file_that_accumulates(tmp_path):
    many = {"local": {"accumulate": 16, "batch_size": 32}}
    assert load_run_file(written(tmp_path, many)).local.accumulate == 16
    found = load_run_file(written(tmp_path, many), smoke=True).local
    assert found.accumulate <= found.batch_size == SMOKE["local.batch_size"]
    kept = load_run_file(written(tmp_path, many), ["local.accumulate=2"], smoke=True)
    assert kept.local.accumulate == 2


def test_smoke_prunes_in_its_last_round_and_leaves_what_nobody_told(tmp_path):
    told = load_run_file(written(tmp_path, {"run.rounds": 30, "pruning": {"start": 3, "ramp": 6}}), smoke=True)
    assert Ramp(told.pruning.start, told.pruning.ramp, told.pruning.every).ratio(0.5, told.run.rounds) == 0.5
    untold = load_run_file(written(tmp_path, {"run.rounds": 30}), smoke=True)
    assert untold.pruning == PruningTable()
    kept = load_run_file(written(tmp_path, {"pruning": {"start": 1}}), ["pruning.ramp=5"], smoke=True)
    assert (kept.pruning.start, kept.pruning.ramp) == (1, 5)


def test_smoke_of_a_malformed_file_names_the_files_own_fault(tmp_path):
    with pytest.raises(ConfigError) as caught:
        load_run_file(written(tmp_path, {"round": 3}), smoke=True)
    assert "round = 3" in caught.value.message


def test_paths_are_relative_to_the_run_file(tmp_path, monkeypatch):
    (tmp_path / "model").mkdir()
    changes = {"model.source": "model", "data": {**CSV, "folder": "rows"}, "strategy.name": "rules/mine.py:Mine"}
    config = load_run_file(written(tmp_path, changes))
    assert config.model.source == str(tmp_path / "model")
    assert config.data.folder == str(tmp_path / "rows")
    assert config.strategy.name == f"{tmp_path}/rules/mine.py:Mine"
    assert load_run_file(written(tmp_path, {"model.source": "org/name"})).model.source == "org/name"


def test_data_are_found_through_the_environment(tmp_path, monkeypatch):
    path = written(tmp_path, {"data": CSV})
    monkeypatch.setenv("FEDPEFT_DATA", str(tmp_path / "elsewhere"))
    assert load_run_file(path).data.folder == str(tmp_path / "elsewhere")
    monkeypatch.delenv("FEDPEFT_DATA")
    with pytest.raises(ConfigError) as caught:
        load_run_file(path)
    assert caught.value.code == "config.no-data-folder"
    assert "FEDPEFT_DATA" in (caught.value.remedy or "")
