"""Spoil pictures in known ways: ladders of five severities, and a manifest.

PATH is a picture, a folder or a pattern. For every picture, kind and severity DIR/NAME/KIND-SEVERITY.png is written.
DIR/manifest.csv says of each where it comes from (ref, ref_sha256) and how to make it again (distortion, severity,
seed, depth). A picture's own seed follows from --seed and its bytes. The manifest is a plain CSV data set: its subset
is the family of the kind, and its mos is 5 minus the severity: an order within one ladder, not a rating.

What is there already is kept, so an interrupted run goes on where it stopped; no other file is overwritten. Pictures
under DIR are not taken as sources.

Exit code 0: all done; 1: some pictures could not be read; 2: misused, or the run could not go on.
"""

from __future__ import annotations

import argparse
import csv
import hashlib
import os
import re
import sys
import threading
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path

import PIL.Image

import dgiqa
from dgiqa.cli._output import numbered, watch
from dgiqa.depth import DepthEstimator, as_metres, open_depth
from dgiqa.distortions import GROUPS, KINDS, SEVERITIES, distort, family, kinds_of, uses_depth
from dgiqa.errors import ImageError, UsageError
from dgiqa.imaging.decode import decode
from dgiqa.scorer import MAX_MEGAPIXELS
from dgiqa.sources import Found, find
from dgiqa.stream import in_order
from dgiqa.types import UInt8

#: The manifest's columns: those of a plain CSV data set, then what makes the picture again.
COLUMNS = (
    "path", "mos", "ref", "distortion", "subset", "severity", "seed", "depth", "ref_sha256", "version",
)  # fmt: skip
DEPTH = "depth_mobile.rendered"

Row = dict[str, str]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("paths", nargs="+", metavar="PATH", help="picture, folder or pattern")
    parser.add_argument("--out", type=Path, required=True, metavar="DIR", help="where ladders and manifest.csv go")
    parser.add_argument(
        "--kinds",
        default="all",
        metavar="LIST",
        help=f"kinds and groups with commas between; groups: {', '.join(GROUPS)} (default all)",
    )
    parser.add_argument("--severities", default="1-5", metavar="LIST", help="such as 1-5 or 1,3,5 (default 1-5)")
    parser.add_argument("--seed", type=int, default=0, metavar="N", help="other random patterns (default 0)")
    parser.add_argument("--depth", default=DEPTH, metavar="CARD", help=f"a depth card, or none (default {DEPTH})")
    parser.add_argument("--workers", type=int, default=1, metavar="N", help="threads (default 1)")
    parser.add_argument("--format", choices=("png", "jpg"), default="png", help="jpg: quality 95 (default png)")
    parser.add_argument(
        "--max-megapixels",
        type=float,
        default=MAX_MEGAPIXELS,
        metavar="N",
        help=f"refuse larger pictures (default {MAX_MEGAPIXELS:g})",
    )


def run(args: argparse.Namespace) -> int:
    if args.workers < 1 or args.seed < 0 or not args.max_megapixels > 0:
        raise UsageError("--workers and --max-megapixels must be positive, --seed 0 or more")
    kinds, severities = _kinds(args.kinds), _severities(args.severities)
    estimate = open_depth(args.depth) if args.depth != "none" and any(map(uses_depth, kinds)) else None
    inside = os.path.realpath(args.out) + os.sep
    sources = [item for item in find(args.paths) if not os.path.realpath(item.path).startswith(inside)]
    if not sources:
        raise UsageError(f"no pictures in {', '.join(args.paths)}", hint="PDFs, videos and hidden files are left out")
    with _Manifest(args.out) as manifest:
        job = _Job(manifest, kinds, severities, args.seed, estimate, args.format, args.max_megapixels)
        made = kept = failed = 0
        for ladder in watch(in_order(job.ladder, numbered(sources), args.workers), len(sources)):
            if isinstance(ladder, ImageError):
                failed += 1
                print(f"dgiqa: {ladder}", file=sys.stderr)
                continue
            made, kept = made + sum(ladder.values()), kept + len(ladder) - sum(ladder.values())
    pictures, spoiled = made + kept, len(sources) - failed
    said = f"{pictures} picture{'s' * (pictures != 1)} of {spoiled} source{'s' * (spoiled != 1)}"
    print(f"{args.out}: {said}, {kept} kept, {failed} failed", file=sys.stderr)
    return 1 if failed else 0


def _kinds(text: str) -> list[str]:
    """The kinds of a list of kinds and groups, each once."""
    found: dict[str, None] = {}
    for word in text.split(","):
        if word not in GROUPS and word not in KINDS:
            known = f"groups: {', '.join(GROUPS)}; kinds: {', '.join(KINDS)}"
            raise UsageError(f"--kinds {text}: {word or 'an empty name'} is unknown", hint=known)
        found.update(dict.fromkeys(kinds_of(word) if word in GROUPS else [word]))
    return list(found)


def _severities(text: str) -> list[int]:
    """1 to 5, in order, from a list of numbers and ranges."""
    chosen: set[int] = set()
    for part in text.split(","):
        if not re.fullmatch("[1-5](-[1-5])?", part) or part[0] > part[-1]:
            raise UsageError(f"--severities {text}: {part or 'an empty part'} is no part of 1-5", hint="such as 1,3-5")
        chosen.update(range(int(part[0]), int(part[-1]) + 1))
    return [severity for severity in SEVERITIES if severity in chosen]


