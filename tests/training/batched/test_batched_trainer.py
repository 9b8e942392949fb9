"""What goes wrong with one client stays with that client; and any mixture of plans is trained in one run."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import peft
import pytest
import torch
from tiny_models import plan

from fedpeft.adapters import build_adapter
from fedpeft.errors import ClientFault, PluginError
from fedpeft.training import SequentialTrainer, TrainingJob
from fedpeft.training.batched import BatchedTrainer
from fedpeft.training.batched import trainer as trainer_module
from fedpeft.training.batched.model import ClientAxis
from fedpeft.training.batched.optimizers import SeatOptimizers
from fedpeft.training.batched.seat import Seat
from fedpeft.training.tasks.custom import CustomTask

WIDTH = 32


def each(model, batch):
    return torch.nn.functional.cross_entropy(model(batch[0]), batch[1], reduction="none")


def data(seed, count=12):
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(count, WIDTH, generator=generator)
    return [(x[i], (x[i, 0] > 0).long()) for i in range(count)]


def adapter_of(dropout=0.0):
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(1)
        model = torch.nn.Sequential(torch.nn.Linear(WIDTH, WIDTH), torch.nn.ReLU(), torch.nn.Linear(WIDTH, 2))
    return build_adapter(model, peft.LoraConfig(r=2, target_modules=["0", "2"], lora_dropout=dropout), seed=3)


START = adapter_of().get()


def job(client, **more):
    return TrainingJob(plan(client, **more), START, data(sum(map(ord, client))))


def batched(loss=each, *, dropout=0.0, **more):
    return BatchedTrainer(adapter_of(dropout), CustomTask(loss), **more)


def sequential(loss=each, *, dropout=0.0):
    return SequentialTrainer(adapter_of(dropout), CustomTask(loss))


def run(trainer, work):
    found = list(trainer.run(work))
    assert [result.plan for result in found] == [one.plan for one in work]
    return found


def assert_like(found, work, **more):
    """As the sequential trainer's, within rounding."""
    for mine, right in zip(found, sequential(**more).run(work), strict=True):
        assert (mine.fault is None) == (right.fault is None)
        if right.fault is None:
            np.testing.assert_allclose(mine.delta, right.delta, rtol=1e-4, atol=1e-5 * np.abs(right.delta).max())
        else:
            assert (mine.fault.code, mine.fault.message) == (right.fault.code, right.fault.message)


MIXED = [
    {"learning_rate": 0.1, "optimizer": "sgd"},
    {"learning_rate": 0.5, "optimizer": "sgd", "weight_decay": 0.1},
    {"learning_rate": 0.01, "optimizer": "adamw"},
    {"learning_rate": 0.01, "optimizer": "adamw", "weight_decay": 0.3, "steps": 5},
    {"learning_rate": 0.1, "optimizer": "sgd", "objective": "proximal", "objective_params": {"mu": 2.0}, "steps": 4},
    {"learning_rate": 0.1, "optimizer": "sgd", "objective": "proximal", "objective_params": {"mu": 0.1}, "steps": 4},
    {"objective": "small-tail", "objective_params": {"regularisation": 0.5, "kept": 1.0}, "steps": 5},
    {"objective": "small-tail", "objective_params": {"regularisation": 0.5, "kept": 0.0}, "rank": 1, "steps": 5},
    {"learning_rate": 0.5, "optimizer": "sgd", "max_grad_norm": 0.01},
    {"learning_rate": 0.5, "optimizer": "sgd", "max_grad_norm": 0.0},
    {"learning_rate": 0.1, "optimizer": "sgd", "steps": 1, "batch_size": 99},
]


def test_any_mixture_of_plans():
    work = [job(f"c{k}", **more) for k, more in enumerate(MIXED)]
    found = run(batched(), work)
    assert_like(found, work)
    for result, one in zip(found, work, strict=True):
        (alone,) = run(batched(), [one])
        assert np.array_equal(alone.delta, result.delta), one.plan


