"""Reading weights into arrays, from safetensors or from an ONNX graph; pickled files are never opened.

The torch runtime can read its parameters out of the very ``.onnx`` file that ONNX Runtime runs, so that one
file is the truth for both. The packages that read are imported on use: scoring with ONNX needs neither.
"""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from dgiqa.errors import RuntimeMissing, WeightsError

State = dict[str, npt.NDArray[Any]]

_PICKLED = (".pth", ".pt", ".bin", ".ckpt", ".pkl", ".tar")


def read_state(path: str | Path) -> State:
    """Every tensor of a weights file by its name.

    From ``.safetensors`` all tensors, from ``.onnx`` the graph's initialisers.

    Raises:
        WeightsError: no such file, another format, a damaged file, or a file without tensors.
        RuntimeMissing: the package that reads this format is not installed.
    """
    path = Path(path)
    suffix = path.suffix.lower()
    if suffix in _PICKLED:
        raise WeightsError(
            f"{path}: {suffix} files hold pickled objects, which can run code, and are never loaded",
            hint=f"convert it once with `dgiqa convert NAME {path}`",
        )
    if suffix not in _READERS:
        raise WeightsError(f"{path}: weights are read from {' and '.join(_READERS)} files only")
    if not path.is_file():
        raise WeightsError(f"{path}: there is no such file")
    state = _READERS[suffix](path)
    if not state:
        raise WeightsError(f"{path}: there are no weights in this file")
    return state


def sha256_of(path: Path) -> str:
    """The SHA-256 of a file's bytes, 64 lower-case hex digits."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def fingerprint(*paths: Path) -> str:
    """8 hex digits that change with the content of any of the files (of one file: the start of its SHA-256)."""
    sums = [sha256_of(path) for path in paths]
    return (sums[0] if len(sums) == 1 else hashlib.sha256("".join(sums).encode()).hexdigest())[:8]


def _read_safetensors(path: Path) -> State:
    try:
        from safetensors import SafetensorError
        from safetensors.numpy import load_file
    except ImportError as error:
        raise RuntimeMissing(
            f"{path}: reading .safetensors needs the safetensors package", hint="pip install 'dgiqa[torch]'"
        ) from error
    try:
        return dict(load_file(path))
    except (SafetensorError, OSError, KeyError, TypeError, ValueError) as error:
        raise _damaged(path, error) from error


def _read_onnx(path: Path) -> State:
    try:
        import onnx
        from google.protobuf.message import DecodeError  # type: ignore[import-untyped]
    except ImportError as error:
        raise RuntimeMissing(
            f"{path}: reading weights out of an .onnx file needs the onnx package", hint="pip install onnx"
        ) from error
    try:
        graph = onnx.load(path).graph
        return {tensor.name: np.array(onnx.numpy_helper.to_array(tensor)) for tensor in graph.initializer}
    except (DecodeError, onnx.checker.ValidationError, OSError, KeyError, TypeError, ValueError) as error:
        raise _damaged(path, error) from error


def _damaged(path: Path, error: Exception) -> WeightsError:
    reason = str(error).strip() or type(error).__name__
    return WeightsError(f"{path}: damaged, or not what its name says ({reason})", hint="bring the file anew")


_READERS = {".safetensors": _read_safetensors, ".onnx": _read_onnx}
