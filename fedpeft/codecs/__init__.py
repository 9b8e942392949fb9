"""Vectors to bytes and back: one codec a file, error feedback around any of them, and the versioned downlink."""

from fedpeft.codecs.base import Codec, CodedCodec, MalformedPayload

__all__ = ["Codec", "CodedCodec", "MalformedPayload"]
