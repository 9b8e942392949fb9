"""`fedpeft.simulate`: one's own model, peft configuration, data sets and strategy."""

import doctest
import json
import re

import numpy as np
import peft
import pytest
import safetensors.torch
import torch
from tiny import run_tiny, tiny_arguments

import fedpeft.api
from fedpeft import simulate
from fedpeft.config import load_run_file
from fedpeft.errors import FedpeftError
from fedpeft.journal import EventKind, Journal
from fedpeft.strategies import FedAdam, FedAvg


def tiny(folder, *, change=None, **options):
    return simulate(**(tiny_arguments(folder, **options) | (change or {})))


def refusal(folder, change, **options):
    with pytest.raises(FedpeftError) as caught:
        tiny(folder, change=change, **options)
    assert caught.value.remedy
    assert not list(folder.glob("**/journal.sqlite"))
    return caught.value


def test_the_docstring_runs():
    result = doctest.testmod(fedpeft.api)
    assert result.attempted >= 5
    assert result.failed == 0


def test_it_learns_and_leaves_everything_on_disk(tmp_path):
    result = run_tiny(tmp_path, rounds=8)
    assert result.rounds == 8
    assert result.federated > result.zero_shot
    assert {"journal.sqlite", "adapter", "report.html", "run.toml"} <= {path.name for path in result.folder.iterdir()}


def test_the_same_seed_gives_the_same_adapter_and_another_does_not(tmp_path):
    seeds = (3, 3, 4)
    hashes = [run_tiny(tmp_path / str(i), run__seed=seed, rounds=2).adapter_hash for i, seed in enumerate(seeds)]
    assert hashes[0] == hashes[1] != hashes[2]


def test_an_interrupted_run_goes_on_with_the_same_objects_to_the_same_adapter(tmp_path):
    expected = run_tiny(tmp_path / "whole").adapter_hash
    arguments = tiny_arguments(tmp_path / "cut")

    def interrupt(event):
        if event.kind.value == "committed" and event.round == 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        simulate(**arguments, observers=[interrupt])
    resumed = simulate(**arguments, resume=True)
    assert resumed.adapter_hash == expected
    assert resumed.rounds == 4
    again = simulate(**arguments, resume=True)  # a finished run is left as it is
    assert again.adapter_hash == expected


def test_a_name_is_taken_once_unless_fresh(tmp_path):
    first = run_tiny(tmp_path, rounds=2)
    with pytest.raises(FedpeftError) as caught:
        tiny(tmp_path, rounds=2)
    assert caught.value.code == "journal.exists"
    assert re.findall(r"(name|resume|fresh)=", caught.value.remedy) == ["name", "resume", "fresh"]
    assert "--" not in caught.value.remedy
    assert "fedpeft resume" not in caught.value.remedy
    again = simulate(**tiny_arguments(tmp_path, rounds=2), fresh=True)
    assert again.adapter_hash == first.adapter_hash


def test_there_is_nothing_to_resume_under_a_new_name(tmp_path):
    with pytest.raises(FedpeftError, match="holds no journal") as caught:
        simulate(**tiny_arguments(tmp_path), resume=True)
    assert caught.value.remedy.startswith("leave out resume=True")


def test_one_model_serves_several_runs(tmp_path):
    arguments = tiny_arguments(tmp_path, rounds=1)
    first = simulate(**arguments)
    second = simulate(**(arguments | {"name": "second"}))
    ia3 = peft.IA3Config(target_modules=["0", "2"], feedforward_modules=[])
    third = simulate(**(arguments | {"name": "third", "peft_config": ia3}))
    assert second.adapter_hash == first.adapter_hash != third.adapter_hash
    assert third.zero_shot == first.zero_shot


def test_a_cell_that_takes_its_adapter_out_of_the_base_can_be_run_again(tmp_path):
    """PiSSA leaves in the base what is not in the adapter."""
    config = peft.LoraConfig(r=2, target_modules=["0", "2"], init_lora_weights="pissa")
    arguments = tiny_arguments(tmp_path, rounds=1) | {"peft_config": config}
    before = [parameter.detach().clone() for parameter in arguments["model"].parameters()]
    first = simulate(**arguments)
    second = simulate(**arguments | {"name": "second"})
    assert second.adapter_hash == first.adapter_hash
    assert second.zero_shot == first.zero_shot
    simulate(**arguments | {"name": "third", "peft_config": peft.LoraConfig(r=2, target_modules=["0"])})
    own = [value for name, value in arguments["model"].named_parameters() if "lora" not in name]
    for parameter, old in zip(own, before, strict=True):
        assert torch.equal(parameter, old)


