"""Tables on terminals of any width: nothing is cut, and no column goes."""

import pytest
from fake_run import write_fake_run

from fedpeft.cli.look import plain_table
from fedpeft.cli.main import perform
from fedpeft.cli.output import Session, console


def printed(capsys, monkeypatch, width):
    monkeypatch.setenv("COLUMNS", str(width))
    table = plain_table("", "example passes", "95 % interval")
    table.add_row("the federated one", "40 960", "86.3 to 88.7 %")
    console().print(table)
    return capsys.readouterr().out.splitlines()


def test_the_first_column_breaks_between_its_words_and_the_others_never(capsys, monkeypatch):
    assert "the federated one" in printed(capsys, monkeypatch, 80)[2]
    narrow = printed(capsys, monkeypatch, 20)
    assert any("federated" in line for line in narrow)
    assert "example passes" in narrow[0]
    assert any("40 960   86.3 to 88.7 %" in line for line in narrow)


@pytest.mark.parametrize("width", [30, 60, 100])
def test_what_is_to_be_copied_is_on_one_line(tmp_path, monkeypatch, capsys, width):
    monkeypatch.setenv("COLUMNS", str(width))
    folder = write_fake_run(tmp_path / ("a folder " * 6).strip() / "run", finished=False)
    assert perform(["show", str(folder)], Session()) == 0
    lines = capsys.readouterr().out.splitlines()
    assert f"go on       fedpeft resume '{folder}'" in lines
    assert any(line.startswith("hash ") and len(line.split()[1]) == 64 for line in lines)
