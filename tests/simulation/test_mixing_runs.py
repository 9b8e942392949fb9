"""`[aggregation]` from the run file to the journal: the default, the pairs that are refused, determinism."""

import io

import pytest
from rich.console import Console
from tiny import Stop, run_tiny, stop_at
from tiny_text import write_run

import fedpeft.api
from fedpeft.cli.tables import rounds_table
from fedpeft.config import load_run_file, parse_config
from fedpeft.errors import ConfigError, ModelError, PluginError
from fedpeft.journal import EventKind, Journal
from fedpeft.registry import BUILTIN
from fedpeft.report.history import read_history
from fedpeft.report.points import PointReader
from fedpeft.simulation.federation import check_plugins
from fedpeft.simulation.mixing import mixing_notes
from fedpeft.strategies import FedAvg

RANKS = [{"name": "phone", "clients": 3}, {"name": "watch", "clients": 2, "rank": 1}]
FIGURES = ("mix_distance", "mix_carried", "mix_discarded")


def mixed(folder, **options):
    return run_tiny(folder, **{"devices": RANKS, "adapter__rank": 2, "ask": 4, "rounds": 3, **options})


class Shortened(FedAvg):
    """Folds in its own way, which a rule would not see."""

    def accept(self, update, weight):
        super().accept(update, weight / 2)


class Remembering(FedAvg):
    """Averages plainly, and its client half keeps vectors in the basis of the factors."""

    objective = "scaffold"
    sends = receives = ("c",)


def losses(found):
    """(distance, carried, discarded) of each round that tells them."""
    with Journal.read(found.folder) as journal:
        committed = [event.payload for event in journal.events(EventKind.COMMITTED) if event.round]
    return [tuple(payload[name] for name in FIGURES) for payload in committed if FIGURES[0] in payload]


def test_ranks_that_differ_are_mixed_exactly_by_default(tmp_path):
    default = mixed(tmp_path / "default")
    named = mixed(tmp_path / "named", aggregation__rule="exact-mix")
    assert default.adapter_hash == named.adapter_hash
    assert load_run_file(default.folder / "run.toml").aggregation.rule == "exact-mix"  # it says what was used
    assert len(losses(default)) == 3
    for distance, carried, discarded in losses(default):
        assert 0 < distance < 0.2
        assert carried > 0
        assert discarded < distance


def test_what_it_cost_is_in_the_history_and_among_the_points(tmp_path):
    found = mixed(tmp_path)
    with Journal.read(found.folder) as journal:
        events = list(journal.events())
    rows = read_history(events).rounds
    assert rows[0].mixing is None
    assert [tuple(row.mixing.values()) for row in rows[1:]] == losses(found)
    reader = PointReader()
    points = [point for event in events for point in reader.read(event) if point.name == "round/mix_distance"]
    assert [point.value for point in points] == [distance for distance, *_ in losses(found)]
    table = io.StringIO()
    Console(file=table, width=120).print(rounds_table(rows, "accuracy", {}))
    assert "mix off" in table.getvalue()
    assert f"{100 * losses(found)[0][0]:.1f} %" in table.getvalue()


def test_one_rank_for_all_is_averaged_as_ever(tmp_path):
    plain = run_tiny(tmp_path / "plain", rounds=3, ask=4)
    fedit = run_tiny(tmp_path / "fedit", rounds=3, ask=4, aggregation__rule="fedit")
    assert plain.adapter_hash == fedit.adapter_hash
    assert not losses(plain)
    assert all(distance == discarded > 0 and carried == 0 for distance, carried, discarded in losses(fedit))


@pytest.mark.parametrize("rule", sorted(set(BUILTIN["rule"]) - {"fedex", "flora"}))  # those: test_merged_run.py
def test_every_rule_runs(tmp_path, rule):
    found = mixed(tmp_path, aggregation__rule=rule, rounds=2)
    assert len(losses(found)) == 2
    with Journal.read(found.folder) as journal:
        assert not list(journal.events(EventKind.REFUSED))


