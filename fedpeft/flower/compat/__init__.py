"""The only folder that touches Flower's internals, and the versions they were checked with.

Flower moves its internals every few weeks. What we need of them is small, and each file holds one kind of it:

    here        an identity without which `Message` refuses to be built outside a Flower process, a message's id, and
                the wire format, to count its bytes
    virtual     Flower's simulation runtime: virtual nodes whose messages are answered by actors on Ray
    superlink   what an operator of a SuperLink does: register a node's key, start a run
    replies     replies of a SuperLink's nodes, read one by one
    task        the ServerApp's half of a run, in a process of our own
    node        a node's connection to a SuperLink
    waiting     how that connection waits for a SuperLink that is away

When a symbol moves, the tests of these files fail by name.
"""

from __future__ import annotations

from importlib.metadata import version

from flwr.app import Message, MessageType, RecordDict
from flwr.supercore.inflatable.inflatable_object import (
    get_all_nested_objects,
    get_object_id,
    no_object_id_recompute,
)
from flwr.supercore.inflatable.inflatable_utils import inflate_object_from_contents
from flwr.supercore.run import Run
from flwr.supercore.task_identity import TaskIdentity

from fedpeft.errors import ConfigError

SUPPORTED = (1, 41)
"""Flower's (major, minor) that the internals below were checked with."""


ON_ITS_WAY_S = 0.02
"""Seconds before an object of a message is asked for again that its sender is still pushing; Flower waits for a whole
one. Who looks often meets messages before their last object: eight times in a run of three rounds and four clients."""


def check_version() -> str:
    """The installed version of Flower.

    Raises:
        ConfigError: it is not the supported minor version.
    """
    installed = version("flwr")
    if tuple(int(part) for part in installed.split(".")[:2]) != SUPPORTED:
        wanted = ".".join(map(str, SUPPORTED))
        raise ConfigError(
            f"Flower {installed} is installed, fedpeft needs {wanted}.x",
            code="flower.version",
            allowed=f"flwr>={wanted},<{SUPPORTED[0]}.{SUPPORTED[1] + 1}",
            remedy=f"pip install 'flwr~={wanted}.0'",
        )
    return installed


def assume_identity(run_id: int) -> None:
    """Give this process the identity that Flower sets in its own processes."""
    TaskIdentity.task_id, TaskIdentity.run_id, TaskIdentity.node_id = 1, run_id, 1


def ensure_identity() -> None:
    """As `assume_identity`, unless this process has an identity already."""
    if getattr(TaskIdentity, "_run_id", None) is None:
        assume_identity(1)


def reply(content: RecordDict, node: int) -> Message:
    """A node's reply to a message that was never sent."""
    asked = Message(RecordDict(), dst_node_id=node, message_type=MessageType.TRAIN)
    set_message_id(asked, f"{node:x}")
    return Message(content, reply_to=asked)


def empty_run(run_id: int) -> Run:
    """A run description for a Grid that no SuperLink stands behind."""
    return Run.create_empty(run_id)


def set_message_id(message: Message, message_id: str) -> None:
    """Give a message the id that a SuperLink would give it."""
    message.metadata.__dict__["_message_id"] = message_id


def through_wire(message: Message) -> tuple[Message, int]:
    """Deflate a message to Flower's wire objects and inflate it again.

    Returns:
        the message as the other side gets it, and the bytes of all its objects.
    """
    message_id = message.metadata.message_id
    object_id, contents = _deflated(message)
    count = sum(map(len, contents.values()))  # before Flower takes the contents apart
    received = inflate_object_from_contents(object_id, contents)
    assert isinstance(received, Message)
    set_message_id(received, message_id)
    return received, count


def wire_bytes(message: Message) -> int:
    """The bytes of all objects of a message on Flower's wire."""
    return sum(map(len, _deflated(message)[1].values()))


def _deflated(message: Message) -> tuple[str, dict[str, bytes]]:
    """The id of a message as an object, and all its objects by id."""
    with no_object_id_recompute():
        # The message itself is deflated here and not by asking for its id, which would deflate it a second time.
        nested = get_all_nested_objects(message.content) if message.has_content() else {}
        contents = {key: part.deflate() for key, part in nested.items()}
        whole = message.deflate()
        object_id = get_object_id(whole)
        contents[object_id] = whole
    return object_id, contents
