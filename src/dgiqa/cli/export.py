"""Write a network as ONNX, with a card of your own beside it: for ONNX Runtime and OpenVINO, which need no torch.

    dgiqa export dgiqa.koniq10k --out fast/koniq10k.toml
    dgiqa score pictures/ --model fast/koniq10k.toml --runtime openvino

The weights may come from any runtime's file. The export is refused unless ONNX Runtime and torch agree. The card is
yours: change its recipe (other views, another depth network), and rows will name the model with another checksum.
"""

from __future__ import annotations

import argparse
import os
from pathlib import Path

from dgiqa.calibration import save_card
from dgiqa.cards import WeightsFile
from dgiqa.errors import RuntimeMissing, UsageError
from dgiqa.models import find_card
from dgiqa.runtimes.torch import load_module
from dgiqa.weights.files import sha256_of


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("model", metavar="MODEL", help="a card's name or file")
    parser.add_argument("--out", type=Path, required=True, metavar="FILE", help="the card to write, such as mine.toml")
    parser.add_argument("--half", action="store_true", help="store the weights in 16 bits: half the size, other scores")


def run(args: argparse.Namespace) -> int:
    card = find_card(args.model)
    if card.ensemble:
        members = ", ".join(member.card for member in card.ensemble)
        raise UsageError(
            f"{card.name} is an ensemble, and a file holds one network",
            hint=f"export its networks by cards of their own, such as {members}",
        )
    path = args.out.expanduser().resolve()
    check_place(path)
    network = load_module(card)
    try:
        from dgiqa.export.onnx import export
    except ModuleNotFoundError as error:
        raise RuntimeMissing(
            f"exporting needs {error.name}, which is not installed", hint="pip install 'dgiqa[train]'"
        ) from error
    file = path.with_suffix(".onnx")
    difference = export(network, card, file, half=args.half)
    weights = WeightsFile(file.name, sha256=sha256_of(file), bytes=file.stat().st_size)
    own = save_card(card, path, weights={"onnx": weights})
    print(f"{file}: within {difference:.1e} of torch in raw units")
    print(f"{path}: {'dgiqa score PATH --model' if own.kind == 'quality' else 'dgiqa score PATH --depth'} {args.out}")
    return 0


def check_place(path: Path) -> None:
    """Raises UsageError unless a card can be written to ``path`` and its weights beside it, replacing nothing."""
    if path.suffix != ".toml":
        raise UsageError(f"{path}: a card's name ends in .toml")
    for file in (path, path.with_suffix(".onnx")):
        if file.exists():
            raise UsageError(f"{file}: is there already", hint="name another file, or move this one away")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UsageError(f"{path.parent}: can't be made ({error.strerror})", hint="name another folder") from error
    if not os.access(path.parent, os.W_OK):
        raise UsageError(f"{path.parent}: can't be written", hint="name a folder that is yours")
