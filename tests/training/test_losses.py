"""The chunked loss of language models is torch's, forward and backward, without all logits."""

import pytest
import torch
from torch.autograd import forward_ad

from fedpeft.training import losses
from fedpeft.training.losses import IGNORED, token_losses


def reference(hidden, head, labels):
    taken = torch.nn.functional.cross_entropy(
        head(hidden).float().transpose(1, 2), labels, reduction="none", ignore_index=IGNORED
    )
    return taken.sum(1) / (labels != IGNORED).sum(1).clamp(min=1)


def case(*, bias=False, frozen=True):
    generator = torch.Generator().manual_seed(4)
    hidden = torch.randn(3, 7, 32, generator=generator, requires_grad=True)
    labels = torch.randint(50, (3, 7), generator=generator)
    labels[0, :5] = IGNORED
    labels[2] = IGNORED
    head = torch.nn.Linear(32, 50, bias=bias).requires_grad_(not frozen)
    return hidden, head, labels


@pytest.mark.parametrize("bias", [False, True])
@pytest.mark.parametrize("frozen", [False, True])
@pytest.mark.parametrize("chunk", [1, 4, 256])
def test_loss_and_gradient_are_torch_s(monkeypatch, chunk, frozen, bias):
    monkeypatch.setattr(losses, "CHUNK", chunk)
    hidden, head, labels = case(bias=bias, frozen=frozen)
    ours, theirs = token_losses(hidden, head, labels), reference(hidden, head, labels)
    torch.testing.assert_close(ours, theirs)
    assert ours[2] == 0
    upstream = torch.tensor([0.3, -2.0, 5.0])
    wanted = [hidden] if frozen else [hidden, head.weight]
    for mine, right in zip(
        torch.autograd.grad(ours, wanted, upstream), torch.autograd.grad(theirs, wanted, upstream), strict=True
    ):
        torch.testing.assert_close(mine, right)


def test_no_tensor_of_all_logits_is_kept(monkeypatch):
    monkeypatch.setattr(losses, "CHUNK", 4)
    hidden, head, labels = case()
    kept = []
    with torch.autograd.graph.saved_tensors_hooks(lambda tensor: kept.append(tensor.numel()) or tensor, lambda t: t):
        token_losses(hidden, head, labels)
    assert max(kept) <= hidden.numel()


def test_without_gradient():
    hidden, head, labels = case()
    with torch.no_grad():
        torch.testing.assert_close(token_losses(hidden, head, labels), reference(hidden, head, labels))


@pytest.mark.parametrize("bias", [False, True])
@pytest.mark.parametrize("frozen", [False, True])
@pytest.mark.parametrize("chunk", [4, 256])
def test_in_forward_mode(monkeypatch, chunk, frozen, bias):
    monkeypatch.setattr(losses, "CHUNK", chunk)
    hidden, head, labels = case(bias=bias, frozen=frozen)
    change = torch.randn(hidden.shape, generator=torch.Generator().manual_seed(5))
    found = []
    for measure in (token_losses, reference):
        with torch.no_grad(), forward_ad.dual_level():
            duals = forward_ad.make_dual(hidden.detach(), change)
            found.append(forward_ad.unpack_dual(measure(duals, head, labels)))
    torch.testing.assert_close(found[0].primal, found[1].primal)
    torch.testing.assert_close(found[0].tangent, found[1].tangent)
