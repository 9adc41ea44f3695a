"""The 1485 sentences that the teacher's U-Net may look at, and their vectors.

Each says a scene, a distortion and a quality. The words are those of LIQE (Zhang et al., CVPR 2023, MIT licence), which
the authors of DP-IQA took over; the vectors are CLIP's, computed once and kept:

    python -m dgiqa.models.dp_iqa.prompts clip-vit-large-patch14 dp_iqa_prompts.safetensors
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from itertools import product
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

QUALITIES = ("bad", "poor", "fair", "good", "perfect")
SCENES = ("animal", "cityscape", "human", "indoor", "landscape", "night", "plant", "still_life", "others")
DISTORTIONS = (
    *("jpeg2000 compression", "jpeg compression", "white noise", "gaussian blur", "fastfading", "fnoise", "contrast"),
    *("lens", "motion", "diffusion", "shifting", "color quantization", "oversaturation", "desaturation"),
    *("white with color", "impulse", "multiplicative", "white noise with denoise", "brighten", "darken"),
    *("shifting the mean", "jitter", "noneccentricity patch", "pixelate", "quantization", "color blocking"),
    *("sharpness", "realistic blur", "realistic noise", "underexposure", "overexposure"),
    *("realistic contrast change", "other realistic"),
)
COUNT = len(QUALITIES) * len(SCENES) * len(DISTORTIONS)
#: Name of the tensor in the file, and in the state of the teacher.
NAME = "prompts"


def sentences() -> list[str]:
    """All of them; distortions change fastest, qualities slowest."""
    return [
        f"a photo of a {scene} with {distortion} artifacts, which is of {quality} quality"
        for quality, scene, distortion in product(QUALITIES, SCENES, DISTORTIONS)
    ]


@torch.no_grad()
def embed(texts: Sequence[str], model: Any, tokenizer: Any, batch: int = 99) -> Tensor:
    """(n, width) float32 vectors of ``texts``, projected as for comparison with pictures, not normalised.

    Args:
        model: a ``transformers.CLIPTextModelWithProjection``.
        tokenizer: its tokenizer.
    """
    model.eval()
    rows = [
        model(**tokenizer(list(texts[i : i + batch]), return_tensors="pt", padding=True, truncation=True)).text_embeds
        for i in range(0, len(texts), batch)
    ]
    return torch.cat(rows).float()


def main(argv: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("clip", type=Path, help="a folder with CLIP ViT-L/14 as transformers reads it")
    parser.add_argument("out", type=Path, help="the vectors go here (.safetensors)")
    args = parser.parse_args(argv)
    from safetensors.torch import save_file
    from transformers import CLIPTextModelWithProjection, CLIPTokenizer

    model = CLIPTextModelWithProjection.from_pretrained(args.clip, local_files_only=True)
    tokenizer = CLIPTokenizer.from_pretrained(args.clip, local_files_only=True)
    vectors = embed(sentences(), model, tokenizer)
    save_file({NAME: vectors}, args.out)
    print(f"{args.out}: {vectors.shape[0]} vectors of {vectors.shape[1]}")


if __name__ == "__main__":
    main()
