"""simulations/results: runs that tables are made of can be read and compared, and name no machine."""

import json
import re
from pathlib import Path

import pytest

from fedpeft.report.mixing_costs import mixing_cost
from fedpeft.report.record import read_records
from fedpeft.report.seeds import differences, group_runs
from fedpeft.report.statistics import mean_interval
from fedpeft.report.units import bytes_text, difference_interval

SIMULATIONS = Path(__file__).parents[2] / "simulations"
RESULTS = sorted((SIMULATIONS / "results").glob("*.jsonl"))


@pytest.mark.parametrize("path", RESULTS, ids=lambda path: path.stem)
def test_every_file_can_be_read_and_names_no_machine(path):
    records = read_records(path)
    assert records
    assert not re.search(r'"/\w', path.read_text(encoding="utf-8")), "a path"
    assert sum(len(group.records) for group in group_runs(records)) == len(records)


@pytest.mark.parametrize(("name", "column", "kept"), [("banking77", 2, 7), ("clinc150", 4, 8)])
def test_the_trade_says_what_its_kept_runs_do(name, column, kept):
    """Cells of simulations/CODECS.md whose three seeds are kept."""
    page = (SIMULATIONS / "CODECS.md").read_text(encoding="utf-8")
    table = page[page.index("| `codec.up` | smaller than fp32") :].partition("\n\n")[0]
    rows = {cells[1].strip(): cells for line in table.splitlines()[2:] if (cells := line.split("|"))}
    groups = group_runs(read_records(SIMULATIONS / "results" / f"codecs_{name}.jsonl"))
    groups = [group for group in groups if group.records[0].settings["codec"]["down"] == "int8"]
    groups.sort(key=lambda group: group.records[0].settings["codec"]["up"] != "fp32")
    found = {group.name: group.records[0].settings["codec"]["up"] for group in groups}
    checked = 0
    for one in differences(groups):
        up = found[one.name]
        if len(one.seeds) == 3:
            plain, without = up.removeprefix("forget+"), up.startswith("forget+")
            told = difference_interval("accuracy", one.difference.mean, one.difference.low, one.difference.high)
            assert rows[f"`{plain}`"][1 + column + without].strip() == told, up
            checked += 1
    assert checked >= kept


def test_what_was_sent_down_and_what_it_cost_are_those_of_the_kept_runs():
    page = (SIMULATIONS / "CODECS.md").read_text(encoding="utf-8")
    table = page[page.index("| `codec.down` | sent down") :].partition("\n\n")[0]
    told = {
        cells[1].strip(" `"): [c.strip() for c in cells[2:4]]
        for row in table.splitlines()[2:]
        if (cells := row.split("|"))
    }
    groups = group_runs(read_records(SIMULATIONS / "results" / "codecs_clinc150.jsonl"))
    groups = [group for group in groups if group.records[0].settings["codec"]["up"] == "int8"]
    groups.sort(key=lambda group: group.records[0].settings["codec"]["down"] != "int8")
    down = {group.name: group.records[0].settings["codec"]["down"] for group in groups}
    assert set(down.values()) == told.keys()
    for group in groups:
        sent = sum(record.frame_down for record in group.records) / len(group.records)
        assert told[down[group.name]][0] == f"{sent / 1e6:.1f} MB"
    for one in differences(groups):
        found = difference_interval("accuracy", one.difference.mean, one.difference.low, one.difference.high)
        assert (one.seeds, told[down[one.name]][1]) == ((1, 2, 3), found)


def test_the_measurements_of_mixing_are_those_of_their_runs():
    page = (SIMULATIONS / "MIXING.md").read_text(encoding="utf-8")
    table = page[page.index("| rule | seeds | after 10 rounds |") :].partition("\n\n")[0]
    rows = {line.split("|")[1].strip(): [cell.strip() for cell in line.split("|")[2:-1]] for line in table.splitlines()}
    groups = group_runs(read_records(SIMULATIONS / "results" / "mixed_ranks.jsonl"))
    groups.sort(key=lambda group: _rule(group) != "`exact-mix`")
    against = {one.name: one.difference for one in differences(groups)}
    assert {_rule(group) for group in groups} == rows.keys() - {"rule", "---"}
    for group in groups:
        told, cost = rows[_rule(group)], mixing_cost(group)
        assert told[0] == ", ".join(map(str, sorted(group.seeds)))
        for cell, number in zip(told[1:4], (10, 20, 30), strict=True):
            found = [_accuracy(record, number) for record in group.records]
            assert cell == f"{100 * sum(found) / len(found):.1f} %", (_rule(group), number)
        if group.name in against:
            one = against[group.name]
            assert told[4] == difference_interval("accuracy", one.mean, one.low, one.high)
        assert told[5] == f"{100 * group.rows['worst tenth of clients'].mean:.1f} %"
        first, mean = (100 * share for share in (cost.figures["mix_distance"][0], cost.mean("mix_distance")))
        assert told[6] == f"{first:.0f}, {mean:.0f} %"
        assert told[7] == f"{100 * cost.mean('mix_discarded'):.0f} %"
    last = {_rule(group): mixing_cost(group).figures for group in groups}
    assert f"In the last round {100 * last['`exact-mix`']['mix_carried'][-1]:.0f} % of a round's change" in page
    off = [f"{100 * last[rule]['mix_distance'][-1]:.0f}" for rule in ("`fedit`", "`exact-mix`")]
    assert f"is still {off[0]} % of a round's change away from the dense mean, and `exact-mix` {off[1]}" in page
    begin = [_accuracy(record, 10) for group in groups for record in group.records if _rule(group) in EARLY]
    assert "2.0 points more than the plain means of `fedit` (0.9 to 3.2)" in page
    row = mean_interval([begin[place] - begin[place + 3] for place in range(3)])
    assert [f"{100 * value:.1f}" for value in (row.mean, row.low, row.high)] == ["2.0", "0.9", "3.2"]


