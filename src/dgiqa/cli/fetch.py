"""Bring a model's weights into the cache: https, checked by sha256, resumed where it stopped.

DGIQA_CACHE moves the cache, DGIQA_MIRROR names another place to fetch from, DGIQA_OFFLINE=1 forbids the network.
The depth model that a model needs comes along, and so do the networks of an ensemble.
"""

from __future__ import annotations

import argparse
import sys

from dgiqa.models import cards_behind, find_card
from dgiqa.weights.fetch import Progress, fetch


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("name", metavar="NAME", help="a card's name, see dgiqa models")
    parser.add_argument("--offline", action="store_true", help="only check what is here")
    parser.add_argument("--mirror", metavar="URL", help="fetch URL/NAME/FILE instead of the card's address")
    parser.add_argument("--timeout", type=float, default=30.0, metavar="SECONDS", help="for each answer (default 30)")


def run(args: argparse.Namespace) -> int:
    card = find_card(args.name)
    for each in cards_behind(card):
        for path in fetch(each, offline=args.offline, mirror=args.mirror, timeout=args.timeout, progress=_progress()):
            print(path)
    return 0


def _progress() -> Progress | None:
    """A line on a terminal's stderr with the file, bytes done and in all."""
    if not sys.stderr.isatty():
        return None

    def show(name: str, done: int, total: int) -> None:
        of = f" of {total / 1e6:.1f}" if total else ""
        print(
            f"\r{name} {done / 1e6:8.1f}{of} MB",
            end="\n" if done == total else "",
            file=sys.stderr,
            flush=True,
        )

    return show
