"""The run's device: found, refused by name, recorded; and an adapter that moves there with its views."""

import numpy as np
import peft
import pytest
import torch
from tiny_text import write_run

from fedpeft import api
from fedpeft.adapters import build_adapter
from fedpeft.adapters.device import choose_device
from fedpeft.config import load_run_file
from fedpeft.errors import ConfigError

CUDA = pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device here")


def test_auto_is_a_cuda_device_if_there_is_one():
    wanted = torch.device("cuda", 0) if torch.cuda.is_available() else torch.device("cpu")
    assert choose_device("auto") == wanted
    assert choose_device("cpu") == torch.device("cpu")


def test_a_device_that_is_not_there_names_those_that_are():
    with pytest.raises(ConfigError) as caught:
        choose_device("cuda:99")
    assert 'model.device = "cuda:99" is not there' in caught.value.message
    assert "auto, cpu" in caught.value.allowed
    if not torch.backends.mps.is_available():
        with pytest.raises(ConfigError, match="no Apple GPU"):
            choose_device("mps")


@pytest.mark.parametrize("device", ["gpu", "cuda:", "cuda:a", "CPU"])
def test_the_run_file_takes_no_other_word(tmp_path, device):
    with pytest.raises(ConfigError, match=r"model\.device"):
        load_run_file(write_run(tmp_path, model__device=device))


def test_the_device_of_a_run_is_recorded_and_an_export_needs_it_no_more(tmp_path):
    result = api.run(load_run_file(write_run(tmp_path, run__rounds=1, model__device="cpu")))
    recorded = (result.folder / "run.toml").read_text()
    assert 'device = "cpu"' in recorded
    from fedpeft.simulation.placing import anywhere

    config = load_run_file(result.folder / "run.toml")
    assert anywhere(config, whole_weights=False).model.device == "auto"


def lora():
    torch.manual_seed(1)
    network = torch.nn.Sequential(torch.nn.Linear(6, 5), torch.nn.Tanh(), torch.nn.Linear(5, 4))
    return build_adapter(network, peft.LoraConfig(r=2, target_modules=["0", "2"]), seed=4)


def test_moving_to_where_it_is_changes_nothing():
    adapter = lora()
    before = adapter.theta
    adapter.move(torch.device("cpu"))
    assert adapter.theta is before


def test_moving_takes_model_theta_and_gradient_along():
    """`meta` is the one other device that every torch has: it holds shapes, and no numbers."""
    adapter = lora()
    adapter.move(torch.device("meta"))
    assert {parameter.device.type for parameter in adapter.model.parameters()} == {"meta"}
    assert adapter.theta.device.type == adapter.gradient.device.type == "meta"
    assert all(parameter.grad.device.type == "meta" for parameter in adapter.parameters.values())
    assert adapter.theta.shape == (adapter.layout.size,)


@CUDA
def test_on_cuda_the_initial_value_is_that_of_the_cpu_and_training_goes_where_it_goes(tmp_path):
    adapter = lora()
    before = adapter.get()
    adapter.move(torch.device("cuda", 0))
    assert np.array_equal(adapter.get(), before)
    first = adapter.parameters[adapter.layout.tensors[0].name]
    assert first.data_ptr() == adapter.theta.data_ptr()
    here = api.run(load_run_file(write_run(tmp_path / "here", model__device="cpu")))
    there = api.run(load_run_file(write_run(tmp_path / "there", model__device="cuda")))
    assert there.zero_shot == pytest.approx(here.zero_shot, abs=0.1)
    assert there.federated == pytest.approx(here.federated, abs=0.2)
