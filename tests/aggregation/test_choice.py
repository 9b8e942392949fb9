"""Which passes a process uses: a small run never loads numba, a large one changes over without changing a bit."""

import subprocess
import sys

import numpy as np

from fedpeft.aggregation import WeightedMean
from fedpeft.aggregation.choice import Changeover, best_passes

DELTA = np.linspace(-1, 1, 1000).astype(np.float32)


def added(passes, times):
    result = WeightedMean(DELTA.size, passes=passes)
    names = []
    for weight in range(1, times + 1):
        result.add(DELTA, weight)
        names.append(passes.name)
    return result.mean().tobytes(), names


def test_numba_takes_over_after_enough_work_and_the_bits_stay():
    bits, names = added(Changeover(enough=3000), 5)
    assert names == ["numpy", "numpy", "numpy", "numba", "numba"]
    assert bits == added(Changeover(), 5)[0]


def test_norms_are_work_too():
    passes = Changeover(enough=1000)
    passes.squared_norm(DELTA)
    assert passes.name == "numpy"
    passes.squared_norm(DELTA)
    assert passes.name == "numba"


def test_without_numba_all_goes_on(monkeypatch):
    monkeypatch.delitem(sys.modules, "fedpeft.aggregation.compiled", raising=False)
    monkeypatch.setitem(sys.modules, "numba", None)
    bits, names = added(Changeover(enough=0), 3)
    assert set(names) == {"numpy"}
    assert bits == added(Changeover(), 3)[0]


def test_a_process_has_one_choice():
    assert best_passes() is best_passes()


def test_importing_the_package_loads_neither_numba_nor_torch():
    code = "import sys, fedpeft.aggregation; print(sorted({'numba', 'torch'} & sys.modules.keys()))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
