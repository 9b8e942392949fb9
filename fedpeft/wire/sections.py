"""Sections: further vectors in a frame's body, behind the one that the frame is about.

    body = main ‖ section 1 ‖ section 2 ...      the header tells each section's name, codec and bytes, in order

A strategy that sends more than an adapter (SCAFFOLD's control variate) needs no message kind of its own. The digest in
the header is over the whole body, and everything that the header claims of sections is checked before any is cut out.

>>> control = Section("c", "fp32", b"1234")
>>> cut(b"main1234", [("c", "fp32", 4)], FrameLimits(max_body_bytes=100)) == (b"main", (control,))
True
>>> cut(b"main1234", [("c", "fp32", 400)], FrameLimits(max_body_bytes=100))
Traceback (most recent call last):
fedpeft.wire.limits.MalformedFrame: malformed frame: sections of 400 bytes in a body of 8
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from fedpeft.wire.limits import FrameLimits, MalformedFrame


@dataclass(frozen=True, slots=True)
class Section:
    """One further vector, as its codec made it."""

    name: str  # distinct within a frame
    codec: str
    body: bytes


def cut(body: bytes, claims: Sequence[tuple[str, str, int]], limits: FrameLimits) -> tuple[bytes, tuple[Section, ...]]:
    """A body's first part and its sections.

    Args:
        body: of the frame.
        claims: name, codec and bytes of each section, in order; names are printable and within the limits.
        limits: `max_sections` counts here.

    Raises:
        MalformedFrame: too many sections, a name that is empty or there twice, more bytes than there are.
    """
    if not claims:
        return body, ()
    check_claims(claims, limits)
    total = sum(size for _, _, size in claims)
    if total > len(body):
        raise MalformedFrame("sections", f"sections of {total} bytes in a body of {len(body)}")
    place = len(body) - total
    main, sections = body[:place], []
    for name, codec, size in claims:
        sections.append(Section(name, codec, body[place : place + size]))
        place += size
    return main, tuple(sections)


def check_claims(claims: Sequence[tuple[str, str, int]], limits: FrameLimits) -> None:
    """What can be said of sections without the body; raises as `cut`."""
    if len(claims) > limits.max_sections:
        raise MalformedFrame("sections", f"{len(claims)} sections", allowed=f"at most {limits.max_sections}")
    names = [name for name, _, _ in claims]
    if len(set(names)) != len(names) or not all(names):
        distinct = len(set(names) - {""})
        raise MalformedFrame(
            "sections", f"{len(names)} sections of {distinct} names", allowed="a name of its own for each"
        )