def test_dropout_has_the_sequential_trainers_masks():
    """Other masks would be far off: with half of the inputs dropped, two seeds have little in common."""
    work = [job(f"c{k}", optimizer="sgd", learning_rate=0.1) for k in range(4)]
    found = run(batched(dropout=0.5), work)
    assert_like(found, work, dropout=0.5)
    other = [replace(one, plan=replace(one.plan, seed=one.plan.seed + 1)) for one in work]
    for mine, right in zip(found, run(sequential(dropout=0.5), other), strict=True):
        assert np.linalg.norm(mine.delta - right.delta) > 0.1 * np.linalg.norm(right.delta)


def test_torch_s_generator_and_the_models_theta_are_of_no_consequence():
    work = [job(f"c{k}") for k in range(3)]
    before = torch.get_rng_state()
    trainer = batched(dropout=0.5)
    first = run(trainer, work)
    assert torch.equal(torch.get_rng_state(), before)
    trainer.adapter.set(START + 1)
    torch.manual_seed(99)
    for one, two in zip(first, run(trainer, work), strict=True):
        assert np.array_equal(one.delta, two.delta)


def poisoned(client, at, value=float("nan"), **more):
    one = job(client, **more)
    return replace(one, data=[(x * value if i == at else x, y) for i, (x, y) in enumerate(one.data)])


@pytest.mark.parametrize("dropout", [0.0, 0.5])
@pytest.mark.parametrize("batch_size", [4, 12])
def test_a_loss_that_is_not_finite_costs_that_client_only(batch_size, dropout):
    """With 4 of 12 examples a batch it happens midway, with 12 in the first step."""
    good = [job(f"c{k}", batch_size=batch_size, steps=4) for k in range(4)]
    work = [*good[:2], poisoned("evil", 5, batch_size=batch_size, steps=4), *good[2:]]
    found = run(batched(dropout=dropout), work)
    fault = found[2].fault
    assert isinstance(fault, ClientFault)
    assert fault.code == "training.loss-not-finite"
    assert "client evil: the training loss is nan at step" in fault.message
    assert "round 2" in fault.message
    assert found[2].delta is None
    for result, one in zip(found[:2] + found[3:], good, strict=True):
        (alone,) = run(batched(dropout=dropout), [one])
        assert result.fault is None
        assert np.array_equal(result.delta, alone.delta)
    assert_like(found, work, dropout=dropout)


def test_an_adapter_that_overflows_in_the_last_step_is_that_clients_fault():
    def loss(model, batch):  # finite itself; for one client, whose inputs are 0, its gradient is not
        y = model(batch[0])
        return torch.sqrt((y - y.detach()).abs().sum(1) + batch[0].abs().sum(1)) + 1.0

    work = [job("a", steps=2), poisoned("b", 3, 0.0, steps=1, batch_size=12, max_grad_norm=0.0), job("c", steps=2)]
    found = run(batched(loss), work)
    assert [result.fault is None for result in found] == [True, False, True]
    assert "the adapter is no longer finite after step 1" in found[1].fault.message
    assert_like(found, work, loss=loss)


def failing(error, marker=77.0):
    """A loss that raises when it sees the marker, whoever else is in the batch; dropout has been drawn by then."""

    def loss(model, batch):
        losses = each(model, batch)
        if (batch[0] == marker).any():
            raise error
        return losses

    return loss


def marked(client, at=5, **more):
    one = job(client, **more)
    return replace(one, data=[(torch.full_like(x, 77.0) if i == at else x, y) for i, (x, y) in enumerate(one.data)])


@pytest.mark.parametrize("dropout", [0.0, 0.5])
def test_a_fault_raised_midway_costs_that_client_only(dropout):
    loss = failing(ClientFault("client b: its sensor broke", code="mine"))
    work = [job("a"), marked("b"), job("c"), job("d")]
    found = run(batched(loss, dropout=dropout), work)
    assert [result.fault and result.fault.code for result in found] == [None, "mine", None, None]
    assert_like(found, work, loss=loss, dropout=dropout)
    for place in (0, 2, 3):
        (alone,) = run(batched(dropout=dropout), [work[place]])
        assert np.array_equal(found[place].delta, alone.delta)


