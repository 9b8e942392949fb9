"""Names become plug-ins, and a plug-in that cannot be had says why."""

from importlib.metadata import EntryPoint

import pytest

from fedpeft import registry
from fedpeft.errors import PluginError
from fedpeft.registry import BUILTIN, KEYS, build, load, names, split_family

RULE = """
class Rule:
    def __init__(self, strength: float, *, turns: int = 1):
        if strength < 0:
            raise ValueError(f"strength = {strength} is negative")
        self.strength, self.turns = strength, turns

class Open:
    def __init__(self, **anything):
        self.anything = anything

NUMBER = 3
"""


@pytest.fixture
def plugin(tmp_path):
    (tmp_path / "rule.py").write_text(RULE)
    return tmp_path


def refusal(kind, name, params=None, **more):
    with pytest.raises(PluginError) as caught:
        build(kind, name, params or {}, **more)
    assert f'{kind} "{name}"' in caught.value.message
    assert caught.value.remedy
    return caught.value


@pytest.mark.parametrize("kind", list(BUILTIN))
def test_every_built_in_name_can_be_loaded(kind):
    assert names(kind) == sorted(names(kind))
    assert all(callable(load(kind, name)) for name in BUILTIN[kind])


@pytest.mark.parametrize(
    ("kind", "name", "meant"),
    [
        ("strategy", "fedprx", "fedprox"),
        ("codec", "int9", "int8"),
        ("partitioner", "dirichlt", "dirichlet"),
        ("source", "assistent", "assistant"),
        ("optimizer", "adam", "adamw"),
        ("objective", "proximale", "proximal"),
        ("task", "label-name", "label-names"),
    ],
)
def test_an_unknown_name_names_the_closest_and_all_that_there_are(kind, name, meant):
    error = refusal(kind, name)
    assert error.code == f"plugin.unknown-{kind}"
    assert error.remedy == f'did you mean "{meant}"?'
    assert all(known in error.allowed for known in names(kind))
    assert "path/file.py:Class" in error.allowed
    assert error.exit_status == 5


@pytest.mark.parametrize("kind", sorted(KEYS))
def test_an_unknown_name_is_told_with_its_key(kind):
    assert refusal(kind, "no-such").message.startswith(f'{KEYS[kind]}: {kind} "no-such" is not known')


def test_parameters_are_told_with_their_table():
    assert refusal("strategy", "fedprox", {"zzz": 1}).message.startswith('strategy: strategy "fedprox" has no param')
    assert refusal("schedule", "step", {}).message.startswith('local.schedule: schedule "step" needs the parameter')


def test_a_file_is_loaded_relative_to_the_run_file(plugin):
    rule = build("strategy", "rule.py:Rule", {"strength": 0.5}, relative_to=plugin)
    assert (rule.strength, rule.turns) == (0.5, 1)
    assert type(build("strategy", f"{plugin}/rule.py:Rule", {"strength": 1})) is type(rule)


def test_a_file_that_is_not_there(plugin):
    error = refusal("strategy", "rules.py:Rule", relative_to=plugin)
    assert error.code == "plugin.no-file"
    assert str(plugin / "rules.py") in error.message


def test_a_file_without_the_class_names_those_it_has(plugin):
    error = refusal("strategy", "rule.py:Rul", relative_to=plugin)
    assert (error.code, error.allowed, error.remedy) == ("plugin.no-class", "Rule, Open", 'did you mean "Rule"?')
    (plugin / "empty.py").write_text("")
    assert refusal("strategy", "empty.py:Rule", relative_to=plugin).allowed == "the file defines no class"


@pytest.mark.parametrize(
    ("code", "cause"),
    [("import no_such_module", "ModuleNotFoundError"), ("def (", "SyntaxError"), ("1 / 0", "ZeroDivisionError")],
)
def test_a_file_that_fails_to_import_says_why_each_time(tmp_path, code, cause):
    (tmp_path / "broken.py").write_text(code)
    for _ in range(2):
        error = refusal("strategy", "broken.py:Rule", relative_to=tmp_path)
        assert error.code == "plugin.import"
        assert cause in error.message
    (tmp_path / "broken.py").write_text("class Rule: pass  # mended, and of another length")
    assert build("strategy", "broken.py:Rule", {}, relative_to=tmp_path)


def test_a_strategy_s_file_that_was_edited_is_loaded_anew(plugin):
    """As in a notebook: in the same second, and of the same length."""
    before = build("strategy", "rule.py:Rule", {"strength": 1}, relative_to=plugin)
    (plugin / "rule.py").write_text(RULE.replace("turns: int = 1", "turns: int = 2"))
    assert build("strategy", "rule.py:Rule", {"strength": 1}, relative_to=plugin).turns == 2
    assert type(before)(1).turns == 1


