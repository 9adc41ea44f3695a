"""Train a network on rated pictures, as a recipe says.

RECIPE is a TOML file; recipes/ has some, docs/training.md explains them. Run the same command again after a stop: the
run goes on from its last checkpoint to the same weights. It ends in OUT/NAME.toml, a card that dgiqa score takes at
once, and the exported network beside it. Several GPUs or processes: torchrun --nproc-per-node N -m dgiqa train ...

Exit code 0: done; 2: misused, or the run could not go on.
"""

from __future__ import annotations

import argparse
import os
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path

from dgiqa.errors import UsageError


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("recipe", type=Path, metavar="RECIPE", help="a recipe's .toml file")
    parser.add_argument("--out", type=Path, required=True, metavar="DIR", help="folder of the run")
    parser.add_argument(
        "--data",
        action="append",
        default=[],
        metavar="NAME=DIR",
        help="folder of the recipe's data set NAME; again for each set",
    )
    parser.add_argument(
        "--set",
        action="append",
        default=[],
        dest="settings",
        metavar="KEY=VALUE",
        help="another value than the recipe's, such as train.epochs=3; may be given again",
    )
    parser.add_argument(
        "--cache",
        type=Path,
        metavar="DIR",
        help="folder for what is computed once of a picture, to share by runs (default: OUT/cache)",
    )
    parser.add_argument(
        "--keep-pictures",
        action="store_true",
        help="keep resized pictures in the cache, too: much disk, less time",
    )


def run(args: argparse.Namespace) -> int:
    for package in ("torch", "onnxscript"):  # the second writes the ONNX file that a run ends in
        if find_spec(package) is None:
            raise UsageError(f"training needs {package}, which is not installed", hint="pip install 'dgiqa[train]'")
    from dgiqa.training.loop import train
    from dgiqa.training.recipe import read_recipe
    from dgiqa.training.sets import read_roots

    plan = read_recipe(args.recipe, args.settings)
    roots = read_roots(args.data)
    path = train(
        plan, args.out, roots=roots, cache=args.cache, keep=args.keep_pictures, command=_command(args, sorted(roots))
    )
    if os.environ.get("RANK", "0") == "0":
        print(f"{path}: a draft card; try dgiqa score PICTURE --model {path}")
    return 0


def _command(args: argparse.Namespace, names: Sequence[str]) -> str:
    """The command for the card, without this machine's folders."""
    parts = ["dgiqa train", args.recipe.name, *(f"--data {name}=DIR" for name in names)]
    return " ".join([*parts, *(f"--set {setting}" for setting in args.settings), "--out DIR"])
