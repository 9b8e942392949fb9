import sys

import pytest

from fedpeft.bench.peers import PeerMissing, Peers, leave_out

ECHO = """import argparse, json, os, sys
parser = argparse.ArgumentParser()
parser.add_argument("--n", type=int)
print("something else")
print(json.dumps({"n": parser.parse_args().n, "prefix": sys.prefix, "threads": os.environ["OMP_NUM_THREADS"]}))
"""


@pytest.fixture
def folder(tmp_path):
    peers = tmp_path / "peers"
    peers.mkdir()
    (peers / "plain.txt").write_text("# needs nothing\n")
    (peers / "echo.py").write_text(ECHO)
    (peers / "sleep.py").write_text("import time\ntime.sleep(60)\n")
    (peers / "crash.py").write_text("raise SystemExit('out of luck')\n")
    (peers / "silent.py").write_text("")
    return peers


@pytest.fixture(scope="module")
def cache(tmp_path_factory):
    return tmp_path_factory.mktemp("cache")


@pytest.mark.slow
def test_an_environment_is_built_once_and_runs_scripts(folder, cache):
    peers = Peers(folder, cache)
    with pytest.raises(PeerMissing, match="not installed"):
        peers.python("plain")
    peers.build("plain")
    built = peers.python("plain").stat().st_ctime_ns
    peers.build("plain")
    assert peers.python("plain").lstat().st_ctime_ns == peers.python("plain").lstat().st_ctime_ns
    assert built == peers.python("plain").stat().st_ctime_ns
    said = peers.run("plain", "echo.py", {"n": 3}, timeout=60)
    assert said["n"] == 3
    assert said["prefix"] == str(peers.home("plain"))
    assert said["threads"] == "1"


@pytest.mark.parametrize(
    ("script", "timeout", "reason"),
    [("crash.py", 60, "out of luck"), ("silent.py", 60, "silent.py failed"), ("sleep.py", 0.5, "more than")],
)
def test_a_script_that_gives_nothing_tells_why(folder, cache, script, timeout, reason):
    peers = Peers(folder, cache)
    peers.build("plain")
    with pytest.raises(PeerMissing, match=reason):
        peers.run("plain", script, {}, timeout=timeout)


def test_other_requirements_are_another_environment(folder, tmp_path):
    peers = Peers(folder, tmp_path)
    home = peers.home("plain")
    (folder / "plain.txt").write_text("# needs nothing else\n")
    assert peers.home("plain") != home


@pytest.mark.slow
def test_what_cannot_be_installed_says_why_and_says_it_again(folder, tmp_path):
    (folder / "absent.txt").write_text(f"{tmp_path}/no-such-wheel-1.0-py3-none-any.whl\n")
    peers = Peers(folder, tmp_path / "cache")
    with pytest.raises(PeerMissing, match="could not be installed"):
        peers.build("absent")
    with pytest.raises(PeerMissing, match="no-such-wheel"):
        peers.python("absent")
    assert not peers.ready("absent")


def test_without_requirements_there_is_no_peer(folder, tmp_path):
    with pytest.raises(PeerMissing, match=r"nobody\.txt"):
        Peers(folder, tmp_path).build("nobody")


def test_left_out(folder, cache, monkeypatch):
    for key, value in leave_out().items():
        monkeypatch.setenv(key, value)
    with pytest.raises(PeerMissing, match="--no-peers"):
        Peers(folder, cache).python("plain")


def test_the_cache_is_the_users(folder, monkeypatch, tmp_path):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    version = f"py{sys.version_info.major}.{sys.version_info.minor}"
    home = Peers(folder).home("plain")
    assert home.parent == tmp_path / "fedpeft" / "peers"
    assert home.name.startswith("plain-")
    assert home.name.endswith(version)
