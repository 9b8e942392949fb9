"""The frame guard: is this the answer to what was asked?"""

from __future__ import annotations

from fedpeft.errors import ClientFault
from fedpeft.types import ClientId
from fedpeft.wire.frame import Frame, FrameKind


def check_reply(frame: Frame, *, expect: FrameKind, run: str, round: int, attempt: int, client: ClientId) -> None:
    """Refuse a reply that answers something else.

    Args:
        frame: decoded.
        expect: the kind of reply that was asked for.
        run: the run's name.
        round: that was asked about.
        attempt: that was asked about.
        client: that was asked; empty for a hello, whose answer says in its `info` who it is.

    Raises:
        ClientFault: code `wire.unexpected`; names the client, the field, its value and what was expected.
    """
    expected: dict[str, str | int] = {"kind": expect, "run": run, "round": round, "attempt": attempt, "client": client}
    for name, wanted in expected.items():
        value = getattr(frame, name)
        if value != wanted:
            raise ClientFault(
                f"client {client or 'not named yet'}: the reply has {name} {_shown(value)}, asked was {_shown(wanted)}",
                code="wire.unexpected",
                allowed=f"{name} {_shown(wanted)}",
            )


def _shown(value: str | int) -> str:
    return repr(str(value)) if isinstance(value, str) else str(value)