def test_the_residual_is_worth_its_place(tmp_path):
    """Without it, what the state cannot hold is discarded for good."""
    without = mixed(tmp_path / "0", aggregation={"rule": "exact-mix", "residual_rank": 0})
    whole = mixed(tmp_path / "16", aggregation={"rule": "exact-mix", "residual_rank": 16})
    assert all(carried == 0 and discarded > 0 for _, carried, discarded in losses(without))
    assert all(carried > 0 and discarded < 1e-5 for _, carried, discarded in losses(whole))


@pytest.mark.parametrize("count", [3, 7])
def test_killed_and_resumed_it_ends_alike(tmp_path, count):
    """Ranks, residual and basis: all of it is in the snapshot, or follows from it."""
    whole = mixed(tmp_path / "whole", rounds=4)
    with pytest.raises(Stop):
        mixed(tmp_path / "cut", rounds=4, observers=[stop_at(EventKind.ACCEPTED, count)])
    resumed = mixed(tmp_path / "cut", rounds=4, resume=True)
    assert resumed.adapter_hash == whole.adapter_hash
    assert losses(resumed) == losses(whole)


def test_workers_end_in_the_same_adapter(tmp_path):
    alone = mixed(tmp_path / "1", rounds=2)
    shared = mixed(tmp_path / "2", rounds=2, engine__workers=2)
    assert alone.adapter_hash == shared.adapter_hash


def test_trained_together_or_alone_it_is_the_same(tmp_path):
    together = mixed(tmp_path / "batched", local__optimizer="sgd", engine__trainer="batched")
    alone = mixed(tmp_path / "sequential", local__optimizer="sgd", engine__trainer="sequential")
    for ours, theirs in zip(losses(together), losses(alone), strict=True):
        assert ours == pytest.approx(theirs, rel=0.05, abs=1e-4)
    assert together.federated == pytest.approx(alone.federated, abs=0.02)


@pytest.mark.parametrize(
    ("options", "named"),
    [
        ({"strategy": {"name": "fedadam"}}, 'strategy.name = "fedadam"'),
        ({"strategy": {"name": "median"}}, 'strategy.name = "median"'),
        ({"strategy": {"name": "scaffold"}}, 'strategy.name = "scaffold"'),
        ({"strategy": {"name": f"{__file__}:Shortened"}}, "Shortened"),
        ({"strategy": {"name": f"{__file__}:Remembering"}}, "Remembering"),
        ({"strategy": {"name": "ffa"}, "devices": RANKS[:1]}, "lora_A"),
        ({"strategy": {"name": "fedsa"}}, "lora_B"),
        ({"adapter__private": ["1.weight"]}, "1.weight"),
        ({"round__mode": "async"}, 'round.mode = "async"'),
        ({"round__late": "fold"}, 'round.late = "fold"'),
    ],
)
def test_a_wrong_pair_is_refused_by_name(tmp_path, options, named):
    table = {"source": "no-such-model", "task": "label-names"}
    config = {
        "run": {"name": "x", "rounds": 2},
        "model": table,
        "adapter": {"rank": 2},
        "devices": RANKS,
        "round": {"ask": 2},
        "aggregation": {"rule": "exact-mix"},
    }
    for key, value in options.items():
        section, _, last = key.partition("__")
        if last:
            config.setdefault(section, {})[last] = value
        else:
            config[section] = value

    with pytest.raises(ConfigError) as caught:
        check_plugins(parse_config(config, origin="test"))
    assert caught.value.code == "config.rule"
    assert 'aggregation.rule = "exact-mix"' in caught.value.message
    assert named in caught.value.message


def test_what_is_relaxed_needs_a_basis_that_stays(tmp_path):
    table = {"run": {"name": "x", "rounds": 2}, "model": {"source": "m"}, "devices": RANKS, "round": {"ask": 2}}
    table |= {"adapter": {"rank": 2}, "codec": {"up": "relax(1.5)+sign"}}
    by_default = parse_config(table, origin="test")
    (note,) = mixing_notes(by_default, check_plugins(by_default))
    assert 'does not go with codec.up = "relax(1.5)+sign"' in note
    with pytest.raises(ConfigError, match=r'aggregation.rule = "exact-mix" contradicts codec.up = "relax') as caught:
        check_plugins(parse_config({**table, "aggregation": {"rule": "exact-mix"}}, origin="test"))
    assert caught.value.remedy == "name the codec without that stage"
    check_plugins(parse_config({**table, "aggregation": {"rule": "fedit"}}, origin="test"))
    forgets = {**table, "codec": {"up": "forget+relax(1.5)+sign"}, "aggregation": {"rule": "exact-mix"}}
    check_plugins(parse_config(forgets, origin="test"))


