"""The pool of a zeroth-order run: its directions, and what part of the vector each of them moves."""

from __future__ import annotations

import hashlib

from fedpeft.config import RunConfig
from fedpeft.errors import ConfigError, PluginError
from fedpeft.registry import build
from fedpeft.types import FloatArray, Layout
from fedpeft.zeroth.blocks import BlockPool
from fedpeft.zeroth.pools import Pool
from fedpeft.zeroth.sparse import SparsePool, smallest


def drawn_pool(config: RunConfig) -> Pool:
    """Where directions come from, before parts are taken of them: of K directions, with blocks of K/B.

    Raises:
        PluginError: there is none of that name, or it cannot have K directions.
        ConfigError: it cannot have K/B.
    """
    table = config.zeroth
    assert table is not None
    each = table.size // table.blocks
    try:
        pool: Pool = build("pool", table.pool, {"size": each, "seed": config.run.seed})
    except PluginError as error:
        if table.blocks == 1 or not isinstance(error.__cause__, ValueError):
            raise
        raise ConfigError(
            f"zeroth.size = {table.size} and zeroth.blocks = {table.blocks} leave {each} directions to each block: "
            f"{error.__cause__}",
            code="config.zeroth-blocks",
            allowed=f'zeroth.size / zeroth.blocks as the pool "{table.pool}" can have it',
            remedy="raise zeroth.size, or lower zeroth.blocks",
        ) from error
    return pool


def make_pool(config: RunConfig, initial: FloatArray, layout: Layout) -> tuple[Pool, str]:
    """The pool of a run, and in words which part of the vector its directions move, for the replica's identity.

    Args:
        config: the run file.
        initial: θ_0, shape (d,).
        layout: where each tensor lies in it.

    Raises:
        ConfigError: there are too few weights for so many blocks.
    """
    table = config.zeroth
    assert table is not None
    pool, part = drawn_pool(config), ""
    if table.sparse < 1:
        mask = smallest(initial, layout, table.sparse)
        pool, part = SparsePool(pool, mask), f":sparse:{hashlib.sha256(mask.data).hexdigest()}"
    if table.blocks > 1:
        try:
            pool = BlockPool(pool, table.blocks, layout.size)
        except ValueError as error:
            raise ConfigError(
                f"zeroth.blocks = {table.blocks} are too many for {layout.size} trained weights",
                code="config.zeroth-blocks",
                allowed=f"1 to {max(1, layout.size // 8)}: a block has at least 8 weights",
                remedy="lower zeroth.blocks, or train more weights",
            ) from error
        part += f":blocks:{table.blocks}"
    return pool, part


def pool_notes(config: RunConfig) -> list[str]:
    """What a person should know of a run's directions before it begins."""
    table = config.zeroth
    assert table is not None
    notes = []
    if table.blocks > 1:
        notes.append(f"a direction moves one of {table.blocks} blocks of the weights")
    if table.sparse < 1:
        notes.append(
            f"only the {100 * table.sparse:g} % of each tensor's weights that are smallest at the start are trained; "
            "all of a tensor whose weights are of one magnitude"
        )
    if table.pool == "gaussian" and table.sends == "scalars":
        notes.append(
            "zeroth.pool = 'gaussian' is torch's generator, which is not portable: all who take part need the same "
            "version of it and a processor of the same kind; whoever draws other numbers is refused"
        )
    return notes
