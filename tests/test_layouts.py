"""Layouts: tensors in name order, a digest of names and shapes, and parts of names that stand for tensors."""

import hashlib

import pytest

from fedpeft.errors import ModelError
from fedpeft.layouts import make_layout, named

LAYOUT = make_layout(
    {"b.lora_B.weight": (3, 2), "a.lora_A.weight": (2, 3), "a.lora_B.weight": (4, 2), "head.bias": (3,)}
)


def test_the_digest_depends_on_names_and_shapes_only():
    layout = make_layout({"b": (2,), "a": (1, 3)})
    assert layout.digest == hashlib.sha256(b"a:1,3;b:2;").hexdigest()
    assert layout == make_layout({"a": (1, 3), "b": (2,)})
    assert layout.digest != make_layout({"a": (3, 1), "b": (2,)}).digest
    assert layout.digest != make_layout({"a": (1, 3), "c": (2,)}).digest


@pytest.mark.parametrize("part", ["lora_B", "a.lora_B", "b.lora_B.weight"])
def test_a_part_is_whole_names_between_dots(part):
    assert named(LAYOUT, [part], "private") <= {"a.lora_B.weight", "b.lora_B.weight"}
    assert named(LAYOUT, ["head", part], "private") == {"head.bias"} | named(LAYOUT, [part], "private")


def test_a_part_that_no_tensor_has_names_those_that_there_are():
    with pytest.raises(ModelError, match=r'no trained tensor has "lora_C" in its name, as adapter\.frozen') as error:
        named(LAYOUT, ["lora_C"], "frozen")
    assert "lora_A" in error.value.allowed
    assert error.value.code == "adapter.not-frozen"
