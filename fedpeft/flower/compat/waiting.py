"""How a node waits for a SuperLink that is away: without end, but it says so once and why, and ends when told to.

Flower's own wait asks nobody: a signal that only sets a flag would not be seen while it lasts. Its log names neither
the address nor the reason.
"""

from __future__ import annotations

import ssl
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from logging import INFO, WARNING

import httpx
from flwr.supercore import log
from flwr.supercore.retry import RetryInvoker, make_simple_http_retry_invoker
from flwr.supernode import fleet_http_connection


class Stopped(BaseException):
    """Somebody who waits for a SuperLink was told to stop.

    Not an `Exception`: those of a connection's start Flower takes for the SuperLink's refusal.
    """


class Waiting:
    """The wait of one connection.

    Args:
        address: of the SuperLink, for people.
        insecure: it is asked without TLS.
        stopped: ends the wait.
    """

    def __init__(self, address: str, insecure: bool, stopped: threading.Event) -> None:
        self._address = address
        self._insecure = insecure
        self._stopped = stopped
        self._said = False

    def away(self, error: BaseException | None) -> None:
        """An attempt failed: the first one in a row is told of."""
        if self._said:
            return
        self._said = True
        reason = str(error) or type(error).__name__
        if self._insecure and isinstance(error, (httpx.RemoteProtocolError, httpx.ReadError)):
            reason += "; something listens there: if it wants TLS, leave --insecure out"
        log(WARNING, "waiting for the SuperLink at %s: %s", self._address, reason)

    def back(self) -> None:
        """An attempt succeeded."""
        if self._said:
            log(INFO, "the SuperLink at %s answers", self._address)
        self._said = False

    def wait(self, seconds: float) -> None:
        """Between two attempts.

        Raises:
            Stopped: instead of the next one.
        """
        if self._stopped.wait(seconds):
            raise Stopped


_WAITING: ContextVar[Waiting] = ContextVar("_WAITING")


def not_known(error: BaseException) -> bool:
    """Whether the SuperLink refuses the node itself: its key is not, or no longer, registered, or its clock is off."""
    return isinstance(error, httpx.HTTPStatusError) and error.response.status_code == httpx.codes.UNAUTHORIZED


@contextmanager
def waits_as(waiting: Waiting) -> Iterator[None]:
    """A connection that is begun in here waits so, as long as it lasts."""
    before = _WAITING.set(waiting)
    try:
        yield
    finally:
        _WAITING.reset(before)


def tls_error(error: BaseException) -> ssl.SSLError | None:
    """The TLS library's error that another one came of."""
    cause: BaseException | None = error
    while cause is not None and not isinstance(cause, ssl.SSLError):
        cause = cause.__context__
    return cause


def _hung_up(error: Exception) -> bool:
    """Whether the other side only left, in the middle of TLS: a SuperLink that is being restarted, a proxy's hiccup."""
    return isinstance(tls_error(error), (ssl.SSLEOFError, ssl.SSLZeroReturnError))


def _invoker() -> RetryInvoker:
    """Flower's, with its rules of when it is tried again, and of what; but it gives up at every trouble with TLS.

    And where the node is not known: there Flower sends SIGINT to the process, which may stand for other nodes.
    """
    invoker, waiting = make_simple_http_retry_invoker(), _WAITING.get(None)
    if waiting is not None:
        gives_up = invoker.should_giveup or (lambda error: False)
        invoker.should_giveup = lambda error: not_known(error) or (not _hung_up(error) and gives_up(error))
        invoker.on_backoff = lambda state: waiting.away(state.exception)
        invoker.on_success = lambda state: waiting.back()
        invoker.on_giveup = None  # who asked gets the reason
        invoker.wait_function = waiting.wait
    return invoker


setattr(fleet_http_connection, "make_simple_http_retry_invoker", _invoker)  # noqa: B010 - the connection takes none
