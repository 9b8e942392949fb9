"""Some nodes of a SuperLink served by one process: the ClientApp and its base model stay loaded between messages.

Flower's SuperNode is one client, and starts a new process for every message that it gets. The same ClientApp answers
here, in the process that holds the connections; messages that have arrived for several nodes can be trained together.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from logging import ERROR, WARNING
from typing import TYPE_CHECKING

from flwr.app import Context, Error, Message, RecordDict
from flwr.clientapp import ClientApp
from flwr.supercore import log

from fedpeft.errors import ClientFault, RoundError
from fedpeft.flower.envelope import unpack
from fedpeft.types import ClientId

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric import ec

    from fedpeft.flower.compat.node import NodeConnection, SuperLink

_CLIENT_APP_RAISED = 2
"""Flower's code of an error reply."""


@contextmanager
def connected(
    superlink: SuperLink,
    keys: Mapping[ClientId, ec.EllipticCurvePrivateKey | None],
    *,
    patience_s: float,
    stopped: threading.Event | None = None,
) -> Iterator[dict[ClientId, NodeConnection]]:
    """A connection for each client, under its own key.

    Args:
        superlink: where it is.
        keys: of the clients' nodes, registered with it; None where it takes anybody.
        patience_s: seconds to go on asking while it refuses a node.
        stopped: ends every wait for it.

    Raises:
        RoundError: it refuses one of them.
        Stopped: `stopped` was set in a wait.
    """
    from fedpeft.flower.compat.node import connect

    with ExitStack() as stack:
        yield {
            client: stack.enter_context(connect(superlink, key, patience_s=patience_s, stopped=stopped))
            for client, key in keys.items()
        }


def serve_nodes(
    app: ClientApp,
    nodes: Mapping[ClientId, NodeConnection],
    stopped: threading.Event,
    *,
    poll_s: float,
    train_ahead: Callable[[Sequence[tuple[ClientId, bytes]]], None] = lambda requests: None,
) -> None:
    """Answer what comes for the nodes until `stopped` is set; a message that has been taken is answered before.

    Args:
        app: answers messages; its context's node configuration is `{"client": ...}`.
        nodes: connections by client.
        stopped: ends the service.
        poll_s: seconds between two looks that found nothing.
        train_ahead: called with the (client, frame) pairs of `train` messages that came together.

    A node that the SuperLink does not take any more is left out, with a line in the log.

    Raises:
        RoundError: it takes none of them any more.
    """
    served = dict(nodes)
    while not stopped.is_set():
        taken: list[tuple[ClientId, Message]] = []
        for client, node in list(served.items()):
            with _left_out_if_refused(client, served):
                message = node.pull()
                taken += [] if message is None else [(client, message)]
        if not taken:
            stopped.wait(poll_s)
            continue
        started = time.monotonic()
        training = [(client, frame) for client, message in taken if (frame := _training_frame(message)) is not None]
        if len(training) > 1:
            train_ahead(training)
        for client, message in taken:
            reply = answer(app, client, served[client].node_id, message)
            with _left_out_if_refused(client, served):
                served[client].push(reply, (time.monotonic() - started) / len(taken))


@contextmanager
def _left_out_if_refused(client: ClientId, served: dict[ClientId, NodeConnection]) -> Iterator[None]:
    """Go on without a client whose node is refused: it costs none of the others their service.

    Raises:
        RoundError: there is no other.
    """
    try:
        yield
    except RoundError as error:
        error.locate(f"client {client}")
        node = served.pop(client)
        if not served:
            raise
        log(ERROR, "%s; it is served no more, others are: %s", error.message, ", ".join(served))
        node.close()


def answer(app: ClientApp, client: ClientId, node_id: int, message: Message) -> Message:
    """The ClientApp's reply, or the error reply that Flower gives in its place."""
    context = Context(message.metadata.run_id, node_id, {"client": client}, RecordDict(), {})
    try:
        return app(message, context)
    except ClientFault as fault:
        log(WARNING, "client %s: %s", client, fault.message)
        return Message(Error(_CLIENT_APP_RAISED, fault.message), reply_to=message)
    except Exception as error:  # it costs this client its answer, and no other node its service
        log(WARNING, "client %s: %s: %s", client, type(error).__name__, error)
        return Message(Error(_CLIENT_APP_RAISED, f"{type(error).__name__}: {error}"), reply_to=message)


def _training_frame(message: Message) -> bytes | None:
    """None where there is none; whoever answers the message says so."""
    if message.metadata.message_type.split(".")[0] != "train":
        return None
    try:
        return unpack(message)
    except ClientFault:
        return None
