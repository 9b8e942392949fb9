"""A federation made of the user's own objects instead of a run file."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch

from fedpeft.adapters import build_adapter
from fedpeft.config import RunConfig, parse_config
from fedpeft.errors import ConfigError
from fedpeft.simulation.federation import Federation
from fedpeft.strategies import FedAvg, Strategy
from fedpeft.training.tasks.custom import CustomTask
from fedpeft.types import ClientId


def own_federation(
    *,
    model: Any,
    peft_config: Any,
    clients: Mapping[str, Any],
    loss: Callable[[Any, Any], torch.Tensor],
    test: Any,
    correct: Callable[[Any, Any], torch.Tensor] | None,
    collate: Callable[[list[Any]], Any] | None,
    client_test: Mapping[str, Any],
    strategy: Any,
    base_name: str,
    table: Mapping[str, Any],
    options: Mapping[str, Any],
) -> Federation:
    """See `fedpeft.simulate`; `table` is a minimal run file, `options` what is set on top of it.

    Raises:
        ConfigError: no clients, an empty client, a strategy that is none, an unknown option.
    """
    config = _configure(table, options)
    for client, data in clients.items():
        if len(data) == 0:
            raise ConfigError(
                f'clients["{client}"] has no examples',
                code="config.empty-client",
                allowed="a data set with at least one example for each client",
                remedy="leave this client out",
            )
    if not clients:
        raise ConfigError("clients is empty", code="config.no-clients", remedy="give at least one client a data set")
    strategy = strategy if strategy is not None else FedAvg()
    if not isinstance(strategy, Strategy):
        raise ConfigError(
            f"strategy is a {type(strategy).__name__}, not a Strategy",
            code="config.not-a-strategy",
            allowed="an object of a class derived from fedpeft.strategies.Strategy",
            remedy="derive it",
        )
    torch.set_num_threads(config.engine.threads)
    parameters = sum(parameter.numel() for parameter in model.parameters())
    for parameter in model.parameters():
        parameter.requires_grad_(False)
    adapter = build_adapter(model.eval(), peft_config, seed=config.run.seed)
    names = sorted(clients)
    return Federation(
        config=config,
        adapter=adapter,
        initial=adapter.get(),
        task=CustomTask(loss, correct, collate),
        strategy=strategy,
        train={ClientId(client): clients[client] for client in names},
        held_out={ClientId(client): client_test.get(client, ()) for client in names},
        test=test,
        description=f"{len(clients)} clients of one's own, {sum(map(len, clients.values()))} training examples",
        labels=0,
        base_name=base_name,
        base_parameters=parameters,
    )


def _configure(table: Mapping[str, Any], options: Mapping[str, Any]) -> RunConfig:
    tables: dict[str, Any] = {key: dict(value) if isinstance(value, Mapping) else value for key, value in table.items()}
    for key, value in options.items():
        section, _, last = key.partition(".")
        if last:
            tables.setdefault(section, {})[last] = value
        else:
            tables[section] = value
    return parse_config(tables, origin="fedpeft.simulate")
