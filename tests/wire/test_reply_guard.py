"""The frame guard: a reply that answers something else is refused, and says what was expected."""

from dataclasses import replace

import pytest

from fedpeft.errors import ClientFault
from fedpeft.types import ClientId
from fedpeft.wire import Frame, FrameKind, check_reply

REPLY = Frame(FrameKind.UPDATE, "demo", 3, 1, ClientId("c07"))
ASKED = {"expect": FrameKind.UPDATE, "run": "demo", "round": 3, "attempt": 1, "client": ClientId("c07")}


def test_the_answer_to_what_was_asked_passes():
    check_reply(REPLY, **ASKED)


@pytest.mark.parametrize(
    ("field", "value", "shown", "wanted"),
    [
        ("kind", FrameKind.EVALUATION, "'evaluation'", "'update'"),
        ("kind", FrameKind.TRAIN, "'train'", "'update'"),
        ("run", "demo-2", "'demo-2'", "'demo'"),
        ("round", 2, "2", "3"),
        ("attempt", 0, "0", "1"),
        ("client", ClientId("c08"), "'c08'", "'c07'"),
        ("client", ClientId(""), "''", "'c07'"),
    ],
)
def test_another_answer_is_refused(field, value, shown, wanted):
    with pytest.raises(ClientFault) as caught:
        check_reply(replace(REPLY, **{field: value}), **ASKED)
    fault = caught.value
    assert fault.code == "wire.unexpected"
    assert fault.message == f"client c07: the reply has {field} {shown}, asked was {wanted}"
    assert fault.allowed == f"{field} {wanted}"


def test_hello_has_no_client_yet():
    hello = Frame(FrameKind.HELLO_REPLY, "demo", 0, 0, ClientId(""))
    asked = {"expect": FrameKind.HELLO_REPLY, "run": "demo", "round": 0, "attempt": 0, "client": ClientId("")}
    check_reply(hello, **asked)
    with pytest.raises(ClientFault, match="client not named yet: the reply has run"):
        check_reply(replace(hello, run="other"), **asked)
