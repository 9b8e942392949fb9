"""`round.mode`: what of `[round]` does not go with asynchronous rounds."""

from __future__ import annotations

from fedpeft.config.rounds import RoundTable
from fedpeft.explain import Contradiction


def check_mode(table: RoundTable, clients: int) -> None:
    """Refuse what an asynchronous round cannot do as it is told.

    Raises:
        Contradiction: names the key, its value and what is allowed.
    """
    if table.mode == "sync":  # what an asynchronous round needs more may stand there: one key changes the mode
        return
    if table.over_select:
        raise Contradiction(
            f'round.over_select = {table.over_select} contradicts round.mode = "async", which waits for no cohort',
            allowed="round.over_select = 0",
            remedy="remove it; round.ask says how many clients train at any time",
        )
    if table.late == "fold":
        raise Contradiction(
            'round.late = "fold" contradicts round.mode = "async", where no reply is late',
            allowed='round.late = "drop", its default',
            remedy="remove it; round.staleness says how much an older update counts",
        )
    if table.updates > clients:  # each client trains once from a version: a buffer could wait for more than there are
        raise Contradiction(
            f"round.buffer = {table.updates}, but [[devices]] has only {clients} clients",
            allowed=f"1 to {clients}",
            remedy="lower it, or add clients",
        )
