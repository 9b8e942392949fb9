"""Flower's internals behind the engines: when Flower moves one, the test that fails says which file needs it."""

from __future__ import annotations

import importlib
import inspect

import pytest


@pytest.mark.parametrize("name", ["virtual", "superlink", "task", "node"])
def test_what_a_file_imports_of_flower_is_there(name):
    importlib.import_module(f"fedpeft.flower.compat.{name}")


def test_internal_simulation_runtime_takes_what_we_give_it():
    from flwr.server.superlink.fleet import vce

    given = {
        "num_supernodes",
        "client_app",
        "backend_name",
        "backend_config_json_stream",
        "app_dir",
        "is_app",
        "f_stop",
        "run",
        "metrics",
        "state_factory",
    }
    parameters = inspect.signature(vce.start_vce).parameters
    assert given <= parameters.keys()
    needed = {name for name, one in parameters.items() if one.default is inspect.Parameter.empty}
    assert needed <= given


def test_internal_fleet_connection_gives_the_calls_that_we_use():
    """Node id, receive, send, get run, get app, pull object, push object, confirm."""
    from flwr.supernode import fleet_http_connection

    source = inspect.getsource(fleet_http_connection.http_request_response)
    order = "receive, send, get_run, get_fab, pull_object, push_object, confirm_message_received"
    assert f"yield ( node.node_id, {order}, )" in " ".join(source.split())


def test_a_refused_node_does_not_end_the_process():
    """Flower's connection would: it calls this function, which ours stands in for."""
    from flwr.supernode import fleet_http_connection

    from fedpeft.flower.compat import node

    assert "flwr_exit(" in inspect.getsource(fleet_http_connection.http_request_response)
    with pytest.raises(node._Refused, match="a reason in two lines"):
        fleet_http_connection.flwr_exit(600, "a reason\nin two lines")


def test_the_bundle_of_an_installed_app_holds_configuration_only():
    import io
    import tomllib
    import zipfile

    from fedpeft.flower.compat.superlink import bundle
    from fedpeft.simulation.engines.superlink import APP

    with zipfile.ZipFile(io.BytesIO(bundle(APP))) as archive:
        assert sorted(archive.namelist()) == [".info/CONTENT", "pyproject.toml"]
        table = tomllib.loads(archive.read("pyproject.toml").decode())
    for reference in table["tool"]["flwr"]["app"]["components"].values():
        module, _, name = reference.partition(":")
        assert hasattr(importlib.import_module(module), name)
