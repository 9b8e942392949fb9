"""Resident memory of this process, now and at its peak, from `/proc` (Linux)."""

from __future__ import annotations

from pathlib import Path

_STATUS, _CLEAR = Path("/proc/self/status"), Path("/proc/self/clear_refs")


def resident() -> int:
    """Bytes of physical memory that this process holds now (VmRSS)."""
    return _field("VmRSS")


def peak_resident() -> int:
    """The most it held since it started, or since `forget_peak` (VmHWM)."""
    return _field("VmHWM")


def forget_peak() -> None:
    """Let the peak begin anew from what is held now.

    Raises:
        OSError: not Linux, or `/proc` is closed.
    """
    _CLEAR.write_text("5")  # proc(5): resets VmHWM


def _field(name: str) -> int:
    for line in _STATUS.read_text(encoding="ascii").splitlines():
        if line.startswith(f"{name}:"):
            return 1024 * int(line.split()[1])  # given in kB, which are KiB
    raise OSError(f"{_STATUS} has no {name}")
