"""Sections of a body: there and back, and whatever a header may claim of them."""

import doctest

import pytest

from fedpeft.types import ClientId
from fedpeft.wire import Frame, FrameKind, FrameLimits, MalformedFrame, decode_frame, encode_frame, sections
from fedpeft.wire.frame import body_digest, decode_header
from fedpeft.wire.sections import Section, cut

LIMITS = FrameLimits(max_body_bytes=100, max_sections=3)
TWO = (Section("c", "fp32", b"1234"), Section("m", "int8", b""))


def update(body=b"main", sections=TWO):
    return Frame(FrameKind.UPDATE, "demo", 3, 1, ClientId("c07"), body=body, codec="int8", sections=sections)


def test_the_docstring_runs():
    failed, attempted = doctest.testmod(sections)
    assert (failed, attempted > 2) == (0, True)


def test_they_come_back_in_order_and_behind_the_body():
    data = encode_frame(update())
    assert decode_frame(data, LIMITS) == update()
    assert data.endswith(b"main1234")


def test_a_frame_without_any_has_the_bytes_that_it_always_had():
    plain = encode_frame(update(sections=()))
    assert plain.endswith(b"main")
    assert decode_frame(plain, LIMITS).sections == ()
    assert len(encode_frame(update(b"main", (Section("c", "", b""),)))) > len(plain)


def test_the_digest_is_over_all_of_them():
    data = encode_frame(update())
    with pytest.raises(MalformedFrame, match="not the one that the header was made for"):
        decode_frame(data[:-1] + b"5", LIMITS)
    assert encode_frame(update(), body_digest(b"main", TWO)) == data


def test_a_header_alone_has_none():
    assert decode_header(encode_frame(update()), LIMITS) == update(b"", ())


@pytest.mark.parametrize(
    ("claims", "message"),
    [
        ([("c", "", 9)], "sections of 9 bytes in a body of 8"),
        ([("c", "", 2**64 - 1)], "sections of 18446744073709551615 bytes in a body of 8"),
        ([("c", "", 4), ("m", "", 2**63)], "sections of 9223372036854775812 bytes in a body of 8"),
        ([("c", "", 1), ("c", "", 1)], "2 sections of 1 names"),
        ([("", "", 1)], "1 sections of 0 names"),
        ([(str(k), "", 0) for k in range(4)], "4 sections"),
    ],
)
def test_a_claim_that_cannot_be_is_refused(claims, message):
    with pytest.raises(MalformedFrame, match=message) as caught:
        cut(b"main1234", claims, LIMITS)
    assert caught.value.code == "wire.sections"


def test_a_section_may_take_the_whole_body():
    assert cut(b"main", [("c", "fp32", 4)], LIMITS) == (b"", (Section("c", "fp32", b"main"),))


def test_names_are_checked_as_all_names_are():
    with pytest.raises(MalformedFrame, match="name"):
        decode_frame(encode_frame(update(sections=(Section("a\nb", "", b""),))), LIMITS)
