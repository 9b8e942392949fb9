"""A run's model with heads and channels left out, by the scores that the run ended with."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from fedpeft.errors import ConfigError
from fedpeft.journal import Commit, Journal
from fedpeft.journal.snapshot import unpack
from fedpeft.pruning.exporting import export_pruned
from fedpeft.pruning.mask import choose, kept_of, largest_ratio
from fedpeft.pruning.shrink import Pruner
from fedpeft.simulation.federation import Federation
from fedpeft.types import FloatArray


def scores_of(journal: Journal, commit: Commit) -> npt.NDArray[Any] | None:
    """Of heads and channels as of a commit, shape (U,); None of a run that pruned nobody."""
    if "pruning" not in commit.snapshot:
        return None
    arrays, _ = unpack(journal.blob(commit.snapshot["pruning"]))
    return arrays["scores"]


def check_share(ratio: float) -> None:
    """Refuse what is no share, whatever the model, before anything is loaded.

    Raises:
        ConfigError: it is not in (0, 1).
    """
    if not 0 < ratio < 1:
        raise _no_share(ratio, "above 0, below 1")


def _no_share(ratio: float, allowed: str) -> ConfigError:
    return ConfigError(
        f"pruned = {ratio:g} is no share of heads and channels that can be left out",
        code="config.pruning-ratio",
        allowed=allowed,
        remedy="choose another",
    )


def mask_of(pruner: Pruner, scores: npt.NDArray[Any] | None, ratio: float) -> bytes:
    """What is left without `ratio` of the heads and channels of each layer.

    Args:
        pruner: of the model.
        scores: from `scores_of`; None: the magnitudes of the base's weights.
        ratio: in (0, 1). One that is too small for a unit of any layer leaves nothing out.

    Raises:
        ConfigError: the ratio leaves nothing of a layer.
    """
    sizes = pruner.units.sizes
    if any(kept_of(size, ratio) == 0 for size in sizes):
        raise _no_share(ratio, f"above 0, at most {largest_ratio(sizes):g} with this model")
    kept_all = np.packbits(np.ones(pruner.units.count, dtype=bool)).tobytes()
    return choose(pruner.magnitudes if scores is None else scores, sizes, ratio) or kept_all


def write_pruned(
    federation: Federation, scores: npt.NDArray[Any] | None, theta: FloatArray, ratio: float, folder: Path
) -> Path:
    """Write the model of a run without `ratio` of the heads and channels of each layer, its adapter merged in.

    Args:
        federation: of the run.
        scores: from `scores_of`; None: the magnitudes of the base's weights.
        theta: shape (d,).
        ratio: in (0, 1).
        folder: created if need be.

    Raises:
        ConfigError: the ratio leaves nothing of a layer.
        ModelError: the model cannot be pruned, or not be written.
    """
    pruner = Pruner(federation.adapter)
    return export_pruned(pruner, mask_of(pruner, scores, ratio), theta, folder, federation.tokenizer)
