"""Ways of running that must not change one bit of the adapter."""

from __future__ import annotations

import pytest
from tiny import Stop, run_tiny, stop_at

from fedpeft.journal import EventKind, Journal
from fedpeft.strategies import FedAdam

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def plain(tmp_path_factory):
    return run_tiny(tmp_path_factory.mktemp("plain")).adapter_hash


@pytest.mark.parametrize(
    "options",
    [
        {"engine__wire": False},
        {"engine__lookahead": 1},
        {"engine__lookahead": 2, "engine__wire": False},
        {"engine__workers": 2},
        {"engine__workers": 3, "engine__lookahead": 1},
        {"evaluation__clients": False},
        {"evaluation__every": 3},
        {"evaluation__centralised": True},
        {"round__deadline_s": 1e6},
        {"run__name": "another-name"},
    ],
    ids=str,
)
def test_how_it_is_run_does_not_matter(tmp_path, plain, options):
    assert run_tiny(tmp_path, **options).adapter_hash == plain


@pytest.mark.parametrize("options", [{"run__seed": 4}, {"codec__up": "fp16"}, {"codec__down": "fp32"}], ids=str)
def test_what_is_run_does_matter(tmp_path, plain, options):
    assert run_tiny(tmp_path, **options).adapter_hash != plain


def devices(*step_seconds):
    return [{"name": f"d{index}", "clients": 1, "step_seconds": seconds} for index, seconds in enumerate(step_seconds)]


def test_the_order_of_arrival_does_not_matter(tmp_path):
    """The same cohorts answer in another order; with the wire on and off."""
    hashes, orders = set(), set()
    for index, speeds in enumerate([(1, 2, 3, 4, 5), (5, 4, 3, 2, 1), (3, 5, 1, 4, 2)]):
        result = run_tiny(tmp_path / str(index), devices=devices(*speeds), engine__lookahead=1 + index)
        hashes.add(result.adapter_hash)
        with Journal.read(result.folder) as journal:
            orders.add(tuple(event.client for event in journal.events(EventKind.ACCEPTED)))
    assert len(orders) > 1, "the devices' speeds change the order of arrival"
    assert len(hashes) == 1


@pytest.mark.parametrize("lookahead", [1, 16])
@pytest.mark.parametrize(("kind", "count"), [(EventKind.ACCEPTED, 5), (EventKind.COMMITTED, 3), (EventKind.ASKED, 8)])
def test_interrupted_and_resumed_is_as_uninterrupted(tmp_path, kind, count, lookahead):
    options = {"engine__lookahead": lookahead}
    whole = run_tiny(tmp_path / "whole", strategy=FedAdam(learning_rate=0.01), **options)
    with pytest.raises(Stop):
        run_tiny(tmp_path / "parts", strategy=FedAdam(learning_rate=0.01), observers=[stop_at(kind, count)], **options)
    parts = run_tiny(tmp_path / "parts", strategy=FedAdam(learning_rate=0.01), resume=True, **options)
    assert parts.adapter_hash == whole.adapter_hash


@pytest.mark.parametrize("codec", ["lgreco(0.3)+zstd", "lowrank(1)+int8", "bitdelta", "sketch(0.5)+int8"])
def test_codecs_that_see_tensors_see_the_same_ones_however_it_is_run(tmp_path, codec):
    """What clients hold back, and what they find of few directions, is the same again after a kill, and on any wire."""
    options = {"codec__up": codec, "run__rounds": 5}
    whole = run_tiny(tmp_path / "whole", **options)
    assert run_tiny(tmp_path / "unwired", engine__wire=False, **options).adapter_hash == whole.adapter_hash
    with pytest.raises(Stop):
        run_tiny(tmp_path / "parts", observers=[stop_at(EventKind.ACCEPTED, 7)], **options)
    assert run_tiny(tmp_path / "parts", resume=True, **options).adapter_hash == whole.adapter_hash
    assert run_tiny(tmp_path / "other", codec__up="fp16", run__rounds=5).adapter_hash != whole.adapter_hash
