"""A node's connection to a SuperLink: Flower's own, as a SuperNode makes it, one message at a time.

A SuperNode keeps messages for an executor that fetches them through a second server. Here whoever holds the connection
takes the message itself, so one process can stand for several nodes, opens no port, and never runs code that it is
sent: the app bundle of a run is not even fetched.
"""

from __future__ import annotations

import ssl
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from logging import WARNING
from typing import Any, NoReturn

import httpx
from cryptography.hazmat.primitives.asymmetric import ec
from flwr.app import Message
from flwr.proto.heartbeat_pb2 import SendNodeHeartbeatRequest, SendNodeHeartbeatResponse
from flwr.supercore import log
from flwr.supercore.inflatable.inflatable_object import (
    get_all_nested_objects,
    get_object_tree,
    no_object_id_recompute,
)
from flwr.supercore.inflatable.inflatable_utils import pull_and_inflate_object_from_tree, push_objects
from flwr.supercore.run import RunNotRunningException
from flwr.supercore.task_identity import TaskIdentity
from flwr.supernode import fleet_http_connection
from flwr.supernode.fleet_http_client import FleetHttpClient

from fedpeft.errors import RoundError
from fedpeft.flower.compat import ON_ITS_WAY_S, check_version, set_message_id
from fedpeft.flower.compat.waiting import Stopped, Waiting, not_known, tls_error, waits_as

NODE_REFUSED = "engine.node-refused"
"""Code of the error of a node that the SuperLink does not take."""

REFUSED_FOR_S = 60.0
"""Seconds for which a SuperLink takes a node that vanished to be alive, and refuses another in its place: two
heartbeats of 30 s, which Flower has no setting for."""


@dataclass(frozen=True)
class SuperLink:
    """Where a SuperLink is, and how to know that it is the right one."""

    address: str  # host:port
    root_certificates: bytes | None = None  # PEM, of who signed its certificate; None: whom this machine trusts
    insecure: bool = False  # without TLS


class _Refused(Exception):
    """The SuperLink refuses a node; holds the reason."""


def _refuse(code: int, message: str, *_: Any) -> NoReturn:
    raise _Refused(" ".join(message.split()))


setattr(fleet_http_connection, "flwr_exit", _refuse)  # noqa: B010 - it would end this process, whatever it is


class _Client(FleetHttpClient):
    """Flower's. A heartbeat that is refused counts as one that did not arrive, and is sent again: at a 401 Flower would
    send SIGINT to the process, at another status, or where the node is taken off the books while its heartbeat is
    looked at, the heartbeats would end with a traceback. Who asks for messages hears of all three."""

    def SendNodeHeartbeat(self, request: SendNodeHeartbeatRequest) -> SendNodeHeartbeatResponse:
        try:
            response = super().SendNodeHeartbeat(request)
        except httpx.HTTPStatusError as error:
            raise httpx.TransportError(str(error)) from error
        if not response.success:
            raise httpx.TransportError("the SuperLink does not know this node")
        return response


setattr(fleet_http_connection, "FleetHttpClient", _Client)  # noqa: B010 - the connection takes none


