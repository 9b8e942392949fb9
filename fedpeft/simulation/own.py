"""A federation made of the user's own objects instead of a run file."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any

import torch

from fedpeft.adapters.build import build_own, rank_of
from fedpeft.config import RunConfig, parse_config
from fedpeft.errors import ConfigError
from fedpeft.registry import load
from fedpeft.report.sinks import check_sinks
from fedpeft.server.schedules import load_schedule
from fedpeft.simulation.arithmetic import settle_arithmetic
from fedpeft.simulation.arm_costs import check_arms, check_fits
from fedpeft.simulation.codecs import check_codecs
from fedpeft.simulation.faults import Faults
from fedpeft.simulation.federation import Federation, test_sample
from fedpeft.simulation.mixing import settle_rule
from fedpeft.simulation.parts import check_halves, private_parts, trained
from fedpeft.simulation.placing import settle_device
from fedpeft.simulation.pruning import check_pruned
from fedpeft.simulation.validation import put_aside
from fedpeft.simulation.zeroth import check_scalars
from fedpeft.simulation.zeroth_local import optimizer_kind
from fedpeft.strategies import FedAvg, Strategy
from fedpeft.training.placed import placed
from fedpeft.training.tasks.custom import CustomTask
from fedpeft.types import ClientId
from fedpeft.zeroth.room import kept

OWN_OBJECTS = "python-objects"
"""`model.source` of a federation made of the user's own objects: there is nothing to assemble it from."""

_CLIENT = r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}"  # it names a folder


def own_federation(
    *,
    model: Any,
    peft_config: Any,
    clients: Mapping[str, Any],
    loss: Callable[[Any, Any], torch.Tensor],
    test: Any,
    correct: Callable[[Any, Any], torch.Tensor] | None,
    metrics: Mapping[str, Callable[[Any, Any], torch.Tensor]],
    collate: Callable[[list[Any]], Any] | None,
    client_test: Mapping[str, Any],
    strategy: Any,
    base_name: str,
    table: Mapping[str, Any],
    options: Mapping[str, Any],
) -> Federation:
    """See `fedpeft.simulate`; `table` is a minimal run file, `options` what is set on top of it.

    Raises:
        ConfigError: no clients, an empty client, a strategy that is none, an unknown option, arms that fit no device.
        ModelError: the adapter does not fit the model.
    """
    _check_clients(clients, client_test)
    _check_data("test", test, least=0)
    config = own_config(table, options, peft_config)
    strategy = strategy if strategy is not None else FedAvg()
    if not isinstance(strategy, Strategy):
        raise ConfigError(
            f"strategy is a {type(strategy).__name__}, not a Strategy",
            code="config.not-a-strategy",
            allowed="an object of a class derived from fedpeft.strategies.Strategy",
            remedy="derive it; for a class, pass an object of it",
        )
    check_halves(config, strategy)
    check_scalars(config, strategy)
    check_pruned(config, strategy)
    check_codecs(config)
    check_arms(config)
    load(optimizer_kind(config), config.local.optimizer)
    load_schedule(config)
    check_sinks(config.report.sinks)
    names = [ClientId(name) for name in sorted(clients)]
    Faults(config.faults, names)
    adapter = trained(build_own(model, peft_config, seed=config.run.seed), config, strategy)
    config = settle_rule(settle_device(config, adapter), strategy, adapter)
    if config.zeroth is not None:
        adapter.forget_gradient()
    config, arithmetic = settle_arithmetic(config, adapter.model)
    base = [parameter.numel() for name, parameter in adapter.model.named_parameters() if not parameter.requires_grad]
    task = placed(_own_task(loss, correct, collate, metrics), adapter.theta.device)
    train, validation = put_aside(config, task, {client: clients[client] for client in names})
    federation = Federation(
        config=config,
        adapter=adapter,
        initial=adapter.get() if config.zeroth is None else kept(adapter.get()),
        task=task,
        strategy=strategy,
        train=train,
        held_out={client: client_test.get(client, ()) for client in names},
        test=() if private_parts(config, strategy) else test_sample(config, task, test),
        description=f"{len(clients)} clients of one's own, {sum(map(len, clients.values()))} training examples",
        labels=0,
        base_name=base_name,
        base_parameters=sum(base),
        arithmetic=arithmetic,
        validation=validation,
    )
    check_fits(federation)
    return federation