class Broken(list):
    """A data set, one of whose examples cannot be read."""

    def __init__(self, items, error, at=5):
        super().__init__(items)
        self.error, self.at = error, at

    def __getitem__(self, index):
        if index == self.at:
            raise self.error
        return super().__getitem__(index)


def outcome(trainer, work):
    """Results until something is raised, and what."""
    found = []
    try:
        for result in trainer.run(work):
            found.append(result)
    except OSError as error:
        return found, error
    return found, None


@pytest.mark.parametrize("where", ["in the data", "in the loss"])
def test_a_bug_is_raised_in_its_clients_turn_as_by_the_sequential_trainer(where):
    def work():
        if where == "in the loss":
            return [job("a"), job("b", steps=6), marked("c", steps=4), job("d")]
        broken = replace(job("c", steps=4), data=Broken(data(1), OSError("no such image")))
        return [job("a"), job("b", steps=6), broken, job("d")]

    def loss():
        return failing(OSError("no such image")) if where == "in the loss" else each

    found, error = outcome(batched(loss()), work())
    expected, same = outcome(sequential(loss()), work())
    assert [result.plan.client for result in found] == ["a", "b"] == [result.plan.client for result in expected]
    assert error.args == same.args == ("no such image",)
    assert error.__notes__ == same.__notes__
    assert error.__notes__[0].startswith("while training client c, step ")
    for mine, right in zip(found, expected, strict=True):
        np.testing.assert_allclose(mine.delta, right.delta, rtol=1e-3, atol=1e-5)


def test_a_fault_in_a_clients_data_is_told_like_any_other():
    broken = replace(job("b"), data=Broken(data(1), ClientFault("client b: no such image", code="mine")))
    found = run(batched(), [job("a"), broken, job("c")])
    assert [result.fault and result.fault.code for result in found] == [None, "mine", None]


@pytest.mark.parametrize("more", [{"objective": "plane"}, {"optimizer": "adamx"}])
def test_an_unknown_plug_in_is_named(more):
    with pytest.raises(PluginError, match=next(iter(more.values()))):
        list(batched().run([job("a", **more)]))


def test_steps_are_told_one_by_one_and_a_failed_one_is_not():
    told = []
    trainer = batched(on_step=lambda: told.append(1))
    list(trainer.run([job("a", steps=3), job("b", steps=2), poisoned("c", 5, batch_size=12)]))
    assert len(told) == 5


def test_results_come_in_the_order_of_the_jobs_and_early():
    work = [job("slow", steps=30), job("a", steps=1), job("b", steps=2)]
    assert [result.plan.client for result in batched().run(work)] == ["slow", "a", "b"]
    seen = []
    trainer = batched(on_step=lambda: seen.append(1))
    results = trainer.run([job("a", steps=1), job("slow", steps=30)])
    next(results)
    assert len(seen) < 31  # the first client's result does not wait for the last's
    list(results)
    assert len(seen) == 31


def test_no_jobs_no_results():
    assert list(batched().run([])) == []


def passes_of(monkeypatch, trainer, work):
    """Clients of each pass, and the most that were at work at once."""
    sizes, seated = [], []
    forward, following = trainer_module.forward_backward, trainer_module.next_pass

    def counted(axis, task, seats, **more):
        sizes.append(len(seats))
        return forward(axis, task, seats, **more)

    def watched(seats, limits):
        seated.append(len(seats))
        return following(seats, limits)

    monkeypatch.setattr(trainer_module, "forward_backward", counted)
    monkeypatch.setattr(trainer_module, "next_pass", watched)
    run(trainer, work)
    return sizes, max(seated)


