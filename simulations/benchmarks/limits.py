"""What one core of this machine can do at most: matrix products and memory.

The products of one training step of 8 × 64 tokens (forward and gradient of every linear layer of the encoder), by
torch's own fp32 product, by oneDNN with weights packed beforehand (still fp32), and in bf16. Memory: 256 MiB read,
copied, and added to another 256 MiB; the rates count the source once. CPU time, contenders interleaved.
"""

from __future__ import annotations

import sys
from collections.abc import Callable

from fedpeft.bench import Figure, interleaved, main, say

TOKENS = 8 * 64


def measure(quick: bool) -> list[Figure]:
    """GF/s and GB/s of one core."""
    import torch

    from fedpeft.bench.limits import KERNELS, MINILM, Memory, operations, products

    torch.set_num_threads(1)
    repeats = 5 if quick else 25
    say("matrix products")
    steps: dict[str, Callable[[], None]] = {kernel: products(kernel, TOKENS, MINILM) for kernel in KERNELS}
    work = operations(TOKENS, MINILM)
    figures = [
        Figure.of(
            kernel,
            [work / seconds / 1e9 for seconds in samples],
            "GF/s",
            group=f"matrix products, {TOKENS} tokens",
            better="higher",
            role="limit",
        )
        for kernel, samples in interleaved(steps, repeats=repeats, warmup=2).items()
    ]
    say("memory")
    memory = Memory(2**26 if quick else 2**28)
    passes = {"read": memory.read, "copy": memory.copy, "add": memory.add}
    return figures + [
        Figure.of(
            name,
            [memory.size / seconds / 1e9 for seconds in samples],
            "GB/s",
            group="memory, of the source",
            better="higher",
            role="limit",
        )
        for name, samples in interleaved(passes, repeats=repeats, warmup=2).items()
    ]


if __name__ == "__main__":
    sys.exit(main(__file__, measure))
