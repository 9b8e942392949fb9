"""What a framework adds to one client's task, where the training itself costs next to nothing.

64 clients a round, each with 20 examples of 32 features, take one step of SGD on a network of 2,762 parameters, all of
them trained; then the mean. Milliseconds a client and round, of the rounds after the third: what starts up is left out.
CPU time, our contenders interleaved in one process; pfl runs in a process of its own between them; Flower on Ray (two
actors) and NVFlare use several processes and are given in wall time. All but NVFlare compute the same: their last
models must agree with the plain loop's, or this ends with an error. NVFlare takes seconds a task, and has 2 clients a
round.

`trainer` is `Trainer.run` on a round's jobs and the mean. `messages` is a whole federation: coordinator, Flower's Grid
and ClientApp, agent, trainer and journal, once with each message passed through Flower's wire format, as a run does by
default to count its bytes, and once without; and with a trainer that does nothing, which leaves the messages alone.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from fedpeft.bench import Figure, Goal, PeerMissing, Peers, main, say
from simulations.benchmarks.tiny_task import CLIENTS, messages, plain, together, trainer

PEERS = ("pfl", "flower", "nvflare")
SKIPPED = 3  # rounds that belong to starting up
CPU, WALL = "a client's task, CPU time", "a client's task, wall time on two cores"
PLAIN, PFL = "plain torch loop", "pfl, one process"
TRAINER, TOGETHER = "trainer, one client after another", "trainer, many clients in one pass"
MESSAGES, COUNTED, SINGLY = "messages", "messages, bytes counted", "messages, one client after another"
IDLE, IDLE_COUNTED = "messages, nothing trained", "messages, bytes counted, nothing trained"
TRAINER_GOAL, TOGETHER_GOAL, MESSAGES_GOAL = 0.2, 0.03, 0.5  # ms


WHY_TRAINER = (
    "every client has an optimizer, a random stream and a walk over the modules of its own; it is what runs where "
    "clients cannot be trained together"
)
WHY_TOGETHER = (
    "choosing, fetching and shaping each client's examples is work of its own; the pass alone takes about 0.03 ms"
)


def measure(quick: bool) -> list[Figure]:
    """Milliseconds a client's task.

    Raises:
        RuntimeError: a contender came to another model than the plain loop.
    """
    import torch

    torch.set_num_threads(1)
    rounds, repeats = (8, 1) if quick else (20, 5)
    contenders: dict[str, Callable[[int], tuple[list[float], float]]] = {
        PLAIN: plain,
        TRAINER: trainer,
        TOGETHER: together,
        MESSAGES: messages,
        COUNTED: lambda n: messages(n, wire=True),
        SINGLY: lambda n: messages(n, trainer="sequential"),
        IDLE: lambda n: messages(n, idle=True),
        IDLE_COUNTED: lambda n: messages(n, wire=True, idle=True),
    }
    samples: dict[str, list[float]] = {name: [] for name in (*contenders, PFL)}
    missing: dict[str, str] = {}
    norms: dict[str, float] = {}
    for turn in range(repeats):
        for name, contender in contenders.items():
            say(f"{name} ({turn + 1} of {repeats})")
            seconds, norms[name] = contender(rounds)
            samples[name] += per_task(seconds[SKIPPED:])
        say(f"{PFL} ({turn + 1} of {repeats})")
        try:
            said = peer("pfl", "pfl_mlp.py", rounds)
            check(PFL, said["norm"], plain(rounds + 1)[1])
            samples[PFL] += per_task(said["seconds"][SKIPPED - 1 :])
        except PeerMissing as why:
            missing[PFL] = str(why)
    for name, norm in norms.items():
        if name not in (IDLE, IDLE_COUNTED):
            check(name, norm, norms[PLAIN])
    shown: dict[str, Sequence[Goal]] = {
        TRAINER: (Goal(TRAINER_GOAL, why=WHY_TRAINER), Goal(None, PFL), Goal(None, PLAIN)),
        TOGETHER: (Goal(TOGETHER_GOAL, why=WHY_TOGETHER), Goal(2.0, PFL), Goal(None, PLAIN)),
        MESSAGES: (Goal(MESSAGES_GOAL), Goal(None, PFL)),
        COUNTED: (Goal(None, PFL),),
        SINGLY: (Goal(None, PFL),),
    }
    figures = []
    for name, found in samples.items():
        role: Any = "peer" if name in (PLAIN, PFL) else "own"
        goals = shown.get(name, ())
        if name in missing:
            figures.append(Figure.missing(name, missing[name], "ms", group=CPU, role=role, goals=goals))
        else:
            figures.append(Figure.of(name, found, "ms", group=CPU, role=role, goals=goals))
    return figures + list(on_several_processes(quick))


def on_several_processes(quick: bool) -> Iterator[Figure]:
    """The peers that need more than one process, and ours in wall time beside them."""
    say("wall time")
    own, _ = messages(8 if quick else 30, wire=True, clock=time.perf_counter)
    rounds = 3 if quick else 20
    peers = {"Flower, two Ray actors": ("flower", "flower_mlp.py"), "NVFlare simulator": ("nvflare", "nvflare_mlp.py")}
    names = list(peers)
    yield Figure.of(COUNTED, per_task(own[SKIPPED:]), "ms", group=WALL, goals=[Goal(None, name) for name in names])
    for name, (home, script) in peers.items():
        say(name)
        clients, turns = (CLIENTS, rounds) if home == "flower" else (2, 3)  # NVFlare takes seconds a task
        try:
            said = peer(home, script, turns, clients)
            if home == "flower":
                check(name, said["norm"], plain(turns + 1)[1])
            note = "" if clients == CLIENTS else f"{clients} clients a round"
            yield Figure.of(name, per_task(said["seconds"], clients), "ms", group=WALL, role="peer", note=note)
        except PeerMissing as why:
            yield Figure.missing(name, why, "ms", group=WALL)


def check(name: str, norm: float, expected: float) -> None:
    """Refuse a contender that has come to another model than the plain loop has after as many rounds.

    Raises:
        RuntimeError: it has.
    """
    if not abs(norm / expected - 1) <= 1e-5:
        raise RuntimeError(f"{name}: the last model has norm {norm:.6f}, the plain loop's has {expected:.6f}")


def per_task(seconds: Sequence[float], clients: int = CLIENTS) -> list[float]:
    """Seconds of rounds -> milliseconds of a client's task."""
    return [1e3 * second / clients for second in seconds]


def peer(name: str, script: str, rounds: int, clients: int = CLIENTS) -> Any:
    """What a peer's script said: the seconds of so many rounds after a first one, and its last model's norm."""
    peers = Peers(Path(__file__).parent / "peers")
    return peers.run(name, script, {"clients": clients, "rounds": rounds}, timeout=120 + 30 * rounds)


if __name__ == "__main__":
    sys.exit(main(__file__, measure))
