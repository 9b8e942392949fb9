"""Where an export may be written."""

import pytest

from fedpeft import api
from fedpeft.errors import ConfigError, JournalError
from fedpeft.simulation.export_folder import MARK, check_export_folder, exporting_to


def test_new_empty_and_earlier_exports_are_written(tmp_path):
    (tmp_path / "empty").mkdir()
    for folder in (tmp_path / "empty", tmp_path / "new" / "deep", tmp_path / "new" / "deep"):
        with exporting_to(folder, "demo", "adapter"):
            (folder / "README.md").write_text("card")
        assert (folder / MARK).is_file()


def test_a_model_is_not_put_beside_an_adapter(tmp_path):
    """transformers would load the adapter on top of it."""
    with exporting_to(tmp_path / "out", "demo", "adapter"):
        (tmp_path / "out" / "adapter_config.json").write_text("{}")
    for kind in ("model", "pruned model"):
        with pytest.raises(ConfigError, match=f"adapter, not {kind}") as caught:
            check_export_folder(tmp_path / "out", kind)
        assert caught.value.code == "export.other-kind"
    check_export_folder(tmp_path / "out", "adapter")
    (tmp_path / "out" / MARK).write_text("{")  # one that was damaged says nothing
    check_export_folder(tmp_path / "out", "model")


def test_one_that_was_cut_short_is_written_again(tmp_path):
    def cut_short(folder):
        (folder / "model.safetensors").write_bytes(b"half")
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt), exporting_to(tmp_path / "out", "demo", "adapter"):
        cut_short(tmp_path / "out")
    with exporting_to(tmp_path / "out", "demo", "adapter"):
        pass


def test_one_of_which_nothing_came_leaves_nothing(tmp_path):
    (tmp_path / "there").mkdir()
    for name in ("there", "new"):
        with pytest.raises(ZeroDivisionError), exporting_to(tmp_path / name, "demo", "adapter"):
            raise ZeroDivisionError
    assert [path.name for path in tmp_path.iterdir()] == ["there"]
    assert list((tmp_path / "there").iterdir()) == []


@pytest.mark.parametrize("name", ["README.md", "model.safetensors", "config.json", "adapter_config.json"])
def test_a_persons_own_files_are_never_replaced(tmp_path, monkeypatch, name):
    monkeypatch.chdir(tmp_path)
    (tmp_path / name).write_text("precious")
    for folder in (tmp_path, tmp_path.relative_to(tmp_path)):
        with pytest.raises(ConfigError, match="has files in it, and is no earlier export") as caught:
            api.export(tmp_path / "run", folder)
        assert caught.value.code == "export.not-empty"
        assert MARK in caught.value.allowed
    assert [path.name for path in tmp_path.iterdir()] == [name]
    assert (tmp_path / name).read_text() == "precious"
    with pytest.raises(JournalError):  # the folder is right, there is only no run
        api.export(tmp_path / "run", tmp_path / "exported")


def test_a_file_is_no_folder(tmp_path):
    (tmp_path / "out").write_text("precious")
    for folder in (tmp_path / "out", tmp_path / "out" / "deeper"):
        with pytest.raises(ConfigError, match=rf"{tmp_path}/out is a file") as caught:
            check_export_folder(folder, "adapter")
        assert caught.value.code == "export.file"


def test_a_folder_that_cannot_be_written_is_one_error(tmp_path):
    with (
        pytest.raises(ConfigError, match=r"out cannot be written: .*full"),
        exporting_to(tmp_path / "out", "demo", "adapter"),
    ):
        raise OSError("disk full")