class NodeConnection:
    """A node that a SuperLink knows.

    Args:
        node_id: the SuperLink's.
        calls: those that Flower's connection yields behind it.
        close: end the connection and its heartbeats; a second time does nothing.
    """

    def __init__(self, node_id: int, calls: Sequence[Any], close: Callable[[], None] = lambda: None) -> None:
        self.node_id = node_id
        self.close = close
        self._receive, self._send, _, _, self._pull_object, self._push_object, self._confirm = calls

    def pull(self) -> Message | None:
        """The next message for this node; None when there is none, or none that can be read.

        Raises:
            RoundError: the SuperLink does not take this node any more (code `engine.node-refused`).
            Exception: of the connection, e.g. of TLS.
        """
        try:
            received = self._receive()
            if received is None:
                return None
            head, tree = received
            run_id = head.metadata.run_id
            message = pull_and_inflate_object_from_tree(
                tree,
                lambda name: self._pull_object(run_id, name),
                lambda name: self._confirm(run_id, name),
                return_type=Message,
                initial_backoff=ON_ITS_WAY_S,
            )
        except RunNotRunningException:  # it ended meanwhile: nobody waits for an answer
            return None
        except Exception as error:
            self._without("a message could not be read", error)
            return None
        set_message_id(message, tree.object_id)
        TaskIdentity.task_id, TaskIdentity.run_id, TaskIdentity.node_id = 1, run_id, self.node_id
        return message

    def push(self, reply: Message, seconds: float) -> None:
        """Send a reply; one that the SuperLink does not take is lost, and a line in the log.

        Args:
            reply: to a message that was pulled here.
            seconds: that it took, for the SuperLink's books.

        Raises:
            Exception: as `pull`.
        """
        run_id = reply.metadata.run_id
        set_message_id(reply, reply.object_id)
        with no_object_id_recompute():
            tree, objects = get_object_tree(reply), get_all_nested_objects(reply)
            try:
                missing, session = self._send(reply, tree, seconds)
                push_objects(
                    objects,
                    lambda name, content: self._push_object(run_id, session, name, content),
                    object_ids_to_push=missing,
                )
            except RunNotRunningException:
                return
            except Exception as error:
                self._without("an answer could not be sent", error)

    def _without(self, what: str, error: Exception) -> None:
        """Go on without one message: it is this node's, and the process may stand for others.

        Raises:
            RoundError: the SuperLink does not take this node any more.
            Exception: the error itself, if it is of the connection and would be met again.
        """
        if not_known(error):
            raise RoundError(
                f"the SuperLink refuses node {self.node_id}: its key is not registered, or this machine's clock is off",
                code=NODE_REFUSED,
                allowed="a registered key, and a clock that is right within five minutes",
                remedy="look at flwr supernode list; register the key or set the clock, and start again",
            ) from error
        if isinstance(error, (httpx.TransportError, ssl.SSLError, _Refused)):
            raise error
        log(WARNING, "node %s: %s: %s: %s", self.node_id, what, type(error).__name__, error)


@contextmanager
def connect(
    superlink: SuperLink,
    key: ec.EllipticCurvePrivateKey | None,
    *,
    patience_s: float = 0.0,
    stopped: threading.Event | None = None,
) -> Iterator[NodeConnection]:
    """Be a node of a SuperLink; its heartbeats are sent as long as the context lasts.

    Args:
        superlink: where it is.
        key: of the node, registered with the SuperLink; None makes one, which a SuperLink that authenticates its nodes
            refuses, and registers it for as long as the context lasts.
        patience_s: seconds to go on asking while the SuperLink refuses, e.g. since it takes a node that was killed to
            be alive still. A SuperLink that is not there at all is waited for without end.
        stopped: ends every wait, those for a SuperLink that went away later too.

    Raises:
        RoundError: the SuperLink refuses the node, or TLS fails.
        Stopped: `stopped` was set in a wait.
    """
    check_version()
    stopped = threading.Event() if stopped is None else stopped
    deadline: float | None = None  # counted from the first refusal: before, the SuperLink may not be there yet
    while not stopped.is_set():
        connection = fleet_http_connection.http_request_response(
            superlink.address,
            superlink.insecure,
            superlink.root_certificates,
            None if key is None else (key, key.public_key()),
        )
        try:
            with waits_as(Waiting(superlink.address, superlink.insecure, stopped)):
                node_id, *calls = connection.__enter__()
            break
        except _Refused as error:
            if tls_error(error) is not None:  # it will not be better for waiting
                raise _no_tls(superlink, error) from error
            deadline = time.monotonic() + patience_s if deadline is None else deadline
            if time.monotonic() >= deadline:
                raise RoundError(
                    f"the SuperLink at {superlink.address} refuses this node: {error}",
                    code=NODE_REFUSED,
                    allowed="a public key that is registered (flwr supernode register KEY.pub), and a clock that is "
                    "right within five minutes",
                    remedy=f"register it or set the clock; a node that was killed is refused for {REFUSED_FOR_S:g} s",
                ) from error
            stopped.wait(1.0)
    else:
        raise Stopped
    node = NodeConnection(node_id, calls, lambda: _leave(connection))
    try:
        yield node
    finally:
        node.close()


def _leave(connection: AbstractContextManager[Any]) -> None:
    connection.__exit__(None, None, None)  # never with the error: Flower's connection would swallow it


def _no_tls(superlink: SuperLink, error: Exception) -> RoundError:
    if "CERTIFICATE_VERIFY_FAILED" in str(error):
        remedy = "--root-certificates with the certificate of who signed the SuperLink's, for the host that you name"
    else:
        remedy = "--insecure if it was started so, on one machine only; else look at its port and certificate"
    return RoundError(
        f"no TLS with the SuperLink at {superlink.address}: {error}",
        code="engine.tls",
        allowed="a SuperLink that speaks TLS, with a certificate that is trusted here",
        remedy=remedy,
    )
