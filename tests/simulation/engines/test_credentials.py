"""Keys and certificates of one run: they work together, for loopback, and for nobody else."""

from __future__ import annotations

import socket
import ssl
import stat
import threading

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519

from fedpeft.errors import ConfigError
from fedpeft.simulation.engines.credentials import make_credentials, public_pem, read_node_key


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    return make_credentials(tmp_path_factory.mktemp("run") / "credentials", ["c00", "c01"])


def handshake(server, trusted, name):
    """A TLS handshake over a pair of sockets; returns the protocol."""
    ours = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    ours.load_cert_chain(server.certificate, server.key)
    theirs = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    theirs.load_verify_locations(trusted.authority)
    left, right = socket.socketpair()

    def answer():
        try:
            ours.wrap_socket(left, server_side=True).close()
        except OSError:
            left.close()

    thread = threading.Thread(target=answer)
    thread.start()
    try:
        with theirs.wrap_socket(right, server_hostname=name) as secured:
            return secured.version()
    finally:
        right.close()
        thread.join()


@pytest.mark.parametrize("name", ["127.0.0.1", "localhost", "::1"])
def test_the_certificate_is_for_loopback(made, name):
    assert handshake(made, made, name) == "TLSv1.3"


def test_it_is_for_no_other_host(made):
    with pytest.raises(ssl.SSLCertVerificationError, match=r"192\.0\.2\.1"):
        handshake(made, made, "192.0.2.1")


def test_the_authority_of_another_run_is_not_trusted(made, tmp_path):
    other = make_credentials(tmp_path, [])
    with pytest.raises(ssl.SSLCertVerificationError):
        handshake(made, other, "127.0.0.1")


def test_only_their_owner_can_read_them(made):
    folder = made.authority.parent
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    assert {stat.S_IMODE(path.stat().st_mode) for path in folder.iterdir()} == {0o600}


def test_each_node_has_a_key_of_its_own_as_flower_takes_it(made):
    keys = [read_node_key(path) for path in made.nodes.values()]
    assert [key.curve.name for key in keys] == ["secp384r1", "secp384r1"]
    assert public_pem(keys[0]) != public_pem(keys[1])
    assert isinstance(serialization.load_pem_public_key(public_pem(keys[0])), ec.EllipticCurvePublicKey)


def test_made_again_they_are_others(tmp_path):
    before = make_credentials(tmp_path, ["c00"]).secret.read_bytes()
    assert make_credentials(tmp_path, ["c00"]).secret.read_bytes() != before


@pytest.mark.parametrize("content", [None, b"rubbish", "ed25519"], ids=["missing", "rubbish", "another kind"])
def test_what_is_no_node_key_is_a_named_error(tmp_path, content):
    path = tmp_path / "key"
    if content == "ed25519":
        content = ed25519.Ed25519PrivateKey.generate().private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.OpenSSH, serialization.NoEncryption()
        )
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(ConfigError, match="is not a node's private key") as caught:
        read_node_key(path)
    assert caught.value.code == "config.node-key"
    assert "ssh-keygen" in caught.value.remedy
