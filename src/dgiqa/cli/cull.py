"""Sort pictures into keep, review and reject, with the reason, and name the best of those that are alike.

    dgiqa cull holiday/                                   # says what it would do, changes nothing
    dgiqa cull holiday/ --keep-best 20 --reject-worst 30  # percent, in place of qualities
    dgiqa cull holiday/ --apply move --into sorted/       # and back: dgiqa cull --undo sorted/cull-undo.jsonl

Pictures are alike that look nearly the same (a perceptual hash), or somewhat the same and were taken within seconds of
each other. Of those the best is judged by itself; the others are rejected, or to be reviewed where they are as good.
--apply links makes symbolic links under --into, xmp writes NAME.EXT.xmp with rating and colour label beside each
picture, move moves under --into. Nothing is ever deleted or replaced.

Exit code 0: done; 1: some pictures could not be scored or brought to their place, each with its reason; 2: misused.
"""

from __future__ import annotations

import argparse
import sys
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import asdict
from pathlib import Path

from dgiqa.cli._output import print_json, watch
from dgiqa.culling.alike import BITS, groups, look_at
from dgiqa.culling.apply import UNDO, link, move, rate, undo
from dgiqa.culling.decide import VERDICTS, Decision, Rules, by_share, decide
from dgiqa.errors import UsageError
from dgiqa.scorer import load
from dgiqa.sources import find
from dgiqa.stream import in_order

KEEP, REJECT = 70.0, 45.0


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("paths", nargs="*", metavar="PATH", help="pictures and folders on this machine")
    parser.add_argument("--model", default="default", metavar="NAME", help="a card's name (dgiqa models) or file")
    parser.add_argument("--keep", type=float, metavar="Q", help=f"keep from this quality on (default {KEEP:g})")
    parser.add_argument("--reject", type=float, metavar="Q", help=f"reject below this quality (default {REJECT:g})")
    parser.add_argument("--keep-best", type=float, metavar="P", help="keep the best P percent instead")
    parser.add_argument("--reject-worst", type=float, metavar="P", help="reject the worst P percent instead")
    parser.add_argument("--margin", type=float, default=2.0, metavar="Q", help="as good as the best of those alike (2)")
    parser.add_argument(
        "--duplicate", type=int, default=4, metavar="N", help=f"bits of {BITS} that near duplicates differ in (4)"
    )
    parser.add_argument("--burst", type=int, default=12, metavar="N", help="the same for pictures of a burst (12)")
    parser.add_argument("--seconds", type=float, default=4.0, metavar="S", help="between two pictures of a burst (4)")
    parser.add_argument("--apply", choices=("links", "xmp", "move"), help="do it; without, it is only said")
    parser.add_argument("--into", type=Path, metavar="DIR", help="where links and moved pictures go")
    parser.add_argument("--undo", type=Path, metavar="FILE", help=f"take a move back: DIR/{UNDO}")
    parser.add_argument("--workers", type=int, default=1, metavar="N", help="threads (default 1)")
    parser.add_argument("--json", action="store_true", help="print one JSON object a picture, in place of the table")


def run(args: argparse.Namespace) -> int:
    _check(args)
    if args.undo:
        return _report(undo(args.undo), "back in place")
    scorer = load(args.model, None)
    sources = [each for each in find(args.paths) if not _sorted_already(each.path, args.into)]
    if not sources:
        raise UsageError(f"no pictures in {', '.join(args.paths)}")
    if remote := next((each.path for each in sources if each.error is None and not Path(each.path).is_file()), None):
        raise UsageError(
            f"{remote}: is no file of this machine", hint="cull sorts files; unpack or download them first"
        )
    rows = [result.as_row() for result in watch(scorer.score_all(sources, workers=args.workers), len(sources))]
    looks = list(in_order(look_at, [row["path"] for row in rows], args.workers))
    alike = groups(looks, duplicate=args.duplicate, burst=args.burst, seconds=args.seconds)
    decisions = decide(rows, alike, _rules(args, [row["quality"] for row in rows if row["quality"] is not None]))
    if args.json:
        for decision in decisions:
            print_json(asdict(decision))
    else:
        print_decisions(decisions)
    failed = any(row["quality"] is None for row in rows)
    if args.apply is None:
        print("nothing was changed; --apply links, xmp or move does it", file=sys.stderr)
        return int(failed)
    there = [decision for decision, source in zip(decisions, sources, strict=True) if source.error is None]
    done = rate(there) if args.apply == "xmp" else (link if args.apply == "links" else move)(there, args.into)
    code = _report(
        done, {"links": "linked", "xmp": "rated", "move": f"moved; dgiqa cull --undo {args.into}/{UNDO}"}[args.apply]
    )
    return max(code, int(failed))


