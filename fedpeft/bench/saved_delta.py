"""A delta that somebody has kept, as a vector and its tensors: `fedpeft bench codecs --delta FILE`.

FILE is a `.npy` file (one tensor) or a `.safetensors` file (a tensor a name; whole numbers, such as the round of a
client's residual, are left out). An exported adapter is no delta: LoRA's A is mostly what it was drawn as. Two of them
are, before and after: `--delta AFTER --since BEFORE`, each a folder or a file.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from fedpeft.errors import DataError
from fedpeft.layouts import make_layout
from fedpeft.types import FloatArray, Layout

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

ADAPTER_FILES = ("adapter_model.safetensors", "trained.safetensors")
"""What is in the folder of an exported adapter: peft's, and that of what peft has no format for."""
SUFFIXES = (".npy", ".safetensors")
_ALLOWED = "a .npy or .safetensors file of a delta, or with --since an adapter's folder"


def read_delta(path: Path, since: Path | None = None) -> tuple[FloatArray, Layout]:
    """The delta of a file, fp32 of shape (d,), finite and not all 0, and its tensors, in the order of their names.

    Args:
        path: of the delta; with `since`, of the values after.
        since: of the values before.

    Raises:
        DataError: `bench.delta`; a file that cannot be read, holds no delta, or does not fit the other one.
    """
    import numpy as np

    file = _file_of(path)
    if since is None and file.name in ADAPTER_FILES:
        raise _refused(
            f"{path} is an adapter, not a delta: what it was at its start is in it",
            remedy="say where it started: --since BEFORE, an adapter of the same shape, e.g. of an earlier round",
        )
    tensors = _tensors(file)
    if since is not None:
        before = _tensors(_file_of(since))
        _check_alike(path, tensors, since, before)
        tensors = {name: tensor - before[name] for name, tensor in tensors.items()}
    layout = make_layout({name: tensor.shape for name, tensor in tensors.items()})
    for name, tensor in tensors.items():
        if not np.isfinite(tensor).all():
            wrong = float(tensor[~np.isfinite(tensor)][0])
            raise _refused(f'{path}: tensor "{name}" holds {wrong}', remedy="save finite values that fit into fp32")
    delta = np.concatenate([tensors[tensor.name].reshape(-1) for tensor in layout.tensors])
    if not delta.any():
        what = f"{path} and {since} are equal" if since is not None else f"all {delta.size:,} values of {path} are 0"
        raise _refused(f"{what}: there is no change to encode", remedy="name a delta that is one")
    return delta, layout


def _file_of(path: Path) -> Path:
    """The file of values: of an adapter's folder the one in it."""
    if path.is_dir():
        found = [path / name for name in ADAPTER_FILES if (path / name).is_file()]
        if found:
            return found[0]
        near = sorted(one.parent for name in ADAPTER_FILES for one in path.glob(f"*/{name}"))
        raise _refused(
            f"{path} is a folder without {' or '.join(ADAPTER_FILES)}",
            remedy=f"there is one in {near[0]}" if near else "name a file, or an adapter's folder",
        )
    if not path.is_file():
        raise _refused(f"there is no file {path}", remedy="correct the path")
    if path.suffix not in SUFFIXES:
        raise _refused(f'{path} ends in "{path.suffix}"', remedy="save it by numpy.save or as safetensors")
    return path


def _tensors(file: Path) -> dict[str, npt.NDArray[np.float32]]:
    """Name -> values in fp32, of whatever shape; at least one value."""
    import numpy as np

    found: dict[str, npt.NDArray[np.float32]] = {}
    try:
        with np.errstate(over="ignore"):  # what is too large for fp32 is refused by its name
            if file.suffix == ".npy":
                array = np.load(file, allow_pickle=False)
                if array.dtype.kind == "f":
                    found["vector"] = array.astype(np.float32)
            else:
                from safetensors.torch import load  # NumPy knows no bf16

                for name, tensor in load(file.read_bytes()).items():
                    if tensor.is_floating_point():
                        found[name] = tensor.float().numpy()
    except Exception as error:  # of a damaged file: safetensors', NumPy's or the system's own
        reason = " ".join(str(error).split()) or type(error).__name__
        raise _refused(f"{file} cannot be read: {reason}", remedy="save it again") from error
    if not sum(tensor.size for tensor in found.values()):
        raise _refused(f"{file} holds no floating-point values", remedy="save the delta as fp32")
    return found


def _check_alike(
    path: Path,
    after: dict[str, npt.NDArray[np.float32]],
    since: Path,
    before: dict[str, npt.NDArray[np.float32]],
) -> None:
    """The same names and shapes on both sides."""
    for name in sorted(after.keys() | before.keys()):
        one, other = after.get(name), before.get(name)
        if one is None or other is None:
            there, lacking = (path, since) if other is None else (since, path)
            raise _refused(f'{there} holds a tensor "{name}" and {lacking} none', remedy="name two adapters of one run")
        if one.shape != other.shape:
            raise _refused(
                f'tensor "{name}" has shape {one.shape} in {path} and {other.shape} in {since}',
                remedy="name two adapters of the same settings",
            )


def _refused(message: str, remedy: str) -> DataError:
    return DataError(message, code="bench.delta", allowed=_ALLOWED, remedy=remedy)
