"""Rows that do not see each other, attention of short texts, and the allocator's setting."""

from __future__ import annotations

import sys

import pytest
import torch
import torch.nn.functional as F
from tiny_models import encoder

from fedpeft.kernels import keep_freed_memory, rows_times
from fedpeft.kernels.attention import NAME, register, short_attention
from fedpeft.kernels.onednn import bucket


def drawn(*size, dtype=torch.float32, seed=0):
    return torch.randn(*size, generator=torch.Generator().manual_seed(seed)).to(dtype)


@pytest.mark.parametrize("labels", [1, 3, 64, 77])
def test_rows_times_is_a_product_whose_rows_are_alone(labels):
    x, matrix = drawn(50, 96), drawn(labels, 96, seed=1)
    whole = rows_times(x, matrix)
    torch.testing.assert_close(whole, x @ matrix.T, rtol=1e-5, atol=1e-5)
    for begin, end in [(0, 1), (49, 50), (3, 20)]:
        assert torch.equal(rows_times(x[begin:end], matrix), whole[begin:end])
    a, b = x.clone().requires_grad_(), x.clone().requires_grad_()
    rows_times(a, matrix).square().sum().backward()
    (b @ matrix.T).square().sum().backward()
    torch.testing.assert_close(a.grad, b.grad, rtol=1e-4, atol=1e-4)


def mask_of(kind, queries, keys):
    if kind is None:
        return None
    hidden = torch.zeros(3, 1, queries, keys)
    if kind == "padding":
        hidden[0, ..., -2:] = torch.finfo(torch.float32).min
    else:
        hidden += torch.triu(torch.full((queries, keys), torch.finfo(torch.float32).min), 1)
    return hidden


class Layer(torch.nn.Module):
    def __init__(self, groups=1):
        super().__init__()
        self.num_key_value_groups = groups


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=["fp32", "bf16"])
@pytest.mark.parametrize("mask", [None, "padding", "causal"])
@pytest.mark.parametrize("groups", [1, 2])
@pytest.mark.parametrize("scaling", [None, 0.3])
def test_short_attention_is_torch_s(dtype, mask, groups, scaling):
    q = drawn(3, 4, 6, 8, dtype=dtype, seed=1).requires_grad_()
    k, v = (drawn(3, 4 // groups, 6, 8, dtype=dtype, seed=s).requires_grad_() for s in (2, 3))
    hidden = mask_of(mask, 6, 6)
    y, weights = short_attention(Layer(groups), q, k, v, hidden if hidden is None else hidden.to(dtype), scaling)
    assert weights is None
    assert (y.shape, y.dtype) == ((3, 6, 4, 8), dtype)
    above = drawn(3, 6, 4, 8, dtype=dtype, seed=4)
    (y * above).sum().backward()
    exact = [t.detach().double().requires_grad_() for t in (q, k, v)]
    right = F.scaled_dot_product_attention(
        exact[0],
        exact[1].repeat_interleave(groups, 1),
        exact[2].repeat_interleave(groups, 1),
        attn_mask=None if hidden is None else hidden.double(),
        scale=scaling,
    ).transpose(1, 2)
    (right * above.double()).sum().backward()
    bound = 1e-5 if dtype == torch.float32 else 2e-2
    for found, wanted in zip((y, q.grad, k.grad, v.grad), (right, *(t.grad for t in exact)), strict=True):
        assert float((found.detach().double() - wanted.detach()).norm() / wanted.detach().norm()) < bound


def test_a_text_that_is_all_padding_stays_finite():
    q = drawn(3, 4, 6, 8, dtype=torch.bfloat16).requires_grad_()
    hidden = torch.full((3, 1, 6, 6), torch.finfo(torch.bfloat16).min, dtype=torch.bfloat16)
    y, _ = short_attention(Layer(), q, q, q, hidden)
    y.sum().backward()
    assert torch.isfinite(y).all()
    assert torch.isfinite(q.grad).all()


def test_a_text_does_not_see_the_others_of_its_batch():
    q, k, v = (drawn(5, 4, 6, 8, dtype=torch.bfloat16, seed=s) for s in range(3))
    whole, _ = short_attention(Layer(), q, k, v, None)
    for i in range(5):
        part = slice(i, i + 1)
        assert torch.equal(short_attention(Layer(), q[part], k[part], v[part], None)[0], whole[part])


def test_a_cached_mask_longer_than_the_keys_is_cut():
    q = drawn(3, 4, 6, 8)
    hidden = mask_of("padding", 6, 9)
    y, _ = short_attention(Layer(), q, q, q, hidden)
    right, _ = short_attention(Layer(), q, q, q, hidden[..., :6])
    assert torch.equal(y, right)


def test_dropout_is_refused():
    q = drawn(1, 1, 2, 4)
    with pytest.raises(ValueError, match="no dropout"):
        short_attention(Layer(), q, q, q, None, dropout=0.1)


@pytest.mark.parametrize("kind", ["bert", "gpt2", "llama"])
def test_models_of_transformers_take_it_by_name(kind):
    assert register() == NAME
    ids = torch.tensor([[5, 6, 7, 8], [9, 3, 0, 0]])
    inputs = {"input_ids": ids, "attention_mask": (ids != 0).long()}
    with torch.no_grad():
        mine = encoder(kind, attn_implementation=NAME)(**inputs).last_hidden_state
        right = encoder(kind, attn_implementation="eager")(**inputs).last_hidden_state
    shown = inputs["attention_mask"].bool()
    torch.testing.assert_close(mine[shown], right[shown], rtol=1e-4, atol=1e-4)


def test_freed_memory_is_kept_where_the_c_library_can():
    assert keep_freed_memory() in (True, False)
    if sys.platform.startswith("linux") and "glibc" in " ".join(__import__("platform").libc_ver()):
        assert keep_freed_memory()
    block = torch.ones(1 << 22)
    assert float(block.sum()) == 1 << 22


def test_elsewhere_it_is_left(monkeypatch):
    monkeypatch.setattr(sys, "platform", "darwin")
    assert keep_freed_memory() is False


def test_rows_are_padded_to_few_sizes_and_little():
    sizes = {bucket(rows) for rows in range(1, 5000)}
    assert len(sizes) < 60
    for rows in range(1, 5000):
        assert rows <= bucket(rows) <= max(16, rows + rows // 8 + 16)
