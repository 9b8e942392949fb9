"""A federation ready to run: model, adapter, task and every client's data, built from a run file.

The same object serves the federated run, its centralised comparison, evaluation and export. `fedpeft.simulate` builds
one from the user's own objects instead.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from itertools import islice
from typing import Any

import numpy as np

from fedpeft.adapters import FlatAdapter, load_base
from fedpeft.adapters.device import choose_device
from fedpeft.adapters.prompts import virtual_tokens
from fedpeft.adapters.sharing import Sharing
from fedpeft.codecs.coefficients import CoefficientDownlink
from fedpeft.codecs.downlink import Downlink
from fedpeft.config import RunConfig
from fedpeft.config.scheduler import axes_of
from fedpeft.data import client_ids, load_corpus
from fedpeft.data.partition import load_partitioner
from fedpeft.data.split import DataSplit, split_of
from fedpeft.errors import ConfigError
from fedpeft.evaluation import Evaluation, evaluate
from fedpeft.evaluation.prepared import PreparedOnce
from fedpeft.flower.mods import load_mods
from fedpeft.pruning.cost import Arithmetic
from fedpeft.pruning.sent import Sent
from fedpeft.pruning.shrink import Pruner
from fedpeft.randomness.streams import Stream, derive
from fedpeft.registry import build, load
from fedpeft.report.sinks import check_sinks
from fedpeft.server.schedules import load_schedule
from fedpeft.server.scheduling import SchedulingSettings
from fedpeft.simulation.arithmetic import settle_arithmetic
from fedpeft.simulation.arm_costs import check_arms, scheduling_settings
from fedpeft.simulation.codecs import check_codecs, make_downlink
from fedpeft.simulation.devices import Device, assign_devices
from fedpeft.simulation.faults import Faults
from fedpeft.simulation.mixing import settle_rule
from fedpeft.simulation.parts import check_halves, private_parts, trained
from fedpeft.simulation.placing import pass_limits, settle_device
from fedpeft.simulation.pruning import check_pruned, count_arithmetic, make_pruner
from fedpeft.simulation.validation import put_aside
from fedpeft.simulation.zeroth import (
    check_scalars,
    choose_zeroth_trainer,
    make_directions,
    make_replica,
    make_zeroth_trainer,
)
from fedpeft.simulation.zeroth_local import optimizer_kind
from fedpeft.strategies import Strategy
from fedpeft.strategies.asynchronous import check_asynchronous
from fedpeft.training import Task, TaskContext, Trainer, TrainingJob
from fedpeft.training.choice import TrainerChoice, choose_trainer, make_trainer
from fedpeft.training.placed import placed
from fedpeft.training.pruned import PrunedTrainer
from fedpeft.training.steps import StepSettings
from fedpeft.training.task_class import build_task, form_of, load_task_class
from fedpeft.types import ClientId, FloatArray, Plan
from fedpeft.zeroth.replica import Replica
from fedpeft.zeroth.room import kept


@dataclass(frozen=True)
class Federation:
    """All parts of a run."""

    config: RunConfig
    adapter: FlatAdapter  # holds θ_0 until something trains it
    initial: FloatArray  # θ_0, shape (d,)
    task: Task
    strategy: Strategy
    train: Mapping[ClientId, Any]  # data sets as `Task.encode` returns them
    held_out: Mapping[ClientId, Any]  # each client's own test examples; may be empty
    test: Any  # the coordinator's test set; may be empty
    description: str  # of the data, one line
    labels: int  # 0 where the task has none
    base_name: str  # what an exported adapter calls its base
    base_parameters: int
    arithmetic: str = ""  # how the frozen base is multiplied, in words
    tokenizer: Any = None
    data_split: DataSplit | None = None  # of the training examples over the clients, where they came from a corpus
    validation: Mapping[ClientId, Any] = field(default_factory=dict)  # of `train`, put aside for codecs that search
    simulated: bool = True  # False: of real devices, whose seconds nobody knows beforehand, whatever engine.name says

    def evaluate(self, theta: FloatArray, data: Any, *, losses_only: bool = False) -> Evaluation:
        """Evaluate θ, shape (d,), on a data set; of a zeroth-order run by scalars, coefficients."""
        self.adapter.set(theta if self.replica is None else self.replica.theta(theta))
        size = self.config.evaluation.batch_size
        return evaluate(
            self.adapter, self.task, data, batch_size=size, prepared=self._prepared, losses_only=losses_only
        )

    @cached_property
    def _prepared(self) -> PreparedOnce:
        return PreparedOnce(self.adapter, self.task)

    @cached_property
    def replica(self) -> Replica | None:
        """Zeroth order by scalars: makes θ of coefficients."""
        return make_replica(self.config, self.initial, self.adapter.layout)

    @cached_property
    def directions(self) -> Replica:
        """Zeroth order, by scalars or by deltas: knows the directions along which clients look."""
        return self.replica or make_directions(self.config, self.initial, self.adapter.layout)

    @cached_property
    def sharing(self) -> Sharing:
        """What is shared: θ, without what the strategy or the run file keeps private; by scalars: coefficients."""
        if self.replica is not None:
            return Sharing(self.replica.coordinates.layout(self.replica.identity))
        return Sharing(self.adapter.layout, private_parts(self.config, self.strategy))

    @cached_property
    def sent(self) -> Sent:
        """Which values of what is shared the client of a plan sends."""
        units = None if self.pruner is None else self.pruner.units
        return Sent(self.sharing.shared, units, self.config.adapter.merged)

    @property
    def start(self) -> FloatArray:
        """What a job of the first round starts from: θ_0, or coefficients that are all 0."""
        return self.initial if self.replica is None else self.shared_initial

    @property
    def shared_initial(self) -> FloatArray:
        """What is shared, shape (s,), as it begins on both sides."""
        if self.replica is not None:
            return np.zeros(self.sharing.shared.size, dtype=np.float32)
        return self.sharing.shared_of(self.initial)

    @property
    def private_initial(self) -> FloatArray:
        """What each client keeps to itself, shape (p,), as it begins."""
        return np.empty(0, dtype=np.float32) if self.replica is not None else self.sharing.private_of(self.initial)

    @cached_property
    def downlink(self) -> Downlink | None:
        """Whose codes broadcasts are; None: the plain vector."""
        if self.replica is not None:
            coordinates = self.replica.coordinates
            return CoefficientDownlink(coordinates.size, coordinates.first, self.replica.initial)
        return make_downlink(self.config.codec.down, self.sharing.shared)

    def whole(self, shared: FloatArray) -> FloatArray:
        """θ, shape (d,), of its shared part, shape (s,): what is private is as it began."""
        if self.replica is not None:
            return self.replica.theta(shared)
        return self.sharing.join(shared, self.sharing.private_of(self.initial))

    @cached_property
    def devices(self) -> Mapping[ClientId, Device]:
        """Each client's device."""
        return assign_devices(self.config, list(self.train))

    @cached_property
    def trainer_choice(self) -> TrainerChoice:
        """Whether clients are trained together, tried once on a first batch: the first that has a finite loss."""
        local = self.config.local
        plan = Plan(
            run=self.config.run.name,
            round=0,
            attempt=0,
            client=next(iter(self.train)),
            seed=self.config.run.seed,
            steps=1,
            batch_size=local.batch_size,
            learning_rate=local.learning_rate,
            optimizer=local.optimizer,
        )
        jobs = [TrainingJob(plan, self.start, data) for data in islice(self.train.values(), 3)]
        if self.config.zeroth is not None:
            return choose_zeroth_trainer(self, jobs)
        settings = StepSettings.of(local)
        return choose_trainer(self.config.engine.trainer, self.adapter, self.task, *jobs, settings=settings)

    def trainer(self, on_step: Callable[[], None] | None = None) -> Trainer:
        """A trainer for this model and task; `on_step` is called after each optimizer step of a client."""
        if self.config.zeroth is not None:
            return make_zeroth_trainer(self, on_step)
        rows, memory = pass_limits(self.config, self.adapter.theta.device)
        settings = StepSettings.of(self.config.local)

        def of(adapter: FlatAdapter) -> Trainer:
            return make_trainer(
                self.trainer_choice, adapter, self.task, rows=rows, memory=memory, on_step=on_step, settings=settings
            )

        return of(self.adapter) if self.pruner is None else PrunedTrainer(of(self.adapter), self.pruner, of)

    @cached_property
    def pruner(self) -> Pruner | None:
        """What makes the smaller models of pruned clients; None where nobody is pruned."""
        return make_pruner(self.config, self.adapter)

    @cached_property
    def step_arithmetic(self) -> Arithmetic | None:
        """What share of a full step's arithmetic a pruned client needs; None where nobody is pruned."""
        return count_arithmetic(self)

    def steps(self, device: str) -> int:
        """Optimizer steps a round of a device class."""
        own = {table.name: table.steps for table in self.config.devices}.get(device)
        return own or self.config.local.steps

    @cached_property
    def scheduling(self) -> SchedulingSettings | None:
        """What the coordinator knows of the arms, where there is a scheduler; measured once."""
        return scheduling_settings(self)

    def expected_steps(self) -> dict[ClientId, float]:
        """Optimizer steps of each client's round. With a scheduler all arms are taken for equally likely."""
        if self.config.scheduler is not None:
            arms: Sequence[int] = axes_of(self.config)[3]
            return dict.fromkeys(self.train, sum(arms) / len(arms))
        own = {table.name: float(self.steps(table.name)) for table in self.config.devices}
        return {client: own[device.table.name] for client, device in self.devices.items()}

    def example_passes(self) -> int:
        """Training examples that the whole run is expected to pass through the model, over all clients.

        A client that has fewer than a batch takes has smaller batches.
        """
        config, steps = self.config, self.expected_steps()
        a_round = [steps[client] * min(config.local.batch_size, len(data)) for client, data in self.train.items()]
        return round(config.run.rounds * config.round.updates * sum(a_round) / len(a_round))


