"""List the models, or show one model's card.

The list says for each card where its weights are: in the wheel, in the cache, or still to be fetched.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
from typing import Any

from dgiqa.cards import Interval, Member, ModelCard, Network, WeightsFile
from dgiqa.models import DEFAULT, find_card, list_models, member_cards, whole_network
from dgiqa.weights.fetch import is_here


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("name", nargs="?", metavar="NAME", help="show this card")
    parser.add_argument("--json", action="store_true", help="print JSON: one card, or one card a line")


def run(args: argparse.Namespace) -> int:
    cards = [find_card(args.name)] if args.name else list_models()
    if args.json:
        for card in cards:
            print(json.dumps(as_dict(card)))
    elif args.name:
        print_card(cards[0])
    else:
        print_list(cards)
    return 0


def as_dict(card: ModelCard) -> dict[str, Any]:
    """The card as plain values, without its place on this machine; and the size of all networks of its ensemble."""
    stated = {key: value for key, value in dataclasses.asdict(card).items() if key != "folder"}
    return stated | {"all_networks": dataclasses.asdict(whole_network(card))}


def print_list(cards: list[ModelCard]) -> None:
    width = max(len(card.name) for card in cards)
    for card in cards:
        mark = "*" if card.name == DEFAULT else " "
        srcc = f"SRCC {card.measured[0].srcc:.3f}" if card.measured else ""
        print(f"{mark} {card.name:<{width}}  {card.kind:<9}  {_where(card):<11}  {srcc:<10}  {card.summary}")
    print("* the default; dgiqa models NAME shows a card")


def print_card(card: ModelCard) -> None:
    members = member_cards(card)  # one that is missing is told before anything is shown
    print(f"{card.name} {card.version} ({card.kind})\n{card.summary}\n")
    _section("paper", [(card.paper.title, f"{card.paper.authors}, {card.paper.year}, {card.paper.url}")])
    _section("licence", _pairs(card.licence))
    _section("network", [_size(card.network)])
    _section("weights", [(f"{kind}: {file.file}", _state(card, kind, file)) for kind, file in card.weights.items()])
    if card.ensemble:
        rows = [_member(*each) for each in zip(card.ensemble, members, strict=True)]
        _section("ensemble (with the network above, which counts 1)", rows)
        _section("all networks", [_size(whole_network(card))])
    _section("training", _pairs(card.training))
    _section("recipe", _pairs(card.recipe))
    if card.kind == "quality":
        knots = ", ".join(f"{r:g} → {q:g}" for r, q in zip(card.calibration.raw, card.calibration.quality, strict=True))
        _section("calibration (raw → quality)", [(knots, card.calibration.fitted_on)])
    if card.interval:
        _section("interval", [_interval(card.interval)])
    rows = [
        (
            f"{m.dataset}, {m.split}, n = {m.n}",
            f"SRCC {m.srcc:.3f} [{m.srcc_low:.3f}, {m.srcc_high:.3f}], PLCC {m.plcc:.3f}" + f"  {m.note}".rstrip(),
        )
        for m in card.measured
    ]
    _section("measured (bootstrap 95 % interval)", rows or [("nothing", "")])


def _size(network: Network) -> tuple[str, str]:
    return f"{network.parameters / 1e6:.2f} M parameters", f"{network.gmacs:.4g} GMACs for {network.input}"


def _member(member: Member, card: ModelCard) -> tuple[str, str]:
    size = f", short side {member.short_side}" if member.short_side else ""
    parameters, products = _size(card.network)
    return member.card, f"counts {member.weight:g}{size}; {parameters}, {products}"


def _interval(interval: Interval) -> tuple[str, str]:
    what = f"{100 * interval.level:g} % of MOS inside"
    if not (measured := interval.coverage):
        return what, "not measured"
    share = f"{measured.share:.3f} [{measured.low:.3f}, {measured.high:.3f}] of {measured.n}"
    return what, f"measured {share}, {measured.mean_width:.0f} of 100 wide on average: {measured.how}"


def _section(title: str, rows: list[tuple[str, str]]) -> None:
    print(title)
    for name, value in rows:
        print(f"  {name}" + (f": {value}" if value else ""))


def _pairs(part: Any) -> list[tuple[str, str]]:
    values = ((f.name, getattr(part, f.name)) for f in dataclasses.fields(part))
    return [(name.replace("_", " "), str(value)) for name, value in values if value not in ("", 0)]


def _where(card: ModelCard) -> str:
    if any(is_here(card, kind) for kind in card.weights):
        return "in the wheel" if any(file.embedded for file in card.weights.values()) else "here"
    return "to fetch" if any(f.url for f in card.weights.values()) else "by hand"


def _state(card: ModelCard, kind: str, file: WeightsFile) -> str:
    place = "in the wheel" if file.embedded else "here"
    if not is_here(card, kind):
        place = f"not here, see {file.url or file.page}"
    size = f"{file.bytes / 1e6:.1f} MB, " if file.bytes else ""
    return f"{size}{place}" + (f", sha256 {file.sha256}" if file.sha256 else "")
