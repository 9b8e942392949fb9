"""What a frame may be at most, and the fault of bytes that are none. Both are here for all who read a part of one."""

from __future__ import annotations

from dataclasses import dataclass

from fedpeft.errors import ClientFault

REASON = 2000
"""Characters of a refusal's reason."""


@dataclass(frozen=True, slots=True)
class FrameLimits:
    """What a frame may be at most. Sizes in bytes, names in characters."""

    max_body_bytes: int
    max_header_bytes: int = 64 * 1024
    max_metrics: int = 64
    max_names: int = 256  # items of a list of names or versions
    max_name: int = 256
    max_reason: int = REASON
    max_sections: int = 16


def printable(text: str) -> str:
    """The text with a space for each character that is a control, a line break or half of a surrogate pair."""
    return "".join(c if c.isprintable() else " " for c in text)


class MalformedFrame(ClientFault):
    """Bytes that are not a frame, or a frame that claims what cannot be."""

    def __init__(self, what: str, message: str, allowed: str | None = None) -> None:
        super().__init__(f"malformed frame: {message}", code=f"wire.{what}", allowed=allowed)
