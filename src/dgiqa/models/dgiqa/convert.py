"""Official DGIQA checkpoints (.pth) to safetensors with the names used here.

The authors' network (github.com/uf-robopi/DGIQA) has 482 state tensors. Their names depend on the release of
the code and on the timm that made the two Swin trunks; all known spellings are read, and nothing but the
482 tensors is accepted. Checkpoints are unpickled by ``torch.load(weights_only=True)`` alone, so a file can
hold tensors but no code.
"""

from __future__ import annotations

import os
import pickle
import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import save_file
from torch import Tensor

from dgiqa.errors import WeightsError
from dgiqa.models.dgiqa.network import DGIQA

#: Our names to the authors', the first that matches. Trunks are spelt as timm 0.9 and later spell them.
_TO_OFFICIAL = (
    (r"^(color|depth)_bridges\.(\d)\.project\.", r"\1_bridges.\2.conv1."),
    (r"^(color|depth)_bridges\.(\d)\.gate\.", r"\1_bridges.\2.attention."),
    (r"^(color|depth)_bridges\.(\d)\.conv\.", r"\1_bridges.\2.conv2."),
    (r"^depth_car\.(cross|refine)\.attention\.project\.", r"\1.multihead_attn.in_proj_"),
    (r"^depth_car\.(cross|refine)\.attention\.output\.", r"\1.multihead_attn.out_proj."),
    (r"^depth_car\.(cross|refine)\.mlp\.", r"\1.fc."),
    (r"^depth_car\.(cross|refine)\.norm", r"\1.norm"),
    (r"^dilated\.conv1\.", "dilated_stack.0."),
    (r"^dilated\.norm1\.", "dilated_stack.1."),
    (r"^dilated\.conv2\.", "dilated_stack.3."),
    (r"^dilated\.norm2\.", "dilated_stack.4."),
    (r"^head\.", "fc."),
)

#: Spellings of other releases to the present one, one after the other: the authors' first code, then timm's.
_TO_PRESENT = (
    (r"^tsb(?=\d)", "tcb"),
    (r"^cross_spatialattention\.", "depth_guided_cross_attention."),
    (r"^spatialattention\.", "refinement_attention."),
    (r"^((?:depth_)?backbone)\.(?:model\.)?layers[._](?=\d)", r"\1.layers_"),
    (r"^((?:depth_)?backbone)\.model\.", r"\1."),
)

#: What older timm saved beside the weights (it follows from the size of the picture), and a classifier's end.
_NOT_USED = re.compile(r"^(?:depth_)?backbone\.(?:norm\.|head\.|.*\b(?:relative_position_index|attn_mask)$)")


def convert(checkpoint: Path, out: Path) -> dict[str, int]:
    """Writes the official ``checkpoint`` as the safetensors file ``out``.

    Returns:
        How many ``tensors`` were written, the ``parameters`` in them, and how many tensors of the checkpoint
        were ``dropped`` because the network does not use them.

    Raises:
        WeightsError: the file can't be read safely, or its tensors aren't the network's; it names them.
    """
    state, dropped = read_official(checkpoint)
    written = {name: tensor.clone(memory_format=torch.contiguous_format) for name, tensor in state.items()}
    part = out.with_name(f"{out.name}.part")
    try:
        save_file(written, part)
        os.replace(part, out)
    except (OSError, SafetensorError) as error:
        raise WeightsError(
            f"{out}: can't be written ({error})", hint="choose a folder that you may write to"
        ) from error
    finally:
        part.unlink(missing_ok=True)
    parameters = sum(p.numel() for p in _blank_network().parameters())
    return {"tensors": len(written), "parameters": parameters, "dropped": dropped}