def _sorted_already(path: str, into: Path | None) -> bool:
    """Whether an earlier run with the same ``--into``, which may lie among the pictures, has brought it there."""
    return into is not None and into.absolute() in Path(path).absolute().parents


def print_decisions(decisions: Sequence[Decision]) -> None:
    """Keep, review, reject, each with the best first; then how many."""
    for verdict in VERDICTS:
        for each in sorted((d for d in decisions if d.verdict == verdict), key=lambda d: -(d.quality or 0)):
            mark = f"{'*' if each.best else ''}{each.group}" if each.group else ""
            print(f"{verdict:<7}{mark:>4}  {each.path}: {each.reason}")
    counts = Counter(each.verdict for each in decisions)
    bursts = len({each.group for each in decisions if each.group})
    alike = f"{bursts} group{'s' * (bursts != 1)} alike, * their best"
    print(f"{', '.join(f'{counts[verdict]} {verdict}' for verdict in VERDICTS)}; {alike}")


def _check(args: argparse.Namespace) -> None:
    if bool(args.paths) == bool(args.undo):
        raise UsageError("give PATHs to sort, or --undo FILE", hint="dgiqa cull --help")
    if args.apply in ("links", "move") and not args.into:
        raise UsageError(f"--apply {args.apply} needs a place", hint="add --into DIR")
    if args.into and args.apply not in ("links", "move"):
        raise UsageError("--into is for --apply links and --apply move")
    if args.workers < 1 or min(args.margin, args.duplicate, args.burst, args.seconds) < 0:
        raise UsageError("--workers must be positive; --margin, --duplicate, --burst, --seconds not negative")
    shares, points = (args.keep_best, args.reject_worst), (args.keep, args.reject)
    if any(each is not None for each in shares) and any(each is not None for each in points):
        raise UsageError("give qualities (--keep, --reject) or percents (--keep-best, --reject-worst)")
    if not any(each is not None for each in shares):
        args.keep = KEEP if args.keep is None else args.keep
        args.reject = REJECT if args.reject is None else args.reject
        if args.reject > args.keep:
            raise UsageError(f"--reject {args.reject:g} is over --keep {args.keep:g}: a picture would be both")
    if any(each is not None and not 0 <= each <= 100 for each in (*shares, *points)):
        raise UsageError("qualities and percents lie in 0 to 100")
    if sum(each or 0 for each in shares) > 100:
        raise UsageError(f"--keep-best {args.keep_best:g} and --reject-worst {args.reject_worst:g} are more than all")


def _rules(args: argparse.Namespace, qualities: Sequence[float]) -> Rules:
    if args.keep_best is not None or args.reject_worst is not None:
        return by_share(qualities, (args.keep_best or 0) / 100, (args.reject_worst or 0) / 100, args.margin)
    return Rules(args.keep, args.reject, args.margin)


def _report(done: Iterable[tuple[Path, str]], what: str) -> int:
    """Counts what was brought to its place, names what wasn't."""
    count, faults = 0, 0
    for _, fault in done:
        count, faults = count + (not fault), faults + bool(fault)
        if fault:
            print(f"dgiqa: {fault}", file=sys.stderr)
    print(f"{count} {what}", file=sys.stderr)
    return 1 if faults else 0
