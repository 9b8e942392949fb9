"""Vectors to bytes and back: one codec a file, error feedback around any of them, and the versioned downlink."""

from fedpeft.codecs.base import Codec, CodedCodec, LayoutCodec, MalformedPayload, UplinkCodec, fitted

__all__ = ["Codec", "CodedCodec", "LayoutCodec", "MalformedPayload", "UplinkCodec", "fitted"]
