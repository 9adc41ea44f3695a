"""Authors' checkpoints: read without running what they hold, matched to a network name by name, written as safetensors.

    read_tensors ──state──→ match (the architecture's own names) ──state──→ write

Checkpoints are unpickled by ``torch.load(weights_only=True)`` alone, so a file can hold tensors but no code.
"""

from __future__ import annotations

import os
import pickle
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import save_file
from torch import Tensor, nn

from dgiqa.errors import UsageError, WeightsError

#: What to do about a file that isn't the authors'.
AS_PUBLISHED = "give the file as the authors publish it"


def take(files: Sequence[Path], *wanted: str) -> list[Path]:
    """``files``, as many as ``wanted`` names.

    Raises:
        UsageError: more or fewer.
    """
    if len(files) != len(wanted):
        raise UsageError(f"{len(files)} files are given, and {len(wanted)} are needed: {', '.join(wanted)}")
    return list(files)


def read_tensors(checkpoint: Path) -> dict[str, Tensor]:
    """The state dict in a checkpoint, without the wrappings that training scripts put around it.

    Raises:
        WeightsError: no such file; it can't be read safely; it holds no state dict.
    """
    content = _load(checkpoint)
    for wrapper in ("state_dict", "model"):
        if isinstance(content, Mapping) and isinstance(content.get(wrapper), Mapping):
            content = content[wrapper]
    if not isinstance(content, Mapping) or not all(isinstance(value, Tensor) for value in content.values()):
        raise WeightsError(f"{checkpoint}: holds no state dict (a table of names and tensors)", hint=AS_PUBLISHED)
    state = {str(name): tensor for name, tensor in content.items()}
    if state and all(name.startswith("module.") for name in state):  # saved from nn.DataParallel
        state = {name.removeprefix("module."): tensor for name, tensor in state.items()}
    return state


def match(
    found: Mapping[str, Tensor], network: nn.Module, official_name: Callable[[str], str], checkpoint: Path, what: str
) -> dict[str, Tensor]:
    """``found``, in the authors' names, as the state of ``network``, in ours and in its types.

    Args:
        network: whose names and shapes count; it may be on the meta device.
        official_name: the authors' name of one of our state tensors.
        what: the network, for the message.

    Raises:
        WeightsError: a tensor is missing, too many or of another shape; it names some.
    """
    blank = network.state_dict()
    ours = {official_name(name): name for name in blank}
    shapes = [
        f"{name} {tuple(found[name].shape)} instead of {tuple(blank[own].shape)}"
        for name, own in ours.items()
        if name in found and found[name].shape != blank[own].shape
    ]
    faults = {
        "missing": [name for name in ours if name not in found],
        "unexpected": [name for name in found if name not in ours],
        "of another shape": shapes,
    }
    if texts := [f"{len(names)} {fault} ({_some(names)})" for fault, names in faults.items() if names]:
        raise WeightsError(f"{checkpoint}: not a checkpoint of {what}, tensors: {'; '.join(texts)}", hint=AS_PUBLISHED)
    return {own: found[name].to(blank[own].dtype) for name, own in ours.items()}


def write(state: Mapping[str, Tensor], out: Path, network: nn.Module, dropped: int) -> dict[str, int]:
    """Writes ``state`` as the safetensors file ``out``, at once or not at all.

    Returns:
        How many ``tensors`` were written, the ``parameters`` of the network, and how many tensors of the checkpoint
        were ``dropped`` because the network does not use them.

    Raises:
        WeightsError: the file can't be written.
    """
    part = out.with_name(f"{out.name}.part")
    try:
        save_file({name: tensor.clone(memory_format=torch.contiguous_format) for name, tensor in state.items()}, part)
        os.replace(part, out)
    except (OSError, SafetensorError) as error:
        raise WeightsError(
            f"{out}: can't be written ({error})", hint="choose a folder that you may write to"
        ) from error
    finally:
        part.unlink(missing_ok=True)
    parameters = sum(p.numel() for p in network.parameters())
    return {"tensors": len(state), "parameters": parameters, "dropped": dropped}


def blank(build: Callable[[], nn.Module]) -> nn.Module:
    """A network's names and shapes, without memory for the numbers."""
    with torch.device("meta"):
        return build()


def _load(checkpoint: Path) -> Any:
    try:
        with checkpoint.open("rb") as file:
            start = file.read(2)
        if start != b"PK" and not start.startswith(b"\x80"):  # torch's zip files, and the pickles before them
            raise ValueError("it begins like another kind of file")
        return torch.load(checkpoint, map_location="cpu", weights_only=True)
    except FileNotFoundError as error:
        raise WeightsError(f"{checkpoint}: there is no such file") from error
    except pickle.UnpicklingError as error:
        raise WeightsError(
            f"{checkpoint}: holds more than tensors, and is not loaded because it could run code",
            hint="save it anew as a plain state dict: torch.save(model.state_dict(), FILE)",
        ) from error
    except Exception as error:  # a damaged pickle can raise anything
        reason = (str(error) or type(error).__name__).splitlines()[0][:200]
        raise WeightsError(
            f"{checkpoint}: can't be read as a PyTorch checkpoint ({reason})",
            hint="the file may be damaged or a web page; download it again",
        ) from error


def _some(names: Iterable[str], limit: int = 5) -> str:
    names = list(names)
    more = f", and {len(names) - limit} more" if len(names) > limit else ""
    return ", ".join(names[:limit]) + more
