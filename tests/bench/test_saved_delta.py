import numpy as np
import pytest
import torch
from safetensors.numpy import save_file
from safetensors.torch import save_file as save_torch

from fedpeft.bench.saved_delta import read_delta
from fedpeft.errors import DataError

A, B = "base_model.model.q.lora_A.weight", "base_model.model.q.lora_B.weight"


def adapter(folder, seed, file="adapter_model.safetensors", rank=4):
    folder.mkdir()
    draw = np.random.default_rng(seed)
    values = {B: draw.normal(size=(8, rank)), A: draw.normal(size=(rank, 6))}
    values = {name: value.astype(np.float32) for name, value in values.items()}
    save_file(values, folder / file)
    return values


def test_tensors_lie_in_the_order_of_their_names(tmp_path):
    values = adapter(tmp_path / "a", 1, "delta.safetensors")
    delta, layout = read_delta(tmp_path / "a" / "delta.safetensors")
    assert [(tensor.name, tensor.shape, tensor.offset) for tensor in layout.tensors] == [
        (A, (4, 6), 0),
        (B, (8, 4), 24),
    ]
    assert delta.dtype == np.float32
    assert (delta == np.concatenate([values[A].ravel(), values[B].ravel()])).all()


def test_numpy_files_and_half_precision(tmp_path):
    values = np.arange(1, 13).reshape(3, 4)
    np.save(tmp_path / "a.npy", values / 8)
    delta, layout = read_delta(tmp_path / "a.npy")
    assert layout.tensors[0].shape == (3, 4)
    assert (delta == values.ravel() / 8).all()
    save_torch({"w": torch.from_numpy(values / 8).bfloat16(), "empty": torch.zeros(0)}, tmp_path / "b.safetensors")
    assert (read_delta(tmp_path / "b.safetensors")[0] == delta).all()


def test_of_a_clients_residual_the_round_is_left_out(tmp_path):
    residual = np.ones(5, np.float32)
    save_file({"residual": residual, "round": np.array([3])}, tmp_path / "residual-000003.safetensors")
    delta, layout = read_delta(tmp_path / "residual-000003.safetensors")
    assert (delta == residual).all()
    assert layout.tensors[0].name == "residual"


@pytest.mark.parametrize("file", ["adapter_model.safetensors", "trained.safetensors"])
def test_what_lies_between_two_adapters(tmp_path, file):
    after, before = adapter(tmp_path / "after", 1, file), adapter(tmp_path / "before", 2)
    delta, _ = read_delta(tmp_path / "after", tmp_path / "before")
    assert (delta[:24] == (after[A] - before[A]).ravel()).all()
    assert (read_delta(tmp_path / "after" / file, tmp_path / "before")[0] == delta).all()


def refusal(path, since=None):
    with pytest.raises(DataError) as error:
        read_delta(path, since)
    assert error.value.code == "bench.delta"
    assert str(path) in error.value.message
    assert error.value.remedy
    return error.value.render()


def test_an_adapter_alone_is_no_delta(tmp_path):
    adapter(tmp_path / "a", 1)
    assert "--since" in refusal(tmp_path / "a")
    assert "--since" in refusal(tmp_path / "a" / "adapter_model.safetensors")


def test_adapters_that_do_not_fit_or_did_not_move(tmp_path):
    adapter(tmp_path / "a", 1)
    adapter(tmp_path / "b", 2, rank=3)
    assert "(4, 6)" in refusal(tmp_path / "a", tmp_path / "b")
    save_file({A: np.ones((4, 6), np.float32)}, tmp_path / "half.safetensors")
    assert f'{tmp_path / "a"} holds a tensor "{B}"' in refusal(tmp_path / "a", tmp_path / "half.safetensors")
    assert "are equal" in refusal(tmp_path / "a", tmp_path / "a")


def test_files_that_hold_no_delta(tmp_path):
    assert "there is no file" in refusal(tmp_path / "none.npy")
    (tmp_path / "a.pt").write_bytes(b"?")
    assert '".pt"' in refusal(tmp_path / "a.pt")
    for name in ("a.npy", "a.safetensors"):
        for content in (b"", b"no such format at all"):
            (tmp_path / name).write_bytes(content)
            assert "cannot be read" in refusal(tmp_path / name)
    np.save(tmp_path / "objects.npy", np.array([{}], dtype=object))
    assert "cannot be read" in refusal(tmp_path / "objects.npy")
    np.save(tmp_path / "whole.npy", np.arange(3))
    assert "no floating-point" in refusal(tmp_path / "whole.npy")
    np.save(tmp_path / "none.npy", np.zeros(0, np.float32))
    assert "no floating-point" in refusal(tmp_path / "none.npy")
    np.save(tmp_path / "zeros.npy", np.zeros(3, np.float32))
    assert "all 3 values" in refusal(tmp_path / "zeros.npy")


@pytest.mark.parametrize("value", [np.nan, np.inf, 1e300])
def test_values_that_are_not_finite_in_fp32(tmp_path, value):
    np.save(tmp_path / "a.npy", np.array([1.0, value]))
    assert 'tensor "vector" holds' in refusal(tmp_path / "a.npy")


def test_a_folder_without_an_adapter_names_the_one_below_it(tmp_path):
    assert "folder without" in refusal(tmp_path)
    adapter(tmp_path / "adapter", 1)
    assert f"there is one in {tmp_path / 'adapter'}" in refusal(tmp_path)
