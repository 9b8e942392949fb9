"""The frame of the benchmarks: figures with targets, clocks, memory, limits of the machine, peers, one offline page.

A benchmark is one file: a docstring that says what is measured and how, and

    def measure(quick: bool) -> Iterable[Figure]: ...

    if __name__ == "__main__":
        sys.exit(main(__file__, measure))

A further argument, `delta: Path | None = None`, is an option of that file, `--delta FILE`.

`fedpeft bench` finds those of a checkout in `simulations/benchmarks/`, and takes any other by its path.
"""

from fedpeft.bench.command import main, say
from fedpeft.bench.figure import Figure, Goal
from fedpeft.bench.peers import PeerMissing, Peers
from fedpeft.bench.timing import interleaved

__all__ = ["Figure", "Goal", "PeerMissing", "Peers", "interleaved", "main", "say"]
