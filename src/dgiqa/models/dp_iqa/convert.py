"""Official DP-IQA checkpoints (.pth), of a student or of a teacher, to safetensors with the names used here.

The authors (github.com/RomGai/DP-IQA) publish one of each for four data sets; which of the two a file is, its names
say. A teacher's file lacks the vectors of the prompts, which its authors keep apart: they are read from PROMPTS beside
the checkpoint, see ``prompts.py``.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor, nn

from dgiqa.errors import RuntimeMissing, WeightsError
from dgiqa.models import official
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


def convert(files: Sequence[Path], out: Path) -> dict[str, int]:
    """Writes the official checkpoint, the one of ``files``, as the safetensors file ``out``; returns counts.

    Raises:
        UsageError: more than one file.
        WeightsError: a file can't be read safely, or its tensors aren't the network's; it names them.
        RuntimeMissing: it is a teacher's, and diffusers is not installed.
    """
    (checkpoint,) = official.take(files, "the authors' checkpoint")
    state, dropped, blank = read_official(checkpoint)
    return official.write(state, out, blank, dropped)


def read_official(checkpoint: Path) -> tuple[dict[str, Tensor], int, nn.Module]:
    """The network's state in an official checkpoint, the number of tensors beyond that, and the network, empty.

    Raises:
        WeightsError, RuntimeMissing: see :func:`convert`.
    """
    found = official.read_tensors(checkpoint)
    used = {name: tensor for name, tensor in found.items() if not _NOT_USED.match(name)}
    dropped = len(found) - len(used)
    taught = any(name.startswith(("unet.", "QFD.")) for name in found)
    network = _blank_teacher() if taught else official.blank(Student)
    if taught:
        used[prompts.NAME] = _vectors(checkpoint)
    what = f"the paper's {'teacher' if taught else 'student'}"
    return official.match(used, network, official_name, checkpoint, what), dropped, network


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


def _blank_teacher() -> nn.Module:
    try:
        from dgiqa.models.dp_iqa.teacher import Teacher
    except ModuleNotFoundError as error:
        if error.name != "diffusers":
            raise
        raise RuntimeMissing(
            "converting a teacher needs diffusers, which is not installed", hint="pip install 'dgiqa[diffusion]'"
        ) from error
    return official.blank(Teacher)
