"""How long arms take a device, learned from replies: a line per device class, a factor per client.

A client k of class c under arm a, which sends b(a) megabytes and computes as much as s(a) whole steps, is expected to
answer after

    T_k(a) = e^(u_k) w_c · φ(a),      φ(a) = (1, b(a), s(a)),      w_c >= 0

w_c: what a round takes anyway (the broadcast), seconds a megabyte, seconds a step. It minimises relative errors,

    Σ_i ρ^(n-i) ((T_i - w · φ(a_i)) / T̂_i)² + κ Σ_j m_j (w_j / f - w⁰_j)²

over the class's replies i, T̂_i what was expected of it (nothing yet: T_i). w⁰ is the same fit over the replies of all
classes, f how many times as long as by w⁰ this class takes, and m_j the mean of φ_j² / T̂²: a class of which little is
known is taken for a usual one that is faster or slower on the whole. ρ forgets, since devices get hot and networks
busy. u_k is the client's own mean log ratio of what it took to what its class takes, drawn towards 0 while there are
few. Who was not back at the deadline D is taken to have needed 1.25 D, or T_k(a) where that is more.

Three numbers are enough for every arm of the grid, and a few replies for three numbers, where a mean for each arm
would need a reply of each class to each arm.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from itertools import product
from typing import Any

import numpy as np
import numpy.typing as npt

Numbers = npt.NDArray[np.float64]

TIE = 0.05
"""κ: the usual class decides what a class's own replies leave open, and no more. On the fleets of `fedpeft bench
scheduling` half a reply's weight cost 1 % of the speed: arms never tried on a slow line were taken for quick."""

ODD = 5.0
"""A reply that took more than so many times as long as expected, or less than that part of it, counts as so much."""

MANY = 32
"""Clients that a class is planned by; larger ones by as many quantiles."""

LATE = 1.25
"""Who missed a deadline is taken to have needed so many times as long: more than it by more than what replies scatter,
else a fit through replies in time would put the arm that missed just in time again."""

OWN = 2.0
"""So many replies of its own make a client's factor count half."""


class PaceTimes:
    """Expected seconds of arms.

    Args:
        loads: φ(a) without its 1, shape (K, 2): megabytes sent, whole steps computed.
        discount: ρ in (0, 1].
    """

    def __init__(self, loads: Numbers, discount: float) -> None:
        self.features = np.column_stack([np.ones(len(loads)), loads])  # (K, 3)
        self.discount = discount
        self._sums: dict[str, Numbers] = {}  # device class -> Σ φφᵀ/T̂² and, in the last column, Σ φ T/T̂²: (3, 4)
        self._heard: dict[str, float] = {}  # device class -> replies, discounted
        self._own: dict[str, dict[str, tuple[float, float]]] = {}  # device class -> client -> Σ log ratio, count
        self._fits: dict[str, Numbers] = {}  # device class -> w

    def add(self, client: str, device: str, place: int, seconds: float) -> None:
        """A reply that came so many seconds after it was asked for."""
        usual = self.of(device)
        expected = max(seconds if usual is None else float(usual[place]), 1e-3)
        ratio = min(max(seconds / expected, 1.0 / ODD), ODD)
        phi = self.features[place] / expected
        sums = self._sums.setdefault(device, np.zeros((3, 4)))
        sums *= self.discount
        sums[:, :3] += np.outer(phi, phi)
        sums[:, 3] += phi * ratio
        self._heard[device] = self.discount * self._heard.get(device, 0.0) + 1.0
        own = self._own.setdefault(device, {})
        total, count = own.get(client, (0.0, 0.0))
        own[client] = (self.discount * total + math.log(ratio), self.discount * count + 1.0)

    def miss(self, client: str, device: str, place: int, deadline: float) -> None:
        """No reply within so many seconds."""
        expected = self.of(device, client)
        self.add(client, device, place, max(LATE * deadline, 0.0 if expected is None else float(expected[place])))

    def refit(self) -> None:
        """Take up what was added. Classes in order of their names: a sum of floats depends on it."""
        devices = sorted(self._sums)
        everything = sum((self._sums[device] for device in devices), np.zeros((3, 4)))
        if not everything.any():
            return
        usual = _fit(everything, np.zeros(3), 1e-9 * np.diag(everything) + 1e-12)
        weight = TIE * np.diag(everything) / sum(self._heard[device] for device in devices)
        self._fits = {}
        for device in devices:
            sums = self._sums[device]
            slower = float(usual @ sums[:, 3]) / max(float(usual @ sums[:, :3] @ usual), 1e-12)
            self._fits[device] = _fit(sums, slower * usual, weight / max(slower, 1e-6) ** 2)

    def of(self, device: str, client: str = "") -> Numbers | None:
        """Seconds of all arms, shape (K,); None where nothing is known of the class.

        Args:
            device: the class.
            client: one of it; of a client that was never heard of, what its class takes.
        """
        fit = self._fits.get(device)
        if fit is None:
            return None
        seconds: Numbers = self.features @ fit * self._factor(self._own.get(device, {}).get(client, (0.0, 0.0)))
        return seconds

    def factors(self, device: str) -> Numbers:
        """e^u of the class's clients that were heard of, ascending; of more than `MANY`, so many of their quantiles."""
        found = np.sort([self._factor(own) for own in self._own.get(device, {}).values()])
        if len(found) <= MANY:
            return found
        quantiles: Numbers = np.quantile(found, (np.arange(MANY) + 0.5) / MANY)
        return quantiles

    @staticmethod
    def _factor(own: tuple[float, float]) -> float:
        return math.exp(own[0] / (own[1] + OWN))

    def state(self) -> dict[str, Any]:
        """As JSON values."""
        return {
            "sums": {device: self._sums[device].tolist() for device in sorted(self._sums)},
            "heard": {device: self._heard[device] for device in sorted(self._heard)},
            "own": {
                device: {client: list(known[client]) for client in sorted(known)}
                for device, known in sorted(self._own.items())
            },
        }

    def restore(self, state: Mapping[str, Any]) -> None:
        """Go on from what `state` returned."""
        self._sums = {device: np.array(sums, dtype=np.float64) for device, sums in state["sums"].items()}
        self._heard = {device: float(count) for device, count in state["heard"].items()}
        self._own = {
            device: {client: (float(total), float(count)) for client, (total, count) in known.items()}
            for device, known in state["own"].items()
        }
        self.refit()


def _fit(sums: Numbers, pull: Numbers, weights: Numbers) -> Numbers:
    """w >= 0 of least relative error: the best of the 7 choices of what is not 0, each a small linear system."""
    gram, moment = sums[:, :3], sums[:, 3]
    best, lowest = np.zeros(3), math.inf
    for chosen in list(product((True, False), repeat=3))[:-1]:
        part = np.flatnonzero(chosen)
        matrix = gram[np.ix_(part, part)] + np.diag(weights[part])
        found = np.zeros(3)
        found[part] = np.linalg.solve(matrix, moment[part] + (weights * pull)[part])
        if (found < 0).any():
            continue
        error = float(found @ gram @ found - 2.0 * moment @ found + weights @ (found - pull) ** 2)
        if error < lowest:
            best, lowest = found, error
    return best
