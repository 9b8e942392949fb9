"""trackio (https://github.com/gradio-app/trackio): its local database, shown by `trackio show --project fedpeft`.

Needs the extra `trackio`. Nothing leaves the machine: whatever trackio reads from the environment to send figures to a
Space, a server, a data set or a bucket is taken out of it first.
"""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Sequence
from pathlib import Path

from fedpeft.report.points import Point

PROJECT = "fedpeft"

_REMOTE = ("SPACE_ID", "SERVER_URL", "DATASET_ID", "BUCKET_ID", "WEBHOOK_URL")


class TrackioSink:
    """A run of the project `fedpeft`, under this run's name; one that is there already is filled anew."""

    needs = ("trackio", "trackio")

    def __init__(self, folder: Path, run: str) -> None:
        for name in _REMOTE:
            os.environ.pop(f"TRACKIO_{name}", None)
        os.environ["HF_HUB_OFFLINE"] = "1"  # read when its hub client is imported
        import trackio

        with contextlib.suppress(ValueError):  # there is no such project yet
            for known in trackio.Api().runs(PROJECT):
                if known.name == run:
                    known.delete()
        with contextlib.redirect_stdout(sys.stderr):  # stdout may be a JSON document
            self._run = trackio.init(PROJECT, name=run, embed=False, auto_log_gpu=False, auto_log_cpu=False)

    def write(self, points: Sequence[Point]) -> None:
        """See `Sink.write`."""
        for point in points:
            self._run.log({point.name: point.value}, step=point.step)

    def close(self) -> None:
        """See `Sink.close`."""
        with contextlib.redirect_stdout(sys.stderr):
            self._run.finish()
