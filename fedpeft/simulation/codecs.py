"""The codecs that a run file names: of updates, of each class of devices, of broadcasts. Checked, made, counted."""

from __future__ import annotations

from typing import TYPE_CHECKING

from fedpeft.codecs import Codec
from fedpeft.codecs.base import fitted, on_uplink
from fedpeft.codecs.broadcast import Int8Downlink
from fedpeft.codecs.downlink import Downlink
from fedpeft.codecs.feedback_downlink import FeedbackDownlink
from fedpeft.codecs.fp32 import Fp32
from fedpeft.codecs.growth import ROUNDS, growth, lost_at_once
from fedpeft.codecs.int8 import Int8
from fedpeft.codecs.searching import is_searching
from fedpeft.config import RunConfig
from fedpeft.errors import ConfigError, PluginError
from fedpeft.registry import build
from fedpeft.simulation.class_codecs import class_codec, is_relaxed, upward
from fedpeft.simulation.parts import turns_of
from fedpeft.simulation.pruning import pruned_rounds, ratio_mask, score_bytes
from fedpeft.simulation.ranks import class_rank
from fedpeft.types import ALL_COMPONENTS, Layout

if TYPE_CHECKING:
    from fedpeft.simulation.federation import Federation

WITHOUT_STEPS = ("int8", "fp32")
"""Names of `codec.down` that stand for no codec of the registry: versions made from θ alone, and the plain vector."""


_EXAMPLE = 0.1  # of codec.validation
_DIVERGES = 1.5  # times what would be owed if nothing had been sent
_NO_GAIN = 1.05
_AN_UPLINK = 1e6  # bit/s, of nobody: for what does not depend on it


def check_codecs(config: RunConfig) -> None:
    """Build every codec that the run file names.

    Raises:
        PluginError: there is none of that name.
        ConfigError: what a name stands for is not a Codec, it cannot make broadcasts, it would be searched where
            nothing can be judged, or what it owes would grow without end.
    """
    for key, name in upward(config).items():
        codec = load_codec(key, name)
        _check_search(config, key, codec)
        if config.zeroth is not None and config.zeroth.sends == "scalars":
            _check_not_relaxed(key, name, 'zeroth.sends = "scalars"')
        else:
            _check_growth(key, name, codec)
        if key.startswith("scheduler.") or (key == "codec.up" and config.scheduler is not None):
            _check_no_uplink(key, codec)
    _check_told("codec.auxiliary", load_codec("codec.auxiliary", config.codec.auxiliary))
    _check_not_relaxed("codec.auxiliary", config.codec.auxiliary, "vectors beside an update")
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
    _check_told("codec.down", codec)
    if not getattr(codec, "owes", True):
        raise ConfigError(
            f'codec.down = "{down}" is without error feedback: what clients hold would drift away from the adapter',
            code="config.down",
            allowed="int8, fp32, or a codec whose losses are made up for: not forget+..., not dare(p)+...",
            remedy="name the codec without that stage",
        )
    _check_growth("codec.down", down, codec)


def _check_growth(key: str, name: str, codec: Codec) -> None:
    """Refuse a codec that sends so far beyond what it means that error feedback cannot take it back."""
    found = _growth(name, codec)
    if found <= _DIVERGES:
        return
    remedy = "give relax a factor nearer to 1, or none" if is_relaxed(name) else "tell it a smaller scale"
    without = f"; or go without error feedback: forget+{name}" if key != "codec.down" else ""
    raise ConfigError(
        f'{key} = "{name}" sends so much too far that what is owed grows from round to round: after {ROUNDS} rounds of '
        f"Gaussian values it is {_times(found)} what it would be if nothing had been sent",
        code="config.diverges",
        allowed="a codec that loses less than there is: relax(1.5)+topk(0.1)+sign, compeft(0.05,3.5), int4, ...",
        remedy=remedy + without,
    )


def _growth(name: str, codec: Codec) -> float:
    """How what is owed grows with error feedback (see `codecs.growth`); 0 where that need not be tried out."""
    if not getattr(codec, "owes", True) or is_searching(codec):
        return 0.0
    own = on_uplink(codec, _AN_UPLINK)
    try:
        return growth(own) if is_relaxed(name) or lost_at_once(own) >= 1 else 0.0
    except PluginError:  # a budget that is none for so small a vector: that of the run is judged with its tensors
        return 0.0


def _times(found: float) -> str:
    return f"{found:,.1f} times" if found < 1e3 else "more than a thousand times"


def _check_search(config: RunConfig, key: str, codec: Codec) -> None:
    """Refuse a codec that leaves something to be searched where no client could judge what it finds."""
    if not is_searching(codec):
        return
    named = f'{key} = "{codec.name}" leaves something to be searched'
    if config.zeroth is not None and config.zeroth.sends == "scalars":
        raise ConfigError(
            f'{named}, and that contradicts zeroth.sends = "scalars": a client sends scalars, no change of the adapter '
            "that could be judged",
            code="config.search",
            allowed="a codec of values, e.g. fp16, or one that is told all its values",
            remedy=f'name another codec, or set zeroth.sends = "delta" and codec.validation = {_EXAMPLE}',
        )
    if config.codec.validation == 0:
        raise ConfigError(
            f"{named}, by the loss on examples that a client does not train on, and codec.validation = 0 puts none "
            "aside",
            code="config.search",
            allowed="codec.validation above 0, at most 0.5; or a codec that is told all its values: compeft(0.1,1)",
            remedy=f"set codec.validation = {_EXAMPLE}",
        )


