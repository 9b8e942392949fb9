"""How a run computes: threads, the kernel under the frozen base, and what to tell people about both."""

from __future__ import annotations

import torch

from fedpeft.adapters.quantized import quantization_of
from fedpeft.config import RunConfig
from fedpeft.kernels import choose_kernel, install, keep_freed_memory, release_freed_memory
from fedpeft.kernels.install import frozen_matrix


def settle_arithmetic(config: RunConfig, model: torch.nn.Module) -> tuple[RunConfig, str]:
    """Put the run's kernel under the frozen layers of `model`, adapter and all.

    Returns:
        the run file with the kernel's name in the place of "auto", so that a resumed run computes as it began; and
        the choice in words.

    Raises:
        ConfigError: the kernel asked for cannot be used here.
        PluginError: there is none of that name.
    """
    torch.set_num_threads(config.engine.threads)
    keep_freed_memory()
    if config.local.autocast != "off":  # which chooses the products itself, with weights that are rounded every time
        words = f"torch's own products, in training in {config.local.autocast} (local.autocast)"
        return config.model_copy(update={"engine": config.engine.model_copy(update={"kernel": "torch"})}), words
    quantised = quantization_of(model)
    matrices = [matrix for module in model.modules() if (matrix := frozen_matrix(module)) is not None]
    first = matrices[0] if matrices else next(model.parameters())
    shapes = [(matrix.shape[0], matrix.shape[1]) for matrix in matrices]
    choice = choose_kernel(config.engine.kernel, shapes, dtype=first.dtype, device=first.device.type)
    held = install(model, choice.kernel)
    release_freed_memory()  # of the measurement and the packing
    engine = config.engine.model_copy(update={"kernel": choice.name})
    words = f"matrices in {quantised}; of the rest " * bool(quantised) + choice.reason
    words += f"; {held / 1e6:.0f} MB of packed matrices" if held else ""
    return config.model_copy(update={"engine": engine}), words
