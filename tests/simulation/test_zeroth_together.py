"""Keys of `[zeroth]` that were each made alone, in one run: everybody still rebuilds the same model."""

from __future__ import annotations

import pytest
from tiny_text import write_run

from fedpeft import api
from fedpeft.config import load_run_file
from fedpeft.journal import EventKind, Journal

pytestmark = pytest.mark.slow

BASE = {
    "zeroth__size": 256,
    "zeroth__refresh": 2,
    "local__optimizer": "sgd",
    "local__steps": 6,
    "run__rounds": 5,
    "codec__up": "fp16",
}
OPTIMIZERS = ["sgd", "sign", "momentum", "adam", "spsa-gc", "adamu"]
DIRECTIONS = {
    "importance": {"zeroth__sampling": "importance"},
    "importance in blocks": {"zeroth__sampling": "importance", "zeroth__blocks": 4},
    "bounded, few weights": {"zeroth__deviations": 4.0, "zeroth__sparse": 0.5},
    "near-gaussian": {"zeroth__pool": "near-gaussian", "zeroth__sampling": "importance", "zeroth__deviations": 4.0},
}


@pytest.mark.parametrize("name", OPTIMIZERS)
@pytest.mark.parametrize("directions", DIRECTIONS)
def test_every_update_is_of_the_model_that_the_coordinator_has(tmp_path, directions, name):
    path = write_run(tmp_path, **BASE, **DIRECTIONS[directions], zeroth__optimizer={"name": name})
    result = api.run(load_run_file(path))
    assert result.refused == ()
    with Journal.read(result.folder) as journal:
        assert len(list(journal.events(EventKind.ACCEPTED))) == 10


@pytest.mark.parametrize("name", ["momentum", "adamu"])
def test_resumed_is_uninterrupted(tmp_path, name):
    def config(folder):
        more = {**DIRECTIONS["importance in blocks"], "zeroth__optimizer": {"name": name}}
        return load_run_file(write_run(folder, **BASE, **more))

    class Enough(BaseException):
        pass

    def stop(event):
        if event.kind is EventKind.COMMITTED and event.round == 3:
            raise Enough

    whole, cut = api.run(config(tmp_path / "whole")), config(tmp_path / "cut")
    with pytest.raises(Enough):
        api.run(cut, observers=[stop])
    assert api.resume(cut.folder).adapter_hash == whole.adapter_hash
