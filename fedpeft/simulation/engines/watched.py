"""Runs an installed command, e.g. `flower-superlink`, that ends when its standard input does.

    python -m fedpeft.simulation.engines.watched flower-superlink --insecure ...

Whoever starts it holds the other end of the pipe, so however that process ends, by SIGKILL too, this one ends with it:
first as on SIGTERM, then, if it does not within `GRACE_S`, at once.
"""

from __future__ import annotations

import os
import signal
import sys
import threading
import time
from importlib.metadata import entry_points

GRACE_S = 5.0


def main() -> None:
    """Run the command that the arguments name."""
    program = sys.argv[1]
    (command,) = entry_points(group="console_scripts", name=program)
    threading.Thread(target=_watch, name="watched", daemon=True).start()
    sys.argv = sys.argv[1:]
    sys.exit(command.load()())


def _watch() -> None:
    while os.read(0, 1):
        pass
    os.kill(os.getpid(), signal.SIGTERM)
    time.sleep(GRACE_S)
    os._exit(1)


if __name__ == "__main__":
    main()