def test_a_model_that_has_an_adapter_already_is_refused_as_it_is(tmp_path):
    arguments = tiny_arguments(tmp_path, rounds=1)
    config = peft.LoraConfig(r=2, target_modules=["0"], init_lora_weights="pissa")
    wrapped = peft.get_peft_model(arguments["model"], config)
    names = [name for name, _ in wrapped.named_parameters()]
    with pytest.raises(FedpeftError) as caught:
        simulate(**arguments | {"model": wrapped, "peft_config": config})
    assert caught.value.code == "adapter.no-model"
    assert [name for name, _ in wrapped.named_parameters()] == names


def test_the_exported_adapter_is_the_one_that_was_evaluated(tmp_path):
    result = run_tiny(tmp_path)
    arguments = tiny_arguments(tmp_path)
    model = peft.PeftModel.from_pretrained(arguments["model"], result.folder / "adapter").eval()
    x = torch.stack([item[0] for item in arguments["test"]])
    y = torch.stack([item[1] for item in arguments["test"]])
    with torch.no_grad():
        assert float((model(x).argmax(1) == y).float().mean()) == pytest.approx(result.federated)


class Counted(FedAvg):
    """A strategy of one's own, as an object with a life of its own."""

    def __init__(self):
        super().__init__()
        self.accepted = []

    def accept(self, update, weight):
        self.accepted.append((update.round, update.client, weight))
        super().accept(update, weight)


def test_a_strategy_object_of_ones_own(tmp_path):
    strategy = Counted()
    result = run_tiny(tmp_path / "own", strategy=strategy, rounds=2)
    assert len(strategy.accepted) == 2 * 3
    assert {weight for _, _, weight in strategy.accepted} == {24.0}
    assert result.adapter_hash == run_tiny(tmp_path / "plain", rounds=2).adapter_hash
    adam = run_tiny(tmp_path / "adam", strategy=FedAdam(learning_rate=0.01), rounds=2)
    assert adam.adapter_hash != result.adapter_hash


@pytest.mark.parametrize(
    "config",
    [
        peft.IA3Config(target_modules=["0", "2"], feedforward_modules=["2"]),
        peft.LoHaConfig(r=2, target_modules=["0"]),
        peft.LoraConfig(r=1, target_modules=["0"], modules_to_save=["2"], lora_dropout=0.1),
        peft.LoraConfig(r=1, target_modules=["0"], use_dora=True),
    ],
    ids=["ia3", "loha", "head", "dora"],
)
def test_other_peft_configurations(tmp_path, config):
    result = tiny(tmp_path, change={"peft_config": config}, rounds=1)
    assert result.rounds == 1
    assert (result.folder / "adapter" / "adapter_model.safetensors").is_file()


class Columns:
    """The least that a data set must be."""

    def __init__(self, items):
        self.items = items

    def __len__(self):
        return len(self.items)

    def __getitem__(self, index):
        return self.items[index]


class Dictionaries(torch.utils.data.Dataset):
    def __init__(self, items):
        self.items = items

    def __len__(self):
        return len(self.items)

    def __getitem__(self, index):
        x, y = self.items[index]
        return {"x": x.numpy(), "y": int(y)}


@pytest.mark.parametrize(
    "kind", [list, tuple, Columns, Dictionaries, lambda items: torch.utils.data.Subset(items, range(24))]
)
def test_any_kind_of_data_set(tmp_path, kind):
    arguments = tiny_arguments(tmp_path, rounds=1, evaluation__centralised=True)

    def parts(batch):
        return (batch["x"], batch["y"]) if isinstance(batch, dict) else batch

    loss, correct = arguments["loss"], arguments["correct"]
    expected = run_tiny(tmp_path / "lists", rounds=1)
    result = simulate(
        **arguments
        | {
            "clients": {client: kind(items) for client, items in arguments["clients"].items()},
            "client_test": {},
            "test": kind(arguments["test"][:24]),
            "loss": lambda model, batch: loss(model, parts(batch)),
            "correct": lambda model, batch: correct(model, parts(batch)),
        }
    )
    assert result.adapter_hash == expected.adapter_hash
    assert result.centralised is not None


def test_without_test_set_or_accuracy_there_is_none(tmp_path):
    result = tiny(tmp_path, change={"test": (), "client_test": {}, "correct": None}, rounds=1)
    assert result.federated is None
    assert result.centralised is None


def test_metrics_of_ones_own_are_in_the_journal(tmp_path):
    arguments = tiny_arguments(tmp_path, rounds=2)
    metrics = {
        "confidence": lambda model, batch: model(batch[0]).softmax(1).amax(1),
        "constant": lambda model, batch: 0.25,
    }
    result = fedpeft.simulate(**arguments, metrics=metrics)
    with Journal.read(result.folder) as journal:
        on_test = [event.payload["metrics"] for event in journal.events(EventKind.EVALUATED)]
        on_clients = [event.payload["metrics"] for event in journal.events(EventKind.CLIENT_EVALUATED)]
    assert on_test
    assert on_clients
    for found in on_test + on_clients:
        assert 0.5 <= found["confidence"] <= 1
        assert found["constant"] == 0.25


