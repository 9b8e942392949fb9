"""File plug-ins in frames: those that were published are told by content, and nothing is read for a name that came."""

from dataclasses import replace

import pytest

from fedpeft.types import ClientId, Plan
from fedpeft.wire import Frame, FrameKind, FrameLimits, decode_frame, encode_frame
from fedpeft.wire import files as files_module
from fedpeft.wire.files import publish
from fedpeft.wire.sections import Section

LIMITS = FrameLimits(max_body_bytes=1000)
PLAN = Plan("run", 1, 1, ClientId("c00"), seed=1, steps=1, batch_size=1, learning_rate=0.1)


@pytest.fixture(autouse=True)
def _forget(monkeypatch):
    monkeypatch.setattr(files_module, "_BY_CONTENT", {})


def sent(*sections, **plan):
    frame = Frame(FrameKind.TRAIN, "run", 1, 1, ClientId("c00"), plan=replace(PLAN, **plan), sections=sections)
    return decode_frame(encode_frame(frame), LIMITS)


def test_what_was_published_is_told_by_content(tmp_path):
    (tmp_path / "own.py").write_text("class Mine:\n    pass\n")
    name = f"{tmp_path}/own.py:Mine"
    publish("codec", name)
    publish("codec", "int8")
    for frame in (sent(codec=name), sent(auxiliary=name), sent(optimizer=name), sent(importance=name)):
        (told,) = frame.files.items()
        assert told[0] == name
        assert told[1].startswith("own.py:Mine#")
    assert list(sent(Section("c", name, b"")).files) == [name]
    assert sent(codec="int8").files == {}


def test_no_file_is_run_for_a_name_that_was_not_published(tmp_path):
    (tmp_path / "own.py").write_text("raise SystemExit('a file was run')")
    assert sent(codec=f"{tmp_path}/own.py:Mine").files == {}