def assemble(config: RunConfig) -> Federation:
    """Build everything that a run file describes.

    Raises:
        FedpeftError: data, model, adapter or a plug-in is wrong; names the key and the remedy.
    """
    strategy = check_plugins(config)
    task_class = load_task_class(config.model.task, config.model.source)
    corpus = load_corpus(config)
    base = load_base(
        config.model.source,
        name=config.model.name,
        form=form_of(task_class),
        labels=corpus.label_names,
        seed=config.run.seed,
        dtype=config.model.dtype,
        quantization=config.model.quantization,
        device=choose_device(config.model.device),
    )
    parameters = base.parameters
    adapter: FlatAdapter = load("adapter", config.adapter.type)(
        base, config.adapter, classifier=base.form.classifier, seed=config.run.seed
    )
    adapter = trained(adapter, config, strategy)
    config = settle_rule(settle_device(config, adapter), strategy, adapter)
    if config.zeroth is not None:
        adapter.forget_gradient()
    config, arithmetic = settle_arithmetic(config, adapter.model)
    context = TaskContext.of(
        base,
        corpus.label_names,
        generation=config.generation,
        model=config.model,
        prompts=virtual_tokens(adapter.model),
    )
    task: Task = placed(build_task(task_class, context), adapter.theta.device)
    tested = evaluation_sample(len(corpus.test), config.evaluation.test_examples, config.run.seed)
    encoded = {client: task.encode(data.train) for client, data in corpus.clients.items()}
    train, validation = put_aside(config, task, encoded)
    return Federation(
        config=config,
        adapter=adapter,
        initial=adapter.get() if config.zeroth is None else kept(adapter.get()),
        task=task,
        strategy=strategy,
        train=train,
        held_out={client: task.encode(data.test) for client, data in corpus.clients.items()},
        test=() if private_parts(config, strategy) else task.encode(corpus.test.take(tested)),
        description=corpus.description,
        labels=len(corpus.label_names),
        base_name=base.name,
        base_parameters=parameters,
        arithmetic=arithmetic,
        tokenizer=base.tokenizer if base.processor is None else base.processor,
        data_split=split_of(corpus),
        validation=validation,
    )


