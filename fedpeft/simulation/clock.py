"""A clock on which waiting costs nothing."""

from __future__ import annotations


class VirtualClock:
    """Monotonic simulated seconds, from 0; `sleep` moves them on at once."""

    def __init__(self) -> None:
        self._now = 0.0

    def now(self) -> float:
        """Seconds since the start."""
        return self._now

    def sleep(self, seconds: float) -> None:
        """Move on by `seconds`."""
        self._now += max(0.0, seconds)
