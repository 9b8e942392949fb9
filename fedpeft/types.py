"""The vocabulary of a federation, and nothing else: plain data, two protocols, no behaviour, no torch.

Glossary
    base        the frozen pretrained model that every client holds; never on the wire.
    adapter     the small trainable part (LoRA and its kin), seen by all as one flat fp32 vector θ of shape (d,).
    layout      which tensor lies where in that vector: tensors in sorted canonical name order.
    delta       what local training changed: Δ = θ_after − θ_start, shape (d,), fp32.
    update      what one client sends for one round: its delta, its weight (examples) and its metrics.
    plan        all that one client is told for one round.
    round       one commit of the coordinator. Round 0 is the untrained adapter.
    attempt     a round that a crash or too few replies interrupted is attempted again, under a new number.
    cohort      the clients asked in one round.
    codec       how a vector becomes bytes.
    coded       a delta as its codec sent it, checked but not decoded yet.
    version     the round whose broadcast a client holds; deltas and residuals refer to versions that both sides hold.
    auxiliary   a further vector of shape (d,), by name: a strategy sends some beside θ, or gets some beside the delta.
    memory      what a client half keeps on its client from round to round, under the round that it was made in.
    mask        which heads and channels of the base a pruned client keeps, a bit each.
    held        the coordinates of θ that a client trains and sends, where it is not all: a pruned client's, or those
                that are not frozen in a round.
    residual    what the codec lost, kept by the client and added to its next delta (error feedback).
    frame       one message: a protobuf header and one opaque body.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal, NewType, Protocol, TypeAlias, runtime_checkable

import numpy as np
import numpy.typing as npt

FloatArray: TypeAlias = npt.NDArray[np.float32]

ClientId = NewType("ClientId", str)
"""A client's stable name, e.g. `c07`: survives restarts, names its folder, appears in every error about it."""

MessageId = NewType("MessageId", str)
NodeId = NewType("NodeId", int)
"""Flower's address of a node (uint64)."""

MessageKind: TypeAlias = Literal["hello", "train", "evaluate"]


@dataclass(frozen=True, slots=True)
class TensorSpec:
    """One trainable tensor: its canonical name (adapter name and wrapper prefixes stripped), shape and place in θ."""

    name: str
    shape: tuple[int, ...]
    offset: int  # first index in the flat vector

    @property
    def size(self) -> int:
        """Number of scalars."""
        return int(np.prod(self.shape, dtype=np.int64))


@dataclass(frozen=True, slots=True)
class Layout:
    """Where each trainable tensor lies in the flat vector. Equal layouts have equal digests on every machine."""

    tensors: tuple[TensorSpec, ...]
    size: int  # d, number of trainable scalars
    digest: str  # sha256 hex over (name, shape) in order


ALL_COMPONENTS = 2**31 - 1
"""The rank of a plan that leaves none out."""

LORA_A, LORA_B = ".lora_A.weight", ".lora_B.weight"
"""How the canonical names of a LoRA layer's two factors end: ΔW = scaling · B A, with A (r, in) and B (out, r)."""


@dataclass(frozen=True, slots=True)
class Plan:
    """All that one client is told for one round: enough to repeat the round bit by bit."""

    run: str
    round: int
    attempt: int
    client: ClientId
    seed: int  # uint64; data order, dropout
    steps: int  # optimizer steps
    batch_size: int  # examples per step
    learning_rate: float
    weight_decay: float = 0.0
    max_grad_norm: float = 1.0  # 0 = no clipping
    optimizer: str = "adamw"
    objective: str = "plain"  # registered name of the client half of a strategy, e.g. "proximal"
    objective_params: Mapping[str, float] = field(default_factory=dict)
    rank: int = ALL_COMPONENTS  # trains the first so many components of each LoRA layer
    codec: str = "int8"  # of the update
    version: int = 0  # the broadcast that this round starts from
    feedback: int = -1  # the round whose residual counts (the last of this client that was folded in); -1 = none
    layout: str = ""  # digest of the layout that both sides must share
    auxiliary: str = ""  # codec of the vectors that go up beside the update, where the strategy asks for any
    pruning: float = 0.0  # share of the heads and channels of each layer that this client does without, in [0, 1)
    mask: bytes = b""  # those that it keeps, packed bits; empty: all
    importance: str = ""  # registered name of how it scores heads and channels as it trains; empty: it does not
    frozen: tuple[str, ...] = ()  # parts of tensors' names: those keep their value in this round, and are not sent


@dataclass(frozen=True, slots=True)
class ClientInfo:
    """What a client says of itself in its hello."""

    client: ClientId
    node: NodeId
    examples: int  # number of local training examples; bounds the weight that it may claim
    device: str = "default"  # device class, for display
    memory_mb: int = 0  # 0 = not told
    versions: tuple[int, ...] = ()  # broadcasts it holds on disk
    codecs: tuple[str, ...] = ()  # and stages and coders, which composed codecs are made of
    objectives: tuple[str, ...] = ()
    layout: str = ""  # digest of the layout that its own model gives


