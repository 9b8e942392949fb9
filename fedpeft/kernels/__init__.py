"""Matrix products of the frozen base, by the fastest kernel that gives right answers on this processor.

The base never changes, so its matrices can be brought into a kernel's own memory layout once. A kernel is a class of
this package (registry kind `kernel`); `choose_kernel` measures them on the model's own shapes and refuses one that is
wrong, and `install` puts the chosen one under every frozen linear layer of a model, for training and evaluation alike.
"""

from fedpeft.kernels.allocator import keep_freed_memory, release_freed_memory
from fedpeft.kernels.choice import KernelChoice, choose_kernel
from fedpeft.kernels.frozen import FrozenProduct, Kernel, frozen_product
from fedpeft.kernels.install import held_product, install, uninstall
from fedpeft.kernels.rows import rows_times

__all__ = [
    "FrozenProduct",
    "Kernel",
    "KernelChoice",
    "choose_kernel",
    "frozen_product",
    "held_product",
    "install",
    "keep_freed_memory",
    "release_freed_memory",
    "rows_times",
    "uninstall",
]
