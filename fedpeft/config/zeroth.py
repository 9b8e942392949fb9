"""`[zeroth]`: training without gradients, by seeds and scalars or by deltas. A run file that has it is zeroth-order."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Literal

from pydantic import Field

from fedpeft.config.table import Natural, PluginTable, Positive, Table
from fedpeft.explain import Contradiction

if TYPE_CHECKING:
    from fedpeft.config.run_config import RunConfig


ONLY_SGD = (
    '"sgd"; what the scalars do is zeroth.optimizer: sgd, momentum, sign, adam, spsa-gc or adamu; with zeroth.sends = '
    '"delta" also "zo-adam" and "zo-adamu"'
)


class ZerothTable(Table):
    """`[zeroth]`: which directions there are, and how a client measures along them."""

    sends: Literal["scalars", "delta"] = "scalars"  # a number a step; or delta: of θ, with optimizers per weight
    pool: str = "hadamard"  # hadamard: replayed in one pass; independent | fresh | near-gaussian | gaussian
    size: Positive = 4096  # K, directions of an epoch; hadamard: a power of two, independent: a multiple of 16
    refresh: Natural = 0  # rounds of an epoch, after which other directions are drawn; 0 = one epoch
    blocks: Positive = 1  # B, parts of the vector, of which a direction moves one
    sparse: float = Field(1.0, gt=0, le=1)  # share of each tensor's weights that move: the smallest at the start
    estimator: PluginTable = PluginTable(name="two-point")  # two-point | forward | forward-gradient, with `queries`
    optimizer: PluginTable = PluginTable(name="sgd")  # sgd | momentum | sign | adam | spsa-gc | adamu
    objective: Literal["loss", "error"] = "loss"  # what is measured; error: 1 − accuracy
    conservative: bool = False  # of stepping, staying and the opposite step the best is taken
    perturbation: float = Field(1e-3, gt=0)  # ε, how far a client looks along a direction
    scalars: Literal["value", "sign"] = "value"  # sign: only its sign counts, ±1; one bit each with codec.up = "sign"
    draws: Literal["client", "round"] = "client"  # whose the directions are: each client's own, or the round's for all
    sampling: Literal["uniform", "importance"] = "uniform"  # importance: more often where the loss changed more
    temperature: Annotated[float, Field(ge=0, le=10)] = 1.0  # τ of that: odds are within e^τ
    clip: float = Field(1000.0, gt=0)  # of a scalar's magnitude, on both sides
    deviations: float = Field(0.0, ge=0)  # scalars are bounded at the round's median ± so many MADs; 0: they are not
    resolution: Annotated[int, Field(ge=0, le=20)] = 8  # coefficients are whole multiples of rate · 2^-resolution
    checkpoint: float = Field(1.0, ge=0)  # θ_e is sent for old coefficients below so many times their bytes; 0: never

    def epochs(self, rounds: int) -> int:
        """Epochs of a run of so many rounds."""
        return 1 if self.refresh == 0 else -(-rounds // self.refresh)


def check_zeroth(config: RunConfig) -> None:
    """Refuse what a zeroth-order run cannot do as it is told.

    Raises:
        Contradiction: names the key, its value, what is allowed and what to do.
    """
    table = config.zeroth
    if table is None:
        return
    scalars = table.sends == "scalars"
    if not scalars:
        _check_delta(table)
    local, model = config.local, config.model
    noise = "the difference of two losses would be noise: products in few bits are rounded by about as much"
    replay = "its state is of weights, not of coefficients, and cannot be replayed from scalars"
    rules: list[tuple[bool, str, object, str, str]] = [
        (scalars and local.optimizer != "sgd", "local.optimizer", local.optimizer, replay, ONLY_SGD),
        (
            not scalars and local.optimizer == "adamw",
            "local.optimizer",
            "adamw",
            "it steps by gradients, and there are none",
            '"sgd", "zo-adam" or "zo-adamu"',
        ),
        (
            scalars and local.weight_decay > 0,
            "local.weight_decay",
            local.weight_decay,
            "decay cannot be replayed in one pass",
            "0",
        ),
        (
            table.sparse < 1 and local.weight_decay > 0,
            "local.weight_decay",
            local.weight_decay,
            "with zeroth.sparse it would move the weights that are to stay",
            "0",
        ),
        (local.accumulate > 1, "local.accumulate", local.accumulate, "nothing is kept of a pass: it saves none", "1"),
        (local.checkpointing, "local.checkpointing", True, "nothing is kept of a pass: it saves none", "false"),
        (local.autocast != "off", "local.autocast", local.autocast, noise, '"off"'),
        (model.dtype != "fp32", "model.dtype", model.dtype, noise, '"fp32"'),
        (model.quantization != "none", "model.quantization", model.quantization, noise, '"none"'),
        (
            scalars and bool(config.adapter.private),
            "adapter.private",
            config.adapter.private,
            "all clients share one model",
            "[]",
        ),
        (
            config.evaluation.centralised,
            "evaluation.centralised",
            True,
            "a comparison trained by gradients would not do the same work",
            "false; compare with a first-order run of the same data (`fedpeft compare`)",
        ),
    ]
    for wrong, key, value, reason, allowed in rules:
        if wrong:
            raise Contradiction(
                f"{key} = {value!r} contradicts the table [zeroth]: {reason}",
                allowed=allowed,
                remedy=f"set {key} so, or remove [zeroth] and train by gradients",
            )
    if scalars and table.clip * 2.0**table.resolution > 2**18:
        raise Contradiction(
            f"zeroth.clip = {table.clip:g} and zeroth.resolution = {table.resolution} let one step move a coefficient "
            f"by {table.clip * 2.0**table.resolution:g} units",
            allowed="zeroth.clip · 2^zeroth.resolution of at most 2^18 = 262144: sums must stay exact",
            remedy="lower one of them",
        )
    if table.size % table.blocks:
        raise Contradiction(
            f"zeroth.size = {table.size} does not divide into zeroth.blocks = {table.blocks}",
            allowed="zeroth.size a multiple of zeroth.blocks: each block has as many directions",
            remedy="change one of them",
        )
    _check_scalars(table)
    ranks = [device.name for device in config.devices if device.rank is not None]
    if ranks:
        raise Contradiction(
            f'devices.rank of class "{ranks[0]}" contradicts the table [zeroth]: a direction moves all components',
            allowed="one rank for all clients, adapter.rank",
            remedy="remove devices.rank",
        )


def _check_delta(table: ZerothTable) -> None:
    """Refuse keys that mean nothing where no scalars are sent."""
    default = ZerothTable.model_fields["resolution"].default
    rules: list[tuple[str, object, object, str]] = [
        ("optimizer.name", table.optimizer.name, "sgd", "what steps is local.optimizer"),
        ("conservative", table.conservative, False, "its trial steps are of coefficients"),
        ("scalars", table.scalars, "value", "nobody votes: g is the client's own, and stays with it"),
        ("resolution", table.resolution, default, "there are no coefficients to round"),
        ("sampling", table.sampling, "uniform", "nobody is told what others measured"),
        ("checkpoint", table.checkpoint, 1.0, "θ itself is what is sent"),
        ("deviations", table.deviations, 0, "there are no scalars of a round to compare"),
    ]
    for key, value, allowed, reason in rules:
        if value != allowed:
            raise Contradiction(
                f'zeroth.{key} = {value!r} contradicts zeroth.sends = "delta": {reason}',
                allowed=f"{allowed!r}, its default",
                remedy=f'remove zeroth.{key}, or set zeroth.sends = "scalars"',
            )


def _check_scalars(table: ZerothTable) -> None:
    """What is made of scalars must be there to be made of them."""
    drawn, sign = table.sampling == "importance", table.scalars == "sign"
    alike = 'contradicts zeroth.scalars = "sign": all scalars are of one size'
    key, bound = "zeroth.sampling", f"zeroth.deviations = {table.deviations:g}"
    importance, temperature = f'{key} = "importance"', f"zeroth.temperature = {table.temperature:g}"
    rules: list[tuple[bool, str, str, str]] = [
        (drawn and sign, f"{importance} {alike}", f'{key} = "uniform"', 'set it so, or set zeroth.scalars = "value"'),
        (
            drawn and table.refresh == 1,
            f"{importance} contradicts zeroth.refresh = 1: what a round learns serves the next rounds of its epoch",
            "zeroth.refresh of 2 or more, or 0",
            f'raise it, or set {key} = "uniform"',
        ),
        (
            not drawn and table.temperature != 1,
            f'{temperature} means nothing with {key} = "{table.sampling}"',
            importance,
            "set it so, or remove zeroth.temperature",
        ),
        (table.deviations > 0 and sign, f"{bound} {alike}", "0", 'remove it, or set zeroth.scalars = "value"'),
        (
            0 < table.deviations < 1,
            f"{bound} would move more than half of all honest scalars",
            "0 for no bounds, or 1 and more; 4.4 are three standard deviations of normal numbers",
            "raise it",
        ),
    ]
    for wrong, message, allowed, remedy in rules:
        if wrong:
            raise Contradiction(message, allowed=allowed, remedy=remedy)
