"""One message on the wire: the frame, its limits, and the guard that checks what a reply claims to answer."""

from fedpeft.wire.frame import Frame, FrameKind, FrameLimits, MalformedFrame, Refusal, decode_frame, encode_frame
from fedpeft.wire.guard import check_reply

__all__ = [
    "Frame",
    "FrameKind",
    "FrameLimits",
    "MalformedFrame",
    "Refusal",
    "check_reply",
    "decode_frame",
    "encode_frame",
]
