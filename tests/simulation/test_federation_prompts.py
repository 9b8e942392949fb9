"""Vectors in front of a text take positions of the base: texts that then do not fit are refused before the run."""

import pytest
from tiny_text import write_run

from fedpeft.config import load_run_file
from fedpeft.errors import ConfigError
from fedpeft.simulation.federation import assemble


def federation(folder, longest, kind):
    table = {"adapter__type": kind, "adapter__num_virtual_tokens": 8, "model__max_length": longest}
    return assemble(load_run_file(write_run(folder, **table)))


@pytest.mark.parametrize("kind", ["prompt_tuning", "prefix_tuning"])
def test_room_for_the_vectors(tmp_path, kind):
    assert federation(tmp_path / "fits", 24, kind).task.max_length == 24
    with pytest.raises(ConfigError, match=r"32 positions of .*, of which the adapter's vectors take 8") as caught:
        federation(tmp_path / "long", 25, kind)
    assert caught.value.allowed == "1 to 24"
