"""Work in processes of its own: for peaks of memory, for settings of its own, and side by side."""

from __future__ import annotations

import gc
import multiprocessing
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from typing import Any, Self, TypeVar

from fedpeft.bench.timing import Taken

T = TypeVar("T")
_PATIENCE = 30.0  # seconds that a contender has to end its last sample


def in_fresh_process(function: Callable[..., T], *arguments: Any) -> T:
    """What `function` returns, from a new interpreter that has imported its module and nothing else.

    Args:
        function: of the top level of a module.
        arguments: can be pickled, as can what it returns.
    """
    return side_by_side(function, [arguments])[0]


def side_by_side(function: Callable[..., T], calls: Sequence[tuple[Any, ...]]) -> list[T]:
    """Each call in a new process of its own, all at once; their results in order."""
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(len(calls), mp_context=context) as pool:
        return [future.result() for future in [pool.submit(function, *arguments) for arguments in calls]]


class Apart:
    """A contender of `interleaved` in a process of its own: it shares no heap, no threads and no setting with others.

    Use it as a context manager; the process starts at once, so several get ready side by side. A call runs the work
    once and returns the CPU seconds that it took there.

    Args:
        make: of the top level of a module; called there once, returns the work.
        arguments: of `make`; can be pickled.
    """

    def __init__(self, make: Callable[..., Callable[[], object]], *arguments: Any) -> None:
        context = multiprocessing.get_context("spawn")
        self._pipe, there = context.Pipe()
        self._process = context.Process(target=_serve, args=(there, make, arguments), daemon=True)
        self._process.start()
        there.close()

    def __call__(self) -> Taken:
        """One sample.

        Raises:
            RuntimeError: the work could not be set up, or failed; says why.
        """
        try:
            self._pipe.send(None)
            said = self._pipe.recv()
        except (EOFError, OSError):
            raise RuntimeError("the process of this contender ended early") from None
        if isinstance(said, str):
            raise RuntimeError(said)
        return Taken(said)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *trouble: object) -> None:
        self._pipe.close()  # it ends when it next looks
        self._process.join(_PATIENCE)
        if self._process.is_alive():
            self._process.kill()


def _serve(pipe: Any, make: Callable[..., Callable[[], object]], arguments: tuple[Any, ...]) -> None:
    """Run once for every message until the other side hangs up. What goes wrong is said in answer to a message."""
    trouble, work = "", None
    try:
        work = make(*arguments)
    except Exception as error:
        trouble = _first_line(error)
    while True:
        try:
            pipe.recv()
        except EOFError:
            return
        if work is None:
            pipe.send(trouble)
            continue
        gc.collect()
        began = time.process_time()
        try:
            work()
            pipe.send(time.process_time() - began)
        except Exception as error:
            pipe.send(_first_line(error))


def _first_line(error: Exception) -> str:
    return next((line.strip() for line in str(error).splitlines() if line.strip()), type(error).__name__)
