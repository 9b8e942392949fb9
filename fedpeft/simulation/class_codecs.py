"""The codec of each class of devices: its own or the run's, with a budget in seconds told in bytes of its uplink."""

from __future__ import annotations

from fedpeft.codecs import Codec
from fedpeft.codecs.base import on_uplink
from fedpeft.codecs.compose import parts_of
from fedpeft.config import RunConfig
from fedpeft.config.devices import DeviceTable
from fedpeft.registry import build


def upward(config: RunConfig) -> dict[str, str]:
    """Key -> codec of updates that it names: the run's, those of device classes, those of a scheduler's arms."""
    found = {"codec.up": config.codec.up}
    found |= {f'devices.codec of class "{table.name}"': table.codec for table in config.devices if table.codec}
    arms = config.scheduler.arms.codec if config.scheduler is not None else None
    return found | {f"scheduler.arms.codec[{place}]": name for place, name in enumerate(arms or ())}


def is_relaxed(name: str) -> bool:
    """Whether a codec sends further than it means, for error feedback to take back."""
    return "relax" in parts_of(name) and "forget" not in parts_of(name)


def class_codec(config: RunConfig, table: DeviceTable) -> str:
    """The codec of the updates of a class of devices, as plans name it; seconds of its uplink are kilobytes in it."""
    name = table.codec or config.codec.up
    codec: Codec = build("codec", name, {})
    own = on_uplink(codec, 1e6 * table.up_mbps).name
    return name if own == codec.name else own


def class_codecs(config: RunConfig) -> dict[str, str]:
    """Device class -> codec of its updates, where that is not `codec.up`.

    Under "" that of devices of no class of the run file, if `codec.up` depends on the uplink: what the slowest sends.
    """
    own = {table.name: class_codec(config, table) for table in config.device_classes}
    slowest = min(config.device_classes, key=lambda table: table.up_mbps)
    own[""] = class_codec(config, slowest.model_copy(update={"codec": None}))
    return {device: name for device, name in own.items() if name != config.codec.up}
