"""The authors' checkpoint to safetensors with the names used here.

The authors (github.com/wangpuyi/MA-AGIQA) publish one for AGIQA-3k, fitted to the vectors of mPLUG-Owl2. Which model's
vectors a network takes is part of its weights, so that no other's are mistaken for them: the model's folder is needed,
named by its ``config.json``.

    dgiqa convert ma_agiqa.agiqa3k AGIQA_3k.pt mplug-owl2-llama2-7b/config.json
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

import torch

from dgiqa.models import official
from dgiqa.models.ma_agiqa.network import BLOCKS, MAAGIQA
from dgiqa.models.ma_agiqa.vectors import LMM

#: How our names begin, and how the authors' do.
_TO_OFFICIAL = {
    **{f"judge.maniqa.attention{i}.": f"tablock{i}." for i in (1, 2)},
    **{f"judge.maniqa.conv{i}.": f"conv{i}." for i in (1, 2)},
    **{f"judge.maniqa.stages{i}.stages.": f"swintransformer{i}.layers." for i in (1, 2)},
    "judge.head.score.": "fc_score.",
    "judge.head.weight.": "fc_weight.",
    "judge.experts.semantic.": "fc4096_784_a2.0.",
    "judge.experts.coherence.": "fc4096_784_b2.0.",
    "judge.experts.places.": "fc784_784.",
    "judge.experts.gate.": "gating.",
    "judge.experts.score.": "output_fc.",
}
#: The linear layers of transposed attention.
_QUERIES = re.compile(r"\.(query|key|value)\.")
#: What the authors save and never run: heads of other trials, a convolution of each Swin part, the ViT's last blocks,
#: norm and classifier; and the constants of windows, which are computed here.
_NOT_USED = re.compile(
    r"^(fc39_784|encoder_layer|fc_output|quality|fc784x3_1|fc4096_(784|1024)_[ab])\."
    r"|^swintransformer[12]\.downsample\."
    rf"|^vit\.(norm|head|blocks\.(?!(?:{'|'.join(map(str, range(1 + max(BLOCKS))))})\.))"
    r"|\.(attn_mask|relative_position_index)$"
)


def convert(files: Sequence[Path], out: Path) -> dict[str, int]:
    """Writes the checkpoint, first of ``files``, as the safetensors file ``out``; the second names the model.

    Returns counts, see :func:`dgiqa.models.official.write`.

    Raises:
        UsageError: not these two files.
        WeightsError: the checkpoint can't be read safely, or its tensors aren't the network's; it names them.
    """
    checkpoint, config = official.take(
        files, "the authors' checkpoint", "config.json in the folder of the model whose vectors it was fitted to"
    )
    found = official.read_tensors(checkpoint)
    used = {name: tensor for name, tensor in found.items() if not _NOT_USED.search(name)}
    dropped = len(found) - len(used)
    used["asks"] = torch.tensor([int(LMM(config.parent).fingerprint, 16)])
    network = official.blank(MAAGIQA)
    state = official.match(used, network, official_name, checkpoint, "the paper's network")
    return official.write(state, out, network, dropped)


def official_name(name: str) -> str:
    """The authors' name of one of our state tensors: ``judge.experts.gate.bias`` is ``gating.bias``."""
    for ours, theirs in _TO_OFFICIAL.items():
        if name.startswith(ours):
            return _QUERIES.sub(lambda found: f".c_{found[1][0]}.", theirs + name.removeprefix(ours))
    return name
