"""Mean and interval over seeds, and which runs belong together."""

import math
import random

import pytest
from fake_run import fake_config, write_fake_run

from fedpeft.journal import Journal
from fedpeft.report.record import record_of
from fedpeft.report.seeds import differences, group_runs
from fedpeft.report.statistics import mean_interval, student_t95


def test_quantiles_agree_with_published_tables():
    # NIST/SEMATECH e-Handbook of Statistical Methods, 1.3.6.7.2, column 0.975.
    table = {1: 12.706, 2: 4.303, 4: 2.776, 9: 2.262, 30: 2.042, 31: 2.040, 40: 2.021, 60: 2.000, 100: 1.984}
    assert {n: student_t95(n) for n in table} == pytest.approx(table, abs=6e-4)
    with pytest.raises(ValueError, match="freedom = 0"):
        student_t95(0)


def test_the_interval_holds_the_true_mean_as_often_as_it_says():
    draw, held = random.Random(3), 0
    for _ in range(2000):
        found = mean_interval([draw.gauss(5.0, 2.0) for _ in range(4)])
        held += found.low <= 5.0 <= found.high
    assert held / 2000 == pytest.approx(0.95, abs=3 * math.sqrt(0.95 * 0.05 / 2000))


def test_one_run_has_no_interval():
    assert mean_interval([]) is None
    one = mean_interval([0.5])
    assert (one.mean, one.half, one.low) == (0.5, None, None)


def run_of(folder, name, **changes):
    config = fake_config(name)
    for key, value in changes.items():
        table = getattr(config, key.partition("__")[0])
        config = config.model_copy(
            update={key.partition("__")[0]: table.model_copy(update={key.partition("__")[2]: value})}
        )
    with Journal.read(write_fake_run(folder / name, config=config)) as journal:
        return record_of(journal)


def test_runs_that_differ_in_their_seed_only_are_one_group(tmp_path):
    runs = [run_of(tmp_path, f"demo-seed{seed}", run__seed=seed) for seed in (1, 2)]
    runs.append(run_of(tmp_path, "other", local__steps=99))
    first, second = group_runs(runs)
    assert (first.name, first.seeds) == ("demo", (1, 2))
    assert first.to_json()["runs"] == ["demo-seed1", "demo-seed2"]
    assert [one.name for one in second.records] == ["other"]
    federated, pooled = first.rows["federated"], first.rows["centralised"]
    assert first.rows["federated - centralised"].mean == pytest.approx(federated.mean - pooled.mean)
    assert first.rows["mean per-client"].n == 2
    assert second.rows["federated"].half is None
    document = first.to_json()
    assert document["rows"]["federated"]["low"] == pytest.approx(federated.mean, abs=1e-9)  # the two are equal


def test_groups_of_one_name_are_told_apart(tmp_path):
    """As runs of several machines are, brought together."""
    runs = [run_of(tmp_path / str(steps), "demo", local__steps=steps) for steps in (1, 2, 3)]
    assert [group.name for group in group_runs(runs)] == ["demo", "demo (2)", "demo (3)"]
    assert [one.name for one in differences(group_runs(runs))] == ["demo (2)", "demo (3)"]


def test_the_last_run_of_a_seed_stands_for_it(tmp_path):
    runs = [run_of(tmp_path, name) for name in ("a", "b")]
    (group,) = group_runs(runs)
    assert (group.seeds, group.repeats, group.to_json()["runs"]) == ((7,), 1, ["b"])
    assert group.rows["federated"].half is None
