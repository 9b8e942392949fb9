"""Every kernel multiplies right, forward and backward, row by row; a new one is a line in the registry."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch.autograd import forward_ad
from torch.func import vmap

from fedpeft.kernels import frozen_product
from fedpeft.registry import load, names

KERNELS = names("kernel")
DTYPES = [torch.float32, torch.bfloat16]
SHAPES = [(32, 32), (1, 7), (7, 1), (33, 65), (384, 384), (257, 96), (3, 1000)]  # (out, in)
BOUND = {torch.float32: 1e-5, torch.bfloat16: 2e-2}


def kernel_of(name, dtype):
    kernel = load("kernel", name)()
    reason = kernel.available(torch.zeros(2, 2, dtype=dtype))
    if reason:
        pytest.skip(reason)
    return kernel


def drawn(*size, dtype=torch.float32, seed=0):
    return torch.randn(*size, generator=torch.Generator().manual_seed(seed)).to(dtype)


def apart(found, exact):
    return float((found.double() - exact).norm() / exact.norm().clamp(min=1e-12))


each = pytest.mark.parametrize("name", KERNELS)
each_dtype = pytest.mark.parametrize("dtype", DTYPES, ids=["fp32", "bf16"])


def test_the_list_is_not_empty():
    assert {"torch", "onednn"} <= set(KERNELS)


@each
@each_dtype
@pytest.mark.parametrize("rows", [1, 2, 3, 31, 256])
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_products_and_gradients_are_right(name, dtype, rows, shape):
    weight, bias = drawn(*shape, dtype=dtype, seed=1), drawn(shape[0], dtype=dtype, seed=2)
    kernel = kernel_of(name, dtype)
    x, above = drawn(rows, shape[1], dtype=dtype, seed=3), drawn(rows, shape[0], dtype=dtype, seed=4)
    for own_bias in (bias, None):
        product = kernel.hold(weight, own_bias)
        exact = F.linear(x.double(), weight.double(), None if own_bias is None else own_bias.double())
        y = product.forward(x)
        below = product.backward(above)
        assert (y.shape, y.dtype, y.is_contiguous()) == ((rows, shape[0]), dtype, True)
        assert (below.shape, below.dtype, below.is_contiguous()) == ((rows, shape[1]), dtype, True)
        assert apart(y, exact) < BOUND[dtype]
        assert apart(below, above.double() @ weight.double()) < BOUND[dtype]


@each
@each_dtype
@pytest.mark.parametrize("shape", [(384, 384), (1536, 384), (384, 1536), (32, 96), (33, 65)], ids=str)
def test_a_row_does_not_depend_on_the_others(name, dtype, shape):
    product = kernel_of(name, dtype).hold(drawn(*shape, dtype=dtype, seed=1), drawn(shape[0], dtype=dtype, seed=2))
    for multiply, width in ((product.forward, shape[1]), (product.backward, shape[0])):
        x = drawn(300, width, dtype=dtype, seed=3)
        whole = multiply(x)
        for begin, end in [(0, 1), (299, 300), (5, 7), (0, 16), (17, 50), (100, 299)]:
            assert torch.equal(multiply(x[begin:end].contiguous()), whole[begin:end]), (begin, end)
        strange = x.clone()
        strange[:100] = float("nan")
        strange[200:] = float("inf")
        assert torch.equal(multiply(strange)[100:200], whole[100:200])


@each
@each_dtype
def test_a_result_is_new_memory_and_the_input_is_left_alone(name, dtype):
    """The LoRA layer adds its branch in place."""
    product = kernel_of(name, dtype).hold(drawn(32, 32, dtype=dtype), None)
    for rows in (1, 5):
        x = drawn(rows, 32, dtype=dtype, seed=3)
        before = x.clone()
        for multiply in (product.forward, product.backward):
            first = multiply(x)
            copy = first.clone()
            first.add_(1)
            assert torch.equal(multiply(x), copy)
            assert torch.equal(x, before)


@each
def test_what_it_says_it_holds_is_no_less_than_nothing(name):
    product = kernel_of(name, torch.float32).hold(drawn(64, 32), None)
    assert product.bytes in (0, 2 * 4 * 64 * 32)


@each
@each_dtype
@pytest.mark.parametrize("shape", [(3, 5, 33), (33,), (2, 1, 3, 33), (1, 33)], ids=str)
def test_in_autograd_it_is_a_linear_layer(name, dtype, shape):
    weight, bias = drawn(65, 33, dtype=dtype, seed=1) / 6, drawn(65, dtype=dtype, seed=2)
    product = kernel_of(name, dtype).hold(weight, bias)
    x = drawn(*shape, dtype=dtype, seed=3).requires_grad_()
    other = x.detach().clone().requires_grad_()
    y, right = frozen_product(x, product), F.linear(other, weight, bias)
    assert y.shape == right.shape
    above = drawn(*y.shape, dtype=dtype, seed=4)
    (y * above).sum().backward()
    (right * above).sum().backward()
    torch.testing.assert_close(y, right, rtol=BOUND[dtype], atol=BOUND[dtype])
    torch.testing.assert_close(x.grad, other.grad, rtol=BOUND[dtype], atol=BOUND[dtype])


@each
@each_dtype
@pytest.mark.parametrize("shape", [(3, 5, 33), (33,), (1, 33)], ids=str)
def test_in_forward_mode_it_is_a_linear_layer(name, dtype, shape):
    weight, bias = drawn(65, 33, dtype=dtype, seed=1) / 6, drawn(65, dtype=dtype, seed=2)
    product = kernel_of(name, dtype).hold(weight, bias)
    x, change = drawn(*shape, dtype=dtype, seed=3), drawn(*shape, dtype=dtype, seed=4)
    with torch.no_grad(), forward_ad.dual_level():
        y, tangent = forward_ad.unpack_dual(frozen_product(forward_ad.make_dual(x, change), product))
    torch.testing.assert_close(y, F.linear(x, weight, bias), rtol=BOUND[dtype], atol=BOUND[dtype])
    torch.testing.assert_close(tangent, F.linear(change, weight), rtol=BOUND[dtype], atol=BOUND[dtype])


@each
def test_gradients_that_lie_across_memory(name):
    """What comes from above may be a transposed view, or one number expanded."""
    weight = drawn(6, 4, seed=1)
    product = kernel_of(name, torch.float32).hold(weight, None)
    for reduce in (lambda y: y.sum(), lambda y: (y.T @ drawn(5, 3, seed=2)).square().sum()):
        x = drawn(5, 4, seed=3).requires_grad_()
        other = x.detach().clone().requires_grad_()
        reduce(frozen_product(x, product)).backward()
        reduce(other @ weight.T).backward()
        torch.testing.assert_close(x.grad, other.grad)


@each
@each_dtype
def test_under_vmap_each_client_gets_its_own_rows_bit_by_bit(name, dtype):
    product = kernel_of(name, dtype).hold(drawn(64, 32, dtype=dtype, seed=1), drawn(64, dtype=dtype, seed=2))
    x, scale = drawn(4, 5, 6, 32, dtype=dtype, seed=3), drawn(4, 32, dtype=dtype, seed=4).requires_grad_()
    y = vmap(lambda part, own: frozen_product(part * own, product))(x, scale)
    y.float().square().sum().backward()
    alone = scale.detach().clone().requires_grad_()
    for k in range(4):
        single = frozen_product(x[k] * alone[k], product)
        assert torch.equal(single, y[k])
        single.float().square().sum().backward()
    torch.testing.assert_close(scale.grad, alone.grad, rtol=BOUND[dtype], atol=10 * BOUND[dtype])


@each
def test_under_vmap_along_any_axis(name):
    product = kernel_of(name, torch.float32).hold(drawn(8, 32, seed=1), None)
    x = drawn(5, 3, 32, seed=3)
    y = vmap(lambda part: frozen_product(part, product), in_dims=1)(x)
    torch.testing.assert_close(y, frozen_product(x.transpose(0, 1), product))
