"""One frame in one Flower message: a single `Array` of opaque bytes with our own `stype`.

Never one Array per tensor (each costs about 440 bytes and two objects) and never a large `bytes` in a ConfigRecord
(that is not chunked). Flower splits an Array at 5 MiB, so a frame may be of any size.
"""

from __future__ import annotations

from flwr.app import Array, ArrayRecord, Message, RecordDict

from fedpeft.errors import ClientFault

STYPE = "fedpeft/1"
_RECORD, _ARRAY = "f", "f"  # names travel too: keep them short


def pack(frame: bytes) -> RecordDict:
    """A frame as the content of a message."""
    arrays, content = ArrayRecord(), RecordDict()
    arrays[_ARRAY] = Array("uint8", (len(frame),), STYPE, frame)  # given to the constructor, it would be built twice
    content[_RECORD] = arrays
    return content


def unpack(message: Message) -> bytes:
    """The frame in a message.

    Raises:
        ClientFault: the content is not one Array of ours, or there is an error in its place.
    """
    if not message.has_content():
        raise _no_frame("an error")
    record = message.content.get(_RECORD)
    if not isinstance(record, ArrayRecord) or list(record) != [_ARRAY] or record[_ARRAY].stype != STYPE:
        raise _no_frame(f"{len(message.content)} records")  # their names may be of any length
    return record[_ARRAY].data


def _no_frame(held: str) -> ClientFault:
    return ClientFault(
        f"the message holds no frame, but {held}",
        code="flower.no-frame",
        allowed=f"one Array with stype {STYPE}",
        remedy="install the same fedpeft on both sides",
    )
