import json
import re
from importlib.resources import files

import pytest
from fake_run import write_fake_run
from html_outline import Outline

from fedpeft.errors import JournalError
from fedpeft.report import page, write_report

HOSTILE = ["<script>alert(1)</script>", "</script><b>x", "@ink", "&amp;", "\"'><img src=x onerror=alert(1)>"]


def written(folder, **run):
    path = write_report(write_fake_run(folder, **run))
    assert path == folder / "report.html"
    return path.read_text(encoding="utf-8")


def figures(text):
    found = re.search(r'<script type="application/json" id="figures">(.*?)</script>', text, re.S)
    return json.loads(found[1]) if found else {}


def test_whole_run_has_all_sections_and_works_offline(tmp_path):
    text = written(tmp_path / "demo")
    outline = Outline(text)
    for title in ("Learning", "Bytes", "Clients", "Devices", "Incidents", "Plan", "Repeat it"):
        assert f"<h2>{title}</h2>" in text
    assert figures(text).keys() == {"accuracy", "loss", "clock", "bytes", "cumulative", "clients", "devices"}
    assert outline.tags.count("script") == 3  # Plotly, the figures, the page's own
    assert all(address.startswith("data:") for address in outline.loads)
    for name in figures(text):
        assert f'id="{name}"' in text


def test_headline_figures_are_those_of_the_run(tmp_path):
    text = written(tmp_path / "demo")
    assert '<div class="value">83.9 <small>%</small></div>' in text
    assert "95 % interval 81.2 to 86.3 %" in text
    assert "−4.1 <small>points</small>" in text
    assert '<div class="value">623×</div>' in text  # 2 * 28 asks * 90.9 MB over 24 * 340 100 B


@pytest.mark.parametrize(
    ("run", "expected"),
    [
        ({"rounds": 1, "incidents": False}, "every client that was asked answered in time"),
        ({"evaluations": False}, "fewer bytes"),
        ({"rounds": 4, "asked_rounds": 20, "finished": False}, "4 of 20 rounds are committed"),
        ({"rounds": 0, "asked_rounds": 3, "evaluations": False, "finished": False}, "Nothing was evaluated"),
    ],
    ids=["one round", "no evaluations", "interrupted", "just begun"],
)
def test_other_runs_render(tmp_path, run, expected):
    text = written(tmp_path / "other", **run)
    Outline(text)
    assert expected in text


def test_interrupted_run_says_how_it_goes_on(tmp_path):
    text = written(tmp_path / "cut", rounds=4, asked_rounds=20, finished=False)
    assert f"<code>fedpeft resume {tmp_path / 'cut'}</code>" in text, "it does not lie under runs/"


def test_hostile_names_stay_text(tmp_path):
    text = written(tmp_path / "demo", clients=HOSTILE + [f"d{i:02}" for i in range(7)])
    outline = Outline(text)
    assert outline.tags.count("script") == 3
    assert "img" not in outline.tags
    assert "b" not in outline.tags
    labels = figures(text)["clients"]["layout"]["yaxis"]["ticktext"]
    assert "&lt;script&gt;alert(1)&lt;/script&gt;" in labels  # Plotly reads tags in labels
    assert "@ink" in labels


def test_only_keys_of_colours_are_themed():
    script = (files("fedpeft.report") / "page.js").read_text()
    assert "/color(scale)?$/.test(key)" in script  # a client called @ink keeps its name


def test_failed_write_is_a_clear_error_and_leaves_the_old_report(tmp_path, monkeypatch):
    folder = write_fake_run(tmp_path / "demo", rounds=1)
    before = write_report(folder).read_bytes()

    def full(path, content):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(page, "write_atomically", full)
    with pytest.raises(JournalError, match="No space left") as caught:
        write_report(folder)
    assert caught.value.code == "report.not-written"
    assert (folder / "report.html").read_bytes() == before


def test_missing_run_is_named(tmp_path):
    with pytest.raises(JournalError, match="nowhere") as caught:
        write_report(tmp_path / "nowhere")
    assert caught.value.code == "journal.missing"
