"""Flower's strategies behind `flower:`: Flower's own numbers, exact resume, and plain words for what cannot work."""

import random

import numpy as np
import pytest
from flwr.app import Array, ArrayRecord, ConfigRecord, Message, MetricRecord, RecordDict
from flwr.serverapp import strategy as flowers
from tiny import Stop, run_tiny, stop_at

from fedpeft.config import parse_config
from fedpeft.config.loading import resolve_paths
from fedpeft.errors import ClientFault, PluginError, RoundError
from fedpeft.flower import compat
from fedpeft.flower.stock import REFUSED, Stock, known, node_of
from fedpeft.flower.stock_stage import swift_collections
from fedpeft.journal import EventKind
from fedpeft.registry import build
from fedpeft.types import ClientId, ClientInfo, NodeId, Plan, Update

D = 40
THETA = np.random.default_rng(0).normal(0, 1, D).astype(np.float32)

RULES = {
    "FedAvg": {},
    "FedProx": {"proximal_mu": 0.3},
    "FedAvgM": {"server_momentum": 0.7, "server_learning_rate": 0.5},
    "FedAdam": {"eta": 0.01, "beta_1": 0.8},
    "FedYogi": {"eta": 0.01, "beta_2": 0.9},
    "FedAdagrad": {"eta": 0.02},
    "FedMedian": {},
    "FedTrimmedAvg": {"beta": 0.3},
    "Krum": {"num_malicious_nodes": 1},
    "MultiKrum": {"num_malicious_nodes": 1, "num_nodes_to_select": 3},
    "Bulyan": {"num_malicious_nodes": 1},
    "QFedAvg": {"client_learning_rate": 0.5, "q": 0.2},
}


def replies(number, count=7):
    rng = np.random.default_rng([7, number])
    return [
        Update(
            ClientId(f"c{k:02d}"),
            number,
            (rng.normal(0.3, 1, D) * 10.0 ** rng.integers(-3, 1)).astype(np.float32),
            weight=1.0 + 3 * k,
            metrics={"loss_first": 0.5 + rng.random(), "loss_last": rng.random(), "seconds": rng.random()},
        )
        for k in range(count)
    ]


class Nodes:
    """All that Flower's strategies ask of a Grid."""

    def get_node_ids(self):
        return list(range(1, 30))


def flower_round(strategy, number, theta, updates):
    """One round of Flower's own loop, on plain arrays: the model goes out, whole models come back."""
    compat.ensure_identity()
    sent = ArrayRecord({"model": Array(theta)})
    list(strategy.configure_train(number, sent, ConfigRecord(), Nodes()))
    messages = []
    for update in updates:
        content = RecordDict(
            {
                "arrays": ArrayRecord({"model": Array(theta + update.delta)}),
                "metrics": MetricRecord({"num-examples": update.weight, "train_loss": update.metrics["loss_first"]}),
            }
        )
        asked = Message(RecordDict(), dst_node_id=node_of(update.client), message_type="train")
        compat.set_message_id(asked, str(update.client))
        messages.append(Message(content, reply_to=asked))
    with swift_collections():
        arrays, _ = strategy.aggregate_train(number, messages)
    return arrays["model"].numpy().astype(np.float32)


def play(strategy, theta, updates):
    strategy.begin(theta)
    for update in updates:
        strategy.accept(update, update.weight)
    return strategy.finish()


def stock(name, **params):
    return build("strategy", f"flower:{name}", params)


def refusal(name, **params):
    with pytest.raises(PluginError) as caught:
        stock(name, **params)
    assert caught.value.remedy
    return caught.value


def test_every_strategy_of_flower_is_run_or_refused():
    assert set(known()) == set(RULES)
    assert set(flowers.__all__) == set(RULES) | set(REFUSED) | {"Strategy", "Result"}


@pytest.mark.parametrize("name", RULES)
def test_a_run_of_rounds_gives_flower_s_own_bits(name):
    ours, flower = stock(name, **RULES[name]), getattr(flowers, name)(**RULES[name])
    left = right = THETA
    for number in range(1, 6):
        updates = replies(number)
        left = play(ours, left, updates[::-1])  # arrives in another order
        right = flower_round(flower, number, right, updates)
        assert left.tobytes() == right.tobytes()
    assert not np.array_equal(left, THETA)


