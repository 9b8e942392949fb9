"""The plan that is shown before a run: what it will do, move and need."""

from __future__ import annotations

from fedpeft.adapters.configure import unused
from fedpeft.config import RunConfig
from fedpeft.errors import ConfigError
from fedpeft.kernels import release_freed_memory
from fedpeft.pruning.sent import Sent
from fedpeft.report.summary import DevicePlan, RunPlan
from fedpeft.simulation.arm_costs import arm_notes, check_fits, oracle_arms
from fedpeft.simulation.codecs import broadcast_bytes, codec_notes, mean_update_bytes
from fedpeft.simulation.devices import fleet_notes
from fedpeft.simulation.federation import Federation
from fedpeft.simulation.memory import step_megabytes
from fedpeft.simulation.parts import part_notes
from fedpeft.simulation.placing import pass_limits
from fedpeft.simulation.pruning import pruned_memory
from fedpeft.simulation.workers import worker_count
from fedpeft.simulation.zeroth import looks
from fedpeft.types import ALL_COMPONENTS


def evaluation_notes(federation: Federation) -> list[str]:
    """What a person should know of the evaluation before the run.

    Raises:
        ConfigError: the best round is looked for, and nothing tells which it is.
    """
    table, key = federation.config.evaluation, federation.config.evaluation.judging
    if not key:
        return []
    notes = [] if table.target is None else [f"the run ends as soon as its headline metric is {table.target:g}"]
    if len(federation.test):
        chosen = (
            "the best round is chosen on the coordinator's test set: its figure there is a little too good for new data"
        )
        return [*notes, chosen] if table.watched else notes
    if not (table.clients_every and any(map(len, federation.held_out.values()))):
        raise ConfigError(
            f"evaluation.{key} = {getattr(table, key)!r} has nothing to go by: the coordinator has no test set, and "
            "the clients do not evaluate between the first and the last round",
            code="config.nothing-to-watch",
            allowed="a test set, or evaluation.clients_every of 1 or more and clients that hold examples out",
            remedy="set evaluation.clients_every, or remove evaluation." + key,
        )
    chosen = "the best round is chosen by the clients' mean, weighted by their examples"
    return [*notes, chosen] if table.watched else notes


def step_passes(config: RunConfig) -> int:
    """Examples that a client's step passes through the model.

    A pass forward counts as one. So does one backward through a frozen base, where every product has the gradient of
    its input alone to make; with all weights trained (`full`) it counts as two. Computing blocks again counts as one.
    """
    if config.zeroth is not None:
        return config.local.batch_size * looks(config)
    backward = 2 if config.adapter.type == "full" else 1
    return config.local.batch_size * (1 + backward + config.local.checkpointing)


def make_plan(federation: Federation) -> RunPlan:
    """Count, and measure one training step's memory; nothing is trained.

    Raises:
        ConfigError: no device has the memory for any arm of the scheduler, or nothing tells the best round.
    """
    config = federation.config
    check_fits(federation)
    trained = Sent(federation.adapter.layout, merged=config.adapter.merged).portion(b"", (), ALL_COMPONENTS)
    devices = federation.devices
    examples = dict.fromkeys((table.name for table in config.devices), 0)
    for client, data in federation.train.items():
        examples[devices[client].table.name] += len(data)
    needed, needs = step_megabytes(federation), pruned_memory(federation)
    choice = federation.trainer_choice
    release_freed_memory()
    rows, memory = pass_limits(config, federation.adapter.theta.device)
    trainer = f"together, up to {rows} rows and {memory // 1_000_000} MB a pass" if choice.together else "one at a time"
    workers = worker_count(config)
    if config.engine.name == "ray" or workers > 1:
        trainer += f"; {workers} worker{'s' * (workers > 1)}{' on Ray' * (config.engine.name == 'ray')}"
    notes = [choice.note] if choice.note else []
    notes += unused(config.adapter)
    notes += [
        f"device class {table.name} has {table.memory_mb} MB, a training step needs "
        f"{needs.get(table.name, needed):.0f} MB"
        for table in config.devices
        if table.memory_mb < needs.get(table.name, needed)
    ]
    notes += (
        fleet_notes(config)
        + codec_notes(federation)
        + evaluation_notes(federation)
        + part_notes(federation)
        + arm_notes(federation)
    )
    return RunPlan(
        name=config.run.name,
        description=federation.description,
        model=federation.base_name,
        clients=len(federation.train),
        devices=tuple(
            DevicePlan(table.name, table.clients, examples[table.name], table.memory_mb, needs.get(table.name, needed))
            for table in config.devices
        ),
        rounds=config.run.rounds,
        ask=config.round.ask,
        buffer=config.round.updates if config.round.mode == "async" else 0,
        base_parameters=federation.base_parameters,
        trainable_parameters=trained.size,
        update_bytes=mean_update_bytes(federation),
        broadcast_bytes=broadcast_bytes(federation),
        full_model_bytes=4 * federation.base_parameters,
        example_passes=federation.example_passes(),
        step_passes=step_passes(federation.config),
        batch_size=federation.config.local.batch_size,
        labels=federation.labels,
        test_examples=len(federation.test),
        arithmetic=federation.arithmetic,
        trainer=trainer,
        headline=getattr(federation.task, "headline", ""),
        larger_is_better=getattr(federation.task, "larger_is_better", None),
        notes=tuple(notes),
        data_split=federation.data_split,
        oracle=oracle_arms(federation),
    )
