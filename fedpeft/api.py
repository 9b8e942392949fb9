"""What a notebook and the command line call: run, resume, validate, evaluate, export; `simulate` for own objects."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fedpeft.config import RunConfig
from fedpeft.errors import ConfigError, JournalError
from fedpeft.journal import Event, EventKind, Journal
from fedpeft.journal.lock import take_lock
from fedpeft.report import write_report
from fedpeft.report.summary import Progress, RunPlan, RunResult, summarise

if TYPE_CHECKING:
    from fedpeft.simulation.evaluated import RunEvaluation
    from fedpeft.simulation.federation import Federation
    from fedpeft.simulation.kept import Kept
    from fedpeft.simulation.run import Work

Observers = Sequence[Callable[[Event], None]]


def run(
    config: RunConfig,
    *,
    observers: Observers = (),
    fresh: bool = False,
    on_plan: Callable[[RunPlan], None] | None = None,
    on_progress: Callable[[Progress], None] | None = None,
) -> RunResult:
    """Run a run file to its end, in a folder of its own.

    Args:
        config: from `fedpeft.config.load_run_file`.
        observers: called with each journal event once it is on disk.
        fresh: remove an earlier run of the same name first.
        on_plan: called with the plan before anything is trained.
        on_progress: called as work is done.

    Returns:
        what the run came to; its files are in `result.folder`.

    Raises:
        FedpeftError: what is wrong and what to do.
    """
    from fedpeft.simulation.arm_costs import check_fits
    from fedpeft.simulation.federation import assemble

    federation = assemble(config)
    check_fits(federation)  # before there is a folder
    return _perform(federation, _create(federation.config, fresh), observers, on_plan, on_progress, separate=True)


def resume(
    folder: Path,
    *,
    observers: Observers = (),
    on_plan: Callable[[RunPlan], None] | None = None,
    on_progress: Callable[[Progress], None] | None = None,
) -> RunResult:
    """Go on with a run that was interrupted, from its last commit. A finished run is left as it is.

    Raises:
        JournalError: there is no run in the folder, it is in use, or it is damaged.
    """
    from fedpeft.simulation.federation import assemble
    from fedpeft.simulation.finished import config_of
    from fedpeft.simulation.own import OWN_OBJECTS

    journal = Journal.open(folder)
    try:
        config = config_of(journal)
        if config.model.source == OWN_OBJECTS:
            raise ConfigError(
                f"run {config.run.name} was made of Python objects: there is no run file to resume it from",
                code="config.own-objects",
                remedy="call fedpeft.simulate again with the same objects and resume=True",
            )
        federation = assemble(config)
    except BaseException:
        journal.close()
        raise
    return _perform(federation, journal, observers, on_plan, on_progress, separate=True)


def validate(config: RunConfig) -> RunPlan:
    """Build everything that a run file describes, run nothing, and say what it would cost.

    Raises:
        FedpeftError: what is wrong and what to do.
    """
    from fedpeft.simulation.federation import assemble
    from fedpeft.simulation.plan import make_plan

    return make_plan(assemble(config))


def export(
    folder: Path,
    to: Path,
    *,
    merged: bool = False,
    which: Kept = "kept",
    client: str | None = None,
    pruned: float = 0.0,
) -> Path:
    """Write an adapter of a run as a peft folder, or merged into its base model.

    Args:
        folder: of the run.
        to: folder to write; created if need be. A new or empty one, or an earlier export of the same kind (adapter,
            model, pruned model), which is replaced.
        merged: write an ordinary `transformers` model instead.
        which: that of the "last" committed round, of the "best" one, or the one that `evaluation.keep` says: "kept".
        client: whose adapter, in a run that keeps tensors private: its own with what is shared, as of the last commit.
        pruned: write the model merged and without this share of the heads and channels of each layer, by the scores
            that the run ended with, or by magnitude where it has none; 0: all of it. Where the architecture's
            configuration has no words for such a model, `fedpeft.load_pruned` loads it, not `transformers`.

    Raises:
        ModelError: `pruned`, and the model cannot be; or the adapter cannot be merged into weights.
        ConfigError: `to` is a file, has files that are no earlier export of the same kind, or cannot be written.
        JournalError: nothing is committed yet, no best round was looked for, or the run is damaged.
    """
    from fedpeft.adapters import export_adapter, export_merged
    from fedpeft.simulation.export_folder import Kind, check_export_folder, exporting_to
    from fedpeft.simulation.finished import reopen
    from fedpeft.simulation.personal import explain_shared
    from fedpeft.simulation.pruned_export import check_share, write_pruned

    if pruned != 0:
        check_share(pruned)
    kind: Kind = "pruned model" if pruned else "model" if merged else "adapter"
    check_export_folder(to, kind)
    finished = reopen(folder, which=which, client=client, whole_weights=merged or pruned > 0)
    federation = finished.federation
    with exporting_to(to, federation.config.run.name, kind):
        if pruned:
            return write_pruned(federation, finished.scores, finished.theta, pruned, to)
        federation.adapter.set(finished.theta)
        if merged:
            return export_merged(federation.adapter, to, federation.tokenizer)
        path = export_adapter(federation.adapter, to, base_name=federation.base_name)
        if client is None:
            explain_shared(federation, path, federation.config.run.name)
        return path


def evaluate(
    folder: Path,
    *,
    which: Kept = "kept",
    client: str | None = None,
    pruned: float | Sequence[float] = (),
    on_progress: Callable[[int, int], None] | None = None,
) -> RunEvaluation:
    """Evaluate what a run has trained, on its test set: the whole model, then smaller ones.

    Of the test set it is `evaluation.test_examples`, where the run file says so.

    Args:
        folder: of the run.
        which: adapter, as for `export`.
        client: whose adapter, as for `export`, on its own held-out examples.
        pruned: shares of the heads and channels of each layer; each gives the model that `export` would write for it,
            before the adapter is merged: in a bf16 base merging rounds. It is cut from a base that is not quantised.
        on_progress: called with the examples that are done, and all of them; of a quantised run twice from the start.

    Raises:
        ConfigError: there are no test examples, the run was made of Python objects, or its clients keep tensors
            private and none is named; a share is not in (0, 1), or leaves nothing of a layer.
        ModelError: `pruned`, and the model cannot be, or the adapter not be merged.
        JournalError: nothing is committed yet, no best round was looked for, there is no such client, model or data
            have changed so that the adapter does not fit, or the run is damaged.
    """
    from fedpeft.simulation.evaluated import evaluate_run

    ratios = list(pruned) if isinstance(pruned, Iterable) else [float(pruned)] if pruned else []
    return evaluate_run(folder, which=which, client=client, ratios=ratios, on_progress=on_progress)


def simulate(
    *,
    model: Any,
    peft_config: Any,
    clients: Mapping[str, Any],
    loss: Callable[[Any, Any], Any],
    test: Any = (),
    correct: Callable[[Any, Any], Any] | None = None,
    metrics: Mapping[str, Callable[[Any, Any], Any]] | None = None,
    collate: Callable[[list[Any]], Any] | None = None,
    client_test: Mapping[str, Any] | None = None,
    strategy: Any = None,
    name: str = "simulation",
    rounds: int = 10,
    ask: int | None = None,
    base_name: str = "own-model",
    options: Mapping[str, Any] | None = None,
    resume: bool = False,
    fresh: bool = False,
    observers: Observers = (),
    on_progress: Callable[[Progress], None] | None = None,
) -> RunResult:
    """Simulate a federation of one's own model, peft configuration, data sets and strategy.

    Args:
        model: a torch module; it is frozen, and wrapped in place by peft.
        peft_config: any peft configuration whose parameters may be averaged, e.g. `peft.LoraConfig(...)`; None trains
            those parameters that the model leaves unfrozen, as they are, so the next call goes on from where they end;
            with a configuration each call starts from the model's own weights.
        clients: client name -> data set with `len` and integer index.
        loss: `(model, batch) -> tensor`, the loss per example, shape (n,), or their mean.
        test: the coordinator's test set.
        correct: `(model, batch) -> tensor of shape (n,)`, 1 where the prediction is right; gives accuracies.
        metrics: name -> `(model, batch) -> tensor of shape (n,)`, or their mean; what is reported is the mean over the
            examples of an evaluation.
        collate: a list of items -> a batch; default: torch's.
        client_test: client name -> its own held-out data set.
        strategy: a `fedpeft.strategies.Strategy`; default: FedAvg.
        name: of the run's folder under `runs/`.
        rounds: to commit.
        ask: clients asked a round; default: all.
        base_name: what the exported adapter calls its base model.
        options: any further keys of a run file, e.g. `{"local.steps": 4, "codec.up": "fp16", "run.seed": 1}`.
        resume: go on with the interrupted run of this name.
        fresh: remove an earlier run of this name first.
        observers: called with each journal event once it is on disk.
        on_progress: called as work is done.

    Raises:
        FedpeftError: what is wrong and what to do.

    >>> import peft, tempfile, torch
    >>> _ = torch.manual_seed(0)
    >>> x = torch.randn(64, 8); y = (x[:, 0] > 0).long()
    >>> items = [(x[i], y[i]) for i in range(64)]
    >>> result = simulate(
    ...     model=torch.nn.Sequential(torch.nn.Linear(8, 8), torch.nn.Linear(8, 2)),
    ...     peft_config=peft.LoraConfig(r=2, target_modules=["0", "1"]),
    ...     clients={"ann": items[:24], "ben": items[24:48]}, test=items[48:],
    ...     loss=lambda model, batch: torch.nn.functional.cross_entropy(model(batch[0]), batch[1], reduction="none"),
    ...     correct=lambda model, batch: model(batch[0]).argmax(1) == batch[1],
    ...     rounds=3, options={"local.learning_rate": 0.05, "run.folder": tempfile.mkdtemp()})
    >>> result.rounds, result.federated > 0.8
    (3, True)
    """
    from fedpeft.kernels import uninstall
    from fedpeft.simulation.finished import config_of
    from fedpeft.simulation.own import OWN_OBJECTS, own_config, own_federation

    options = dict(options or {})
    table = {
        "run": {"name": name, "rounds": rounds},
        "model": {"source": OWN_OBJECTS, "name": base_name},
        "devices": [{"name": "default", "clients": max(1, len(clients))}],
        "round": {"ask": max(1, len(clients)) if ask is None else ask},
    }
    if resume:  # on with the kernel that the run began with
        with _told_in_python(), Journal.read(own_config(table, options, peft_config).folder) as begun:
            began, commit = config_of(begun), begun.last_commit()
        if options.get("engine.kernel", "auto") == "auto":
            options["engine.kernel"] = began.engine.kernel
    federation = own_federation(
        model=model,
        peft_config=peft_config,
        clients=clients,
        loss=loss,
        test=test,
        correct=correct,
        metrics=metrics or {},
        collate=collate,
        client_test=client_test or {},
        strategy=strategy,
        base_name=base_name,
        table=table,
        options=options,
    )
    if resume:
        _check_goes_on(began, federation.config, commit.round if commit is not None else 0)
    with _told_in_python():
        journal = Journal.open(federation.config.folder) if resume else _create(federation.config, fresh)
    try:
        if resume and federation.config.run.rounds != began.run.rounds and not _stopped(journal):
            journal.extend(federation.config.to_toml())
        return _perform(federation, journal, observers, None, on_progress, separate=False)
    finally:
        uninstall(federation.adapter.model)  # the model is the user's, who may change its weights


def _stopped(journal: Journal) -> bool:
    """Whether the run ended by a rule of its own: it has all its rounds, however many are asked for."""
    return any(True for _ in journal.events(EventKind.STOPPED))


def _check_goes_on(began: RunConfig, now: RunConfig, committed: int) -> None:
    """Refuse to go on under other settings: the journal would tell of one run, and hold two.

    Raises:
        ConfigError: something but the number of rounds has changed, or fewer are asked for than there are.
    """
    from fedpeft.simulation.same_run import changed_keys, told

    if changed := changed_keys(began, now, free=("run.rounds", "run.folder")):
        raise ConfigError(
            f"the run in {now.folder} began with other settings: {told(changed)}",
            code="config.other-run-file",
            allowed=f"those of then: {now.folder / 'run.toml'}; and any number of rounds from {max(1, committed)}",
            remedy='change them back to go on, give the new run another name="...", or replace it by fresh=True',
        )
    if now.run.rounds < committed:
        raise ConfigError(
            f"rounds = {now.run.rounds}, and the run in {now.folder} has {committed} behind it",
            code="config.other-run-file",
            allowed=f"rounds from {committed}",
            remedy='ask for as many or more, or give the new run another name="..."',
        )


def _create(config: RunConfig, fresh: bool) -> Journal:
    folder = config.folder
    if fresh and (folder / "journal.sqlite").exists():
        take_lock(folder).release()  # refuses when another process runs it; whatever the journal holds, it goes
        shutil.rmtree(folder)
    return Journal.create(folder, run=config.run.name, config_toml=config.to_toml())


_REMEDIES = {
    "journal.exists": 'give this run another name="...", go on with the one that is there by resume=True, or remove it '
    "first by fresh=True",
    "journal.missing": "leave out resume=True: no run of this name was begun in this folder",
}
"""Of `simulate`, whose runs the command line can neither begin nor resume."""


@contextmanager
def _told_in_python() -> Iterator[None]:
    try:
        yield
    except JournalError as error:
        if error.code not in _REMEDIES:
            raise
        raise JournalError(
            error.message, code=error.code, allowed=error.allowed, remedy=_REMEDIES[error.code]
        ) from error


def _perform(
    federation: Federation,
    journal: Journal,
    observers: Observers,
    on_plan: Callable[[RunPlan], None] | None,
    on_progress: Callable[[Progress], None] | None,
    *,
    separate: bool,
) -> RunResult:
    from fedpeft.simulation.run import perform

    with journal:
        for observer in observers:
            journal.subscribe(observer)
        teller = _Teller(on_progress, federation.config.run.rounds)
        journal.subscribe(teller.observe)
        perform(
            federation,
            journal,
            on_plan=on_plan or (lambda plan: None),
            on_work=teller.work,
            separate=separate,
        )
        result = summarise(journal)
    write_report(result.folder)
    return result


class _Teller:
    """Turns work and events into `Progress`."""

    def __init__(self, on_progress: Callable[[Progress], None] | None, rounds: int) -> None:
        self.on_progress = on_progress
        self.rounds = rounds
        self.round = 0
        self.text = "zero-shot"

    def observe(self, event: Event) -> None:
        if event.kind.value == "round_opened" and event.round is not None:
            self.round = event.round
            self.text = f"round {event.round} of {self.rounds}"
        elif event.kind.value == "committed":
            self.text = f"evaluating round {event.round}" if event.round else "zero-shot"

    def work(self, work: Work) -> None:
        if self.on_progress is None:
            return
        phase: Any = "zero-shot" if work.phase == "round" and self.round == 0 else work.phase
        text = {"centralised": "centralised comparison", "exporting": "writing the adapter"}.get(work.phase, self.text)
        self.on_progress(Progress(phase, work.done, work.total, text))


__all__ = ["Progress", "RunPlan", "RunResult", "evaluate", "export", "resume", "run", "simulate", "validate"]
