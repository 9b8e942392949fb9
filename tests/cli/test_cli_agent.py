"""`fedpeft agent`: what is wrong with its arguments is told before anything is connected."""

from __future__ import annotations

import signal

import pytest
from tiny_text import write_run

from fedpeft.cli.agent import _until_told
from fedpeft.cli.main import perform
from fedpeft.cli.output import Session


@pytest.fixture(scope="module")
def run_file(tmp_path_factory):
    return write_run(tmp_path_factory.mktemp("run"))


WRONG = {
    "no such client": (["--client", "c77"], 2, '--client "c77" is not a client'),
    "no such key": (["--client", "c00=nowhere.key"], 2, "nowhere.key is not a node's private key"),
    "no such certificate": (["--client", "c00", "--root-certificates", "nowhere.crt"], 2, "cannot be read"),
    "no client": ([], 2, "Missing option '--client'"),
}


@pytest.mark.parametrize("case", WRONG)
def test_what_is_wrong_is_named(run_file, capfd, case):
    arguments, code, words = WRONG[case]
    given = ["agent", str(run_file), "--superlink", "127.0.0.1:1", "--insecure", *arguments]
    assert perform(given, Session()) == code
    assert words in " ".join(capfd.readouterr().err.replace("│", " ").split())


def test_a_first_signal_ends_the_service_and_a_second_one_interrupts():
    before = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        told = _until_told()
        assert not told.is_set()
        signal.raise_signal(signal.SIGTERM)
        assert told.is_set()
        with pytest.raises(KeyboardInterrupt):
            signal.raise_signal(signal.SIGINT)
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
