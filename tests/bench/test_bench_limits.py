import numpy as np

from fedpeft.bench.limits import Memory, operations, products


def test_matrix_products_of_a_step():
    layers = ((8, 4, 2), (4, 8, 1))
    for kernel in ("torch fp32", "torch bf16"):
        products(kernel, 3, layers)()
    assert operations(3, layers) == 4 * 3 * (2 * 32 + 32)


def test_memory_streams():
    memory = Memory(4096)
    memory.copy()
    memory.add()
    memory.read()
    assert np.array_equal(memory._target, 1.5 * memory._source)
