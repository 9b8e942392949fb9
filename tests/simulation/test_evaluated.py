"""`fedpeft evaluate`: a run's model on its test set, whole and as an export would cut it."""

import json
import math
from dataclasses import replace
from functools import partial
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from tiny_text import write_run

import fedpeft
from fedpeft import api
from fedpeft.cli.evaluate import _size
from fedpeft.cli.main import perform
from fedpeft.cli.output import Session
from fedpeft.config import load_run_file
from fedpeft.data import client_ids
from fedpeft.errors import ConfigError, JournalError, ModelError
from fedpeft.journal import Journal
from fedpeft.simulation import evaluated as evaluated_module
from fedpeft.simulation import finished as finished_module
from fedpeft.simulation.evaluated import evaluate_finished
from fedpeft.simulation.finished import reopen

CHANGES = {
    "devices": [{"name": "half", "clients": 3, "pruning": 0.5}],
    "adapter__target_modules": "all-linear",
    "model__task": "linear-head",
    "evaluation__clients": False,
    "run__rounds": 3,
}


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    return api.run(load_run_file(write_run(tmp_path_factory.mktemp("run"), **CHANGES)))


def test_the_whole_model_is_as_good_as_the_run_said(finished):
    seen = []
    found = api.evaluate(finished.folder, on_progress=lambda done, total: seen.append((done, total)))
    assert (found.round, found.committed, found.rounds) == (3, 3, 3)
    assert found.recorded["accuracy"] == finished.federated
    assert not found.differs
    (whole,) = found.models
    assert whole.evaluation.accuracy == finished.federated
    assert whole.evaluation.examples == finished.test_examples == 16
    assert seen[-1] == (16, 16)


def test_a_smaller_one_is_as_good_as_the_one_that_is_exported(finished, tmp_path):
    whole, half, most = api.evaluate(finished.folder, pruned=[0.5, 0.75]).models
    assert [one.pruned for one in (whole, half, most)] == [0, 0.5, 0.75]
    assert whole.parameters > half.parameters > most.parameters
    exported = fedpeft.load_pruned(api.export(finished.folder, tmp_path / "half", pruned=0.5))
    federation = reopen(finished.folder).federation
    everything = torch.arange(len(federation.test)).numpy()
    with torch.no_grad():
        outcomes = federation.task.outcomes(exported, federation.task.batch(federation.test, everything), None)
    assert float(outcomes.losses.mean()) == pytest.approx(half.evaluation.loss, rel=1e-5)
    assert float(outcomes.scores["accuracy"].double().mean()) == half.evaluation.accuracy
    assert half.evaluation.loss != whole.evaluation.loss


def test_looking_at_smaller_ones_leaves_the_whole_one_as_it_was(finished):
    again = reopen(finished.folder, whole_weights=True)
    first, second = (evaluate_finished(again, [0.5]) for _ in range(2))
    assert [one.evaluation for one in first] == [one.evaluation for one in second]


def test_zeroth_order_runs_are_evaluated_too(tmp_path):
    changes = {
        "zeroth__size": 64,
        "local__optimizer": "sgd",
        "local__learning_rate": 0.02,
        "evaluation__clients": False,
    }
    result = api.run(load_run_file(write_run(tmp_path, **changes)))
    assert api.evaluate(result.folder).models[0].evaluation.accuracy == result.federated


@pytest.mark.parametrize("ratio", [0.0, 1.0, -0.5, float("nan")])
def test_what_is_no_share_is_refused_before_anything_is_loaded(finished, ratio, monkeypatch, tmp_path):
    monkeypatch.setattr("fedpeft.simulation.finished.assemble", None)
    with pytest.raises(ConfigError, match=r"no share of heads and channels"):
        api.evaluate(finished.folder, pruned=[ratio])
    if ratio:  # of an export: all of it
        with pytest.raises(ConfigError, match=r"no share of heads and channels"):
            api.export(finished.folder, tmp_path / "out", pruned=ratio)


def test_a_share_that_leaves_nothing_of_a_layer_is_refused(finished):
    with pytest.raises(ConfigError, match=r"no share of heads and channels") as caught:
        api.evaluate(finished.folder, pruned=0.9)
    assert "at most 0.75" in caught.value.allowed


def test_a_run_without_a_test_set_is_refused_by_name(finished):
    again = reopen(finished.folder)
    empty = replace(again, federation=replace(again.federation, test=[]))
    with pytest.raises(ConfigError, match="run colours has no test set") as caught:
        evaluate_finished(empty, [])
    assert caught.value.code == "evaluate.no-test"


