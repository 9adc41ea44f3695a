"""The pictures that a recipe holds out of training, as a CSV that every verb with ``--on`` reads::

    python -m dgiqa.training.held_out RECIPE --data NAME=DIR --out held-out.csv [--set KEY=VALUE]...

What was chosen on them can be chosen again, and a card calibrated on pictures that its networks didn't see.
"""

from __future__ import annotations

import argparse
import csv
from pathlib import Path

from dgiqa.errors import UsageError
from dgiqa.exits import exit_code
from dgiqa.training.recipe import read_recipe
from dgiqa.training.sets import read_roots, read_sets


def main(arguments: list[str] | None = None) -> None:
    """Writes path and mos, 0 to 1, of what the recipe's first set holds out.

    Raises:
        UsageError: nothing is held out.
    """
    parser = argparse.ArgumentParser(prog="python -m dgiqa.training.held_out", description=__doc__.splitlines()[0])
    parser.add_argument("recipe", type=Path)
    parser.add_argument("--data", action="append", default=[], metavar="NAME=DIR")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE")
    args = parser.parse_args(arguments)
    held = read_sets(read_recipe(args.recipe, args.set), read_roots(args.data), taught=False)[0].held
    if not len(held):
        raise UsageError(f"{args.recipe}: its first set holds nothing out", hint="give it a validation share")
    with args.out.open("w", newline="", encoding="utf-8") as file:
        rows = csv.writer(file)
        rows.writerow(["path", "mos 0..1"])
        rows.writerows((path.absolute(), f"{mos:.6g}") for path, mos in zip(held.paths, held.mos, strict=True))
    print(f"{args.out}: {len(held)} pictures")


if __name__ == "__main__":
    raise SystemExit(exit_code(main))
