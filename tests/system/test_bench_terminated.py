"""A benchmark that is told to end takes what it has started with it."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

pytestmark = pytest.mark.system

ENDLESS = '''"""Never ends."""

import os
import sys
import time
from pathlib import Path

from fedpeft.bench import main


def measure(quick):
    Path("subject.pid").write_text(str(os.getpid()))
    time.sleep(600)
    return []


if __name__ == "__main__":
    sys.exit(main(__file__, measure))
'''


def alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except OSError:
        return False


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_the_subject_ends_with_the_command(tmp_path, number):
    (tmp_path / "endless.py").write_text(ENDLESS)
    command = [sys.executable, "-m", "fedpeft.cli.main", "bench", "endless.py", "--no-peers"]
    with subprocess.Popen(command, cwd=tmp_path, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE) as process:
        told, limit = tmp_path / "subject.pid", time.monotonic() + 120
        while not (told.exists() and told.read_text()):
            assert process.poll() is None, process.stderr.read().decode()
            assert time.monotonic() < limit
            time.sleep(0.05)
        subject = int(told.read_text())
        try:
            process.send_signal(number)
            assert process.wait(60) == 130
            assert not alive(subject)
        finally:
            if alive(subject):
                os.kill(subject, signal.SIGKILL)
