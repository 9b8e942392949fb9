"""What share of a full step's arithmetic a step at a rank and a pruning ratio costs, for one architecture.

Multiplications a token, counted from the model's own matrices, with h and c the shares of heads and channels that are
kept, T tokens a text, and for LoRA of rank r on a matrix with sides of which h, c or all is kept:

    frozen W        2 |W|            forward, and the gradient of its input; W has no gradient of its own
    attention       3 · 2 T h D      scores and sums over D = heads · head size, forward, and twice that backward
    LoRA            3 r (in + out)   forward, and the gradients of the input and of both factors

    share(r, ρ) = cost(r, h, c) / cost(r_max, 1, 1)

Norms, activations, softmax, embeddings and the optimizer are not products of matrices and are left out; not all of them
shrink, so a measured share may be larger (`fedpeft bench pruning` shows both).
"""

from __future__ import annotations

from dataclasses import dataclass

from fedpeft.pruning.mask import kept_of
from fedpeft.pruning.units import Group
from fedpeft.types import ALL_COMPONENTS


@dataclass(frozen=True, slots=True)
class Product:
    """Matrices of one kind in one layer, taken together."""

    group: int  # of units by which one side is cut; -1: none
    frozen: int  # scalars of the frozen matrix
    lora_fixed: int = 0  # sides of LoRA's product that are not cut, e.g. its input
    lora_cut: int = 0  # the side that is
    rank: int = 0  # of LoRA


@dataclass(frozen=True, slots=True)
class Arithmetic:
    """The products of one model.

    >>> heads, channels = Group(0, "heads", 0, 4), Group(0, "channels", 4, 64)
    >>> products = (Product(0, 4096, 32, 32, rank=8), Product(1, 8192))
    >>> full = Arithmetic((heads, channels), products, widths=(32,), tokens=16)
    >>> full.share(rank=8, ratio=0.0), round(full.share(rank=8, ratio=0.5), 3), round(full.share(rank=2, ratio=0.0), 3)
    (1.0, 0.513, 0.961)
    """

    groups: tuple[Group, ...]
    products: tuple[Product, ...]
    widths: tuple[int, ...]  # D of each layer
    tokens: float  # T of a text, on average; 0: not known, and attention counts nothing

    def share(self, rank: int = ALL_COMPONENTS, ratio: float = 0.0) -> float:
        """Of a step's arithmetic that a client needs which holds `rank` components and does without `ratio`.

        Args:
            rank: components of each LoRA layer that it multiplies by; at most those that there are.
            ratio: share of heads and channels that it does without, in [0, 1).
        """
        return self._cost(rank, ratio) / self._cost(ALL_COMPONENTS, 0.0)

    def _cost(self, rank: int, ratio: float) -> float:
        kept = [kept_of(group.size, ratio) / group.size for group in self.groups]
        total = 0.0
        for product in self.products:
            share = 1.0 if product.group < 0 else kept[product.group]
            sides = product.lora_fixed + product.lora_cut * share
            total += 2 * product.frozen * share + 3 * min(rank, product.rank) * sides
        heads = [share for group, share in zip(self.groups, kept, strict=True) if group.kind == "heads"]
        return total + sum(6 * self.tokens * share * width for share, width in zip(heads, self.widths, strict=True))