def test_clients_share_passes_and_rows_limit_them(monkeypatch):
    work = [job(f"c{k}", steps=3) for k in range(12)]
    sizes, _ = passes_of(monkeypatch, batched(), work)
    assert sizes[0] == 2  # the first of a shape, by which it is measured
    assert max(sizes) >= 10
    assert sum(sizes) == 36
    sizes, _ = passes_of(monkeypatch, batched(rows=12), work)  # 4 rows a client
    assert max(sizes) == 3
    sizes, _ = passes_of(monkeypatch, batched(rows=1), work)
    assert set(sizes[1:]) == {1}


def test_memory_limits_seats_and_passes(monkeypatch):
    work = [job(f"c{k}", steps=3) for k in range(12)]
    vector = 4 * len(START)
    trainer = batched(memory=2 * 3 * vector * 5)
    assert trainer.seats == 5
    sizes, seated = passes_of(monkeypatch, trainer, work)
    assert seated == 5
    assert 1 <= max(sizes) <= 5
    trainer = batched(memory=0)
    sizes, seated = passes_of(monkeypatch, trainer, work)
    assert (max(sizes), seated) == (1, 1)


def test_an_optimizer_of_ones_own_may_look_at_the_whole_plan(tmp_path):
    """Its rate depends on the steps of the plan: clients with other steps do not share it."""
    path = tmp_path / "mine.py"
    path.write_text(
        "import torch\n"
        "def decayed(thetas, plan):\n"
        "    return torch.optim.SGD(list(thetas), lr=plan.learning_rate / plan.steps)\n",
        encoding="utf-8",
    )
    name = f"{path}:decayed"
    work = [job(f"c{k}", optimizer=name, learning_rate=0.3, steps=k + 1) for k in range(4)]
    assert_like(run(batched(), work), work)


def test_jobs_behind_a_crash_are_not_trained_to_their_end():
    told = []
    trainer = batched(failing(OSError("no such image")), on_step=lambda: told.append(1))
    work = [job("a", steps=20), marked("b"), job("c", steps=50)]
    work = [replace(one, plan=replace(one.plan, batch_size=12)) for one in work]
    with pytest.raises(OSError, match="no such image"):
        list(trainer.run(work))
    assert 20 <= len(told) < 30


def test_a_pass_gives_no_gradient_where_a_loss_is_not_finite():
    trainer = batched()
    work = [job("a"), poisoned("b", 5, batch_size=12), job("c")]
    work = [replace(one, plan=replace(one.plan, batch_size=12)) for one in work]
    seats = [Seat(k, one, trainer.task, None, trainer.adapter.theta.device) for k, one in enumerate(work)]
    for seat in seats:
        seat.advance()
    losses, gradients, _ = trainer_module.forward_backward(ClientAxis(trainer.adapter), trainer.task, seats)
    assert np.isnan(losses).tolist() == [False, True, False]
    assert gradients.any(1).tolist() == [True, False, True]
    assert torch.isfinite(gradients).all()


def test_the_state_of_those_who_are_done_is_forgotten():
    optimizers = SeatOptimizers()
    seats = [Seat(k, job(f"c{k}"), None, None, torch.device("cpu")) for k in range(3)]
    for seat in seats:
        optimizers.add(seat)
    optimizers.step(seats, [torch.ones_like(seat.theta) for seat in seats])
    (shared,) = optimizers._by_settings.values()
    assert len(shared.state) == 3
    optimizers.drop(seats[1])
    assert set(map(id, shared.state)) == {id(seats[0].theta), id(seats[2].theta)}
    before = [seat.theta.clone() for seat in seats]
    optimizers.step(seats[:1], [torch.ones_like(seats[0].theta)])
    assert [torch.equal(seat.theta, old) for seat, old in zip(seats, before, strict=True)] == [False, True, True]
    for seat in (seats[0], seats[2]):
        optimizers.drop(seat)
    assert not optimizers._by_settings
