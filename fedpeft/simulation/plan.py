"""The plan that is shown before a run: what it will do, move and need."""

from __future__ import annotations

from fedpeft.kernels import release_freed_memory
from fedpeft.registry import build
from fedpeft.report.summary import DevicePlan, RunPlan
from fedpeft.simulation.federation import Federation
from fedpeft.simulation.workers import worker_count
from fedpeft.training.memory import step_memory


def make_plan(federation: Federation) -> RunPlan:
    """Count, and measure one training step's memory; nothing is trained."""
    config, size = federation.config, federation.adapter.layout.size
    devices = federation.devices
    examples = dict.fromkeys((table.name for table in config.devices), 0)
    for client, data in federation.train.items():
        examples[devices[client].table.name] += len(data)
    largest = max(federation.train.values(), key=len)
    needed = step_memory(federation.adapter, federation.task, largest, config.local.batch_size) / 1e6
    choice = federation.trainer_choice
    release_freed_memory()
    trainer = (
        f"together, up to {config.engine.rows} rows and {config.engine.memory_mb} MB a pass"
        if choice.together
        else "one at a time"
    )
    workers = worker_count(config)
    if config.engine.name == "ray" or workers > 1:
        trainer += f"; {workers} worker{'s' * (workers > 1)}{' on Ray' * (config.engine.name == 'ray')}"
    notes = [choice.note] if choice.note else []
    notes += [
        f"device class {table.name} has {table.memory_mb} MB, a training step needs {needed:.0f} MB"
        for table in config.devices
        if table.memory_mb < needed
    ]
    return RunPlan(
        name=config.run.name,
        description=federation.description,
        model=federation.base_name,
        clients=len(federation.train),
        devices=tuple(
            DevicePlan(table.name, table.clients, examples[table.name], table.memory_mb, needed)
            for table in config.devices
        ),
        rounds=config.run.rounds,
        ask=config.round.ask,
        base_parameters=federation.base_parameters,
        trainable_parameters=size,
        update_bytes=build("codec", config.codec.up, {}).nominal_bytes(size),
        broadcast_bytes=build("codec", config.codec.down, {}).nominal_bytes(size),
        full_model_bytes=4 * federation.base_parameters,
        example_passes=federation.example_passes(),
        labels=federation.labels,
        test_examples=len(federation.test),
        arithmetic=federation.arithmetic,
        trainer=trainer,
        notes=tuple(notes),
    )
