"""What SCHEDULING.md and the README say of fleets is what the runs that are kept say."""

from itertools import product
from pathlib import Path

from fedpeft.report.record import read_records
from fedpeft.report.seeds import group_runs
from fedpeft.report.targets import Target, seconds_to, times_to

SIMULATIONS = Path(__file__).parents[2] / "simulations"


def test_the_measurements_of_scheduling_are_those_of_their_runs():
    page = (SIMULATIONS / "SCHEDULING.md").read_text(encoding="utf-8")
    table = page[page.index("| | to 75 % | to 80 % | to 84 % |") :].partition("\n\n")[0]
    groups = group_runs(read_records(SIMULATIONS / "results" / "fedspine_banking77.jsonl"))
    groups = [group for group in groups if len(group.seeds) == 3]
    first = next(group for group in groups if "8 steps for all" in _row(group))
    groups.sort(key=lambda group: group is not first)
    rows = {line.split("|")[1].strip(): [cell.strip() for cell in line.split("|")[2:-1]] for line in table.splitlines()}
    checked = 0
    for group, one in zip(groups, times_to(groups, Target("accuracy", 0.8)), strict=True):
        if (name := _row(group)) not in rows:
            continue
        told = rows[name]
        for cell, value in zip(told, (0.75, 0.8, 0.84), strict=False):
            seconds = [seconds_to(record, Target("accuracy", value)) for record in group.records]
            found = "never" if None in seconds else f"{sum(seconds) / 3:.1f} s"
            assert cell == found, (name, value)
        assert one.times is not None
        assert told[3].startswith(f"{one.times[0]:.2f}×")
        assert group is first or told[3].endswith(f"({one.times[1]:.2f} to {one.times[2]:.2f})")
        late = [_accuracy_at(record, 60) for record in group.records]
        assert told[4] == f"{100 * sum(late) / 3:.1f} %"
        ends = [record.values["federated"] for record in group.records]
        assert told[5].startswith(f"{100 * sum(ends) / 3:.1f} %")
        checked += 1
    assert checked == 6
    pair = [next(group for group in groups if _row(group) == name) for name in ("oracle", "pacing")]
    behind = [1 / times_to(pair, Target("accuracy", value))[1].times[0] - 1 for value in (0.75, 0.8, 0.84)]
    assert f"takes {100 * min(behind):.0f} to {100 * max(behind):.0f} % longer than the oracle (aim: 15)" in page
    targets = [Target("accuracy", value) for value in (0.75, 0.8, 0.84)]
    one, two, three = (times_to([first, pair[1]], target)[1].times for target in targets)
    assert f"is {one[0]:.2f}, {two[0]:.2f} and {three[0]:.2f} times as fast as that fixed arm to the three" in page
    assert f"seeds tell {one[0]:.2f} from 1 ({one[1]:.2f} to {one[2]:.2f})" in page
    assert two[1] < 1
    assert three[1] < 1
    sooner = [
        seconds_to(mine, target) / seconds_to(other, target)
        for mine, other in zip(pair[1].records, first.records, strict=True)
        for target in targets
    ]
    assert sum(share < 1 for share in sooner) == 8
    assert f"slower by {100 * max(sooner) - 100:.0f} % in the ninth" in page
    found = {_row(group): sum(_accuracy_at(record, 60) for record in group.records) / 3 for group in groups}
    assert f"after 60 *seconds* {100 * (found['pacing'] - found[_row(first)]):.1f} less" in page


def test_the_measurements_of_single_arms_are_those_of_their_runs():
    page = (SIMULATIONS / "SCHEDULING.md").read_text(encoding="utf-8")
    table = page[page.index("| rank, pruning | 8 steps | 4 steps | 2 steps |") :].partition("\n\n")[0]
    lines = [[cell.strip() for cell in line.split("|")[1:-1]] for line in table.splitlines()[2:]]
    cells = {(line[0], steps): cell for line in lines for steps, cell in zip((8, 4, 2), line[1:], strict=True)}
    found = {}
    for record in read_records(SIMULATIONS / "results" / "fedspine_banking77.jsonl"):
        table = record.settings["scheduler"]
        if table["name"] == "fixed" and not table.get("by_class") and record.seed == 1:
            row = f"{table['rank']}, {'half' if table['pruning'] else 'whole'}"
            seconds, last = seconds_to(record, Target("accuracy", 0.8)), record.tests[-1]
            missed = f"not in {last.seconds:.1f} s: {100 * last.metrics['accuracy']:.1f} %"
            found[row, table["steps"]] = missed if seconds is None else f"{seconds:.1f} s"
    assert {arm for arm, cell in cells.items() if cell != "not measured"} == found.keys()
    for arm, cell in found.items():
        assert cells[arm].removesuffix(" (the first row)") == cell


