"""What the journal holds: one event per decision of the coordinator, and the kinds there are."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, TypeAlias

from fedpeft.errors import JournalError
from fedpeft.types import ClientId

JSON: TypeAlias = bool | int | float | str | Sequence["JSON"] | Mapping[str, "JSON"] | None
"""What a payload may hold; numbers are finite."""


class EventKind(StrEnum):
    """The kinds of events. Readers rely on these payload keys; a writer may add more.

    "r", "a", "c" say whether an event of the kind carries a round, an attempt and a client. Sizes are in bytes of
    frames unless they say wire, times in seconds of the coordinator's clock, losses in nats, accuracies from 0 to 1.

    =================  =====  ==================================================================================
    kind               scope  payload
    =================  =====  ==================================================================================
    run_started        ---    version (of fedpeft), resumed (bool)
    hello              --c    examples, device
    hello_failed       --c    reason
    evaluated          r--    split ("test"; "best": the best round's adapter again; "centralised"), accuracy, loss,
                              metrics (name -> value), examples, whole (bool: not a sample); round 0 is zero-shot
    client_evaluated   r-c    accuracy, loss, metrics, examples (on the client's own held-out data); where there are
                              labels constant (accuracies of always answering the most frequent label: of the "held_out"
                              and of the "train" examples)
    client_tuned       r-c    steps, accuracy, loss, metrics, examples: as client_evaluated, after own steps
    clients_evaluated  r--    clients or tuned: metric -> its spread over the clients that answered (see `Spread`)
    stopped            r--    reason, best_round: no further round is begun
    round_opened       ra-    cohort (client ids; empty in an asynchronous round, which asks as it goes)
    sat_out            rac    reason: no arm of the scheduler fits this client; once a session for each time that it
                              begins to sit out
    arm_chosen         rac    device, place (of the arm in the grid), rank (null: all), pruning, codec, steps, why,
                              probability (of the draw; 1 = none), offered (how many arms it had to choose from)
    arm_rewarded       rac    device, place, rank, pruning, codec, steps, probability (as chosen), reward (0 to 1), gain
                              (along what the others want; null: no reply), seconds (null: not back at the deadline),
                              relative (to the cohort's median); right before `committed`, or before `round_short`
                              those of the deadlines that were missed
    mask_made          ra-    mask (sha256 hex of the packed bits), bits (the packed bits in hex: 1 = kept), pruning
                              (the ratio), groups (a list of [layer, "heads" or "channels", units], in the order of
                              the bits; see `fedpeft.pruning.mask.kept_units`); before a client is first asked with
                              this mask, once a run
    asked              rac    bytes, version (the broadcast), base (what its body is a difference from), steps,
                              codec (of the update, where it is not codec.up), form (zeroth order: changes,
                              everything or checkpoint), frozen (parts of names, where this round has any), rank
                              (where it is below the device class's), pruning and mask (as in mask_made, where the
                              client is pruned)
    accepted           rac    weight, norm, bytes, seconds (from asking until the reply arrived), loss_first, loss_last,
                              age (commits since it was asked), codec (where it is not codec.up), chosen (of a codec
                              that searched: name -> value)
    refused            rac    code, reason, bytes
    failed             rac    reason: no reply, e.g. a transport error or a device that dropped out
    late               rac    rule ("drop" or "fold"), age (rounds), bytes
    abandoned          rac    (none): still out when the round closed at its deadline; asynchronous: taken for gone
    round_short        ra-    accepted, needed: the attempt failed; seconds (that it took)
    committed          ra-    adapter (sha256 hex), accepted, frame_up, frame_down, wire_up, wire_down, seconds (of
                              the attempt that succeeded), learning_rate (null in round 0);
                              staleness_mean, staleness_max (age of what was folded in, if anything was);
                              owed (of a downlink by steps: ‖θ − broadcast‖ / ‖θ − θ_0‖);
                              mix_distance, mix_carried, mix_discarded (shares of what clients changed in the product
                              of LoRA factors, see `server.mixing.Losses`; where a rule mixed them);
                              ranks (client id -> rank from now on, of the clients whose rank the rule lowered);
                              outlying (client ids; zeroth order: most of their scalars were far from all others')
    exported           ---    path
    run_finished       ---    adapter (sha256 hex), rounds, best_round (null where none was looked for); what moved
                              since the last commit, as in committed; by_kind (hello, train, evaluate -> [up, down])
    =================  =====  ==================================================================================
    """

    RUN_STARTED = "run_started"
    HELLO = "hello"
    HELLO_FAILED = "hello_failed"
    EVALUATED = "evaluated"
    CLIENT_EVALUATED = "client_evaluated"
    CLIENT_TUNED = "client_tuned"
    CLIENTS_EVALUATED = "clients_evaluated"
    STOPPED = "stopped"
    ROUND_OPENED = "round_opened"
    SAT_OUT = "sat_out"
    ARM_CHOSEN = "arm_chosen"
    ARM_REWARDED = "arm_rewarded"
    MASK_MADE = "mask_made"
    ASKED = "asked"
    ACCEPTED = "accepted"
    REFUSED = "refused"
    FAILED = "failed"
    LATE = "late"
    ABANDONED = "abandoned"
    ROUND_SHORT = "round_short"
    COMMITTED = "committed"
    EXPORTED = "exported"
    RUN_FINISHED = "run_finished"


@dataclass(frozen=True, slots=True)
class Event:
    """One decision of the coordinator, as it is on disk."""

    seq: int  # 1, 2, 3, ... without gaps: the order of the run
    at: float  # unix seconds; the wall clock may jump, so order by seq
    kind: EventKind
    round: int | None
    attempt: int | None  # 1, 2, ... within the round
    client: ClientId | None
    payload: Mapping[str, Any]  # JSON values, by the key of the kind's table


Observer: TypeAlias = Callable[[Event], None]
"""Called with each event once it is durable, in order, on the thread that recorded it. What it raises reaches the
caller of `record` or `commit`; the event stays."""


_ENCODER = json.JSONEncoder(allow_nan=False, separators=(",", ":"))  # `json.dumps` would make one for each event


def encode_payload(kind: EventKind, payload: Mapping[str, JSON]) -> str:
    """A payload as JSON text, ASCII only.

    Raises:
        JournalError: code `journal.payload`; a value is not JSON or not finite; names the kind, the key and the value.
    """
    try:
        return _ENCODER.encode(payload)
    except (TypeError, ValueError, RecursionError) as error:
        key = next((key for key, value in payload.items() if not _encodes(value)), "?")
        raise JournalError(
            f"event {kind}: {key} = {payload.get(key)!r} cannot be kept: {error}",
            code="journal.payload",
            allowed="JSON: None, bool, int, finite float, str, and lists and string-keyed mappings of them",
            remedy="convert it before recording, e.g. float(x) for a NumPy scalar, None for a missing number",
        ) from error


def _encodes(value: JSON) -> bool:
    try:
        json.dumps(value, allow_nan=False)
    except (TypeError, ValueError, RecursionError):
        return False
    return True
