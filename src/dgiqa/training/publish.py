"""Puts trained weights into the package: the ONNX file beside the built-in card, its sums into the card.

    python -m dgiqa.training.publish dgiqa_mobile.biq2021 runs/mobile/mobile-biq2021.toml
    python -m dgiqa.training.publish depth_mobile.rendered runs/depth/depth.pt

From a card that ``dgiqa train`` wrote, the exported file is copied and the tables that follow from the run are taken
over: network, recipe, settings, calibration, interval. From a state dict the network is exported, and refused if
torch and ONNX Runtime differ. What the card says of people's agreement and of the training is written by hand.
"""

from __future__ import annotations

import argparse
import dataclasses
import re
import shutil
from pathlib import Path

import torch

from dgiqa.calibration import as_toml
from dgiqa.cards import ModelCard, read_card
from dgiqa.errors import UsageError
from dgiqa.export.onnx import export
from dgiqa.models import build_network, find_card, list_models
from dgiqa.training import tool
from dgiqa.weights.fetch import locate
from dgiqa.weights.files import sha256_of

#: Tables of a card that follow from a run.
TABLES = ("network", "recipe", "settings", "calibration", "interval")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("name", help="the built-in card")
    parser.add_argument("trained", type=Path, help="a card that dgiqa train wrote, or a state dict (.pt)")
    args = parser.parse_args()
    card = find_card(args.name)
    print(publish(card, args.trained))


def publish(card: ModelCard, trained: Path) -> str:
    """Brings the weights of ``trained`` into ``card``'s folder and file; returns what was done, in words.

    Raises:
        UsageError: ``trained`` is of another architecture, or ``card`` an ensemble, whose weights are another card's.
        WeightsError: the weights are damaged, or the export differs from torch.
    """
    if card.ensemble:
        raise UsageError(f"{card.name} is an ensemble, whose weights are another card's", hint="publish that one")
    path, file = card.folder / card.weights["onnx"].file, card.folder / card.file
    text = file.read_text(encoding="utf-8")
    if trained.suffix == ".toml":
        draft = read_card(trained)
        if draft.arch != card.arch:
            raise UsageError(f"{trained} is of {draft.arch}, {card.name} of {card.arch}")
        part = path.with_name(path.name + ".part")
        shutil.copyfile(locate(draft, "onnx"), part)
        part.replace(path)
        done = "copied, with " + ", ".join(TABLES)
        for table in TABLES:
            text = replace_table(text, table, getattr(draft, table))
    else:
        network = build_network(card)
        network.load_state_dict(torch.load(trained, weights_only=True))
        done = f"torch and ONNX Runtime differ by at most {export(network, card, path):.1e}"
    if others := relying_on(card):
        done += f"; make their sums, version, calibration and figures anew: {', '.join(others)}"
    stated = dataclasses.replace(card.weights["onnx"], sha256=sha256_of(path), bytes=path.stat().st_size)
    text = replace_table(text, "weights.onnx", stated)
    if card.explain and card.explain.continues != stated.sha256:
        text = replace_table(text, "explain", None)
        done += "; what explained the former weights is out of the card, make it anew: dgiqa.training.faults"
    file.write_text(text, encoding="utf-8")
    read_card(file)
    return f"{path}: {path.stat().st_size} bytes, {done}"


def relying_on(card: ModelCard) -> list[str]:
    """The other built-in cards whose scores change with this one's weights: those that state its file, or name it as a
    network of their ensemble.
    """
    file = card.folder / card.weights["onnx"].file
    return [
        each.name
        for each in list_models()
        if each.name != card.name
        and (
            any(member.card.partition("@")[0] == card.name for member in each.ensemble)
            or any(each.folder / weights.file == file for weights in each.weights.values() if weights.embedded)
        )
    ]


def replace_table(text: str, name: str, value: object) -> str:
    """A card's text with another table ``name`` (and those below it); no table for a value of None or {}.

    A new table comes before the first ``[[measured]]``, or last.
    """
    new = as_toml(value, table=name).rstrip() + "\n\n" if value else ""
    old = re.compile(rf"(?m)^\[{name}(?:\.[^\]]+)?\]\n(?:(?!\[).*\n?)*")
    if old.search(text):
        first = old.search(text)
        at = first.start() if first else 0
        rest = old.sub("", text)
        return rest[:at] + new + rest[at:]
    at = text.find("[[measured]]")
    return f"{text.rstrip()}\n\n{new}" if at < 0 else text[:at] + new + text[at:]


if __name__ == "__main__":
    tool.run(main)