@pytest.mark.parametrize("name", ["FedAvgM", "FedAdam", "FedYogi", "FedAdagrad", "QFedAvg"])
def test_a_saved_state_holds_what_the_rule_has_learnt(name):
    ours = stock(name, **RULES[name])
    assert ours.state() == {}
    theta = play(ours, THETA, replies(1))
    state = ours.state()
    assert {array.dtype.name for key, array in state.items() if key != "tree"} <= {"float32", "float64"}
    resumed = stock(name, **RULES[name])
    resumed.restore({key: array.copy() for key, array in state.items()})
    later = [play(rule, theta, replies(2)) for rule in (ours, resumed)]
    assert later[0].tobytes() == later[1].tobytes()
    if name != "QFedAvg":  # which keeps the last model, and nothing that matters
        assert play(stock(name, **RULES[name]), theta, replies(2)).tobytes() != later[0].tobytes()


def test_a_state_of_another_rule_is_refused():
    state = stock_after_a_round("FedAdam").state()
    with pytest.raises(PluginError, match="flower:FedYogi cannot go on from a saved state of FedAdam") as error:
        stock("FedYogi").restore(state)
    assert error.value.code == "strategy.state"
    state["tree"][0] += 1
    with pytest.raises(PluginError, match="cannot go on from a saved state that is damaged"):
        stock("FedAdam").restore(state)


def stock_after_a_round(name):
    rule = stock(name, **RULES[name])
    play(rule, THETA, replies(1))
    return rule


@pytest.mark.slow
@pytest.mark.parametrize(("name", "params"), [("FedAdam", {"eta": 0.01}), ("FedAvgM", {"server_momentum": 0.5})])
@pytest.mark.parametrize(("kind", "count"), [(EventKind.ACCEPTED, 8), (EventKind.COMMITTED, 3)])
def test_a_run_that_was_interrupted_ends_in_the_same_adapter(tmp_path, name, params, kind, count):
    whole = run_tiny(tmp_path / "whole", strategy=stock(name, **params))
    with pytest.raises(Stop):
        run_tiny(tmp_path / "parts", strategy=stock(name, **params), observers=[stop_at(kind, count)])
    parts = run_tiny(tmp_path / "parts", strategy=stock(name, **params), resume=True)
    assert parts.adapter_hash == whole.adapter_hash
    assert run_tiny(tmp_path / "ours").adapter_hash != whole.adapter_hash


@pytest.mark.slow
def test_workers_end_in_the_same_adapter(tmp_path):
    hashes = {
        run_tiny(
            tmp_path / str(workers), strategy=stock("FedProx", proximal_mu=0.5), engine__workers=workers
        ).adapter_hash
        for workers in (1, 2)
    }
    assert len(hashes) == 1


def test_fedprox_s_mu_reaches_the_clients():
    plan = Plan("run", 1, 1, ClientId("c00"), 0, 1, 1, 0.1)
    planned = stock("FedProx", proximal_mu=0.25).plan(plan, ClientInfo(ClientId("c00"), NodeId(1), 5))
    assert (planned.objective, planned.objective_params) == ("proximal", {"mu": 0.25})


def test_the_loss_that_q_fedavg_weighs_by_is_the_first_unless_told_otherwise():
    first, last = (
        stock("QFedAvg", client_learning_rate=0.5),
        stock("QFedAvg", client_learning_rate=0.5, train_loss_key="loss_last"),
    )
    assert play(first, THETA, replies(1)).tobytes() != play(last, THETA, replies(1)).tobytes()


@pytest.mark.parametrize(
    ("metrics", "said"), [({}, "train_loss = nan"), ({"loss_first": -1.0}, "-1"), ({"loss_first": 1e9}, r"1e\+09")]
)
def test_a_client_whose_loss_cannot_be_weighed_by_is_refused_alone(metrics, said):
    rule = stock("QFedAvg", client_learning_rate=0.5)
    rule.begin(THETA)
    with pytest.raises(ClientFault, match=said) as fault:
        rule.accept(Update(ClientId("c09"), 1, np.zeros(D, np.float32), 1.0, metrics), 1.0)
    assert fault.value.code == "strategy.range"
    assert "client c09" in fault.value.message
    for update in replies(1):
        rule.accept(update, update.weight)
    alone = play(stock("QFedAvg", client_learning_rate=0.5), THETA, replies(1))
    assert rule.finish().tobytes() == alone.tobytes()


