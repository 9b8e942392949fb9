"""The vocabulary of events and what a payload may hold."""

from __future__ import annotations

import json
import re

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fedpeft.errors import JournalError
from fedpeft.journal.events import EventKind, encode_payload


def test_every_kind_has_a_row_in_the_table():
    rows = re.findall(r"^\s+([a-z_]+)\s+[r-][a-]?[c-]?-*\s", EventKind.__doc__ or "", flags=re.MULTILINE)
    assert rows == [kind.value for kind in EventKind]


values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)


@given(st.dictionaries(st.text(), values, max_size=4))
def test_a_payload_comes_back_as_it_was(payload):
    assert json.loads(encode_payload(EventKind.ASKED, payload)) == payload


@pytest.mark.parametrize(
    "value",
    [
        float("nan"),
        float("inf"),
        [1.0, {"deep": -float("inf")}],
        np.float32(1.0),
        np.zeros(2),
        b"bytes",
        {1, 2},
    ],
    ids=["nan", "inf", "nested", "numpy scalar", "array", "bytes", "set"],
)
def test_a_value_that_is_not_finite_json_is_refused_by_its_key(value):
    with pytest.raises(JournalError, match=r"event evaluated: loss = ") as caught:
        encode_payload(EventKind.EVALUATED, {"accuracy": 0.5, "loss": value})
    assert caught.value.code == "journal.payload"


def test_a_payload_that_holds_itself_is_refused():
    endless: list[object] = []
    endless.append(endless)
    with pytest.raises(JournalError, match="reason"):
        encode_payload(EventKind.FAILED, {"reason": endless})  # type: ignore[dict-item]