def test_the_command_line_shows_a_table_and_one_document(finished, capsys):
    folder = str(finished.folder)
    assert perform(["evaluate", folder, "--pruned", "0.5"], Session()) == 0
    out = capsys.readouterr().out
    assert "colours — round 3 of 3, 16 test examples" in out
    assert "note" not in out
    assert "without 50 %" in out
    assert max(map(len, out.splitlines())) <= 80
    assert perform(["evaluate", folder, "--pruned", "0.5", "--round", "last", "--format", "json"], Session()) == 0
    table = json.loads(capsys.readouterr().out)
    assert table["run"] == Path(folder).name
    assert (table["round"], table["recorded"]["accuracy"]) == (3, finished.federated)
    assert [one["pruned"] for one in table["models"]] == [0.0, 0.5]
    assert table["models"][0]["metrics"]["accuracy"] == finished.federated


def test_a_run_is_named_from_within_its_folder(finished, capsys, monkeypatch):
    monkeypatch.chdir(finished.folder)
    assert perform(["evaluate", "."], Session()) == 0
    assert capsys.readouterr().out.startswith("colours — round 3")


def test_what_is_not_finite_is_null_in_a_document(finished, capsys, monkeypatch):
    found = api.evaluate(finished.folder)
    off = replace(found.models[0].evaluation, loss=math.inf, metrics={"accuracy": math.nan})
    broken = replace(found, models=(replace(found.models[0], evaluation=off),))
    monkeypatch.setattr(api, "evaluate", lambda *_, **__: broken)
    assert perform(["evaluate", str(finished.folder), "--format", "json"], Session()) == 0
    (model,) = json.loads(capsys.readouterr().out)["models"]
    assert (model["loss"], model["metrics"]) == (None, {"accuracy": None})


def test_scores_and_adapter_are_of_one_commit(finished, monkeypatch):
    """Of a run that goes on while its model is loaded, nothing is read of a later commit."""
    before, whole = reopen(finished.folder), finished_module.assemble

    def slow(config):
        monkeypatch.setattr(Journal, "last_commit", lambda _: pytest.fail("a later commit is looked at"))
        return whole(config)

    monkeypatch.setattr(finished_module, "assemble", slow)
    again = reopen(finished.folder)
    np.testing.assert_array_equal(before.scores, again.scores)
    np.testing.assert_array_equal(before.theta, again.theta)


def test_other_data_or_another_model_since_is_said(tmp_path, capsys):
    result = api.run(load_run_file(write_run(tmp_path, **CHANGES)))
    test = next(tmp_path.rglob("test.csv"))
    lines = test.read_text(encoding="utf-8").splitlines()
    test.write_text("\n".join(lines[:9]) + "\n", encoding="utf-8")
    assert perform(["evaluate", str(result.folder)], Session()) == 0
    out = " ".join(capsys.readouterr().out.split())
    assert "8 test examples" in out
    assert "note: after that round the run itself had accuracy" in out
    assert "on 16 examples: model, data, library versions or the device have changed since" in out
    train = next(tmp_path.rglob("train.csv"))
    train.write_text(train.read_text(encoding="utf-8") + "x,moss\n", encoding="utf-8")
    with pytest.raises(JournalError, match="began from another model, or with other labels") as caught:
        api.evaluate(result.folder)
    assert caught.value.code == "journal.other-base"


def test_private_tensors_are_named_and_a_client_can_be(tmp_path, capsys):
    changes = {"adapter__private": ["lora_B"], "data__client_test": 0.25, "run__rounds": 2}
    result = api.run(load_run_file(write_run(tmp_path, **changes)))
    with pytest.raises(ConfigError, match=r"keeps tensors private .*lora_B") as caught:
        api.evaluate(result.folder)
    assert caught.value.code == "evaluate.private"
    client, accuracy = next(iter(result.client_accuracy_after.items()))
    found = api.evaluate(result.folder, client=client)
    assert found.models[0].evaluation.accuracy == accuracy
    assert found.recorded["accuracy"] == accuracy
    assert not found.differs
    assert perform(["evaluate", str(result.folder), "--client", client], Session()) == 0
    assert f"test examples of {client}" in capsys.readouterr().out
    for command in (api.evaluate, partial(api.export, to=tmp_path / "out")):
        with pytest.raises(ConfigError, match='which = "best" contradicts client = "c00"'):
            command(result.folder, client="c00", which="best")
    with pytest.raises(JournalError, match="has no client nobody"):
        api.evaluate(result.folder, client="nobody")


def test_an_adapter_that_cannot_be_merged_is_refused_as_an_export_would(tmp_path):
    changes = {
        "adapter__type": "prefix_tuning",
        "adapter__num_virtual_tokens": 4,
        "run__rounds": 1,
        "evaluation__clients": False,
    }
    result = api.run(load_run_file(write_run(tmp_path, **changes)))
    with pytest.raises(ModelError) as caught:
        api.evaluate(result.folder, pruned=[0.5])
    assert caught.value.code == "adapter.unmergeable"


def test_an_adapter_of_no_round_is_refused(finished):
    with pytest.raises(ConfigError, match="which = 'lasst'"):
        api.evaluate(finished.folder, which="lasst")
    with pytest.raises(ConfigError, match="which = 'lasst'"):
        api.evaluate(finished.folder, which="lasst", client="c00")