def test_the_measurements_of_unequal_fleets_are_those_of_their_runs():
    page = (SIMULATIONS / "SCHEDULING.md").read_text(encoding="utf-8")
    table = page[page.index("| `fleet.inequality` | to win") :].partition("\n\n")[0]
    lines = [[cell.strip() for cell in line.split("|")[1:-1]] for line in table.splitlines()[2:]]
    rows = {(cells[0], cells[2]): cells[3:] for cells in lines}
    records = read_records(SIMULATIONS / "results" / "fedspine_unequal.jsonl")
    once = {_row(group): group.records[0] for group in group_runs(records) if len(group.seeds) == 1}
    groups = [group for group in group_runs(records) if len(group.seeds) == 3]
    found = {(str(group.records[0].settings["fleet"]["inequality"]), _row(group)): group for group in groups}
    assert found.keys() == rows.keys()
    targets = [Target("accuracy", value) for value in (0.75, 0.8, 0.84)]
    for fleet in ("0.5", "2.0"):
        mine = [group for (of, _), group in found.items() if of == fleet]
        mine.sort(key=lambda group: "for all" not in _row(group))
        assert all(group.seeds == (1, 2, 3) for group in mine)
        faster = [times_to(mine, target) for target in targets]
        for place, group in enumerate(mine):
            told = rows[fleet, _row(group)]
            for cell, target in zip(told[:3], targets, strict=True):
                assert cell == f"{sum(seconds_to(record, target) for record in group.records) / 3:.1f} s"
            if place:
                assert told[3] == ", ".join(f"{each[place].times[0]:.2f}" for each in faster) + "×"
                assert told[4] == f"{faster[1][place].times[1]:.2f} to {faster[1][place].times[2]:.2f}"
    told = [
        f"{seconds_to(once[f'fixed: rank {rank}, whole, {steps} steps for all'], targets[1]):.1f} s"
        for rank, steps in ((2, 8), (8, 4))
    ]
    own = seconds_to(found["2.0", "fixed: rank 8, whole, 8 steps for all"].records[0], targets[1])
    assert f"rank 2 with 8 steps takes {told[0]} and rank 8 with 4 steps {told[1]}, the same arm {own:.1f} s" in page
    pair = [found["2.0", name] for name in ("oracle", "pacing")]
    behind = [100 / times_to(pair, target)[1].times[0] - 100 for target in targets]
    assert f"and takes {min(behind):.0f} to {max(behind):.0f} % longer than the oracle. On the more equal" in page
    pacing = [seconds_to(record, target) for record in found["2.0", "pacing"].records for target in targets]
    fixed = found["2.0", "fixed: rank 8, whole, 8 steps for all"].records
    assert all(2 * a < seconds_to(*b) for a, b in zip(pacing, product(fixed, targets), strict=True))


def test_the_readme_shows_what_the_pages_do():
    readme = (SIMULATIONS.parent / "README.md").read_text(encoding="utf-8")
    table = readme[readme.index("| | half as unequal |") :].partition("\n\n")[0]
    found = {}
    for name in ("fedspine_banking77", "fedspine_unequal"):
        for group in group_runs(read_records(SIMULATIONS / "results" / f"{name}.jsonl")):
            if group.seeds == (1, 2, 3):
                seconds = [seconds_to(record, Target("accuracy", 0.8)) for record in group.records]
                fleet = group.records[0].settings["fleet"]["inequality"]
                found[_row(group), fleet] = f"{sum(seconds) / 3:.1f} s" if None not in seconds else "never"
    rows = [[cell.strip() for cell in line.split("|")[2:-1]] for line in table.splitlines()[2:]]
    for row, name in zip(rows, ("fixed: rank 8, whole, 8 steps for all", "pacing", "oracle"), strict=True):
        assert row == [found[name, fleet] for fleet in (0.5, 1.0, 2.0)]
    for name, inequality, value, told in (
        ("fedspine_unequal", 2.0, 0.8, "{:.1f} times as fast (95 % interval {:.1f} to {:.1f})"),
        ("fedspine_banking77", 1.0, 0.8, "tell its {:.2f} times from 1 ({:.1f} to {:.1f})"),
        ("fedspine_clinc150", 1.0, 0.85, "it is {:.1f} times as fast ({:.1f} to {:.1f})"),
    ):
        groups = {
            _row(group): group
            for group in group_runs(read_records(SIMULATIONS / "results" / f"{name}.jsonl"))
            if group.seeds == (1, 2, 3) and group.records[0].settings["fleet"]["inequality"] == inequality
        }
        pair = [groups["fixed: rank 8, whole, 8 steps for all"], groups["pacing"]]
        assert told.format(*times_to(pair, Target("accuracy", value))[1].times) in readme
    page = (SIMULATIONS / "PRUNING.md").read_text(encoding="utf-8")
    half = next(line for line in page.splitlines() if line.startswith("| 50 % |")).split("|")
    assert f"the smaller model has {half[4].strip()} (whole: 90.0 %; cut after a training of the whole: " in readme
    assert f"training of the whole: {half[5].strip()})" in readme


