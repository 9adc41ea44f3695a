"""The command line. Each file of this folder is a verb: its docstring is the help, ``add_arguments`` its flags,
``run`` its work, which ends as :mod:`dgiqa.exits` says."""

from __future__ import annotations

import argparse
import importlib
import io
import pkgutil
import sys
from collections.abc import Sequence
from types import ModuleType

import dgiqa
from dgiqa.exits import exit_code


def main(argv: Sequence[str] | None = None) -> int:
    """Runs one command and returns its exit code."""
    _print_anything()
    words = sys.argv[1:] if argv is None else list(argv)
    args = make_parser(words[0] if words else "").parse_args(words)
    return exit_code(lambda: args.run(args))


def _print_anything() -> None:
    """File names and signs that the terminal's encoding lacks are escaped, never a crash."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")


def make_parser(verb: str = "") -> argparse.ArgumentParser:
    """The parser with every verb of the folder; with ``verb`` alone if it is one: the others' imports take 0.1 s."""
    parser = argparse.ArgumentParser(
        prog="dgiqa", description="Image quality without a reference, guided by depth.", allow_abbrev=False
    )
    parser.add_argument("--version", action="version", version=f"dgiqa {dgiqa.__version__}")
    verbs = parser.add_subparsers(title="verbs", metavar="VERB", required=True)
    for module in _verbs(verb):
        description = (module.__doc__ or "").strip()
        own = verbs.add_parser(
            module.__name__.rpartition(".")[2],
            help=description.splitlines()[0].rstrip(".").replace("%", "%%"),  # argparse fills in what follows a %
            description=description,
            formatter_class=argparse.RawDescriptionHelpFormatter,
            allow_abbrev=False,
        )
        module.add_arguments(own)
        own.set_defaults(run=module.run)
    return parser


def _verbs(wanted: str = "") -> list[ModuleType]:
    names = sorted(module.name for module in pkgutil.iter_modules(__path__) if not module.name.startswith("_"))
    chosen = [wanted] if wanted in names else names
    return [importlib.import_module(f"{__name__}.{name}") for name in chosen]