def check_plugins(config: RunConfig) -> Strategy:
    """Find everything that the run file names before anything slow is loaded; returns the strategy.

    Raises:
        PluginError: a name is not known, or a plug-in refuses its parameters.
        ConfigError: what a name stands for is not what it should be, or a fault names no client.
    """
    strategy = load_strategy(config)
    check_asynchronous(config, strategy)
    check_halves(config, strategy)
    check_scalars(config, strategy)
    check_pruned(config, strategy)
    check_codecs(config)
    check_arms(config)
    load(optimizer_kind(config), config.local.optimizer)
    load_schedule(config)
    check_sinks(config.report.sinks)
    load("adapter", config.adapter.type)
    load_task_class(config.model.task, config.model.source)
    load("source", config.data.source)
    if config.data.partition is not None:
        load_partitioner(config.data.partition)
    if config.data.format is not None:
        load("reader", config.data.format)
    if config.engine.kernel != "auto":
        load("kernel", config.engine.kernel)
    if config.client.mods:
        load_mods(config.client.mods)
    Faults(config.faults, client_ids(config.clients))
    return strategy


def load_strategy(config: RunConfig) -> Strategy:
    """The strategy of a run file.

    Raises:
        PluginError: there is none of that name, or it refuses its parameters.
        ConfigError: what the name stands for is not a Strategy.
    """
    strategy = build("strategy", config.strategy.name, config.strategy.params)
    if not isinstance(strategy, Strategy):
        raise ConfigError(
            f'strategy.name = "{config.strategy.name}" is a {type(strategy).__name__}, not a Strategy',
            code="config.not-a-strategy",
            allowed="a class derived from fedpeft.strategies.Strategy",
            remedy=f'it is one of Flower\'s: name it "flower:{config.strategy.name}"'
            if any(base.__module__.startswith("flwr.serverapp.strategy") for base in type(strategy).__mro__)
            else "derive it, or name another class",
        )
    return strategy


def test_sample(config: RunConfig, task: Task, test: Any) -> Any:
    """The part of a test set that the run uses at all."""
    chosen = evaluation_sample(len(test), config.evaluation.test_examples, config.run.seed)
    return task.select(test, chosen) if len(chosen) < len(test) else test


def evaluation_sample(examples: int, wanted: int, seed: int) -> list[int]:
    """Indices of a fixed sample; 0 wanted = all."""
    if wanted == 0 or wanted >= examples:
        return list(range(examples))
    return sorted(Stream(derive(seed, "evaluation-sample")).sample(examples, wanted))


__all__ = ["Federation", "assemble", "check_plugins", "evaluation_sample", "load_strategy", "test_sample"]
