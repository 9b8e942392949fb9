"""What a searching codec is judged by: the loss, on examples that the client does not train on, of what it would send.

    θ of a candidate x̂ = [ shared start + x̂ in the places that are sent | private part as the client has trained it ]

at the plan's rank. It is the client's own θ with what the coordinator would decode in the place of what was trained: a
frozen tensor keeps its start, and so does what a pruned client does without, whose candidates are judged on the whole
model.
"""

from __future__ import annotations

from collections.abc import Callable

from fedpeft.adapters.ranks import truncate
from fedpeft.adapters.sharing import Sharing
from fedpeft.codecs.searching import Judge
from fedpeft.training import TrainingJob
from fedpeft.types import FloatArray, Held


def judge_of(
    job: TrainingJob,
    delta: FloatArray,
    sharing: Sharing,
    held: Held | None,
    loss: Callable[[FloatArray], float],
    merged: int = 0,
) -> Judge:
    """The judge of one update.

    Args:
        job: that was trained.
        delta: what came of it, shape (d,).
        sharing: which part of θ travels.
        held: the places in that part that are sent; None: all.
        loss: of a θ, shape (d,), on the client's validation examples.
        merged: components of every LoRA layer that a smaller rank leaves in place.
    """
    start = truncate(job.start, sharing.whole, job.plan.rank, merged)
    shared, private = sharing.shared_of(start), sharing.private_of(start) + sharing.private_of(delta)

    def judge(decoded: FloatArray) -> float:
        moved = shared.copy()
        if held is None:
            moved += decoded
        else:
            moved[held.places] += decoded
        return loss(sharing.join(moved, private))

    return judge


__all__ = ["judge_of"]