def _check_told(key: str, codec: Codec) -> None:
    """Refuse a codec that leaves something to be searched where nothing is judged at all."""
    if is_searching(codec):
        raise ConfigError(
            f'{key} = "{codec.name}" leaves something to be searched, and only changes of the adapter that clients '
            "send are judged: codec.up, devices.codec, scheduler.arms.codec",
            code="config.search",
            allowed="a codec that is told all its values, e.g. compeft(0.1,1)",
            remedy="tell it all its values",
        )
    _check_no_uplink(key, codec)


def _check_not_relaxed(key: str, name: str, of: str) -> None:
    """Refuse over-relaxation of what has no error feedback that would take it back."""
    if is_relaxed(name):
        raise ConfigError(
            f'{key} = "{name}" sends further than it means, for error feedback to take back, and contradicts {of}: '
            "that has none",
            code="config.relax",
            allowed="relax(...) of changes of the adapter: codec.up, devices.codec, scheduler.arms.codec, codec.down",
            remedy="name the codec without that stage",
        )


def _check_no_uplink(key: str, codec: Codec) -> None:
    """Refuse a budget in seconds of an uplink where it is not one class of devices that sends."""
    if on_uplink(codec, _AN_UPLINK).name != codec.name:
        raise ConfigError(
            f'{key} = "{codec.name}" has a budget in seconds of an uplink, and is not of one class of devices',
            code="config.uplink",
            allowed="seconds in devices.codec, and in codec.up without a scheduler; elsewhere bits or kb",
            remedy="give bits or kb in the place of seconds, e.g. lgreco(bits=1)+zstd",
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
    nominal = fitted(build("codec", codec, {}), portion.layout).nominal_bytes(portion.size)
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
    """Nominal bytes of an update, on average over clients and over rounds: classes that are pruned send less.

    What arms a scheduler will choose is not known beforehand: its clients are counted with the whole of the adapter.
    """
    config = federation.config
    total = 0.0
    for table in config.device_classes:
        own = class_codec(config, table), class_rank(config, federation.adapter, table)
        stages = pruned_rounds(federation, table)
        sizes = {
            ratio: update_bytes(federation, *own, ratio_mask(federation, ratio) if ratio > 0 else b"")
            for ratio in stages
        }
        total += table.clients * sum(sizes[ratio] * rounds for ratio, rounds in stages.items()) / stages.total()
    return round(total / config.clients)


def codec_notes(federation: Federation) -> list[str]:
    """What a person should know of the codecs before the run."""
    config, layout = federation.config, federation.sharing.shared
    down, whole = config.codec.down, Int8().nominal_bytes(layout.size)
    notes = []
    for table in config.device_classes:
        if (own := class_codec(config, table)) != config.codec.up:
            made = f"made of {table.codec or config.codec.up} on {table.up_mbps:g} Mbit/s"
            why = f"not by {config.codec.up}" if own == table.codec else made
            notes.append(f"device class {table.name} sends its updates by {own}, {why}")
    notes += _search_notes(federation)
    if isinstance(federation.downlink, FeedbackDownlink) and _nominal(down, layout) >= whole:
        notes.append(
            f'codec.down = "{down}" takes no fewer bits than the codes in which broadcasts are kept: '
            'they will be those of codec.down = "int8"'
        )
    return notes


def _search_notes(federation: Federation) -> list[str]:
    """What clients put aside and what for; and codecs that gain nothing by error feedback."""
    config = federation.config
    named = {key: (name, load_codec(key, name)) for key, name in upward(config).items()}
    notes = [
        f'{key} = "{name}" may lose more than there is: with error feedback clients owe after {ROUNDS} rounds of '
        f"Gaussian values {_times(found)} what they would if nothing had been sent; forget+{name} goes without"
        for key, (name, codec) in named.items()
        if federation.replica is None and (found := _growth(name, codec)) > _NO_GAIN
    ]
    if config.codec.validation == 0:
        return notes
    aside = sum(map(len, federation.validation.values()))
    kept = f"{aside:,} of {aside + sum(map(len, federation.train.values())):,} training examples are put aside"
    searching = {key: codec for key, (_, codec) in named.items() if is_searching(codec)}
    if not searching:
        return [*notes, f"{kept} (codec.validation = {config.codec.validation:g}), and no codec of this run searches"]
    looks = max(codec.looks for codec in searching.values())
    notes.append(f"{kept}: each update is searched on its client's own, with some {looks} looks at them")
    blind = len(federation.train) - len(federation.validation)
    if blind:
        notes.append(f"{blind} clients have a single example: they put none aside, and send unsearched")
    return notes


def _nominal(codec: str, layout: Layout) -> int:
    return fitted(build("codec", codec, {}), layout).nominal_bytes(layout.size)
