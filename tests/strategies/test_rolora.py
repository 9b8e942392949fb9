"""RoLoRA: one factor moves in a round, it alone is sent, and that is so for any trainer, codec and company."""

from __future__ import annotations

import numpy as np
import pytest
from tiny import Stop, run_tiny, stop_at
from tiny_text import write_run

from fedpeft import api
from fedpeft.client import ClientStore
from fedpeft.config import load_run_file
from fedpeft.errors import ConfigError, ModelError, PluginError
from fedpeft.journal import EventKind, Journal
from fedpeft.journal.snapshot import unpack
from fedpeft.simulation.federation import assemble
from fedpeft.strategies import FedAvg, Median, RoLoRA

pytestmark = pytest.mark.slow

RUN = {"strategy": {"name": "rolora"}, "run__rounds": 4, "local__weight_decay": 0.1, "codec__down": "fp32"}


def test_b_has_the_odd_rounds_and_a_the_even_ones():
    assert [RoLoRA().frozen_in(number) for number in (1, 2, 3)] == [("lora_A",), ("lora_B",), ("lora_A",)]


def theta(folder):
    """θ of the last commit."""
    with Journal.read(folder) as journal:
        return unpack(journal.blob(journal.last_commit().snapshot["adapter"]))[0]["theta"]


def events(folder, kind):
    with Journal.read(folder) as journal:
        return list(journal.events(kind))


def moved(config):
    """Which kinds of tensors each round moves."""
    federation = assemble(config)
    before, found = federation.initial, []
    for rounds in range(1, config.run.rounds + 1):
        run = config.run.model_copy(update={"name": f"until-{rounds}", "rounds": rounds})
        after = theta(api.run(config.model_copy(update={"run": run})).folder)
        differ = before != after
        kinds = {t.name.split(".")[-2] for t in federation.adapter.layout.tensors if differ[t.offset :][: t.size].any()}
        found.append(kinds)
        before = after
    return found


@pytest.mark.parametrize("trainer", ["batched", "sequential"])
@pytest.mark.parametrize(
    "devices", [[{"name": "phone", "clients": 3}], [{"name": "half", "clients": 3, "pruning": 0.5}]]
)
def test_each_round_moves_one_factor_though_weights_decay(tmp_path, trainer, devices):
    more = {"pruning": {"start": 2}, "adapter__target_modules": "all-linear"} if "pruning" in devices[0] else {}
    config = load_run_file(write_run(tmp_path, **RUN, devices=devices, engine={"trainer": trainer}, **more))
    assert moved(config) == [{"lora_B"}, {"lora_A"}, {"lora_B"}, {"lora_A"}]
    result = api.run(config)
    turns = {event.round: event.payload["frozen"] for event in events(result.folder, EventKind.ASKED)}
    assert turns == {1: ["lora_A"], 2: ["lora_B"], 3: ["lora_A"], 4: ["lora_B"]}


@pytest.mark.parametrize("codec", ["fp32", "int4", "lowrank(1)+int8", "topk(0.2)+sign"])
def test_an_update_has_about_half_the_bytes(tmp_path, codec):
    sizes = {}
    for name in ("fedavg", "rolora"):
        config = load_run_file(write_run(tmp_path / name, strategy={"name": name}, codec__up=codec))
        result = api.run(config)
        sizes[name] = [event.payload["bytes"] for event in events(result.folder, EventKind.ACCEPTED)]
        assert not events(result.folder, EventKind.REFUSED)
    assert max(sizes["rolora"]) < min(sizes["fedavg"])
    if codec == "fp32":
        header = 200
        assert max(sizes["rolora"]) - header < 0.6 * (min(sizes["fedavg"]) - header)


def test_the_virtual_clock_and_the_plan_count_what_is_sent(tmp_path):
    plans = {}
    for name in ("fedavg", "rolora"):
        config = load_run_file(write_run(tmp_path / name, strategy={"name": name}, codec__up="fp32"))
        plans[name] = api.validate(config).update_bytes
    assert plans["rolora"] == pytest.approx(plans["fedavg"] / 2, rel=0.05)


@pytest.mark.parametrize("ranks", [{}, {"rank": 1}])
def test_killed_and_resumed_or_with_two_workers_it_is_the_same(tmp_path, ranks):
    devices = [{"name": "phone", "clients": 3}, {"name": "old", "clients": 2, **ranks}]
    changes = RUN | {"codec__down": "int8", "devices": devices, "round__ask": 4}
    whole = api.run(load_run_file(write_run(tmp_path / "whole", **changes)))
    config = load_run_file(write_run(tmp_path / "parts", **changes))
    with pytest.raises(Stop):
        api.run(config, observers=[stop_at(EventKind.ACCEPTED, 6)])
    assert api.resume(config.folder).adapter_hash == whole.adapter_hash
    workers = api.run(load_run_file(write_run(tmp_path / "workers", **changes, engine__workers=2)))
    assert workers.adapter_hash == whole.adapter_hash


def test_what_a_codec_loses_of_a_factor_is_owed_until_its_next_turn(tmp_path):
    config = load_run_file(write_run(tmp_path, **RUN | {"codec__up": "topk(0.1)+sign", "round__ask": 3}))
    result = api.run(config)
    layout = assemble(config).adapter.layout
    for client in ("c00", "c01", "c02"):
        residual = ClientStore(result.folder / "clients" / client, layout.size).residual(4)
        for tensor in layout.tensors:
            assert residual[tensor.offset : tensor.offset + tensor.size].any(), tensor.name


class Compares(Median):
    def frozen_in(self, round_number):
        return ("lora_A",)


class Misspelt(FedAvg):
    def frozen_in(self, round_number):
        return ("lora_Q",) if round_number == 3 else ()


class All(FedAvg):
    def frozen_in(self, round_number):
        return ("lora_A", "lora_B")


@pytest.mark.parametrize(
    ("strategy", "options", "error", "says"),
    [
        (Compares(), {}, PluginError, "Compares freezes tensors in some rounds"),
        (Misspelt(), {}, ModelError, 'no trained tensor has "lora_Q"'),
        (All(), {}, ModelError, "leaves nothing to train"),
        (RoLoRA(), {"zeroth.pool": "hadamard", "local.optimizer": "sgd"}, ConfigError, r"\[zeroth\]"),
    ],
)
def test_what_does_not_go_together_is_refused_before_the_run(tmp_path, strategy, options, error, says):
    with pytest.raises(error, match=says):
        run_tiny(tmp_path, strategy=strategy, **{key.replace(".", "__"): value for key, value in options.items()})
    assert not (tmp_path / "tiny" / "clients").exists()


def test_layers_can_take_turns_by_a_strategy_of_ones_own(tmp_path):
    class Layers(FedAvg):
        """The first layer in odd rounds, the second in even ones."""

        def frozen_in(self, round_number):
            return ("2",) if round_number % 2 else ("0",)

    first = run_tiny(tmp_path / "one", strategy=Layers(), rounds=1)
    both = run_tiny(tmp_path / "two", strategy=Layers(), rounds=2)
    moved = np.split(theta(first.folder) != theta(both.folder), [64])
    assert not moved[0].any()
    assert moved[1].any()