def _own_task(
    loss: Callable[[Any, Any], torch.Tensor],
    correct: Callable[[Any, Any], torch.Tensor] | None,
    collate: Callable[[list[Any]], Any] | None,
    metrics: Mapping[str, Callable[[Any, Any], torch.Tensor]],
) -> CustomTask:
    if not isinstance(metrics, Mapping) or not all(isinstance(name, str) for name in metrics):
        raise ConfigError(
            f"metrics is a {type(metrics).__name__}"
            if not isinstance(metrics, Mapping)
            else "metrics has unnamed ones",
            code="config.metrics",
            allowed="a mapping: name -> function of model and batch",
            remedy='e.g. metrics={"error": lambda model, batch: ...}',
        )
    try:
        return CustomTask(loss, correct, collate, metrics)
    except ValueError as error:
        raise ConfigError(
            str(error), code="config.metrics", allowed="names of their own", remedy="rename this metric"
        ) from error


def _check_clients(clients: Any, client_test: Any) -> None:
    if not isinstance(clients, Mapping) or not clients:
        raise ConfigError(
            "clients is empty" if isinstance(clients, Mapping) else f"clients is a {type(clients).__name__}",
            code="config.no-clients",
            allowed="a mapping: client name -> data set",
            remedy="give at least one client a data set",
        )
    for client, data in clients.items():
        if not isinstance(client, str) or not re.fullmatch(_CLIENT, client):
            raise ConfigError(
                f"clients: {client!r} cannot be a client's name",
                code="config.client-name",
                allowed="letters, digits, '.', '_' and '-', first a letter or a digit, at most 100 characters",
                remedy="rename this client: its name is also a folder's",
            )
        _check_data(f'clients["{client}"]', data, least=1)
    for client, data in client_test.items():
        if client not in clients:
            raise ConfigError(
                f'client_test has "{client}", and clients has not',
                code="config.client-name",
                allowed=", ".join(sorted(clients)),
                remedy="correct the name, or leave it out",
            )
        _check_data(f'client_test["{client}"]', data, least=0)


def _check_data(name: str, data: Any, *, least: int) -> None:
    if not hasattr(data, "__len__") or not hasattr(data, "__getitem__"):
        raise ConfigError(
            f"{name} is a {type(data).__name__}, which has no length or no index",
            code="config.not-a-data-set",
            allowed="anything with len() and an integer index: a list, a torch or Hugging Face data set",
            remedy="wrap it; of an iterable data set, make a list",
        )
    if len(data) < least:
        raise ConfigError(
            f"{name} has no examples",
            code="config.empty-client",
            allowed="a data set with at least one example for each client",
            remedy="leave this client out",
        )


def own_config(table: Mapping[str, Any], options: Mapping[str, Any], peft_config: Any) -> RunConfig:
    """A minimal run file with the caller's options set on top, and `adapter.rank` as the peft configuration has it.

    Raises:
        ConfigError: an unknown option, or a wrong value.
    """
    tables: dict[str, Any] = {key: dict(value) if isinstance(value, Mapping) else value for key, value in table.items()}
    for key, value in options.items():
        section, _, last = key.partition(".")
        keys = tables.setdefault(section, {}) if last else tables
        if not isinstance(keys, dict):
            raise ConfigError(
                f'options["{key}"] = {value!r}: {section} is not a table',
                code="config.override",
                allowed='e.g. "local.steps", "run.seed", or "devices" as a list of tables',
                remedy=f'give "{section}" as a whole',
            )
        keys[last or section] = value
    adapter, rank = tables.setdefault("adapter", {}), rank_of(peft_config)
    if isinstance(adapter, dict) and rank is not None and not {"rank", "r"} & adapter.keys():
        adapter["rank"] = rank
    config = parse_config(tables, origin="fedpeft.simulate")
    if config.adapter.merged:
        raise ConfigError(
            f'options["adapter.merged"] = {config.adapter.merged}: the adapter is the one that was passed',
            code="config.merged",
            allowed="adapter.merged in a run file",
            remedy="write a run file (`fedpeft.run`), or leave it out",
        )
    return config
