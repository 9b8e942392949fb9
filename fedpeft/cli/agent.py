"""`fedpeft agent FILE`: be a node of a SuperLink for one client of a run, or for some, with the model loaded once."""

from __future__ import annotations

import math
import shlex
import signal
import ssl
import threading
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from fedpeft.cli.output import console
from fedpeft.errors import ConfigError

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric import ec

    from fedpeft.types import ClientId

PATIENCE_S = 90.0
"""A node that was killed is refused for 60 s: the SuperLink takes it for alive until then."""


def agent(
    file: Annotated[Path, typer.Argument(help="This device's copy of the run file.")],
    superlink: Annotated[str, typer.Option("--superlink", metavar="HOST:PORT", help="Where the SuperLink is.")],
    client: Annotated[
        list[str],
        typer.Option(
            "--client",
            metavar="NAME[=KEY]",
            help="A client of the run file, and its private key (ECDSA, OpenSSH); may be given often.",
        ),
    ],
    root_certificates: Annotated[
        Path | None,
        typer.Option("--root-certificates", help="PEM; default: the authorities that this machine trusts."),
    ] = None,
    insecure: Annotated[bool, typer.Option("--insecure", help="Without TLS: on one machine only.")] = False,
    state: Annotated[Path, typer.Option("--state", help="Folder for what the clients keep.")] = Path("~/.fedpeft"),
    poll: Annotated[float, typer.Option("--poll", min=0.01, help="Seconds between two looks for messages.")] = 3.0,
) -> None:
    """Serve clients of a run as nodes of a SuperLink, until SIGTERM or Ctrl-C."""
    _check_address(superlink)
    if not math.isfinite(poll):
        raise ConfigError(
            f"--poll {poll} is no number of seconds", code="config.poll", allowed="0.01 or more", remedy="e.g. --poll 3"
        )
    keys = _keys(client)
    if insecure and root_certificates is not None:
        raise ConfigError(
            f"--insecure contradicts --root-certificates {root_certificates}: without TLS nobody shows a certificate",
            code="config.certificates",
            allowed="one of the two",
            remedy="leave --insecure out",
        )
    certificates = None if root_certificates is None else _read(root_certificates)
    from fedpeft.flower.compat.node import SuperLink
    from fedpeft.simulation.deployed import serve_clients

    out, names = console(stderr=True), ", ".join(keys)
    serve_clients(
        file,
        keys,
        SuperLink(superlink, certificates, insecure),
        state,
        _until_told(),
        poll_s=poll,
        patience_s=PATIENCE_S,
        on_ready=lambda: out.print(f"serving {names} at {superlink}", soft_wrap=True),
    )


def _check_address(address: str) -> None:
    host, colon, port = address.rpartition(":")
    bare = host[1:-1] if host.startswith("[") and host.endswith("]") else host.replace(":", "/")
    if not (colon and bare and "/" not in bare and port.isascii() and port.isdigit() and 0 < int(port) < 2**16):
        raise ConfigError(
            f'--superlink "{address}" is not HOST:PORT',
            code="config.superlink",
            allowed="a name or an address and a port, e.g. fl.example.org:8000 or [::1]:8000; no https://",
            remedy="name host and port of the SuperLink",
        )


def _keys(pairs: list[str]) -> dict[ClientId, ec.EllipticCurvePrivateKey | None]:
    from fedpeft.simulation.engines.credentials import public_pem, read_node_key
    from fedpeft.types import ClientId

    keys: dict[ClientId, ec.EllipticCurvePrivateKey | None] = {}
    told: dict[str, str] = {}  # client, and public key -> the pair that brought it
    for pair in pairs:
        name, equals, path = pair.partition("=")
        key = read_node_key(_key_file(pair, path)) if equals else None
        for what, value in (("client", name), ("key", "" if key is None else public_pem(key).decode())):
            if value and value in told:
                raise _twice(what, told[value], pair)
            told[value] = pair
        keys[ClientId(name)] = key
    return keys


def _twice(what: str, first: str, second: str) -> ConfigError:
    return ConfigError(
        f"--client {first} and --client {second} name the same {what}",
        code="config.node-client" if what == "client" else "config.node-key",
        allowed="each client once, each with a key of its own: a node stands for one client",
        remedy="leave one of the two out" if what == "client" else "make a key for each: ssh-keygen -t ecdsa -b 384",
    )


def _key_file(pair: str, path: str) -> Path:
    file = Path(path).expanduser()
    if path and file.exists():
        return file
    raise ConfigError(
        f"--client {pair}: " + (f"the key file {file} does not exist" if path else "the path after = is empty"),
        code="config.node-key",
        allowed="NAME=KEY with the private key's file, or NAME alone: a key for as long as the agent lives",
        remedy=f"ssh-keygen -t ecdsa -b 384 -N '' -f {shlex.quote(str(file)) if path else 'FILE'}",
    )


def _read(path: Path) -> bytes:
    try:
        content = path.expanduser().read_bytes()
        ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT).load_verify_locations(cadata=content.decode("ascii"))
        return content
    except (OSError, ValueError) as error:  # an SSLError is an OSError
        reason = "it is no certificate" if isinstance(error, (ssl.SSLError, ValueError)) else error.strerror
        raise ConfigError(
            f"--root-certificates {path} cannot be read: {reason}",
            code="config.certificates",
            allowed="a PEM file with the certificate of who signed the SuperLink's",
            remedy="correct the path",
        ) from error


def _until_told() -> threading.Event:
    """Set by the first SIGTERM or SIGINT; the second one interrupts whatever is being done."""
    told = threading.Event()

    def hear(number: int, frame: Any) -> None:
        if told.is_set():
            raise KeyboardInterrupt
        told.set()

    signal.signal(signal.SIGTERM, hear)
    signal.signal(signal.SIGINT, hear)
    return told
