"""Many clients in one forward and backward pass of the frozen base, each with its own adapter.

The base is frozen and shared, so its products do not care whose examples they multiply; only the small adapter layers
need to know whose rows they see. A pass lines the clients' examples up, client after client, along the first axis:

    examples of c00 | examples of c07 | ...      (N·b, T)
    frozen layers                                one product over all rows
    adapter layers                               N products, client n's rows with client n's tensors Θ[n]

Files: `trainer` is the loop, `seat` one client at work, `passes` who goes together, `forward` one pass, `model` the
swap of layers, `lora` and `mapped` the two ways in which a layer serves many clients, `optimizers` their steps, `check`
examines a model and a task before the first round.
"""

from fedpeft.training.batched.check import examine
from fedpeft.training.batched.trainer import BatchedTrainer

__all__ = ["BatchedTrainer", "examine"]
