"""Clients spread over worker processes, or over the nodes of a Ray cluster.

A client's result does not depend, bit by bit, on who is trained beside it (`BatchedTrainer`). So a cohort may be cut
into shares, each trained by another process or machine of the same kind, and the run ends with the same adapter hash.

    shares      how a cohort is cut: by expected work
    workshop    the contract between who hands out work and who does it
    spread      the trainer that hands out shares, and gives those of a worker that died to another
    workbench   what a worker does with a share
    processes   workers on this machine: forked, or started anew
    on_ray      workers on the nodes of a Ray cluster
    ray_cluster the connection to it
    choice      which of them a run file asks for
"""

from fedpeft.simulation.workers.choice import open_trainer, worker_count
from fedpeft.simulation.workers.spread import SpreadTrainer

__all__ = ["SpreadTrainer", "open_trainer", "worker_count"]
