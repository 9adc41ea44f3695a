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

from dgiqa.calibration import as_toml
from dgiqa.cards import ModelCard, read_card
from dgiqa.errors import UsageError, WeightsError
from dgiqa.exits import exit_code
from dgiqa.export.onnx import export
from dgiqa.models import build_network, find_card, list_models
from dgiqa.training.start import unpickle
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
    if "onnx" not in card.weights:
        raise UsageError(f"{card.name} is a formula: there are no weights to publish")
    path, file = card.folder / card.weights["onnx"].file, card.folder / card.file
    others = relying_on(card)
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
        try:
            network.load_state_dict(unpickle(trained))
        except RuntimeError as error:
            raise WeightsError(f"{trained}: doesn't fit {card.name} ({' '.join(str(error).split())[:200]})") from error
        done = f"torch and ONNX Runtime differ by at most {export(network, card, path):.1e}"
    if others:
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
    """The other built-in cards whose scores change with this one's weights: those that state its file, share its trunk,
    are fed by it as depth or average it; and those that rely on these.
    """
    file, cards, found = card.folder / card.weights["onnx"].file, list_models(), {card.name}

    def relies(other: ModelCard) -> bool:
        named = {other.recipe.depth, *(each.card.partition("@")[0] for each in other.ensemble)}
        named |= {weights.shares.partition("@")[0] for weights in other.weights.values()}
        return not named.isdisjoint(found) or file in (other.folder / own.file for own in other.weights.values())

    while more := {other.name for other in cards if other.name not in found and relies(other)}:
        found |= more
    return sorted(found - {card.name})


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
    raise SystemExit(exit_code(main))
