"""Parameters of Flower's strategies that decide nothing here are refused, by whatever way they come."""

import pytest
from flwr.serverapp.strategy import FedAdam, FedAvg, FedProx, Krum, QFedAvg

from fedpeft.errors import PluginError
from fedpeft.flower.stock import Stock
from fedpeft.flower.stock_parameters import MOOT
from fedpeft.registry import build

OWN = """
from flwr.serverapp.strategy import FedAdam, FedAvg

class MyAvg(FedAvg):
    pass

class MyAdam(FedAdam):
    def __init__(self, **keys):
        super().__init__(**keys)

class Own(FedAvg):
    def __init__(self, fraction_train: float = 0.25):
        super().__init__(fraction_train=fraction_train, min_available_nodes=7)
"""


@pytest.fixture
def own(tmp_path):
    (tmp_path / "own.py").write_text(OWN)
    return lambda name, **params: build("strategy", f"flower:own.py:{name}", params, relative_to=tmp_path)


@pytest.mark.parametrize("parameter", ["fraction_train", "min_train_nodes", "eta_l", "arrayrecord_key"])
def test_a_parameter_without_effect_is_refused_with_what_decides(parameter):
    with pytest.raises(PluginError) as caught:
        build("strategy", "flower:FedAdam", {parameter: 1})
    error = caught.value
    assert error.code == "strategy.flower-parameter"
    assert error.message == f'strategy "flower:FedAdam": {parameter} = 1 has no effect here'
    assert error.allowed == "eta, beta_1, beta_2, tau"
    assert MOOT[parameter] in error.remedy


@pytest.mark.parametrize(("name", "parameter"), [("MyAvg", "fraction_train"), ("MyAdam", "eta_l")])
def test_a_derived_class_that_leaves_it_to_flower_is_refused_it_too(own, name, parameter):
    with pytest.raises(PluginError, match=f'strategy "flower:{name}": {parameter} = 0.5 has no effect here') as error:
        own(name, **{parameter: 0.5})
    assert error.value.code == "strategy.flower-parameter"
    assert MOOT[parameter] in error.value.remedy


def test_a_constructor_of_one_s_own_may_take_a_parameter_of_that_name(own):
    assert own("Own", fraction_train=0.5).inner.fraction_train == 0.5


@pytest.mark.parametrize(
    ("inner", "said"),
    [
        (lambda: FedAvg(fraction_train=0.1), "fraction_train = 0.1"),
        (lambda: FedAdam(eta_l=0.5), "eta_l = 0.5"),
        (lambda: Krum(min_available_nodes=3), "min_available_nodes = 3"),
        (lambda: FedProx(evaluate_metrics_aggr_fn=max), "evaluate_metrics_aggr_fn = <built-in function max>"),
        (lambda: QFedAvg(1.0, weighted_by_key="loss"), "weighted_by_key = 'loss'"),
        (lambda: type("Mine", (FedAvg,), {})(min_train_nodes=5), "min_train_nodes = 5"),
    ],
)
def test_a_strategy_that_comes_as_an_object_is_looked_at_too(inner, said):
    with pytest.raises(PluginError, match=f"{said} has no effect here") as error:
        Stock(inner())
    assert error.value.code == "strategy.flower-parameter"