def test_the_measurements_of_clinc150_are_those_of_their_runs():
    page = (SIMULATIONS / "SCHEDULING.md").read_text(encoding="utf-8")
    table = page[page.index("| | seeds | to 75 % | to 80 % | to 85 %") :].partition("\n\n")[0]
    lines = [[cell.strip() for cell in line.split("|")[1:-1]] for line in table.splitlines()[2:]]
    rows = {cells[0]: cells[1:] for cells in lines}
    groups = group_runs(read_records(SIMULATIONS / "results" / "fedspine_clinc150.jsonl"))
    groups.sort(key=lambda group: "rank 8, whole, 8 steps for all" not in _row(group))
    assert {_row(group) for group in groups} == rows.keys()
    for group, one in zip(groups, times_to(groups, Target("accuracy", 0.85)), strict=True):
        told, count = rows[_row(group)], len(group.records)
        assert told[0] == ", ".join(map(str, sorted(group.seeds)))
        for cell, value in zip(told[1:5], (0.75, 0.8, 0.85, 0.87), strict=True):
            seconds = [seconds_to(record, Target("accuracy", value)) for record in group.records]
            assert cell == ("never" if None in seconds else f"{sum(seconds) / count:.1f} s"), (_row(group), value)
        if one.mean is None:
            assert told[5] == ""
        elif one.times[1] is None or group is groups[0]:
            assert told[5] == f"{one.times[0]:.2f}×"
        else:
            assert told[5] == f"{one.times[0]:.2f}× ({one.times[1]:.2f} to {one.times[2]:.2f})"
        ends = [record.values["federated"] for record in group.records]
        last = sum(record.tests[-1].seconds for record in group.records) / count
        assert told[6] == f"{100 * sum(ends) / count:.1f} %, {last:.0f} s"
    names = [_row(group) for group in groups]
    found = {name: group.records for name, group in zip(names, groups, strict=True)}
    fixed, others = "fixed: rank 8, whole, 8 steps for all", ("pacing", "oracle")
    late = [f"{100 * sum(_accuracy_at(record, 45) for record in found[name]) / 3:.1f} %" for name in (fixed, *others)]
    assert f"after 45 s it has {late[0]}, `pacing` {late[1]}, the oracle {late[2]}" in page
    for seed in range(3):
        target = Target("accuracy", 0.85)
        assert seconds_to(found["pacing"][seed], target) < seconds_to(found[fixed][seed], target)
    behind = []
    for value in (0.75, 0.8, 0.85, 0.87):
        _, pacing = times_to([groups[names.index(one)] for one in ("oracle", "pacing")], Target("accuracy", value))
        behind.append(100 / pacing.times[0] - 100)
    told = (
        f"takes at most {max(behind[1:]):.0f} % longer than the oracle (aim: 15), to 80 % even {-behind[1]:.0f} % less"
    )
    assert f"{told}; at 75 %" in page
    assert f"first rounds, {behind[0]:.0f} %" in page
    more = 100 * (_end(found[fixed]) - _end(found["pacing"]))
    assert f"the fixed arm has {more:.1f} points more than `pacing`" in page
    trio = [groups[names.index(one)] for one in (fixed, *others)]
    (_, pacing, oracle), (_, _, early) = (times_to(trio, Target("accuracy", value)) for value in (0.87, 0.85))
    assert f"is {early.times[0]:.2f} times as fast to 85 %, and {oracle.times[0]:.2f} times to 87 %" in page
    assert f"where `pacing` is {pacing.times[0]:.2f}" in page


def _end(records):
    """Mean accuracy on the whole test set after the last round."""
    return sum(record.values["federated"] for record in records) / len(records)


def _accuracy_at(record, seconds):
    """On the straight line between two evaluations."""
    after = next(place for place, one in enumerate(record.tests) if one.seconds >= seconds)
    (a, b) = record.tests[after - 1 : after + 1]
    share = (seconds - a.seconds) / (b.seconds - a.seconds)
    return a.metrics["accuracy"] + share * (b.metrics["accuracy"] - a.metrics["accuracy"])


def _row(group):
    """The first cell of a group's row."""
    table = group.records[0].settings["scheduler"]
    if table["name"] != "fixed":
        return table["name"]
    if table.get("by_class"):
        return "HetLoRA's ranks by class: TX2 rank 2, the others 8, 8 steps"
    return f"fixed: rank {table['rank']}, {'half' if table['pruning'] else 'whole'}, {table['steps']} steps for all"