def test_the_centralised_comparison_is_trained_in_this_process(tmp_path):
    phases = []
    result = simulate(
        **tiny_arguments(tmp_path, evaluation__centralised=True),
        on_progress=lambda progress: phases.append(progress.phase),
    )
    assert result.centralised > result.zero_shot
    assert "centralised" in phases
    assert not (result.folder / "centralised.json").exists()  # what a process of its own would have left


def test_a_poisoned_client_is_named_and_the_run_goes_on(tmp_path):
    arguments = tiny_arguments(tmp_path, ask=5)
    x, y = arguments["clients"]["c03"][0]
    arguments["clients"]["c03"] = [(x * float("nan"), y)] * 24
    result = simulate(**arguments)
    assert result.rounds == 4
    with Journal.read(result.folder) as journal:
        refused = [event for event in journal.events() if event.kind.value == "refused"]
    assert {event.client for event in refused} == {"c03"}
    assert {event.round for event in refused} == {1, 2, 3, 4}
    assert all("client c03: the training loss is nan at step 1" in event.payload["reason"] for event in refused)


def test_a_run_in_which_every_client_fails_says_so(tmp_path):
    change = {"loss": lambda model, batch: model(batch[0]).sum(1) * float("nan")}
    with pytest.raises(FedpeftError) as caught:
        tiny(tmp_path, change=change)
    assert caught.value.code == "round.too-few-replies"
    assert "the training loss is nan at step 1" in caught.value.message
    assert caught.value.remedy


NO_ITEMS = {"clients": {"ann": [1], "ben": []}}


@pytest.mark.parametrize(
    ("change", "code", "part"),
    [
        ({"clients": {}}, "config.no-clients", "clients is empty"),
        ({"clients": [1, 2]}, "config.no-clients", "clients is a list"),
        (NO_ITEMS | {"client_test": {}}, "config.empty-client", 'clients["ben"]'),
        ({"clients": {"ann": iter([1])}}, "config.not-a-data-set", 'clients["ann"]'),
        ({"clients": {"../ann": [1]}}, "config.client-name", "'../ann'"),
        ({"clients": {3: [1]}}, "config.client-name", "clients: 3"),
        ({"client_test": {"zoe": [1]}}, "config.client-name", '"zoe"'),
        ({"test": iter([1])}, "config.not-a-data-set", "test is a"),
        ({"strategy": "fedavg"}, "config.not-a-strategy", "strategy is a str"),
        ({"strategy": FedAvg}, "config.not-a-strategy", "strategy is a ABCMeta"),
        ({"peft_config": {"r": 2}}, "adapter.no-config", "peft_config is a dict"),
        ({"peft_config": peft.LoraConfig(r=2, target_modules=["9"])}, "adapter.no-module", '"9"'),
        ({"peft_config": peft.LoraConfig(r=99, target_modules=["0"])}, "adapter.rank", "adapter.rank = 99"),
        ({"model": None}, "adapter.no-model", "model is a NoneType"),
        ({"ask": 9}, "config.contradiction", "round.ask"),
        ({"rounds": 0}, "config.wrong-value", "run.rounds = 0"),
        ({"name": "a/b"}, "config.wrong-value", "run.name = 'a/b'"),
        ({"metrics": [len]}, "config.metrics", "metrics is a list"),
        ({"metrics": {3: len}}, "config.metrics", "metrics has unnamed ones"),
        ({"metrics": {"accuracy": len}}, "config.metrics", "'accuracy' is there already"),
        ({"options": {"local.stps": 3}}, "config.unknown-key", "local.stps = 3"),
        ({"options": {"localsteps": 3}}, "config.unknown-key", "localsteps = 3"),
        ({"options": {"devices.steps": 3}}, "config.override", 'options["devices.steps"]'),
        ({"options": {"codec.up": "int9"}}, "plugin.unknown-codec", '"int9"'),
        ({"options": {"local.optimizer": "adam"}}, "plugin.unknown-optimizer", '"adam"'),
        (
            {"options": {"faults": [{"client": "zoe", "rounds": [1], "kind": "nan"}]}},
            "config.fault-client",
            '"zoe"',
        ),
    ],
)
def test_a_wrong_argument_is_one_error_before_anything_is_written(tmp_path, change, code, part):
    if "options" in change:
        change = {"options": {"run.folder": str(tmp_path), **change["options"]}}
    error = refusal(tmp_path, change)
    assert error.code == code
    assert part in error.message


