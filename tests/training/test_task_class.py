"""What is said of a task, a model or a metric of one's own that is none."""

import pytest

from fedpeft.config import ModelTable
from fedpeft.errors import ConfigError, ModelError, PluginError
from fedpeft.training import TaskContext
from fedpeft.training.task_class import METHODS, build_task, load_task_class

WHOLE = """
from fedpeft.training.tasks.custom import CustomTask

class Mine(CustomTask):
    architecture, examples = "own", "text"

    def __init__(self, context):
        super().__init__(lambda model, batch: model(batch))

class Bare:
    pass

class Nearly(CustomTask):
    architecture, examples = "own", "sound"

class Old(CustomTask):
    head = True

class Awkward(Mine):
    def __init__(self, tokenizer, names):
        pass

nothing = 3
"""


@pytest.fixture
def file(tmp_path):
    path = tmp_path / "mine.py"
    path.write_text(WHOLE)
    return path


def refusal(task, source="model.py:build"):
    with pytest.raises(ConfigError) as caught:
        load_task_class(task, source)
    assert task in caught.value.message
    assert caught.value.remedy
    return caught.value


@pytest.mark.parametrize("task", ["label-names", "linear-head", "causal-lm", "instructions", "images"])
def test_every_built_in_task_is_one(task):
    assert load_task_class(task, "package:some_model").architecture != "own"


def test_a_class_of_ones_own_is_loaded_from_its_file(file):
    assert load_task_class(f"{file}:Mine", "model.py:build").__name__ == "Mine"


def test_all_that_a_class_lacks_is_named_at_once(file):
    error = refusal(f"{file}:Bare")
    for name in METHODS:
        assert f"a method {name}" in error.message
    assert "architecture = one of encoder, sequence-classifier, causal-lm, image-classifier, own" in error.message
    assert "examples" not in error.message
    assert "examples = one of text, prompt, image" in refusal(f"{file}:Nearly").message
    assert "it lacks architecture" in refusal(f"{file}:Old").message
    assert "a constructor" in refusal(f"{file}:nothing").message


def test_a_task_and_a_model_that_do_not_fit_are_told_apart(file):
    error = refusal(f"{file}:Mine", "package:some_model")
    assert "needs a module of one's own" in error.message
    error = refusal("images", "model.py:build")
    assert 'a model of the form "image-classifier"' in error.message
    assert 'architecture = "own"' in (error.remedy or "")


def test_a_constructor_that_takes_no_context_is_named(file):
    found = load_task_class(f"{file}:Awkward", "model.py:build")
    with pytest.raises(ConfigError, match="cannot be made from a TaskContext") as caught:
        build_task(found, TaskContext(ModelTable(source="model.py:build", task="Awkward")))
    assert caught.value.code == "config.not-a-task"


OWN = """
import torch

def build():
    return torch.nn.Linear(2, 2)

def named(label_names):
    return torch.nn.Linear(2, len(label_names))

def wrong():
    return "a model"

def broken():
    raise RuntimeError("no such layer")

def greedy(size):
    return torch.nn.Linear(size, size)
"""


@pytest.fixture
def model(tmp_path):
    path = tmp_path / "model.py"
    path.write_text(OWN)
    return path


def test_a_module_of_ones_own_is_frozen_and_drawn_from_the_seed(model):
    import torch

    from fedpeft.adapters import load_base

    weights = []
    for torch_seed, seed in ((1, 5), (2, 5), (1, 6)):
        torch.manual_seed(torch_seed)
        base = load_base(f"{model}:build", form="own", seed=seed)
        assert (base.name, base.tokenizer, base.positions) == ("model.py:build", None, None)
        assert not any(parameter.requires_grad for parameter in base.model.parameters())
        weights.append(base.model.weight.clone())
    assert torch.equal(weights[0], weights[1])
    assert not torch.equal(weights[0], weights[2])
    assert load_base(f"{model}:named", form="own", labels=["a", "b", "c"]).model.weight.shape == (3, 2)


@pytest.mark.parametrize(
    ("function", "said"),
    [("wrong", "returned a str"), ("broken", "RuntimeError: no such layer"), ("greedy", "missing 1 required")],
)
def test_a_function_that_makes_no_module_is_one_error(model, function, said):
    from fedpeft.adapters import load_base

    with pytest.raises(ModelError, match=said) as caught:
        load_base(f"{model}:{function}", form="own")
    assert caught.value.remedy
    with pytest.raises(ModelError, match="of one's own"):
        load_base(f"{model}:build", form="own", quantization="4bit")
    with pytest.raises(PluginError, match="has no absent"):
        load_base(f"{model}:absent", form="own")
