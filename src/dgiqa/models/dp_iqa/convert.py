"""Official DP-IQA checkpoints (.pth), of a student or of a teacher, to safetensors with the names used here.

The authors (github.com/RomGai/DP-IQA) publish one of each for four data sets; which of the two a file is, its names
say. A teacher's file lacks the vectors of the prompts, which its authors keep apart: they are read from PROMPTS beside
the checkpoint, see ``prompts.py``. Checkpoints are unpickled by ``torch.load(weights_only=True)`` alone, so a file can
hold tensors but no code.
"""

from __future__ import annotations

import os
import re
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import save_file
from torch import Tensor, nn

from dgiqa.errors import RuntimeMissing, WeightsError
from dgiqa.models.dgiqa.convert import _load, _some, _tensors
from dgiqa.models.dp_iqa import prompts
from dgiqa.models.dp_iqa.network import Student
from dgiqa.weights.files import read_state

#: The file of the prompts' vectors.
PROMPTS = "dp_iqa_prompts.safetensors"

#: How our names begin, and how the authors' do.
_TO_OFFICIAL = {
    "trunk.": "base_model.",
    "head.up.": "conv_transpose.",
    "head.score.": "",
    "image_adapter.": "img_adapter.",
    "prior.unet.": "unet.",
    "prior.text_adapter.gamma": "gamma",
    "prior.text_adapter.mlp.": "text_adapter.fc.",
    **{f"prior.decoder.stages.{i}.conv.": f"QFD.conv{i + 1}." for i in range(4)},
    **{f"prior.decoder.stages.{i}.gate.": f"QFD.se{i + 1}.fc." for i in range(4)},
    "prior.decoder.fuse.conv.": "QFD.fuse_conv.",
    "prior.decoder.fuse.gate.": "QFD.se_fuse.fc.",
    **{f"prior.decoder.narrow.{i}.": f"QFD.conv_score{i + 1}." for i in range(3)},
    "prior.decoder.score.": "QFD.",
}
#: What the authors save and never run: the half of the VAE that paints, and two layers of the decoder.
_NOT_USED = re.compile(r"^(vae\.(decoder|post_quant_conv)|QFD\.(bnc1|classifier_dist))\.")


def convert(checkpoint: Path, out: Path) -> dict[str, int]:
    """Writes the official ``checkpoint`` as the safetensors file ``out``.

    Returns:
        How many ``tensors`` were written, the ``parameters`` in them, and how many tensors of the checkpoint
        were ``dropped`` because the network does not use them.

    Raises:
        WeightsError: a file can't be read safely, or its tensors aren't the network's; it names them.
        RuntimeMissing: it is a teacher's, and diffusers is not installed.
    """
    state, dropped, blank = read_official(checkpoint)
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
    return {"tensors": len(state), "parameters": sum(p.numel() for p in blank.parameters()), "dropped": dropped}


def read_official(checkpoint: Path) -> tuple[dict[str, Tensor], int, nn.Module]:
    """The network's state in an official checkpoint, the number of tensors beyond that, and the network, empty.

    Raises:
        WeightsError, RuntimeMissing: see :func:`convert`.
    """
    found = _tensors(_load(checkpoint), checkpoint)
    if all(name.startswith("module.") for name in found):  # saved from nn.DataParallel
        found = {name.removeprefix("module."): tensor for name, tensor in found.items()}
    used = {name: tensor for name, tensor in found.items() if not _NOT_USED.match(name)}
    dropped = len(found) - len(used)
    taught = any(name.startswith(("unet.", "QFD.")) for name in found)
    network = _blank_teacher() if taught else _blank_student()
    blank = network.state_dict()
    if taught:
        used[prompts.NAME] = _vectors(checkpoint)
    ours = {official_name(name): name for name in blank}
    shapes = [
        f"{name} {tuple(used[name].shape)} instead of {tuple(blank[own].shape)}"
        for name, own in ours.items()
        if name in used and used[name].shape != blank[own].shape
    ]
    faults = {
        "missing": [name for name in ours if name not in used],
        "unexpected": [name for name in used if name not in ours],
        "of another shape": shapes,
    }
    if texts := [f"{len(names)} {fault} ({_some(names)})" for fault, names in faults.items() if names]:
        raise WeightsError(
            f"{checkpoint}: not a checkpoint of the paper's {'teacher' if taught else 'student'}, "
            f"tensors: {'; '.join(texts)}",
            hint="give the .pth file as the authors publish it",
        )
    return {own: used[name].to(blank[own].dtype) for name, own in ours.items()}, dropped, network


def official_name(name: str) -> str:
    """The authors' name of one of our state tensors: ``head.up.bias`` is ``conv_transpose.bias``."""
    for ours, theirs in _TO_OFFICIAL.items():
        if name.startswith(ours):
            return theirs + name.removeprefix(ours)
    return name


def _vectors(checkpoint: Path) -> Tensor:
    path = checkpoint.with_name(PROMPTS)
    if not path.is_file():
        raise WeightsError(
            f"{checkpoint}: a teacher needs the vectors of the prompts, and there is no {path}",
            hint=f"make it once: python -m dgiqa.models.dp_iqa.prompts CLIP-FOLDER {path}",
        )
    state = read_state(path)
    if prompts.NAME not in state:
        raise WeightsError(f"{path}: holds no tensor named {prompts.NAME}")
    return torch.from_numpy(state[prompts.NAME])


def _blank_student() -> nn.Module:
    """The network's names and shapes, without memory for the numbers."""
    with torch.device("meta"):
        return Student()


def _blank_teacher() -> nn.Module:
    try:
        from dgiqa.models.dp_iqa.teacher import Teacher
    except ModuleNotFoundError as error:
        if error.name != "diffusers":
            raise
        raise RuntimeMissing(
            "converting a teacher needs diffusers, which is not installed", hint="pip install 'dgiqa[diffusion]'"
        ) from error
    with torch.device("meta"):
        return Teacher()