@pytest.mark.parametrize("task", ["label-names", "linear-head"])
@pytest.mark.filterwarnings("ignore:.*is_gradient_checkpointing.*:FutureWarning")
def test_a_run_file_that_names_a_model_folder(tmp_path, task):
    from tiny_text import write_run
    from transformers import AutoModel, AutoModelForSequenceClassification

    path = write_run(tmp_path, model__task=task, model__name="org/base", run__rounds=3)
    result = fedpeft.api.run(load_run_file(path))
    adapter = result.folder / "adapter"
    assert json.loads((adapter / "adapter_config.json").read_text())["base_model_name_or_path"] == "org/base"
    again = fedpeft.api.export(result.folder, tmp_path / "again")
    tensors = "adapter_model.safetensors"
    assert (again / tensors).read_bytes() == (adapter / tensors).read_bytes()
    fedpeft.api.export(result.folder, again)
    with pytest.raises(FedpeftError, match="is no earlier export"):
        fedpeft.api.export(result.folder, tmp_path / "model", merged=True)  # it would be its own base
    merged = fedpeft.api.export(result.folder, tmp_path / "merged", merged=True)
    head = task == "linear-head"
    kind, more = (AutoModelForSequenceClassification, {"num_labels": 2}) if head else (AutoModel, {})
    inputs = {"input_ids": torch.tensor([[2, 5, 13, 11, 3], [2, 6, 18, 12, 3]])}
    outputs = []
    for model in (
        peft.PeftModel.from_pretrained(kind.from_pretrained(tmp_path / "model", **more), adapter),
        kind.from_pretrained(merged),
        kind.from_pretrained(tmp_path / "model", **more),
    ):
        with torch.no_grad():
            outputs.append(model.eval()(**inputs)[0])
    torch.testing.assert_close(outputs[0], outputs[1], atol=1e-5, rtol=0)
    assert not torch.allclose(outputs[0], outputs[2], atol=1e-4)
    fedpeft.api.resume(result.folder)  # a finished run is left as it is
    assert (adapter / tensors).read_bytes() == (again / tensors).read_bytes()


def _transformers_model(kind):
    import transformers
    from tiny_text import bert_config, gpt2_config

    if kind == "gpt2":
        return transformers.GPT2Model(gpt2_config()), ["c_attn"], torch.randint(0, 19, (40, 7))
    if kind == "bert-without-pooler":
        return (
            transformers.BertModel(bert_config(), add_pooling_layer=False),
            "all-linear",
            torch.randint(0, 19, (40, 7)),
        )
    config = transformers.ViTConfig(
        image_size=8, patch_size=4, hidden_size=16, num_hidden_layers=2, num_attention_heads=2, intermediate_size=32
    )
    return transformers.ViTModel(config), r".*attention.*\.(query|value|q_proj|v_proj)", torch.randn(40, 3, 8, 8)


@pytest.mark.parametrize("kind", ["gpt2", "bert-without-pooler", "vit"])
@pytest.mark.filterwarnings("ignore:.*fan_in_fan_out.*:UserWarning")
def test_models_of_other_shapes(tmp_path, kind):
    torch.manual_seed(4)
    model, targets, inputs = _transformers_model(kind)
    items = [(inputs[i], i % 2) for i in range(40)]

    def loss(model, batch):
        hidden = model(batch[0]).last_hidden_state.mean(1)[:, :2]
        return torch.nn.functional.cross_entropy(hidden, batch[1], reduction="none")

    result = simulate(
        model=model,
        peft_config=peft.LoraConfig(r=2, target_modules=targets),
        clients={"ann": items[:16], "ben": items[16:32]},
        test=items[32:],
        loss=loss,
        rounds=2,
        options={"run.folder": str(tmp_path), "local.steps": 2, "evaluation.centralised": False},
    )
    config = json.loads((result.folder / "adapter" / "adapter_config.json").read_text())
    assert config["base_model_name_or_path"] == "own-model"
    from safetensors.numpy import load_file

    tensors = load_file(result.folder / "adapter" / "adapter_model.safetensors")
    assert any(np.abs(values).max() > 0 for name, values in tensors.items() if "lora_B" in name)


def test_without_a_peft_configuration_what_is_unfrozen_is_trained(tmp_path):
    arguments = tiny_arguments(tmp_path)
    model = arguments["model"].requires_grad_(False)
    model[2].requires_grad_(True)
    before = [parameter.clone() for parameter in model[0].parameters()]
    result = simulate(**arguments | {"peft_config": None})
    trained = safetensors.torch.load_file(result.folder / "adapter" / "trained.safetensors")
    assert set(trained) == {"2.weight", "2.bias"}
    assert result.federated > result.zero_shot
    for parameter, old in zip(model[0].parameters(), before, strict=True):
        assert torch.equal(parameter, old)
