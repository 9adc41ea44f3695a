"""List the data sets of rated pictures, show one's card, or check what of it is there.

    dgiqa datasets                      all cards
    dgiqa datasets koniq10k             one card: files, columns, scale, parts, licence
    dgiqa datasets check koniq10k DIR   what of it lies in DIR and what is missing

The files are yours to bring; each card says from where.

Exit code 0: listed, or all there; 1: something is missing; 2: misused.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import shlex
from pathlib import Path

from dgiqa.datasets import DataSetCard, check, find_dataset, list_datasets
from dgiqa.datasets.card import Table
from dgiqa.errors import UsageError


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("words", nargs="*", metavar="NAME | check NAME DIR", help="a card to show, or a set to check")
    parser.add_argument("--json", action="store_true", help="print JSON: a card a line, or of a check a finding a line")


def run(args: argparse.Namespace) -> int:
    words: list[str] = args.words
    if words[:1] == ["check"]:
        if len(words) != 3:
            raise UsageError("check takes a name and a folder", hint="dgiqa datasets check NAME DIR")
        return run_check(find_dataset(words[1]), Path(words[2]), as_json=args.json)
    if len(words) > 1:
        raise UsageError(f"{' '.join(words)}: one name at a time", hint="dgiqa datasets check NAME DIR checks a set")
    cards = [find_dataset(words[0])] if words else list_datasets()
    if args.json:
        for card in cards:
            print(json.dumps(dataclasses.asdict(card) | {"splits": card.splits}))
    elif words:
        print_card(cards[0])
    else:
        print_list(cards)
    return 0


def run_check(card: DataSetCard, root: Path, *, as_json: bool) -> int:
    findings = check(card, root)
    whole = all(finding.whole for finding in findings)
    if as_json:
        for finding in findings:
            print(json.dumps(dataclasses.asdict(finding)))
        return 0 if whole else 1
    for finding in findings:
        print(f"{'ok     ' if finding.whole else 'MISSING'}  {finding.text}")
    if whole:
        split = "" if "test" in card.official else " --split test-0"
        print(f"{card.title} is whole: dgiqa evaluate --on {card.name}{split} --root {shlex.quote(str(root))}")
        return 0
    print(f"{card.title}: {card.bring or 'bring what is missing'}: {card.page}")
    return 1


def print_list(cards: list[DataSetCard]) -> None:
    rows = [("name", "pictures", "scale", "official parts", "checked", "licence")]
    for card in cards:
        parts = ", ".join(card.official) or "none"
        rows.append((card.name, f"{card.pictures:,}", _scale(card), parts, card.checked, card.licence))
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for name, pictures, *rest in rows:
        cells = [name.ljust(widths[0]), pictures.rjust(widths[1])]
        cells += [text.ljust(width) for text, width in zip(rest, widths[2:], strict=True)]
        print("  ".join(cells).rstrip())
    print(
        "dgiqa datasets NAME shows a card; train-0 to train-9 with test-0 to test-9 are ten seeded 80/20 splits of each"
    )
    print("checked: how much of a card was held against the set's own files")


def print_card(card: DataSetCard) -> None:
    scale = card.scale
    official = ", ".join(card.official) or "none"
    kept = "reference" if card.has_references else "scene" if card.groups else ""
    disjoint = f"pictures of one {kept} stay together" if kept else "by picture"
    rows = [
        ("paper", card.paper),
        ("page", card.page),
        ("licence", card.licence),
        ("to do", card.bring or "unpack the set"),
        ("scale", _scale(card) + (f", {scale.raters} raters a picture" if scale.raters else "")),
        ("pictures in", card.images or "the folder itself"),
        *[("list", f"{table.file} ({_columns(table)})") for table in card.tables],
        *[("references", f"named by {pairs.file}") for pairs in card.pairs],
        ("parts", f"all; official: {official}; train-0 to train-9 with test-0 to test-9: seeded 80/20, {disjoint}"),
        *[(name, f"of {part.of}, {part.why}") for name, part in card.lists.items()],
        ("checked", f"{card.checked}: {card.how}" if card.how else card.checked),
    ]
    print(f"{card.name}: {card.title}\n{card.summary}\n")
    width = max(len(name) for name, _ in rows)
    for name, text in rows:
        print(f"{name:<{width}}  {text}")


def _columns(table: Table) -> str:
    """What each named column is."""
    keys = ("part", "picture", "score", "deviation", "reference", "distortion", "set", "skip")
    found = {key: getattr(table, key) for key in keys}
    return ", ".join(f"{key} {value}" for key, value in found.items() if value)


def _scale(card: DataSetCard) -> str:
    scale = card.scale
    return f"{scale.low:g}..{scale.high:g}, {scale.better} better"