class Coded(Protocol):
    """A delta still in its codec's own form: the body was checked, so `decode` cannot fail and gives finite values."""

    @property
    def size(self) -> int:
        """Number of elements d."""

    def decode(self) -> FloatArray:
        """The delta, a new array of shape (d,), fp32."""


@dataclass(frozen=True, slots=True, eq=False)
class Held:
    """Which coordinates of a vector somebody holds, where it is not all of them."""

    digest: str  # of what decided it; of one digest the places are the same
    places: npt.NDArray[np.int64]  # in the vector, increasing, each once


@dataclass(frozen=True, slots=True)
class Update:
    """What one client sends for one round, decoded and guarded.

    One made with `of_codes` decodes its delta when `delta` is first read; who can fold codes takes `foldable`, and then
    there never is an fp32 copy. `dataclasses.replace` gives an update of the new delta alone, whichever it was made of.
    """

    client: ClientId
    round: int
    delta: FloatArray  # shape (d,), finite
    weight: float  # examples behind it, > 0
    metrics: Mapping[str, float] = field(default_factory=dict)  # e.g. loss_first, loss_last, seconds
    auxiliary: Mapping[str, FloatArray] = field(default_factory=dict, compare=False)  # by name, each (d,), finite
    held: Held | None = field(default=None, compare=False, repr=False)  # where it is not all; delta is 0 elsewhere
    sent: Held | None = field(default=None, compare=False, repr=False)  # what of it was sent: as `held`, and by rank
    coded: Coded | None = field(default=None, init=False, repr=False, compare=False)

    @classmethod
    def of_codes(
        cls,
        client: ClientId,
        round: int,
        coded: Coded,
        weight: float,
        metrics: Mapping[str, float] | None = None,
        auxiliary: Mapping[str, FloatArray] | None = None,
    ) -> Update:
        """An update whose delta is decoded only if somebody reads it."""
        update = object.__new__(cls)
        values = {"client": client, "round": round, "weight": weight, "metrics": dict(metrics or {}), "coded": coded}
        values |= {"auxiliary": dict(auxiliary or {}), "held": None, "sent": None}
        for name, value in values.items():
            object.__setattr__(update, name, value)
        return update

    @property
    def foldable(self) -> FloatArray | Coded:
        """The codes where there are any, else the delta."""
        return self.delta if self.coded is None else self.coded

    if not TYPE_CHECKING:  # a type checker would take any misspelt attribute for a float array

        def __getattr__(self, name: str) -> Any:
            if name != "delta" or self.coded is None:
                raise AttributeError(f"an update has no attribute {name!r}")
            object.__setattr__(self, "delta", self.coded.decode())  # the slot was empty: that is how we got here
            return self.delta


@dataclass(frozen=True, slots=True)
class Outgoing:
    """A frame on its way to a client."""

    node: NodeId
    client: ClientId
    kind: MessageKind
    frame: bytes


@dataclass(frozen=True, slots=True)
class Incoming:
    """A reply: either a frame or the reason why there is none."""

    message: MessageId
    frame: bytes | None
    failure: str | None = None
    arrived: float | None = None  # seconds of the coordinator's clock; None: the transport cannot tell


@dataclass(slots=True)
class Traffic:
    """Bytes moved so far, by message kind and direction, e.g. `train.down`."""

    bytes: dict[str, int] = field(default_factory=dict)
    messages: dict[str, int] = field(default_factory=dict)

    def add(self, kind: str, direction: Literal["up", "down"], count: int) -> None:
        """Count one message of `count` bytes."""
        key = f"{kind}.{direction}"
        self.bytes[key] = self.bytes.get(key, 0) + count
        self.messages[key] = self.messages.get(key, 0) + 1

    def total(self, direction: Literal["up", "down"]) -> int:
        """Bytes in one direction over all kinds."""
        return sum(count for key, count in self.bytes.items() if key.endswith(f".{direction}"))


@runtime_checkable
class Clock(Protocol):
    """Monotonic time in seconds. Simulations bring a virtual one, on which a slow device costs no waiting."""

    def now(self) -> float:
        """Seconds since an arbitrary start; never goes back."""

    def sleep(self, seconds: float) -> None:
        """Let at least `seconds` pass."""


@runtime_checkable
class Transport(Protocol):
    """Moves frames between the coordinator and the nodes. Knows nothing of what is in them."""

    traffic: Traffic  # bytes at the transport's own wire, envelope included

    def nodes(self) -> Sequence[NodeId]:
        """The nodes that can be reached now, in a stable order."""

    def send(self, messages: Iterable[Outgoing]) -> list[MessageId | None]:
        """Send each; None in the place of one that could not be sent."""

    def receive(self, messages: Collection[MessageId]) -> list[Incoming]:
        """The replies that are here now, each delivered once; does not wait."""
