"""A SuperLink that is away, or speaks otherwise: what is said, and that the wait ends when it is told to."""

from __future__ import annotations

import logging
import socket
import ssl
import threading
from contextlib import contextmanager

import pytest

from fedpeft.errors import RoundError
from fedpeft.flower.compat.node import SuperLink, connect
from fedpeft.flower.compat.waiting import Stopped, Waiting
from fedpeft.simulation.engines.credentials import make_credentials
from fedpeft.simulation.engines.household import free_port

LIMIT_S = 30.0
"""For what takes far less."""


class Log(logging.Handler):
    """Flower's, as it is written; calls `on_line` after each line."""

    def __init__(self, on_line):
        super().__init__()
        self.lines = []
        self._on_line = on_line

    def emit(self, record):
        self.lines.append(record.getMessage())
        self._on_line()


@pytest.fixture
def stopped():
    return threading.Event()


@pytest.fixture
def log(stopped):
    """What is logged; the first line ends the wait."""
    handler = Log(stopped.set)
    logging.getLogger("flwr").addHandler(handler)
    yield handler.lines
    logging.getLogger("flwr").removeHandler(handler)


@contextmanager
def listening(answer):
    """Somebody who listens on a port of loopback, and answers all who come; yields the address."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        server.settimeout(LIMIT_S)

        def serve():
            try:
                while True:
                    connection, _ = server.accept()
                    with connection:
                        connection.settimeout(LIMIT_S)
                        if not connection.recv(4096):
                            return
                        answer(connection)
            except OSError:
                return

        thread = threading.Thread(target=serve)
        thread.start()
        address = server.getsockname()
        yield f"127.0.0.1:{address[1]}"
        socket.create_connection(address).close()
        thread.join(LIMIT_S)


def plain(connection):
    connection.sendall(b"HTTP/1.1 400 Bad Request\r\ncontent-length: 0\r\n\r\n")


def test_nobody_is_there(log, stopped):
    address = f"127.0.0.1:{free_port()}"
    with pytest.raises(Stopped), connect(SuperLink(address, insecure=True), None, stopped=stopped):
        pass
    assert len(log) == 1
    assert log[0].startswith(f"waiting for the SuperLink at {address}: ")
    assert "refused" in log[0]


def test_one_who_hangs_up_on_plain_text_may_want_tls(log, stopped):
    with (
        listening(lambda connection: None) as address,
        pytest.raises(Stopped),
        connect(SuperLink(address, insecure=True), None, stopped=stopped),
    ):
        pass
    assert "leave --insecure out" in log[0]


def test_one_who_hangs_up_in_the_middle_of_tls_is_waited_for(log, stopped):
    with (
        listening(lambda connection: None) as address,
        pytest.raises(Stopped),
        connect(SuperLink(address), None, stopped=stopped),
    ):
        pass
    assert "EOF" in log[0]
    assert "leave --insecure" not in log[0]


def test_tls_with_one_who_has_none_points_to_insecure():
    with (
        listening(plain) as address,
        pytest.raises(RoundError, match="no TLS with") as caught,
        connect(SuperLink(address), None, patience_s=60),
    ):
        pass
    assert (caught.value.code, "--insecure" in caught.value.remedy) == ("engine.tls", True)


def test_a_certificate_that_nobody_trusts_points_to_the_root_certificates(tmp_path):
    made = make_credentials(tmp_path / "theirs", [])
    other = make_credentials(tmp_path / "other", []).authority.read_bytes()
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(made.certificate, made.key)
    port = free_port()
    with socket.create_server(("127.0.0.1", port)) as server:

        def shake():
            connection, _ = server.accept()
            try:
                context.wrap_socket(connection, server_side=True).close()
            except OSError:
                connection.close()

        thread = threading.Thread(target=shake)
        thread.start()
        link = SuperLink(f"127.0.0.1:{port}", other)
        with pytest.raises(RoundError, match="CERTIFICATE_VERIFY_FAILED") as caught, connect(link, None, patience_s=60):
            pass
        thread.join(LIMIT_S)
    assert (caught.value.code, "--root-certificates" in caught.value.remedy) == ("engine.tls", True)


def test_each_time_that_it_is_away_is_told_once_and_its_return_too(log):
    waiting = Waiting("here:1", False, threading.Event())
    for happened in (waiting.back, *[lambda: waiting.away(OSError("gone"))] * 2, waiting.back, waiting.back):
        happened()
    waiting.away(TimeoutError())
    away = "waiting for the SuperLink at here:1"
    assert log == [f"{away}: gone", "the SuperLink at here:1 answers", f"{away}: TimeoutError"]
