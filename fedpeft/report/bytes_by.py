"""Which bytes moved, in frames: by kind of message, and those of training by class of devices and codec, and by client.

One total hides that half of all bytes are one class's, or evaluations. Counted from events; what an interrupted attempt
moved is not counted, as in all totals.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

from fedpeft.config import RunConfig
from fedpeft.journal import Event, EventKind
from fedpeft.report.client_bytes import ClientBytes
from fedpeft.report.units import MISSING, bytes_text, count_text
from fedpeft.types import ClientId

CLASS_HEAD = ("devices", "codec", "asked", "up", "each", "down", "each")
KIND_HEAD = ("messages", "up", "down", "both")

KINDS = {"train": "training", "evaluate": "evaluations", "hello": "greetings"}


@dataclass(slots=True)
class ClassBytes:
    """Training of one class of devices by one codec, in the committed part of the run."""

    device: str
    codec: str  # of the updates
    asked: int = 0
    replies: int = 0  # folded, refused or too late: all that brought bytes
    up: int = 0
    down: int = 0

    def cells(self) -> list[str]:
        """As texts, in the order of `CLASS_HEAD`; `each` is a mean."""
        each_up = bytes_text(self.up / self.replies) if self.replies else MISSING
        each_down = bytes_text(self.down / self.asked) if self.asked else MISSING
        up, down = bytes_text(self.up), bytes_text(self.down)
        return [self.device, self.codec, count_text(self.asked), up, each_up, down, each_down]


@dataclass(slots=True)
class KindBytes:
    """One kind of messages."""

    kind: str
    up: int = 0
    down: int = 0

    def cells(self) -> list[str]:
        """As texts, in the order of `KIND_HEAD`."""
        return [KINDS.get(self.kind, self.kind), *map(bytes_text, (self.up, self.down, self.up + self.down))]


@dataclass(slots=True)
class BytesBy:
    """The bytes of a run."""

    classes: list[ClassBytes] = field(default_factory=list)  # in the order in which they were first asked
    kinds: list[KindBytes] = field(default_factory=list)  # in the order of `KINDS`; of a finished run
    codec_down: str = "int8"  # of all broadcasts
    clients: list[ClientBytes] = field(default_factory=list)  # in the order in which they were met

    @property
    def about(self) -> str:
        """What the table of classes says beside its numbers."""
        return f"Training, in frames: updates by the codec named, broadcasts by {self.codec_down}. Each: a mean."


def bytes_by(events: Iterable[Event], config: RunConfig) -> BytesBy:
    """Sort the bytes of a run.

    Args:
        events: of the run, in order.
        config: names the codec of events that name none.
    """
    counted, moved = _Counted(config), {kind: KindBytes(kind) for kind in KINDS}
    told = False
    for event in events:
        match event.kind:
            case EventKind.COMMITTED | EventKind.RUN_FINISHED:
                counted.settle()
                by_kind = event.payload.get("by_kind")
                told |= by_kind is not None
                if event.kind is EventKind.COMMITTED:  # a round's messages are all of one kind
                    by_kind = {"train": [event.payload.get("frame_up", 0), event.payload.get("frame_down", 0)]}
                for kind, (up, down) in (by_kind or {}).items():
                    row = moved.setdefault(kind, KindBytes(kind))
                    row.up, row.down = row.up + up, row.down + down
            case _:
                counted.add(event)
    kinds = list(moved.values()) if told else []
    return BytesBy(list(counted.rows.values()), kinds, config.codec.down, list(counted.clients.values()))


class _Counted:
    """Rows by class and codec, and by client; what is open counts with the next commit."""

    def __init__(self, config: RunConfig) -> None:
        self.config = config
        self.rows: dict[tuple[str, str], ClassBytes] = {}
        self.clients: dict[ClientId, ClientBytes] = {}
        self._devices: dict[ClientId, str] = {}
        self._codecs: dict[ClientId, str] = {}  # that each was last told to use: a client has one message out at most
        self._open: list[tuple[tuple[str, str], ClientId, str, int]] = []  # row, whose, direction, bytes

    def add(self, event: Event) -> None:
        client, payload = event.client, event.payload
        if event.kind is EventKind.RUN_STARTED:
            self._open.clear()
        if client is None:
            return
        match event.kind:
            case EventKind.HELLO:
                self._devices[client] = str(payload["device"])
                self._of(client)
            case EventKind.ASKED:
                self._codecs[client] = str(payload.get("codec", self.config.codec.up))
                self._open.append((self._row(client), client, "down", payload["bytes"]))
            case EventKind.ACCEPTED | EventKind.REFUSED:
                self._open.append((self._row(client), client, "up", payload.get("bytes", 0)))
            case EventKind.LATE if payload["rule"] == "drop":  # one that is folded is counted when it is accepted
                self._open.append((self._row(client), client, "up", payload["bytes"]))

    def settle(self) -> None:
        for key, client, direction, count in self._open:
            own, (_, codec) = self._of(client), key
            for row in (self.rows.setdefault(key, ClassBytes(*key)), own):
                if direction == "down":
                    row.asked, row.down = row.asked + 1, row.down + count
                else:
                    row.replies, row.up = row.replies + (count > 0), row.up + count
            if direction == "up":
                own.up_by_codec[codec] = own.up_by_codec.get(codec, 0) + count
        self._open.clear()

    def _of(self, client: ClientId) -> ClientBytes:
        """The client's own row; made where there is none."""
        found = self.clients.setdefault(client, ClientBytes(client, "default"))
        found.device = self._devices.get(client, found.device)
        return found

    def _row(self, client: ClientId) -> tuple[str, str]:
        return self._devices.get(client, "default"), self._codecs.get(client, self.config.codec.up)
