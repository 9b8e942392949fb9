"""`tensorboard/` in the run's folder: event files for `tensorboard --logdir runs`. Needs the extra `tensorboard`."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from pathlib import Path

from fedpeft.report.points import Point

FOLDER = "tensorboard"


class TensorBoardSink:
    """Scalars, one series a name; all series of `runs/*` appear side by side under the runs' names."""

    needs = ("tensorboard", "tensorboard")

    def __init__(self, folder: Path, run: str) -> None:
        from torch.utils.tensorboard import SummaryWriter

        shutil.rmtree(folder / FOLDER, ignore_errors=True)
        self._writer = SummaryWriter(str(folder / FOLDER), flush_secs=10)

    def write(self, points: Sequence[Point]) -> None:
        """See `Sink.write`."""
        for point in points:
            self._writer.add_scalar(point.name, point.value, point.step, walltime=point.at)

    def close(self) -> None:
        """See `Sink.close`."""
        self._writer.close()
