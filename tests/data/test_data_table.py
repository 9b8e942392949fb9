"""`[data]` refuses keys that contradict each other, and `--smoke` makes a run of any size small."""

import pytest

from fedpeft.config import load_run_file, parse_config
from fedpeft.errors import ConfigError

DEALT = {"source": "files", "train": "a.csv", "test": "b.csv", "partition": {"name": "iid"}}
RUN = """
[run]
name = "toy"
rounds = 9
[model]
source = "m"
max_length = 300
[[devices]]
name = "phone"
clients = 400
[round]
ask = 3
"""


def refusal(**data) -> ConfigError:
    table = {
        "run": {"name": "t", "rounds": 1},
        "model": {"source": "m"},
        "data": data,
        "devices": [{"name": "phone", "clients": 2}],
        "round": {"ask": 1},
    }
    with pytest.raises(ConfigError) as caught:
        parse_config(table, origin="toy.toml")
    return caught.value


@pytest.mark.parametrize(
    ("data", "message", "remedy"),
    [
        ({**DEALT, "train": None}, "data.train is missing", "add data.train"),
        ({**DEALT, "partition": None}, "data.partition is missing", "add data.partition"),
        ({**DEALT, "source": "hub"}, "data.dataset is missing", "add data.dataset"),
        ({**DEALT, "prompt": "q"}, "data.prompt is set and data.response is not", "add data.response"),
        ({**DEALT, "response": "a"}, "data.response is set and data.prompt is not", "add data.prompt"),
        ({**DEALT, "prompt": "q", "response": "a", "messages": "m"}, "data.messages and data.prompt", "remove one"),
        ({**DEALT, "client_test": "own"}, 'data.client_test = "own" needs', "set data.client_test to a share"),
        (
            {**DEALT, "test": 0.1, "client_test": "own", "partition": {"name": "natural-id"}},
            'data.client_test = "own" contradicts data.test = 0.1',
            "name a file in data.test",
        ),
        ({"partition": {"name": "iid"}}, 'data.partition contradicts data.source = "assistant"', "remove data.part"),
        ({**DEALT, "columns": ["a", "b", "a"]}, 'data.columns has "a" more than once', "rename one"),
        ({**DEALT, "test": 1.0}, "data.test = 1.0 is not allowed", "correct data.test"),
        ({**DEALT, "client_test": 1.0}, "data.client_test = 1.0 is not allowed", "correct data.client_test"),
    ],
)
def test_a_contradiction_is_one_error(data, message, remedy):
    error = refusal(**data)
    assert message in error.message
    assert (error.remedy or "").startswith(remedy)


def test_smoke_lowers_what_the_overrides_leave(tmp_path):
    path = tmp_path / "run.toml"
    path.write_text(RUN)
    config = load_run_file(path, smoke=True)
    assert (config.data.client_examples, config.model.max_length) == (16, 64)
    assert config.evaluation.clients_fraction == 0.02
    config = load_run_file(path, ["data.client_examples=0", "evaluation.clients_fraction=0.5"], smoke=True)
    assert (config.data.client_examples, config.evaluation.clients_fraction) == (0, 0.5)


def test_smoke_of_a_run_whose_clients_do_not_evaluate(tmp_path):
    path = tmp_path / "run.toml"
    path.write_text(RUN)
    assert load_run_file(path, ["evaluation.clients=false"], smoke=True).evaluation.clients_fraction == 1.0


@pytest.mark.parametrize("data", [{"label_names": ["a", "b"]}, {"text": "question"}, {"dataset": "x"}], ids=str)
def test_generated_data_has_no_rows_to_read(data):
    error = refusal(source="assistant", **data)
    assert f"{next(iter(data))} = " in error.message
    assert "not used by data.source" in error.message