def test_the_measurements_of_pruning_are_those_of_their_runs():
    page = (SIMULATIONS / "PRUNING.md").read_text(encoding="utf-8")
    table = page[page.index("| left out by | seeds | after 10 rounds |") :].partition("\n\n")[0]
    rows = {line.split("|")[1].strip(): [cell.strip() for cell in line.split("|")[2:-1]] for line in table.splitlines()}
    groups = group_runs(read_records(SIMULATIONS / "results" / "pruned_banking77.jsonl"))
    groups.sort(key=lambda group: _importance(group) != "nothing")
    against = {one.name: one.difference for one in differences(groups)}
    assert {_importance(group) for group in groups} == rows.keys() - {"left out by", "---"}
    for group in groups:
        told, count = rows[_importance(group)], len(group.records)
        assert told[0] == ", ".join(map(str, sorted(group.seeds)))
        for cell, number in zip(told[1:4], (10, 20, 30), strict=True):
            assert cell == f"{100 * sum(_accuracy(record, number) for record in group.records) / count:.1f} %"
        if group.name in against:
            one = against[group.name]
            assert told[4] == difference_interval("accuracy", one.mean, one.low, one.high)
        assert told[5] == f"{100 * group.rows['worst tenth of clients'].mean:.1f} %"
        assert told[6] == f"{sum(record.tests[-1].seconds for record in group.records) / count:.0f} s"
        assert told[7] == bytes_text(group.uplink)
    found = {_importance(group): group for group in groups}
    for name, told in (("`magnitude`", "{:.1f} points more than magnitudes"), ("`random`", "{:.1f} more than chance")):
        (one,) = differences([found[name], found["`lora-gradient`"]])
        low, high = (_signed(100 * end) for end in (one.difference.low, one.difference.high))
        assert f"{told.format(100 * one.difference.mean)} ({low} to {high}" in page
        pairs = zip(found[name].records, found["`lora-gradient`"].records, strict=True)
        assert all(_accuracy(theirs, 30) < _accuracy(ours, 30) for theirs, ours in pairs)
    apart = {}
    for name, group in found.items():
        ends = [_accuracy(record, 30) for record in group.records]
        apart[name] = f"{100 * (max(ends) - min(ends)):.1f}"
    told = (apart["`magnitude`"], apart["`random`"], apart["`lora-gradient`"])
    assert "lie {} and {} points apart, those of gradients {}.".format(*told) in page


def _signed(value):
    return f"{value:+.1f}".replace("-", "−")


def test_the_measurements_of_smaller_models_are_those_of_their_runs():
    results = SIMULATIONS / "results"
    page = (SIMULATIONS / "PRUNING.md").read_text(encoding="utf-8")
    table = page[page.index("| left out by every device |") :].partition("\n\n")[0]
    rows = [[cell.strip() for cell in line.split("|")[1:-1]] for line in table.splitlines()[2:]]
    documents = json.loads((results / "pruned_ratios_evaluated.json").read_text(encoding="utf-8"))
    models = {(one["run"], model["pruned"]): model for one in documents for model in one["models"]}
    seeds = sorted({one["run"][-1] for one in documents})
    kept = {
        record.name: record
        for name in ("pruned_ratios", "pruned_banking77")
        for record in read_records(results / f"{name}.jsonl")
    }
    assert [row[0] for row in rows] == ["nothing", "30 %", "50 %", "70 %"]
    for row, ratio in zip(rows, (0.0, 0.3, 0.5, 0.7), strict=True):
        names = [f"pruned-{f'all-{ratio}' if ratio else 'whole'}-seed{seed}" for seed in seeds]
        records = [kept[name] for name in names]
        for record in records:
            assert {table["pruning"] for table in record.settings["devices"]} == {ratio}
            assert models[record.name, 0.0]["metrics"]["accuracy"] == record.values["federated"]
        assert row[1] == f"{models[names[0], ratio]['parameters'] / 1e6:.1f} M"
        assert row[2] == _mean([models[name, 0.0] for name in names])
        assert row[5] == f"{sum(record.tests[-1].seconds for record in records) / len(records):.0f} s"
        assert row[6] == bytes_text(sum(record.frame_up for record in records) / len(records))
        if ratio:
            assert row[3] == _mean([models[name, ratio] for name in names])
            assert row[4] == _mean([models[f"pruned-whole-seed{seed}", ratio] for seed in seeds])


def _mean(models):
    """The accuracy of evaluated models, as in a table."""
    return f"{100 * sum(model['metrics']['accuracy'] for model in models) / len(models):.1f} %"


def _importance(group):
    """The first cell of a group's row in PRUNING.md."""
    settings = group.records[0].settings
    pruned = any(device.get("pruning") for device in settings["devices"])
    return f"`{settings['pruning']['importance']['name']}`" if pruned else "nothing"


EARLY = ("`exact-mix`", "`fedit`")


def _accuracy(record, number):
    """On the test set after a round."""
    return next(test.metrics["accuracy"] for test in record.tests if test.round == number)


def _rule(group):
    """The first cell of a group's row in MIXING.md."""
    table = group.records[0].settings["aggregation"]
    return f"`{table['rule']}`" + (", `residual_rank = 0`" if table.get("residual_rank") == 0 else "")
