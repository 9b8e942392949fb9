"""Keys and certificates for one run on one machine: an authority, the SuperLink's certificate, a key for each node.

Made anew at every start and valid for loopback only, so nothing has to be kept secret for longer than the run. What
Flower 1.41 takes: nodes sign with ECDSA on a NIST curve, P-384 here, and give their private key in OpenSSH's format.
"""

from __future__ import annotations

import ipaddress
import os
import secrets
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from fedpeft.errors import ConfigError
from fedpeft.types import ClientId

VALID = timedelta(days=365)
SKEW = timedelta(hours=1)
"""Certificates begin so long ago: a clock may be behind."""


@dataclass(frozen=True)
class Credentials:
    """Files in one folder that only its owner can read."""

    authority: Path  # PEM, certificate
    certificate: Path  # PEM, of the SuperLink, for localhost, 127.0.0.1 and ::1
    key: Path  # PEM, of the SuperLink
    secret: Path  # raw bytes, between the SuperLink and who may run the ServerApp
    nodes: dict[ClientId, Path]  # private keys, OpenSSH


def make_credentials(folder: Path, clients: Iterable[ClientId]) -> Credentials:
    """Write credentials for a run.

    Args:
        folder: created; what lies there under the same names is replaced.
        clients: each gets a key of its own.
    """
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    signer, server = ec.generate_private_key(ec.SECP384R1()), ec.generate_private_key(ec.SECP384R1())
    authority = _authority(signer)
    _write(folder / "ca.crt", authority.public_bytes(serialization.Encoding.PEM))
    _write(folder / "server.crt", _server(server, signer, authority).public_bytes(serialization.Encoding.PEM))
    _write(folder / "server.key", _private(server, serialization.PrivateFormat.PKCS8))
    _write(folder / "secret", secrets.token_bytes(48))
    nodes = {client: folder / f"{client}.key" for client in clients}
    for path in nodes.values():
        _write(path, _private(ec.generate_private_key(ec.SECP384R1()), serialization.PrivateFormat.OpenSSH))
    return Credentials(folder / "ca.crt", folder / "server.crt", folder / "server.key", folder / "secret", nodes)


def read_node_key(path: Path) -> ec.EllipticCurvePrivateKey:
    """A node's private key.

    Raises:
        ConfigError: the file cannot be read, or is no such key.
    """
    try:
        key = serialization.load_ssh_private_key(path.read_bytes(), password=None)
    except (OSError, ValueError, TypeError) as error:
        raise _no_key(path, str(error)) from error
    if not isinstance(key, ec.EllipticCurvePrivateKey):
        raise _no_key(path, f"it holds a {type(key).__name__}")
    return key


def public_pem(key: ec.EllipticCurvePrivateKey) -> bytes:
    """The public half, as a SuperLink registers it."""
    return key.public_key().public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)


def _no_key(path: Path, reason: str) -> ConfigError:
    return ConfigError(
        f"{path} is not a node's private key: {reason}",
        code="config.node-key",
        allowed="ECDSA on a NIST curve, in OpenSSH's format, without a passphrase",
        remedy=f"that is the public half: name {path.with_suffix('')}"
        if path.suffix == ".pub"
        else "name another file, or make a new key: ssh-keygen -t ecdsa -b 384 -N '' -f NEW.key",
    )


def _authority(key: ec.EllipticCurvePrivateKey) -> x509.Certificate:
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "fedpeft, one run on this machine")])
    return (
        _builder(name, name, key)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(_usage(signs_certificates=True), critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        .sign(key, hashes.SHA384())
    )


def _server(
    key: ec.EllipticCurvePrivateKey, signer: ec.EllipticCurvePrivateKey, authority: x509.Certificate
) -> x509.Certificate:
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "localhost")])
    places: list[x509.GeneralName] = [x509.DNSName("localhost")]
    places += [x509.IPAddress(ipaddress.ip_address(address)) for address in ("127.0.0.1", "::1")]
    return (
        _builder(name, authority.subject, key)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(_usage(signs_certificates=False), critical=True)
        .add_extension(x509.SubjectAlternativeName(places), critical=False)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(signer.public_key()), critical=False)
        .sign(signer, hashes.SHA384())
    )


def _builder(subject: x509.Name, issuer: x509.Name, key: ec.EllipticCurvePrivateKey) -> x509.CertificateBuilder:
    now = datetime.now(UTC)
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - SKEW)
        .not_valid_after(now + VALID)
    )


def _usage(*, signs_certificates: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=not signs_certificates,
        key_cert_sign=signs_certificates,
        crl_sign=signs_certificates,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        encipher_only=False,
        decipher_only=False,
    )


def _private(key: ec.EllipticCurvePrivateKey, form: serialization.PrivateFormat) -> bytes:
    return key.private_bytes(serialization.Encoding.PEM, form, serialization.NoEncryption())


def _write(path: Path, content: bytes) -> None:
    path.unlink(missing_ok=True)
    with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
        file.write(content)
