import json
import re
from importlib.resources import files

import plotly.graph_objects as go
import pytest
from fake_run import write_fake_run

from fedpeft.journal import Journal
from fedpeft.report import plots
from fedpeft.report.client_plots import clients_plot
from fedpeft.report.history import History, read_history
from fedpeft.report.metric_plots import metric_plot
from fedpeft.report.summary import summarise

OF_HISTORY = [
    metric_plot,
    plots.loss_plot,
    plots.bytes_plot,
    plots.cumulative_plot,
    plots.devices_plot,
]


def read(folder):
    with Journal.read(folder) as journal:
        return summarise(journal), read_history(list(journal.events()))


@pytest.fixture(scope="module")
def drawn(tmp_path_factory):
    result, history = read(write_fake_run(tmp_path_factory.mktemp("plots") / "demo"))
    return {plot.__name__: plot(history) for plot in OF_HISTORY} | {"clients_plot": clients_plot(result)}


def test_plotly_accepts_every_figure(drawn):
    for name, figure in drawn.items():
        plain = json.loads(re.sub(r'"@\w+"', '"#123456"', json.dumps(figure)))
        assert len(go.Figure(plain).data) == len(figure["data"]) > 0, name


def test_every_colour_is_a_variable_of_both_themes(drawn):
    light, dark = (files("fedpeft.report") / "page.css").read_text().split("@media (prefers-color-scheme: dark)")
    used = set(re.findall(r'"@(\w+)"', json.dumps(list(drawn.values()))))
    used |= {hue[1:] for hue in plots.HUES}
    assert {"federated", "up", "down"} <= used
    for theme in (light, dark.split("* {")[0]):
        assert used <= set(re.findall(r"--(\w+):", theme))


def test_no_series_is_told_by_colour_alone(drawn):
    for name, figure in drawn.items():
        looks = [
            (
                trace["type"],
                trace.get("mode"),
                trace.get("line", {}).get("dash"),
                trace.get("marker", {}).get("symbol"),
                trace.get("marker", {}).get("pattern", {}).get("shape"),
            )
            for trace in figure["data"]
            if trace.get("showlegend", True)
        ]
        assert len(set(looks)) == len(looks), name


def test_bytes_add_up(drawn):
    total = sum(drawn["bytes_plot"]["data"][0]["y"])
    assert total == pytest.approx(drawn["cumulative_plot"]["data"][0]["y"][-1]) == pytest.approx(6 * 4 * 0.17)


def test_clients_are_sorted_by_what_they_ended_with(drawn):
    after = drawn["clients_plot"]["data"][2]
    assert after["name"] == "after"
    assert after["x"] == sorted(after["x"])


def test_many_clients_have_no_labels_that_overlap(tmp_path):
    result, _ = read(write_fake_run(tmp_path / "many", clients=[f"site-{i:03}" for i in range(120)]))
    figure = clients_plot(result)
    assert figure["layout"]["yaxis"]["ticktext"] == []
    assert figure["layout"]["height"] < 1000


def test_fast_and_slow_devices_share_a_logarithmic_axis(tmp_path):
    _, history = read(write_fake_run(tmp_path / "demo"))
    assert "type" not in plots.devices_plot(history)["layout"]["yaxis"]
    history.replies[0] = type(history.replies[0])(1, "c00", "phone", 0.01, 1.0, None, None)
    assert plots.devices_plot(history)["layout"]["yaxis"]["type"] == "log"


def test_nothing_to_draw_is_no_figure(tmp_path):
    assert [plot(History()) for plot in OF_HISTORY] == [None] * len(OF_HISTORY)
    result, history = read(write_fake_run(tmp_path / "none", evaluations=False))
    assert clients_plot(result) is None
    assert metric_plot(history) is None
    assert plots.bytes_plot(history) is not None
