"""What mixing cost: from the journal into records, over seeds, on the page and on the screen."""

import json
import re

import pytest
from fake_run import fake_config, write_fake_run
from typer.testing import CliRunner

from fedpeft.cli.main import app
from fedpeft.journal import Journal
from fedpeft.report.comparison import write_comparison
from fedpeft.report.mixing_costs import mixing_cost, mixing_costs
from fedpeft.report.record import read_records, record_of, write_records
from fedpeft.report.seeds import group_runs


def written(folder, name, seed, steps, mixed, rounds=6):
    config = fake_config(name)
    run = config.run.model_copy(update={"seed": seed})
    config = config.model_copy(update={"local": config.local.model_copy(update={"steps": steps}), "run": run})
    return write_fake_run(folder / name, config=config, mixed=mixed, rounds=rounds)


def recorded(*args, **options):
    with Journal.read(written(*args, **options)) as journal:
        return record_of(journal)


def test_a_record_has_the_figures_of_each_round_and_keeps_them(tmp_path):
    record = recorded(tmp_path, "a-seed1", 1, 1, 0.1)
    assert record.mixing["mix_distance"] == pytest.approx([0.1, 0.2, 0.3, 0.4, 0.5, 0.6])
    assert record.mixing["mix_carried"] == (0.05,) * 6
    write_records(tmp_path / "kept.jsonl", [record])
    assert read_records(tmp_path / "kept.jsonl") == [record]


def test_a_group_has_the_mean_of_its_seeds_as_far_as_all_went(tmp_path):
    runs = [recorded(tmp_path, "a-seed1", 1, 1, 0.1), recorded(tmp_path, "a-seed2", 2, 1, 0.3, rounds=4)]
    (group,) = group_runs(runs)
    cost = mixing_cost(group)
    assert cost.figures["mix_distance"] == pytest.approx((0.2, 0.4, 0.6, 0.8))
    assert cost.mean("mix_distance") == pytest.approx(0.5)
    assert cost.seeds == (1, 2)


def test_a_group_of_which_one_run_does_not_tell_has_none(tmp_path):
    runs = [recorded(tmp_path, "a-seed1", 1, 1, 0.1), recorded(tmp_path, "a-seed2", 2, 1, None)]
    assert mixing_costs(group_runs(runs)) == []


def test_the_page_draws_each_group_that_tells_in_its_own_colour(tmp_path):
    runs = [recorded(tmp_path, "plain-seed1", 1, 1, None), recorded(tmp_path, "mixed-seed1", 1, 2, 0.1)]
    page = write_comparison(tmp_path / "page.html", group_runs(runs)).read_text()
    figures = json.loads(re.search(r'id="figures">(.*?)</script>', page, re.DOTALL)[1])
    (trace,) = figures["mix_distance"]["data"]
    assert trace["name"] == "mixed"
    assert trace["x"] == [1, 2, 3, 4, 5, 6]
    assert trace["y"] == pytest.approx([10, 20, 30, 40, 50, 60])
    assert trace["line"] == figures["metric0-rounds"]["data"][1]["line"]
    assert "What mixing cost" in page


def test_compare_tells_it(tmp_path):
    folders = [str(written(tmp_path, "plain-seed1", 1, 1, None)), str(written(tmp_path, "mixed-seed1", 1, 2, 0.1))]
    told = CliRunner(env={"COLUMNS": "160"}).invoke(app, ["compare", *folders])
    assert told.exit_code == 0
    row = next(line for line in told.stdout.split("what mixing cost")[1].splitlines() if line.startswith("mixed"))
    assert row.split()[1:] == ["35.0", "%", "60.0", "%", "5.0", "%", "5.0", "%", "2.5", "%", "2.5", "%", "1"]
    told = CliRunner().invoke(app, ["compare", *folders, "--format", "json"])
    (cost,) = json.loads(told.stdout)["mixing"]
    assert cost["mix_discarded"] == pytest.approx([0.025] * 6)


def test_runs_without_a_rule_say_nothing_of_it(tmp_path):
    folder = str(written(tmp_path, "plain-seed1", 1, 1, None))
    assert "mixing" not in CliRunner().invoke(app, ["compare", folder]).stdout
    assert "mixing" not in json.loads(CliRunner().invoke(app, ["compare", folder, "--format", "json"]).stdout)
