"""Turn an authors' checkpoint into weights that a card can use, strictly and without running its pickle code.

    dgiqa convert dgiqa.koniq10k DGIQA_Koniq10k.pth
    dgiqa convert contrique.koniq10k CONTRIQUE_checkpoint25.tar Koniq.save

The result goes to where the card looks for it, or to --out.
"""

from __future__ import annotations

import argparse
import importlib
from pathlib import Path

from dgiqa.errors import RuntimeMissing, UsageError
from dgiqa.models import find_card
from dgiqa.weights.fetch import cache_folder


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("name", metavar="NAME", help="the card that the checkpoint belongs to")
    parser.add_argument(
        "files",
        type=Path,
        nargs="+",
        metavar="FILE",
        help="the authors' checkpoint (.pth, .tar), and what goes with it",
    )
    parser.add_argument("--out", type=Path, metavar="FILE", help="another place for the result (.safetensors)")


def run(args: argparse.Namespace) -> int:
    card = find_card(args.name)
    if "torch" not in card.weights or card.weights["torch"].embedded:
        raise UsageError(f"{card.name} takes no converted checkpoint")
    try:
        module = importlib.import_module(f"dgiqa.models.{card.arch}.convert")
    except ModuleNotFoundError as error:
        if error.name in ("torch", "safetensors"):
            raise RuntimeMissing(
                "converting needs PyTorch, which is not installed", hint="pip install 'dgiqa[torch]'"
            ) from error
        raise UsageError(
            f"{card.arch} has no conversion",
            hint=f"its authors have published no weights, or they are used as they are: `dgiqa models {card.name}`",
        ) from error
    for file in args.files:
        if not file.is_file():
            raise UsageError(f"{file}: no such file")
    out = args.out or cache_folder() / card.name / card.weights["torch"].file
    out.parent.mkdir(parents=True, exist_ok=True)
    counts = module.convert(args.files, out)
    print(f"{out}: {counts['tensors']} tensors, {counts['parameters']} parameters")
    return 0
