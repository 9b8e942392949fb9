"""The codecs that a run file names: of updates, of each class of devices, of broadcasts. Checked, made, counted."""

from __future__ import annotations

from typing import TYPE_CHECKING

from fedpeft.codecs import Codec
from fedpeft.codecs.base import fitted
from fedpeft.codecs.broadcast import Int8Downlink
from fedpeft.codecs.downlink import Downlink
from fedpeft.codecs.feedback_downlink import FeedbackDownlink
from fedpeft.codecs.fp32 import Fp32
from fedpeft.codecs.int8 import Int8
from fedpeft.config import RunConfig
from fedpeft.errors import ConfigError, PluginError
from fedpeft.registry import build
from fedpeft.simulation.parts import turns_of
from fedpeft.simulation.pruning import score_bytes
from fedpeft.types import ALL_COMPONENTS, Layout

if TYPE_CHECKING:
    from fedpeft.simulation.federation import Federation

WITHOUT_STEPS = ("int8", "fp32")
"""Names of `codec.down` that stand for no codec of the registry: versions made from θ alone, and the plain vector."""


def check_codecs(config: RunConfig) -> None:
    """Build every codec that the run file names.

    Raises:
        PluginError: there is none of that name.
        ConfigError: what a name stands for is not a Codec, or it cannot make broadcasts.
    """
    load_codec("codec.up", config.codec.up)
    for table in config.devices:
        if table.codec is not None:
            load_codec(f'devices.codec of class "{table.name}"', table.codec)
    down = config.codec.down
    if down in WITHOUT_STEPS:
        return
    codec = load_codec("codec.down", down)
    if config.zeroth is not None and config.zeroth.sends == "scalars":
        raise ConfigError(
            f'codec.down = "{down}" contradicts zeroth.sends = "scalars": clients are sent whole numbers, as they are',
            code="config.down",
            allowed='codec.down = "int8", its default, which means nothing there',
            remedy='remove codec.down, or set zeroth.sends = "delta"',
        )
    if not getattr(codec, "owes", True):
        raise ConfigError(
            f'codec.down = "{down}" is without error feedback: what clients hold would drift away from the adapter',
            code="config.down",
            allowed="int8, fp32, or a codec whose losses are made up for: not forget+..., not dare(p)+...",
            remedy="name the codec without that stage",
        )


def load_codec(key: str, name: str) -> Codec:
    """The codec that a key of the run file names.

    Raises:
        PluginError: there is none of that name.
        ConfigError: what the name stands for is not a Codec.
    """
    try:
        codec = build("codec", name, {})
    except PluginError as error:
        raise PluginError(
            f"{key}: {error.message}", code=error.code, allowed=error.allowed, remedy=error.remedy
        ) from error
    if not isinstance(codec, Codec):
        raise ConfigError(
            f'{key} = "{name}" is a {type(codec).__name__}, not a Codec',
            code="config.not-a-codec",
            allowed="a class with the attributes of fedpeft.codecs.Codec",
            remedy="add what it lacks, or name another class",
        )
    return codec


def make_downlink(name: str, layout: Layout) -> Downlink | None:
    """Whose codes broadcasts of `codec.down` are, of vectors of this layout; None: the plain vector."""
    if name in WITHOUT_STEPS:
        return Int8Downlink() if name == "int8" else None
    return FeedbackDownlink(fitted(build("codec", name, {}), layout))


def update_bytes(federation: Federation, codec: str, rank: int = ALL_COMPONENTS, mask: bytes = b"") -> int:
    """Nominal bytes of an update by this codec, with what goes up beside it; on average over rounds that differ."""
    if federation.replica is not None:
        scalars: Codec = build("codec", codec, {})
        return scalars.nominal_bytes(federation.config.local.steps * federation.replica.coordinates.directions)
    turns = turns_of(federation.config, federation.strategy)
    own = sum(rounds * sent_bytes(federation, codec, rank, mask, frozen) for frozen, rounds in turns.items())
    return round(own / turns.total())


def sent_bytes(federation: Federation, codec: str, rank: int, mask: bytes, frozen: tuple[str, ...]) -> int:
    """Nominal bytes of an update of a client that sends so much of the vector, with what goes up beside it."""
    portion, beside = federation.sent.portion(mask, frozen, rank), federation.strategy.receives
    own: Codec = build("codec", codec, {})
    nominal = (own if portion.layout is None else fitted(own, portion.layout)).nominal_bytes(portion.size)
    auxiliary = len(beside) * _nominal(federation.config.codec.auxiliary, federation.sharing.shared)
    return nominal + auxiliary + score_bytes(federation, mask)


def broadcast_bytes(federation: Federation) -> int:
    """Nominal bytes of a broadcast, with what goes down beside it.

    A client that is asked every so many rounds is sent as many steps, or the difference of codes if that is shorter.
    """
    config, strategy, layout = federation.config, federation.strategy, federation.sharing.shared
    if federation.replica is not None:
        coordinates = federation.replica.coordinates
        return 2 * (coordinates.first + coordinates.size)
    beside = len(strategy.sends) * _nominal(config.codec.auxiliary, layout)
    if config.codec.down == "fp32":
        return Fp32().nominal_bytes(layout.size) + beside
    whole = Int8().nominal_bytes(layout.size)
    if config.codec.down == "int8":
        return whole + beside
    steps = config.clients / config.round.updates
    return min(whole, round(steps * _nominal(config.codec.down, layout))) + beside


def mean_update_bytes(federation: Federation) -> int:
    """Nominal bytes of an update, on average over the clients of all classes."""
    config = federation.config
    total = sum(
        table.clients * update_bytes(federation, table.codec or config.codec.up, table.rank or ALL_COMPONENTS)
        for table in config.devices
    )
    return round(total / config.clients)


def codec_notes(federation: Federation) -> list[str]:
    """What a person should know of the codecs before the run."""
    config, layout = federation.config, federation.sharing.shared
    down, whole = config.codec.down, Int8().nominal_bytes(layout.size)
    notes = [
        f"device class {table.name} sends its updates by {table.codec}, not by {config.codec.up}"
        for table in config.devices
        if table.codec not in (None, config.codec.up)
    ]
    if isinstance(federation.downlink, FeedbackDownlink) and _nominal(down, layout) >= whole:
        notes.append(
            f'codec.down = "{down}" takes no fewer bits than the codes in which broadcasts are kept: '
            'they will be those of codec.down = "int8"'
        )
    return notes


def _nominal(codec: str, layout: Layout) -> int:
    return fitted(build("codec", codec, {}), layout).nominal_bytes(layout.size)
