"""A run's model with heads and channels left out, by the scores that the run ended with."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from fedpeft.errors import ConfigError
from fedpeft.journal import Journal
from fedpeft.journal.snapshot import unpack
from fedpeft.pruning.exporting import export_pruned
from fedpeft.pruning.mask import choose, kept_of, largest_ratio
from fedpeft.pruning.shrink import Pruner
from fedpeft.simulation.federation import Federation
from fedpeft.types import FloatArray


def last_scores(journal: Journal) -> npt.NDArray[Any] | None:
    """Of heads and channels as of the last commit, shape (U,); None of a run that pruned nobody."""
    commit = journal.last_commit()
    if commit is None or "pruning" not in commit.snapshot:
        return None
    arrays, _ = unpack(journal.blob(commit.snapshot["pruning"]))
    return arrays["scores"]


def write_pruned(
    federation: Federation, scores: npt.NDArray[Any] | None, theta: FloatArray, ratio: float, folder: Path
) -> Path:
    """Write the model of a run without `ratio` of the heads and channels of each layer, its adapter merged in.

    Args:
        federation: of the run.
        scores: from `last_scores`; None: the magnitudes of the base's weights.
        theta: shape (d,).
        ratio: in (0, 1).
        folder: created if need be.

    Raises:
        ConfigError: the ratio leaves nothing out, or nothing of a layer.
        ModelError: the model cannot be pruned, or not be written.
    """
    pruner = Pruner(federation.adapter)
    sizes = pruner.units.sizes
    if not 0 < ratio < 1 or any(kept_of(size, ratio) == 0 for size in sizes):
        raise ConfigError(
            f"pruned = {ratio:g} is no share of heads and channels that can be left out",
            code="config.pruning-ratio",
            allowed=f"above 0, at most {largest_ratio(sizes):g} with this model",
            remedy="choose another",
        )
    kept_all = np.packbits(np.ones(pruner.units.count, dtype=bool)).tobytes()
    mask = choose(pruner.magnitudes if scores is None else scores, sizes, ratio) or kept_all
    return export_pruned(pruner, mask, theta, folder, federation.tokenizer)