def test_by_default_a_wrong_pair_is_told_and_averaged(tmp_path):

    path = write_run(tmp_path, devices=RANKS, round__ask=3, adapter={"rank": 2, "alpha": 4}, strategy__name="fedadam")
    config = load_run_file(path)
    (note,) = mixing_notes(config, check_plugins(config))
    assert "zero-padded" in note
    assert "fedadam" in note
    found = fedpeft.api.run(config)
    assert not losses(found)


def test_a_codec_s_losses_are_told_where_the_basis_turns(tmp_path):
    table = {"run": {"name": "x", "rounds": 2}, "model": {"source": "m"}, "devices": RANKS, "round": {"ask": 2},
             "adapter": {"rank": 2}}  # fmt: skip
    mixed_exactly = parse_config({**table, "aggregation": {"rule": "exact-mix"}}, origin="test")
    notes = mixing_notes(mixed_exactly, FedAvg())
    assert ["exact-mix" in note for note in notes] == [True, True]
    assert 'codec.up = "int8"' in notes[1]
    plain = parse_config({**table, "aggregation": {"rule": "fedit"}, "codec": {"up": "topk(0.1)+int8"}}, origin="test")
    (note,) = mixing_notes(plain, FedAvg())
    assert "mixed by fedit" in note


def test_an_unknown_rule_and_a_parameter_without_one(tmp_path):
    with pytest.raises(PluginError, match='rule "exactmix" is not known') as caught:
        mixed(tmp_path, aggregation__rule="exactmix")
    assert "exact-mix" in str(caught.value.remedy)
    with pytest.raises(ConfigError, match=r"aggregation\.rule names none"):
        mixed(tmp_path, aggregation__residual_rank=3)
    with pytest.raises(ConfigError, match="is a FedAvg, not a Rule"):
        mixed(tmp_path, aggregation__rule="fedpeft.strategies:FedAvg")


def test_an_adapter_without_factors_is_refused(tmp_path):

    path = write_run(tmp_path, adapter={"type": "ia3"}, aggregation={"rule": "exact-mix"})
    with pytest.raises(ModelError, match="this adapter has none"):
        fedpeft.api.run(load_run_file(path))


def test_a_rule_of_ones_own_is_a_file(tmp_path):

    (tmp_path / "my_rule.py").write_text(
        "from fedpeft.aggregation.rules import Mixed, Rule\n"
        "class Still(Rule):\n"
        "    def mix(self, layer, residual=None):\n"
        "        return Mixed(layer.state)\n"
    )
    path = write_run(tmp_path, aggregation={"rule": "my_rule.py:Still"})
    found = fedpeft.api.run(load_run_file(path))
    assert [distance for distance, *_ in losses(found)] == pytest.approx([1.0, 1.0])  # it follows nobody


def test_an_update_is_as_long_as_its_rank_says_and_takes_as_long(tmp_path):
    """Of rank 1 of 2 half of the bytes, on the wire and on the virtual clock."""
    devices = [
        {"name": "full", "clients": 2, "up_mbps": 0.001},
        {"name": "half", "clients": 2, "up_mbps": 0.001, "rank": 1},
    ]
    found = run_tiny(tmp_path, clients=4, ask=4, devices=devices, codec__up="fp32", local__steps=1)
    with Journal.read(found.folder) as journal:
        device = {event.client: event.payload["device"] for event in journal.events(EventKind.HELLO)}
        replies = [
            (device[e.client], e.payload["bytes"], e.payload["seconds"]) for e in journal.events(EventKind.ACCEPTED)
        ]
    header = 200
    for full_bytes, half_bytes in zip(
        *([b for d, b, _ in replies if d == name] for name in ("full", "half")), strict=True
    ):
        assert abs((half_bytes - header) / (full_bytes - header) - 0.5) < 0.1
    times = {name: [s for d, _, s in replies if d == name] for name in ("full", "half")}
    assert max(times["half"]) < min(times["full"])