@pytest.mark.parametrize(("q", "loss"), [(10, 1e6), (50, 10.0), (50, 0.0), (-10, 0.0)])
def test_a_loss_whose_power_leaves_the_range_costs_its_client_alone(q, loss):
    rule, alone = (stock("QFedAvg", client_learning_rate=1e-3, q=q) for _ in range(2))
    rule.begin(THETA)
    with pytest.raises(ClientFault, match=rf"train_loss = .* to the power of q = {q}") as fault:
        rule.accept(Update(ClientId("c09"), 1, np.ones(D, np.float32), 1.0, {"loss_first": loss}), 1.0)
    assert (fault.value.code, fault.value.allowed) == ("strategy.range", "2.23e-308 to 3.09e+26")
    assert "client c09, round 1" in fault.value.message
    for update in replies(1):
        rule.accept(update, update.weight)
    after = rule.finish()
    assert np.isfinite(after).all()
    assert after.tobytes() == play(alone, THETA, replies(1)).tobytes()


@pytest.mark.parametrize(("q", "loss"), [(0, 1e6), (2, 1e6), (5, 2e4), (10, 200.0), (15, 30.0), (30, 1e-9)])
def test_a_loss_within_the_range_of_its_power_is_weighed_by(q, loss):
    rule = stock("QFedAvg", client_learning_rate=1e-3, q=q)
    far = Update(ClientId("c09"), 1, np.full(D, 1e6, np.float32), 1.0, {"loss_first": loss})
    assert np.isfinite(play(rule, THETA, [*replies(1), far])).all()


def test_bulyan_of_too_few_replies_leaves_theta_as_it_was():
    rule = stock("Bulyan", num_malicious_nodes=1)
    assert play(rule, THETA, replies(1, count=6)).tobytes() == THETA.tobytes()
    assert play(rule, THETA, replies(1, count=7)).tobytes() != THETA.tobytes()


@pytest.mark.parametrize("name", REFUSED)
def test_what_cannot_work_is_refused_with_the_reason(name):
    error = refusal(name)
    assert error.code == "strategy.flower-refused"
    assert REFUSED[name] in error.message
    assert "FedAdam" in error.allowed


def test_what_cannot_work_is_refused_as_an_object_and_as_a_subclass_too():
    noisy = flowers.DifferentialPrivacyServerSideFixedClipping(flowers.FedAvg(), 1.0, 1.0, 2)
    with pytest.raises(PluginError, match="fedpeft selects"):
        Stock(noisy)
    with pytest.raises(PluginError, match="boosted"):
        Stock(type("Mine", (flowers.FedXgbBagging,), {})())
    with pytest.raises(PluginError, match="a dict is not a strategy of Flower"):
        Stock({})


def test_wrong_parameters_are_named():
    assert refusal("FedAdam", etta=0.1).remedy == 'did you mean "eta"?'
    assert "must be in the range [0, 0.5)" in refusal("FedTrimmedAvg", beta=0.7).message
    assert "client_learning_rate" in refusal("QFedAvg").message
    assert refusal("FedAdams").remedy == 'did you mean "FedAdam"?'
    assert refusal("fedpeft.strategies:FedAvg").code == "strategy.flower-none"


OWN = '''
import random
import numpy as np
from flwr.app import Array, ArrayRecord
from flwr.serverapp.strategy import FedAvg

class Base(FedAvg):
    def __init__(self, strength: float = 1.0):
        super().__init__(fraction_train=0.5, min_available_nodes=12)
        self.strength, self.seen = strength, []

class Noisy(Base):
    """Learns in a list, and draws from the generators that everybody shares."""
    def aggregate_train(self, server_round, replies):
        arrays, metrics = super().aggregate_train(server_round, replies)
        if arrays is not None:
            self.seen.append((server_round, np.float64(random.random())))
            noise = self.strength * (len(self.seen) + random.random() + np.random.random())
            arrays = ArrayRecord({key: Array(value.numpy() + np.float32(noise)) for key, value in arrays.items()})
        return arrays, metrics

class Told(Base):
    def configure_train(self, server_round, arrays, config, grid):
        config["epochs"] = 3
        return super().configure_train(server_round, arrays, config, grid)

class Other(Base):
    def configure_train(self, server_round, arrays, config, grid):
        arrays = ArrayRecord({key: Array(value.numpy() + 1) for key, value in arrays.items()})
        return super().configure_train(server_round, arrays, config, grid)

class Talks(Base):
    def configure_train(self, server_round, arrays, config, grid):
        return grid.send_and_receive([])

class Breaks(Base):
    def aggregate_train(self, server_round, replies):
        raise KeyError("momentum")

class Renames(Base):
    def aggregate_train(self, server_round, replies):
        arrays, metrics = super().aggregate_train(server_round, replies)
        return ArrayRecord({"model": arrays["adapter"]}), metrics

class Opens(Base):
    def aggregate_train(self, server_round, replies):
        self.log = open(__file__)
        return super().aggregate_train(server_round, replies)
'''


