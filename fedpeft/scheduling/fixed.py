"""One arm for everybody, or one for each device class: the line that a bandit has to beat."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from fedpeft.errors import ConfigError, closest
from fedpeft.scheduling.arms import Arm, Grid
from fedpeft.scheduling.contract import Choice, Request, Scheduler, Setting

COORDINATES = ("rank", "pruning", "codec", "steps")


class Fixed(Scheduler):
    """The same arm in every round; it learns nothing.

    A client that the arm does not fit gets the nearest that does: the fewest places away in the lists, over all four
    coordinates; of equally near ones the first in the grid.

    Args:
        rank: of the arm; may be left out where the grid lists only one, as all of these.
        pruning: of the arm.
        codec: of the arm.
        steps: of the arm.
        by_class: device class -> those of the four in which it differs, e.g. `{ phone = { rank = 2 } }`. Ranks by
            class alone are HetLoRA's assignment (Cho et al. 2024).
    """

    needs_judges = False

    def __init__(
        self,
        rank: int | None = None,
        pruning: float | None = None,
        codec: str | None = None,
        steps: int | None = None,
        by_class: Mapping[str, Mapping[str, Any]] | None = None,
    ) -> None:
        self._told = {"rank": rank, "pruning": pruning, "codec": codec, "steps": steps}
        self._by_class = {name: dict(own) for name, own in (by_class or {}).items()}
        unknown = sorted({key for own in self._by_class.values() for key in own} - set(COORDINATES))
        if unknown:
            raise ValueError(f"by_class: {unknown[0]} is none of {', '.join(COORDINATES)}")

    def begin(self, setting: Setting) -> None:
        """See `Scheduler.begin`.

        Raises:
            ValueError: a coordinate is left out that the grid has several of, or has a value that it does not list.
        """
        super().begin(setting)
        self._of_class = {name: self.grid.place(self._arm(own)) for name, own in self._by_class.items()}
        self._others = self.grid.place(self._arm({}))

    def check_classes(self, known: Sequence[str]) -> None:
        """Whether `by_class` names classes of devices that there are.

        Raises:
            ConfigError: it names another, which would get the others' arm in silence.
        """
        for name in self._by_class:
            if name not in known:
                raise ConfigError(
                    f'scheduler.by_class: "{name}" is no class of devices of this run',
                    code="config.scheduler-class",
                    allowed=", ".join(known),
                    remedy=closest(name, known) or "name one of these, or remove it",
                )

    def choose(self, request: Request) -> Choice:
        """See `Scheduler.choose`."""
        own = self._of_class.get(request.device)
        wanted = self._others if own is None else own
        if wanted in request.offered:
            return Choice(wanted, "fixed" if own is None else "fixed for its class")
        return Choice(nearest(self.grid, wanted, request.offered), f"{self.grid.arms[wanted]} is not offered")

    def _arm(self, own: Mapping[str, Any]) -> Arm:
        values = {}
        for name, axis in zip(COORDINATES, self.grid.axes, strict=True):
            told = own.get(name, self._told[name])
            if told is None and len(axis) > 1:
                raise ValueError(f"{name} is not told, and scheduler.arms.{name} lists {list(axis)}: name one of them")
            if told is not None and told not in axis:
                raise ValueError(f"{name} = {told!r} is not in scheduler.arms.{name} = {list(axis)}")
            values[name] = axis[0] if told is None else axis[list(axis).index(told)]
        return Arm(**values)  # type: ignore[arg-type]


def nearest(grid: Grid, wanted: int, offered: Sequence[int]) -> int:
    """The offered arm that is the fewest places away from `wanted`.

    >>> grid = Grid(ranks=(2, 4, 8), ratios=(0.0,), codecs=("int8",), steps=(4,))
    >>> nearest(grid, 2, (0, 1))
    1
    """
    target = grid.coordinates[wanted]

    def away(place: int) -> int:
        return sum(abs(a - b) for a, b in zip(grid.coordinates[place], target, strict=True))

    return min(offered, key=lambda place: (away(place), place))
