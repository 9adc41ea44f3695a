"""Official DGIQA checkpoints (.pth) to safetensors with the names used here.

The authors' network (github.com/uf-robopi/DGIQA) has 482 state tensors. Their names depend on the release of
the code and on the timm that made the two Swin trunks; all known spellings are read, and nothing but the
482 tensors is accepted.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path

from torch import Tensor

from dgiqa.errors import WeightsError
from dgiqa.models import official
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


def convert(files: Sequence[Path], out: Path) -> dict[str, int]:
    """Writes the official checkpoint, the one of ``files``, as the safetensors file ``out``; returns counts.

    Raises:
        UsageError: more than one file.
        WeightsError: the file can't be read safely, or its tensors aren't the network's; it names them.
    """
    (checkpoint,) = official.take(files, "the authors' checkpoint")
    state, dropped = read_official(checkpoint)
    return official.write(state, out, official.blank(DGIQA), dropped)


def read_official(checkpoint: Path) -> tuple[dict[str, Tensor], int]:
    """The state of :class:`DGIQA` in an official checkpoint, and the number of tensors it has beyond that.

    Raises:
        WeightsError: see :func:`convert`.
    """
    found = _present_names(official.read_tensors(checkpoint), checkpoint)
    used = {name: tensor for name, tensor in found.items() if not _NOT_USED.match(name)}
    state = official.match(used, official.blank(DGIQA), official_name, checkpoint, "the paper's network")
    return state, len(found) - len(used)


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


def _present_names(state: Mapping[str, Tensor], checkpoint: Path) -> dict[str, Tensor]:
    """``state`` with the names of the authors' present code and of timm 0.9 and later."""
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