@dataclass(frozen=True)
class _Job:
    """What is the same for all pictures of a run."""

    manifest: _Manifest
    kinds: list[str]
    severities: list[int]
    seed: int
    estimate: DepthEstimator | None
    format: str
    max_megapixels: float

    def ladder(self, source: tuple[Found, str]) -> dict[str, bool] | ImageError:
        """Whether each of a picture's versions was made (True) or kept, by path; or why there are none."""
        found, name = source
        if found.error:
            return found.error
        try:
            source_bytes = _bytes_of(found.path)
            digest = hashlib.sha256(source_bytes).hexdigest()
            rows = [self.row(found.path, name, digest, kind, s) for kind in self.kinds for s in self.severities]
            made = {row["path"]: not self.manifest.has(row) for row in rows}
            missing = [row for row in rows if made[row["path"]]]
            if not missing:
                return made
            image = decode(source_bytes, name=found.path, max_megapixels=self.max_megapixels)
        except ImageError as error:
            return error
        metres = None
        if self.estimate and any(row["depth"] for row in missing):
            metres = as_metres(self.estimate(image.pixels))
        for row in missing:
            depth = metres if row["depth"] else None
            pixels = distort(image.pixels, row["distortion"], int(row["severity"]), depth=depth, seed=int(row["seed"]))
            made[row["path"]] = self.manifest.write(row, _encoded(pixels, self.format))
        return made

    def row(self, path: str, name: str, digest: str, kind: str, severity: int) -> Row:
        """The manifest's row of one version."""
        depth = (self.estimate.card.label if self.estimate else "none") if uses_depth(kind) else ""
        return {
            "path": f"{name}/{kind}-{severity}.{self.format}",
            "mos": str(len(SEVERITIES) - severity),
            "ref": os.path.abspath(path),
            "distortion": kind,
            "subset": family(kind),
            "severity": str(severity),
            "seed": str((self.seed << 32) + int(digest[:8], 16)),
            "depth": depth,
            "ref_sha256": digest,
            "version": dgiqa.__version__,
        }


class _Manifest:
    """DIR with its manifest.csv: what is there, and how it was made. Rows are appended as pictures are written, so
    that an interrupted run knows them; a run that ends puts them in order."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.file = folder, folder / "manifest.csv"
        self._lock = threading.Lock()
        self._rows: dict[str, Row] = {}

    def __enter__(self) -> _Manifest:
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            if self.file.exists():
                self._read()
            self._save()
            self._stream = self.file.open("a", encoding="utf-8", errors="surrogateescape", newline="")
        except OSError as error:
            raise UsageError(f"--out {self.folder}: can't be written ({error.strerror})") from error
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        self._stream.close()
        if kind is None:
            self._save()

    def has(self, row: Row) -> bool:
        """Whether the picture of that row is there and was made the same way from the same bytes."""
        known = self._rows.get(row["path"], {})
        same = all(known.get(name) == row[name] for name in COLUMNS if name != "ref")
        return same and (self.folder / row["path"]).is_file()

    def write(self, row: Row, data: bytes) -> bool:
        """Writes one picture and its row; False if the very same picture was there."""
        path = self.folder / row["path"]
        there = path.exists()
        if there and path.read_bytes() != data:
            raise UsageError(f"{path}: is there, and is not what this run makes", hint="choose another --out")
        if not there:
            path.parent.mkdir(exist_ok=True)
            part = path.with_name(path.name + ".part")
            part.write_bytes(data)
            os.replace(part, path)
        with self._lock:
            self._rows[row["path"]] = row
            csv.DictWriter(self._stream, COLUMNS).writerow(row)
            self._stream.flush()
        return not there

    def _read(self) -> None:
        with self.file.open(encoding="utf-8", errors="surrogateescape", newline="") as stream:
            reader = csv.DictReader(stream)
            if tuple(reader.fieldnames or ()) != COLUMNS:
                raise UsageError(f"{self.file}: is not a manifest of dgiqa distort", hint="choose another --out")
            # A run that was killed may have left a torn last line.
            self._rows = {row["path"]: row for row in reader if None not in row.values()}

    def _save(self) -> None:
        part = self.file.with_name("manifest.csv.part")
        with part.open("w", encoding="utf-8", errors="surrogateescape", newline="") as stream:
            writer = csv.DictWriter(stream, COLUMNS)
            writer.writeheader()
            writer.writerows(self._rows[path] for path in sorted(self._rows))
        os.replace(part, self.file)


def _bytes_of(path: str) -> bytes:
    try:
        return Path(path).read_bytes()
    except OSError:
        decode(path)  # says as an ImageError what is wrong with it
        raise


def _encoded(pixels: UInt8, kind: str) -> bytes:
    buffer = BytesIO()
    image = PIL.Image.fromarray(pixels)
    if kind == "png":
        image.save(buffer, "PNG")
    else:
        image.save(buffer, "JPEG", quality=95, subsampling="4:4:4")
    return buffer.getvalue()
