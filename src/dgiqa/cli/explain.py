"""Say why pictures score as they do: depth, quality of each part, kinds of fault, sharpness of the subject.

    dgiqa explain holiday/ --out reasons

Of each picture DIR gets NAME.png, a figure of photograph, depth, attention and quality with the faults below, and
NAME.json with the numbers. The faults found are printed. Two pictures of one name become NAME and NAME~2. Scores are
those of dgiqa score, to the last bit; PyTorch isn't needed.

With --landmarks the sharpness of a face and of its eyes is told, too, of one picture: FILE is a .pts file as 300-W has
them, in pixels of the upright picture; auto finds the 68 landmarks in the box that --face gives.

    dgiqa explain portrait.jpg --out reasons --landmarks auto --face 410,220,690,560

Exit code 0: all explained; 1: some pictures failed; 2: misused, or DIR could not be written.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import PIL.Image

from dgiqa.cli._output import numbered, print_json, watch
from dgiqa.errors import ImageError, UsageError
from dgiqa.explain import Explanation, FaceSharpness
from dgiqa.metrics.landmarks import read_pts
from dgiqa.scorer import MAX_MEGAPIXELS, load
from dgiqa.sources import Found, find
from dgiqa.stream import in_order


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("paths", nargs="+", metavar="PATH", help="pictures and folders, or members of archives")
    parser.add_argument("--out", type=Path, required=True, metavar="DIR", help="folder for figures and numbers")
    parser.add_argument("--model", default="default", metavar="NAME", help="see dgiqa models")
    parser.add_argument("--runtime", metavar="NAME", help="of the score; the rest runs in ONNX Runtime")
    parser.add_argument(
        "--maps", action="store_true", help="also NAME.maps/ with each map, as large as the network saw"
    )
    parser.add_argument("--landmarks", metavar="FILE", help="of a face: a .pts file, or auto with --face")
    parser.add_argument("--face", metavar="LEFT,TOP,RIGHT,BOTTOM", help="box of the face that auto looks at, in pixels")
    parser.add_argument("--json", action="store_true", help="print one JSON object a picture, without the maps")
    parser.add_argument("--workers", type=int, default=2, metavar="N", help="threads (default 2)")
    parser.add_argument(
        "--max-megapixels", type=float, default=MAX_MEGAPIXELS, metavar="N",
        help=f"refuse larger pictures (default {MAX_MEGAPIXELS:g})",
    )  # fmt: skip


def run(args: argparse.Namespace) -> int:
    if args.workers < 1:
        raise UsageError("--workers must be positive")
    scorer = load(args.model, args.runtime, max_megapixels=args.max_megapixels)
    if scorer.card.reference != "none":
        raise UsageError(f"{args.model} compares with originals; that needs no explanation", hint="dgiqa score --ref")
    sources = list(find(args.paths))
    if not sources:
        raise UsageError(f"no pictures in {', '.join(args.paths)}", hint="PDFs, videos and hidden files are left out")
    located = _face(args, len(sources))
    try:
        args.out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UsageError(f"--out {args.out}: can't be written ({error.strerror})") from error

    def explain(item: tuple[Found, str]) -> Explanation | ImageError:
        found, name = item
        try:
            explanation = scorer.explain(found, **located)
        except ImageError as error:
            return error
        for ending, data in _files(explanation, args.maps):
            path = args.out / f"{name}{ending}"
            path.parent.mkdir(exist_ok=True)
            part = path.with_name(path.name + ".part")
            part.write_bytes(data)
            os.replace(part, path)
        return explanation

    failed = 0
    for result in watch(in_order(explain, numbered(sources), args.workers), len(sources)):
        if isinstance(result, ImageError):
            failed += 1
            print(f"dgiqa: {result}", file=sys.stderr)
        elif args.json:
            print_json({key: value for key, value in result.as_dict().items() if key != "maps"})
        else:
            print(_line(result))
    print(f"{args.out}: {len(sources) - failed} explained, {failed} failed", file=sys.stderr)
    return 1 if failed else 0


def _face(args: argparse.Namespace, count: int) -> dict[str, Any]:
    """What --landmarks and --face give :meth:`Scorer.explain`."""
    if args.landmarks is None:
        if args.face is not None:
            raise UsageError("--face goes with --landmarks auto")
        return {}
    if count != 1:
        raise UsageError(f"--landmarks are of one picture, and there are {count}", hint="explain one at a time")
    if args.landmarks != "auto":
        if args.face is not None:
            raise UsageError("--face goes with --landmarks auto", hint="leave it out: the file has the landmarks")
        return {"landmarks": read_pts(Path(args.landmarks))}
    if args.face is None:
        raise UsageError(
            "--landmarks auto needs the box of the face: it finds landmarks, not faces",
            hint="give it in pixels: --face LEFT,TOP,RIGHT,BOTTOM",
        )
    try:
        left, top, right, bottom = (float(word) for word in args.face.split(","))
    except ValueError as error:
        raise UsageError(f"--face {args.face}: not four numbers", hint="--face LEFT,TOP,RIGHT,BOTTOM") from error
    return {"face": (left, top, right, bottom)}


def _files(explanation: Explanation, with_maps: bool) -> Iterator[tuple[str, bytes]]:
    """Endings and contents of a picture's files."""
    from dgiqa.explain.figure import as_png, encoded, maps  # fonts and drawing: other verbs start without

    yield ".png", as_png(explanation)
    yield ".json", (json.dumps(explanation.as_dict()) + "\n").encode()
    if with_maps:
        for name, pixels in maps(explanation).items():
            yield f".maps/{name}.png", encoded(PIL.Image.fromarray(pixels))


def _line(explanation: Explanation) -> str:
    found = [f for f in explanation.faults if f.found]
    told = ", ".join(f"{f.words} {f.probability:.2f}" for f in found)
    if not explanation.faults:
        told = "this model tells no faults"
    sharp = explanation.sharpness
    face = f"  {sharp.words}" if isinstance(sharp, FaceSharpness) else ""
    return f"{explanation.score.quality:7.1f}  {told or 'no fault found'}{face}  {explanation.score.path}"