def read_official(checkpoint: Path) -> tuple[dict[str, Tensor], int]:
    """The state of :class:`DGIQA` in an official checkpoint, and the number of tensors it has beyond that.

    Raises:
        WeightsError: see :func:`convert`.
    """
    found = _present_names(_tensors(_load(checkpoint), checkpoint), checkpoint)
    used = {name: tensor for name, tensor in found.items() if not _NOT_USED.match(name)}
    blank = _blank_network().state_dict()
    ours = {official_name(name): name for name in blank}
    missing = [name for name in ours if name not in used]
    unexpected = [name for name in used if name not in ours]
    shapes = [
        f"{name} {tuple(used[name].shape)} instead of {tuple(blank[ours[name]].shape)}"
        for name in ours
        if name in used and used[name].shape != blank[ours[name]].shape
    ]
    faults = [("missing", missing), ("unexpected", unexpected), ("of another shape", shapes)]
    if texts := [f"{len(names)} {fault} ({_some(names)})" for fault, names in faults if names]:
        raise WeightsError(
            f"{checkpoint}: not a checkpoint of the paper's network, tensors: {'; '.join(texts)}",
            hint="give the .pth file as the authors publish it",
        )
    return {ours[n]: used[n].to(blank[ours[n]].dtype) for n in ours}, len(found) - len(used)


def to_official(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The state of :class:`DGIQA` with the names of the official code (timm 0.9 and later)."""
    return {official_name(name): tensor for name, tensor in state.items()}


def official_name(name: str) -> str:
    """The authors' name of one of our state tensors: ``head.weight`` is ``fc.weight``."""
    for pattern, replacement in _TO_OFFICIAL:
        name, count = re.subn(pattern, replacement, name)
        if count:
            break
    if bridge := re.match(r"(color|depth)_bridges\.(\d)\.(.*)", name):
        modality = "_depth" if bridge[1] == "depth" else ""
        return f"tcb{int(bridge[2]) + 1}{modality}.{bridge[3]}"
    if trunk := re.match(r"(color|depth)_trunk\.(.*)", name):
        modality = "depth_" if trunk[1] == "depth" else ""
        return f"{modality}backbone.{trunk[2].replace('layers.', 'layers_')}"
    if name.startswith("cross."):
        return f"depth_guided_cross_attention.{name.removeprefix('cross.')}"
    if name.startswith("refine."):
        # This layer's members have a suffix, before a number or a dot.
        inner = re.sub(r"^(multihead_attn|norm\d|fc)", r"\1_spatial", name.removeprefix("refine."))
        return f"refinement_attention.{inner}"
    return name


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


def _tensors(content: Any, checkpoint: Path) -> dict[str, Tensor]:
    """The state dict in ``content``, without the wrappings that training scripts put around it."""
    for wrapper in ("state_dict", "model"):
        if isinstance(content, Mapping) and isinstance(content.get(wrapper), Mapping):
            content = content[wrapper]
    if not isinstance(content, Mapping) or not all(isinstance(value, Tensor) for value in content.values()):
        raise WeightsError(
            f"{checkpoint}: holds no state dict (a table of names and tensors)",
            hint="give the .pth file as the authors publish it",
        )
    return {str(name): tensor for name, tensor in content.items()}


def _present_names(state: Mapping[str, Tensor], checkpoint: Path) -> dict[str, Tensor]:
    """``state`` with the names of the authors' present code and of timm 0.9 and later."""
    if state and all(name.startswith("module.") for name in state):  # saved from nn.DataParallel
        state = {name.removeprefix("module."): tensor for name, tensor in state.items()}
    renamed: dict[str, Tensor] = {}
    ends = {m[1] for name in state if (m := re.match(r"(.*backbone)\..*layers[._]0\.downsample\.", name))}
    for name, tensor in state.items():
        present = name
        for pattern, replacement in _TO_PRESENT:
            present = re.sub(pattern, replacement, present)
        present = _downsample_first(present, ends)
        if present in renamed:
            raise WeightsError(f"{checkpoint}: holds {present} twice, under different names")
        renamed[present] = tensor
    return renamed


def _downsample_first(name: str, ends: set[str]) -> str:
    """Before timm 0.9 a stage ended with the downsampling that the next one begins with now.

    ``ends`` holds the trunks that are spelt so (their stage 0 has one).
    """
    found = re.match(r"(.*backbone)\.layers_(\d)\.downsample\.(.*)", name)
    if found is None or found[1] not in ends:
        return name
    return f"{found[1]}.layers_{int(found[2]) + 1}.downsample.{found[3]}"


def _blank_network() -> DGIQA:
    """The network's names and shapes, without memory for the numbers."""
    with torch.device("meta"):
        return DGIQA()


def _some(names: Iterable[str], limit: int = 5) -> str:
    names = list(names)
    more = f", and {len(names) - limit} more" if len(names) > limit else ""
    return ", ".join(names[:limit]) + more
