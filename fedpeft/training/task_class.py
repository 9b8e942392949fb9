"""The class behind `model.task`, checked before anything slow is loaded: what a wrong one lacks is said at once."""

from __future__ import annotations

from typing import Any, get_args

from fedpeft.adapters import ARCHITECTURES, ArchitectureName
from fedpeft.adapters.own_model import is_own
from fedpeft.data.examples import ExamplesKind
from fedpeft.errors import ConfigError
from fedpeft.registry import load
from fedpeft.training.task import Task, TaskContext

METHODS = ("encode", "select", "pool", "batch", "prepare", "outcomes")
"""That every task has: see `fedpeft.training.Task`."""

_KINDS = get_args(ExamplesKind)


def load_task_class(task: str, source: str) -> Any:
    """The class of that name.

    Args:
        task: `model.task`.
        source: `model.source`.

    Raises:
        PluginError: there is no such name, file or class.
        ConfigError: it is no task, or one for another form of model.
    """
    found = load("task", task)
    missing = [f"a method {name}" for name in METHODS if not callable(getattr(found, name, None))]
    if getattr(found, "architecture", None) not in ARCHITECTURES:
        missing.append(f"architecture = one of {', '.join(ARCHITECTURES)}")
    if getattr(found, "examples", "text") not in _KINDS:
        missing.append(f"examples = one of {', '.join(_KINDS)}")
    if not callable(found):
        missing.append("a constructor that takes a TaskContext")
    if missing:
        raise ConfigError(
            f'model.task = "{task}" is not a task: it lacks {"; ".join(missing)}',
            code="config.not-a-task",
            allowed="a class like fedpeft.training.tasks.linear_head.LinearHead: see fedpeft.training.Task",
            remedy="add what it lacks, or derive it from a task that has it",
        )
    own: bool = found.architecture == "own"
    if own != is_own(source):
        form = "a module of one's own" if own else f'a model of the form "{found.architecture}"'
        raise ConfigError(
            f'model.task = "{task}" needs {form}, and model.source = "{source}" is none',
            code="config.task-model",
            allowed='model.source = "path/file.py:function"' if own else "a folder, a hub id, or package:NAME",
            remedy="name another model.source, or another model.task"
            + ("" if own else '; a task for one\'s own module has architecture = "own"'),
        )
    return found


def build_task(task_class: Any, context: TaskContext) -> Task:
    """An object of the class.

    Raises:
        ConfigError: its constructor does not take a context, or is no constructor.
    """
    try:
        task: Task = task_class(context)
    except TypeError as error:
        raise ConfigError(
            f'model.task = "{context.model.task}" cannot be made from a TaskContext: {error}',
            code="config.not-a-task",
            allowed="a class whose constructor takes one argument, a fedpeft.training.TaskContext",
            remedy="correct its __init__",
        ) from error
    return task


def form_of(task_class: Any) -> ArchitectureName:
    """Which form of model a task needs."""
    form: ArchitectureName = task_class.architecture
    return form
