"""`[adapter] type` and a device class's rank, from the run file to the export."""

import pytest
import safetensors.torch
from tiny_text import write_run

import fedpeft.api
from fedpeft.config import load_run_file
from fedpeft.errors import ConfigError, PluginError
from fedpeft.journal import EventKind, Journal


def run(path):
    return fedpeft.api.run(load_run_file(path))


@pytest.mark.parametrize("task", ["label-names", "linear-head"])
@pytest.mark.parametrize("kind", ["bitfit", "ssf"])
def test_a_kind_runs_and_is_exported(tmp_path, kind, task):
    found = run(write_run(tmp_path, adapter={"type": kind}, model__task=task))
    assert found.rounds == 2
    tensors = safetensors.torch.load_file(found.folder / "adapter" / "trained.safetensors")
    endings = {"bitfit": ("bias", "classifier.weight"), "ssf": (".scale", ".shift", "classifier.weight", ".bias")}
    assert all(name.endswith(endings[kind]) or "pooler" in name for name in tensors)
    merged = fedpeft.api.export(found.folder, tmp_path / "merged", merged=True)
    assert (merged / "model.safetensors").is_file()


def test_an_unknown_kind_is_named_before_anything_is_loaded(tmp_path):
    with pytest.raises(PluginError) as caught:
        run(write_run(tmp_path, adapter__type="bitfat", model__source="no-such-folder"))
    assert 'adapter "bitfat"' in str(caught.value)
    assert "bitfit" in str(caught.value.remedy)


def mixed(folder, rank):
    devices = [{"name": "phone", "clients": 2}, {"name": "watch", "clients": 1, "rank": rank}]
    return write_run(folder, devices=devices, round__ask=3, adapter={"rank": 2, "alpha": 4})


def test_a_device_class_may_have_a_smaller_rank(tmp_path):
    lower, same = run(mixed(tmp_path / "1", 1)), run(mixed(tmp_path / "2", 2))
    assert lower.rounds == same.rounds == 2
    assert lower.adapter_hash != same.adapter_hash
    with Journal.read(lower.folder) as journal:
        assert not list(journal.events(EventKind.REFUSED))


def test_a_rank_above_the_adapter_s_is_refused(tmp_path):
    with pytest.raises(ConfigError, match=r"devices\.rank = 3"):
        load_run_file(mixed(tmp_path, 3))