def test_a_kernel_that_does_not_go_here_is_replaced(finished, monkeypatch):
    asked, whole = [], finished_module.assemble

    def assemble(config):
        asked.append(config.engine.kernel)
        if config.engine.kernel != "auto":
            raise ConfigError("cannot be used here", code="config.kernel")
        return whole(config)

    monkeypatch.setattr(finished_module, "assemble", assemble)
    assert api.evaluate(finished.folder).models[0].evaluation.accuracy == finished.federated
    assert asked[-1] == "auto"
    assert len(asked) == 2


def test_values_of_a_packed_matrix_are_counted_unpacked():
    class Packed(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.weight = torch.nn.Parameter(torch.zeros(8, 1, dtype=torch.uint8), requires_grad=False)
            self.weight.quant_state = SimpleNamespace(shape=torch.Size([4, 4]))
            self.bias = torch.nn.Parameter(torch.zeros(4))

    assert evaluated_module._parameters(Packed()) == 20


def test_smaller_models_of_a_quantised_run_are_cut_from_whole_weights_of_the_same_commit(finished, monkeypatch):
    loaded, taken, whole, config_of = [], [], evaluated_module.reopen, evaluated_module.config_of

    def quantised(journal):
        config = config_of(journal)
        return config.model_copy(update={"model": config.model.model_copy(update={"quantization": "4bit"})})

    def reopened(folder, **how):
        loaded.append(how.get("whole_weights", False))
        taken.append(how["taken"])
        return whole(folder, **how)

    once = api.evaluate(finished.folder, pruned=0.5).models
    monkeypatch.setattr(evaluated_module, "config_of", quantised)
    monkeypatch.setattr(evaluated_module, "reopen", reopened)
    twice = api.evaluate(finished.folder, pruned=0.5).models
    assert loaded == [True, False]
    assert taken[0] is taken[1] is not None
    assert [one.evaluation for one in twice] == [one.evaluation for one in once]


def test_which_base_smaller_models_are_cut_from_is_said(finished, capsys, monkeypatch):
    found = api.evaluate(finished.folder, pruned=[0.5])
    whole, half = found.models
    mixed = replace(found, models=(replace(whole, quantization="4bit"), half))
    monkeypatch.setattr(api, "evaluate", lambda *_, **__: mixed)
    assert perform(["evaluate", str(finished.folder)], Session()) == 0
    assert "note: the smaller models are cut from the base as it is, not quantised" in capsys.readouterr().out


def test_the_best_round_is_named_with_what_the_run_found_of_it(tmp_path, capsys, monkeypatch):
    """Round 0 here: the run's steps lead away."""
    changes = {"run__rounds": 2, "evaluation__keep": "best", "local__learning_rate": 0.5, "evaluation__clients": False}
    result = api.run(load_run_file(write_run(tmp_path, **changes)))
    assert result.best_round is not None
    best, last = (api.evaluate(result.folder, which=which) for which in ("kept", "last"))
    assert (best.round, last.round) == (result.best_round, 2)
    assert best.round < 2
    assert not best.differs
    assert not last.differs
    assert best.models[0].evaluation.loss != last.models[0].evaluation.loss
    assert best.recorded["loss"] != last.recorded["loss"]
    shared = api.evaluate(result.folder, client=next(iter(client_ids(load_run_file(tmp_path / "run.toml").clients))))
    assert shared.round == best.round, "nobody has tensors of its own"
    assert perform(["evaluate", str(result.folder)], Session()) == 0
    assert f"round {best.round} of 2" in capsys.readouterr().out
    unfinished = replace(best, rounds=9)
    monkeypatch.setattr(api, "evaluate", lambda *_, **__: unfinished)
    assert perform(["evaluate", str(result.folder)], Session()) == 0
    assert f"round {best.round} of 9 (2 committed)" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("change", "differs"),
    [
        ({}, False),
        ({"loss": 5e-4}, False),
        ({"loss": 5e-3}, True),
        ({"accuracy": -0.06}, True),
        ({"examples": 1}, True),
    ],
)
def test_a_thousandth_is_a_difference(finished, change, differs):
    found = api.evaluate(finished.folder)
    known = {key: value + change.get(key, 0) for key, value in found.recorded.items() if key in ("loss", "accuracy")}
    other = replace(found, recorded=known | {"examples": 16 + change.get("examples", 0)})
    assert other.differs is differs
    assert replace(found, recorded={"accuracy": known["accuracy"], "loss": None, "examples": 16}).differs
    assert not replace(found, recorded=None).differs


@pytest.mark.parametrize(("parameters", "text"), [(999, "999"), (23_000_000, "23.0 M"), (7_000_000_000, "7.0 B")])
def test_sizes_are_told_in_words(parameters, text):
    assert _size(parameters) == text


def test_one_share_may_be_told_as_a_number(finished):
    assert [one.pruned for one in api.evaluate(finished.folder, pruned=np.float32(0.5)).models] == [0.0, 0.5]
    assert len(api.evaluate(finished.folder, pruned=0.0).models) == 1