@pytest.fixture
def own(tmp_path):
    (tmp_path / "own.py").write_text(OWN)

    def made(name, **params):
        return build("strategy", f"flower:own.py:{name}", params, relative_to=tmp_path)

    return made


def test_a_strategy_of_one_s_own_draws_the_same_on_every_engine_and_after_a_restart(own):
    available = [ClientInfo(ClientId(f"c{k:02d}"), NodeId(k), 5) for k in range(9)]

    def rounds(rule, theta, numbers):
        for number in numbers:
            rule.select(available, 7, seed=100 + number)
            theta = play(rule, theta, replies(number))
        return theta

    random.seed(1)
    np.random.seed(1)
    expected = random.random(), np.random.random()
    random.seed(1)
    np.random.seed(1)
    whole = own("Noisy", strength=0.5)
    middle = rounds(whole, THETA, [1, 2])
    resumed = own("Noisy", strength=0.5)
    resumed.restore(whole.state())
    assert resumed.inner.seen == whole.inner.seen != []
    assert rounds(whole, middle, [3]).tobytes() == rounds(resumed, middle, [3]).tobytes()
    assert (random.random(), np.random.random()) == expected  # nobody else's draws were moved


@pytest.mark.parametrize(
    ("name", "code", "said"),
    [
        ("Told", "strategy.flower-config", "sends its clients the configuration epochs"),
        ("Other", "strategy.flower-config", "sends its clients other arrays"),
        ("Talks", "strategy.flower-grid", "talks to the nodes by itself"),
    ],
)
def test_what_no_client_would_read_is_refused_before_the_run(own, name, code, said):
    with pytest.raises(PluginError, match=said) as error:
        own(name)
    assert error.value.code == code


@pytest.mark.parametrize(
    ("name", "said"), [("Breaks", "in its round 1: KeyError: 'momentum'"), ("Renames", r"the arrays \['model'\]")]
)
def test_a_strategy_that_breaks_ends_the_run_by_name(own, name, said):
    with pytest.raises(RoundError, match=said) as error:
        play(own(name), THETA, replies(1))
    assert error.value.code == "strategy.flower-failed"
    assert f'strategy "flower:{name}"' in error.value.message


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning", "ignore::ResourceWarning")
def test_what_cannot_be_kept_is_named_when_it_matters(own):
    rule = own("Opens")
    play(rule, THETA, replies(1))
    with pytest.raises(PluginError, match=r"keeps a TextIOWrapper in its attribute log") as error:
        rule.state()
    assert error.value.code == "strategy.flower-state"
    rule.inner.log.close()


def test_a_path_behind_flower_is_relative_to_the_run_file(tmp_path):
    table = {
        "run": {"name": "a", "rounds": 1},
        "model": {"source": "m"},
        "round": {"ask": 1},
        "devices": [{"name": "d", "clients": 2}],
        "strategy": {"name": "flower:own.py:Noisy"},
    }
    config = resolve_paths(parse_config(table, origin="a"), tmp_path)
    assert config.strategy.name == f"flower:{tmp_path}/own.py:Noisy"


def test_only_rules_that_weigh_their_replies_run_asynchronously():
    weighing = {name for name in RULES if stock(name, **RULES[name]).asynchronous}
    assert weighing == {"FedAvg", "FedProx", "FedAvgM", "FedAdam", "FedYogi", "FedAdagrad"}


def test_robust_rules_compare_their_replies():
    comparing = {name for name in RULES if stock(name, **RULES[name]).compares}
    assert comparing == {"FedMedian", "FedTrimmedAvg", "Krum", "MultiKrum", "Bulyan"}
