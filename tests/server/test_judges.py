"""Who trains the whole model so that others can be judged: as many as needed, drawn, and no more."""

from collections import Counter

import pytest

from fedpeft.server.judges import Judges
from fedpeft.types import ClientId, ClientInfo, NodeId


def cohort(count):
    return [ClientInfo(ClientId(f"c{k:02}"), NodeId(k), 10) for k in range(count)]


def play(size, would, able=None, besides=0, whole=0, spare=0, seed=1, number=3):
    """Whole or not of each client, and who had to be.

    Args:
        would: clients that choose a whole arm by themselves.
    """
    infos = cohort(size)
    able = infos if able is None else [infos[k] for k in able]
    judges = Judges(infos, able, besides, whole, spare, seed, (number, 0))
    found, had_to = {}, []
    for info in judges.order:
        needed = judges.needed(info)
        own = info.client in would
        found[info.client] = own or needed
        had_to += [info.client] if needed and not own else []
        judges.chose(info, found[info.client])
    assert len(judges.order) == size
    return sum(found.values()), had_to


@pytest.mark.parametrize(("size", "judging"), [(1, 0), (2, 1), (3, 2), (4, 2), (16, 2)])
def test_where_all_would_be_pruned_two_are_not_and_never_all(size, judging):
    total, had_to = play(size, would=set())
    assert total == len(had_to) == judging


@pytest.mark.parametrize("natural", range(5))
def test_nobody_has_to_where_enough_do_by_themselves(natural):
    for seed in range(20):
        total, had_to = play(8, would={f"c{k:02}" for k in range(natural)}, seed=seed)
        assert total == max(2, natural)
        assert len(had_to) == max(0, 2 - natural)


def test_only_who_can_hold_a_whole_arm_has_to():
    for seed in range(20):
        assert play(8, would=set(), able=[5], seed=seed) == (1, ["c05"])
        assert set(play(8, would=set(), able=[1, 5, 6], seed=seed)[1]) <= {"c01", "c05", "c06"}
    assert play(8, would=set(), able=[]) == (0, [])


def test_it_is_drawn_who_has_to_and_drawn_again_the_same():
    often = Counter(client for number in range(400) for client in play(8, set(), number=number)[1])
    assert len(often) == 8
    assert max(often.values()) < 2 * min(often.values())
    assert [play(8, set(), number=n) for n in range(20)] == [play(8, set(), number=n) for n in range(20)]


def test_more_are_needed_where_not_all_are_waited_for():
    assert play(8, would=set(), spare=3)[0] == 5
    assert play(4, would=set(), spare=9)[0] == 3


def test_who_is_at_work_already_counts():
    """Asynchronous rounds ask one by one."""
    assert play(1, would=set(), besides=5, whole=2) == (0, [])
    assert play(1, would=set(), besides=5, whole=1) == (1, ["c00"])
    assert play(1, would=set(), besides=1, whole=1) == (0, [])
