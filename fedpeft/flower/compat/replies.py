"""Replies that cannot be read, of a SuperLink's Grid: each costs its sender the answer, and nobody else theirs.

A node may push any bytes as an object of its reply. Flower's Grid inflates the replies of all nodes in one call, after
it has told the SuperLink that it has them: what one raises there would lose the others too. Here it becomes the error
reply of that one.
"""

from __future__ import annotations

from typing import Any

from flwr.app import Error, Message, Metadata
from flwr.app.message import make_message
from flwr.common.constant import ErrorCode
from flwr.supercore.constant import SYSTEM_MESSAGE_TYPE
from flwr.supercore.inflatable.inflatable_utils import inflate_object_from_contents
from flwr.supercore.runtime import RuntimeHttpClient
from flwr.superlink.grid import http_grid

_ASKED: dict[str, tuple[str, int]] = {}  # id of a reply of the last pull -> of the message that it answers; run
_pull = RuntimeHttpClient.PullMessages


def _pull_noted(client: RuntimeHttpClient, request: Any) -> Any:
    found = _pull(client, request)
    _ASKED.clear()
    for about in (one.metadata for one in found.messages_list):
        _ASKED[about.message_id] = about.reply_to_message_id, about.run_id
    return found


def inflated(message_id: str, contents: dict[str, bytes]) -> Message:
    """The message of these objects; where they make none, the error reply to what it claims to answer."""
    try:
        found = inflate_object_from_contents(message_id, contents)
        if not isinstance(found, Message):
            raise TypeError(f"it is a {type(found).__name__}, not a Message")
        return found
    except Exception as error:  # whatever a stranger's bytes raise in protobuf or in Flower's own classes
        asked, run_id = _ASKED.get(message_id, ("", 0))
        reason = f"the reply cannot be read: {type(error).__name__}: {error}"
        about = Metadata(run_id, "", 0, 0, asked, "", 0.0, 0.0, SYSTEM_MESSAGE_TYPE)
        return make_message(metadata=about, error=Error(ErrorCode.MESSAGE_UNAVAILABLE, reason))


def apart(grid: object) -> None:
    """See to it that the replies of a SuperLink's Grid are read one by one; nothing to do for any other."""
    if isinstance(grid, http_grid.HttpGrid):
        setattr(RuntimeHttpClient, "PullMessages", _pull_noted)  # noqa: B010 - a Grid has no place for either
        setattr(http_grid, "inflate_object_from_contents", inflated)  # noqa: B010