def test_an_unknown_parameter_names_the_closest(plugin):
    error = refusal("strategy", "rule.py:Rule", {"strenght": 1}, relative_to=plugin)
    assert (error.code, error.allowed) == ("plugin.strategy-parameter", "strength, turns")
    assert error.remedy == 'did you mean "strength"?'
    assert "strenght (= 1)" in error.message
    assert refusal("strategy", "fedprox", {"zzz": 1}).remedy == "remove zzz"


def test_a_parameter_that_is_refused_or_missing(plugin):
    error = refusal("strategy", "rule.py:Rule", {"strength": -1}, relative_to=plugin)
    assert error.code == "plugin.strategy-parameter"
    assert "strength = -1 is negative" in error.message
    error = refusal("strategy", "rule.py:Rule", {"turns": 2}, relative_to=plugin)
    assert error.code == "plugin.strategy-parameter"
    assert error.message.endswith("needs the parameter strength, and it is not given")
    assert (error.allowed, error.remedy) == ("strength, turns", "give strength a value")


@pytest.mark.parametrize(("name", "is_one"), [("topk", "a stage"), ("uniform", "a stage"), ("zstd", "a coder")])
def test_a_part_of_a_codec_alone_is_told_what_it_is(name, is_one):
    error = refusal("codec", name)
    assert error.code == "plugin.unknown-codec"
    assert f'"{name}" is {is_one}, and a codec belongs there' in error.message
    assert all(known in error.allowed for known in names("codec"))


def test_a_plug_in_may_take_any_parameter(plugin):
    assert build("strategy", "rule.py:Open", {"a": 1}, relative_to=plugin).anything == {"a": 1}


def test_what_cannot_be_called_is_no_plug_in(plugin):
    assert refusal("strategy", "rule.py:NUMBER", relative_to=plugin).code == "plugin.not-callable"


def test_a_module_that_can_be_imported_may_be_named(tmp_path, monkeypatch):
    (tmp_path / "lent_rules.py").write_text(RULE)
    monkeypatch.syspath_prepend(tmp_path)
    assert build("strategy", "lent_rules:Rule", {"strength": 2}).strength == 2
    error = refusal("strategy", "lent_rules:Rul")
    assert (error.code, error.remedy) == ("plugin.no-class", 'did you mean "Rule"?')
    error = refusal("codec", "no_such_package.codecs:Mine")
    assert error.code == "plugin.import"
    assert "no_such_package" in error.message


def test_a_family_answers_for_its_names_of_one_kind_only():
    assert split_family("strategy", "flower:FedAdam") == ("flower", "FedAdam")
    assert split_family("strategy", "flower:my/rule.py:Rule") == ("flower", "my/rule.py:Rule")
    assert split_family("codec", "flower:FedAdam") == ("", "flower:FedAdam")
    assert split_family("strategy", "rule.py:Rule") == ("", "rule.py:Rule")
    assert build("strategy", "flower:FedAdam", {}).name == "flower:FedAdam"


def _install(monkeypatch, name, value, kind="strategy"):
    point = EntryPoint(name, value, f"fedpeft.{kind}")
    monkeypatch.setattr(registry, "_installed", lambda kind: (point,) if point.group == f"fedpeft.{kind}" else ())


def test_an_installed_plug_in_is_known_by_its_entry_point(monkeypatch):
    _install(monkeypatch, "borrowed", "fedpeft.strategies.fedavg:FedAvg")
    assert "borrowed" in names("strategy")
    assert type(build("strategy", "borrowed", {})).__name__ == "FedAvg"
    assert refusal("strategy", "borowed").remedy == 'did you mean "borrowed"?'


def test_entry_points_are_read_from_the_metadata_of_packages(tmp_path, monkeypatch):
    folder = tmp_path / "lender-1.0.dist-info"
    folder.mkdir()
    (folder / "METADATA").write_text("Metadata-Version: 2.1\nName: lender\nVersion: 1.0\n")
    (folder / "entry_points.txt").write_text("[fedpeft.codec]\nlent = fedpeft.codecs.fp16:Fp16\n")
    monkeypatch.syspath_prepend(tmp_path)
    registry._installed.cache_clear()
    try:
        assert "lent" in names("codec")
        assert "lent" not in names("strategy")
        assert type(build("codec", "lent", {})).__name__ == "Fp16"
    finally:
        monkeypatch.undo()
        registry._installed.cache_clear()
    assert "lent" not in names("codec")


def test_an_installed_plug_in_that_is_broken_says_why(monkeypatch):
    _install(monkeypatch, "gone", "no_such_package.rule:Rule")
    error = refusal("strategy", "gone")
    assert error.code == "plugin.import"
    assert "no_such_package" in error.message
