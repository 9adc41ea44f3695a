"""A long run's folder: rows in shards, and a manifest that says which of them count.

    RUN/
    ├── _manifest.json        what scored, with which originals, and the shards that count
    ├── rows-000000.parquet   some thousand rows each, with what identifies the picture: size, tag, sha256
    └── rows-000001.parquet

A shard is written under a hidden name, brought to the disk and renamed; then the manifest that names it, likewise. So
wherever a run is killed, the manifest names whole shards only, and in them each picture once; a shard that it doesn't
name is nobody's and is removed when the run goes on. A picture that has changed since is scored again: the same
manifest that brings its new row in takes the shard with the old one out and a copy without it in.
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterable, Iterator
from contextlib import closing
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, NamedTuple

from dgiqa.errors import UsageError
from dgiqa.results.rows import COLUMNS, KINDS, open_writer, printable, read_rows
from dgiqa.results.store import Store, open_store, reading_store
from dgiqa.sources import Found, Stamp, is_unchanged
from dgiqa.types import Result, Score

#: Columns of a shard: a row's, and the picture's stamp.
SHARD_COLUMNS = {**COLUMNS, "size": "int64", "tag": "string", "sha256": "string"}
#: Rows a shard holds at most, and seconds after which a shard is closed although it holds fewer.
ROWS, SECONDS = 1000, 60.0

_MANIFEST = "_manifest.json"
_FORMAT = 2


def stamped(row: dict[str, Any], identity: Stamp | None) -> dict[str, Any]:
    """A row with the columns of a shard; ``identity`` is None if it may become another one of the same content."""
    return row | (asdict(identity) if identity else dict.fromkeys(("size", "tag", "sha256")))


def identity_of(result: Result, stamp: Stamp | None) -> Stamp | None:
    """What a result stays true of: ``stamp``, but None for a failure that another limit or an extra would mend."""
    return stamp if isinstance(result, Score) or result.error.lasting else None


@dataclass(frozen=True)
class Shard:
    """A shard that counts: its file, its rows, how many of them failed."""

    file: str
    rows: int
    failed: int


class _Known(NamedTuple):
    """Where a picture's row stands, and what it was made of; no digest if that could not be read."""

    shard: str
    size: int | None
    tag: str
    sha256: bytes | None
    failed: bool


class Run:
    """A run's folder, opened to go on with it. One process at a time.

    Args:
        folder: of this machine, or a URL (extra ``[remote]``), where no lock keeps a second process out: it is noticed
            when the next shard is saved.
        model: label of what scores; a run has one.
        kind: of its shards, one of KINDS, if it is new.
        resume: whether it may hold rows already.
        rows, seconds: when a shard is closed.
        ref: where the originals are that the model compares with; a run has one such place, or none.

    Attributes:
        kept, kept_failed: how many of the pictures that :meth:`pending` was shown have their row already, and how
            many of these rows say why there is no score.

    Raises:
        UsageError: the folder holds a run and ``resume`` is not set, another model's run or one compared with other
            originals, something else, or is in use.
        RuntimeMissing: Parquet without its extra.
    """

    def __init__(
        self,
        folder: str | Path,
        model: str,
        *,
        kind: str = "parquet",
        resume: bool = False,
        rows: int = ROWS,
        seconds: float = SECONDS,
        ref: str | None = None,
    ) -> None:
        if kind not in KINDS:
            raise UsageError(f"shards of kind {kind}: there are none", hint=f"one of {', '.join(KINDS)}")
        self._store = open_store(folder)
        self.place, self.model, self.ref = self._store.place, model, ref
        self.kept = self.kept_failed = 0
        self._limit, self._seconds = rows, seconds
        self._held: list[dict[str, Any]] = []
        self._since = time.monotonic()
        try:
            self._begin(kind, resume)
        except BaseException:
            self._store.close()
            raise

    def _begin(self, kind: str, resume: bool) -> None:
        self._known: dict[str, _Known] = {}
        self._kind, self._next, self._shards, self._manifest = kind, 0, list[Shard](), ""
        about = _read_manifest(self._store)
        if about is None:
            self._start()
            return
        if not resume:
            raise UsageError(f"{self.place}: holds a run already", hint="add --resume, or use another folder")
        if about["model"] != self.model:
            raise UsageError(
                f"{self.place}: was scored with {about['model']}, not {self.model}",
                hint="their scores don't compare: use another folder",
            )
        if (ref := about.get("ref")) != self.ref:
            raise UsageError(
                f"{self.place}: was compared with {ref or 'no originals'}, not {self.ref or 'none'}",
                hint="name the place as it was then, or use another folder",
            )
        self._kind, self._next, self._manifest = about["kind"], about["next"], about["text"]
        self._shards = [Shard(**shard) for shard in about["shards"]]
        self._remove_strays()
        for shard in self._shards:
            self._remember(shard.file)

    def _start(self) -> None:
        """A manifest without shards, and a trial shard: what can't be written is known before a picture is scored."""
        try:
            strangers = [name for name in self._store.names() if not name.startswith(".")]
            if strangers:
                raise UsageError(f"{self.place}: holds other files ({strangers[0]})", hint="use an empty folder")
            trial = self._store.aside(f"rows.{self._kind}")
            open_writer(trial, self._kind, SHARD_COLUMNS).close()
            trial.unlink()
            self._write_manifest()
        except OSError as error:
            raise UsageError(f"{self.place}: can't be written ({error.strerror})") from error

    def __enter__(self) -> Run:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        try:
            self.flush()
        except OSError:
            if kind is None:
                raise
        finally:
            self._store.close()

    def pending(self, sources: Iterable[Found]) -> Iterator[Found]:
        """Those of the sources that are new, have changed, or could not be read the last time."""
        for source in sources:
            if not self._is_current(source):
                yield source
                continue
            self.kept += 1
            self.kept_failed += self._known[printable(source.path)].failed

    def add(self, row: dict[str, Any], identity: Stamp | None) -> None:
        """Appends a row. A full shard is written, and counts from then on.

        Raises:
            OSError: the disk is full, for instance. What was written counts; this shard's rows don't yet.
        """
        self._held.append(stamped(row, identity))
        if len(self._held) >= self._limit or time.monotonic() - self._since > self._seconds:
            self.flush()

    def flush(self) -> None:
        """Writes the rows that are held as a shard, and the manifest that names it.

        Raises:
            OSError: as of :meth:`add`.
        """
        # Let go of first: after an error nobody knows whether they count, and the run that goes on looks.
        held, self._held, self._since = self._held, [], time.monotonic()
        if not held:
            return
        if self._store.shared and self._store.text(_MANIFEST) != self._manifest:
            raise UsageError(f"{self.place}: another process writes this run", hint="wait for it, then --resume")
        renewed = {printable(row["path"]) for row in held} & self._known.keys()
        outdated = {self._known[path].shard for path in renewed}
        written = [self._write_shard(held)]
        for file in sorted(outdated):
            rows = [row for row in self._rows_of(file) if printable(row["path"]) not in renewed]
            written += [self._write_shard(rows)] if rows else []
        self._shards = [shard for shard in self._shards if shard.file not in outdated] + written
        self._write_manifest()
        for shard in written:
            self._remember(shard.file)
        if outdated:  # else there are none, and a folder of many shards takes long to list
            self._remove_strays()

    def _is_current(self, source: Found) -> bool:
        """Whether the source's row is there and was made of what the file holds now."""
        known = self._known.get(printable(source.path))
        if known is None or known.sha256 is None:
            return False  # what could not be read may be there now, what was too large be allowed
        return is_unchanged(source, Stamp(known.size or 0, known.tag, known.sha256.hex()))

    def _remember(self, file: str) -> None:
        for row in self._rows_of(file):
            digest = bytes.fromhex(row["sha256"]) if row["sha256"] else None
            self._known[printable(row["path"])] = _Known(
                file, row["size"], row["tag"] or "", digest, row["status"] != "ok"
            )

    def _rows_of(self, file: str) -> Iterator[dict[str, Any]]:
        return _read(self._store, file, self._kind)

    def _write_shard(self, rows: list[dict[str, Any]]) -> Shard:
        """A new shard, whole on the disk under its name, which no manifest names yet."""
        file = f"rows-{self._next:06d}.{self._kind}"
        part = self._store.aside(file)
        writer = open_writer(part, self._kind, SHARD_COLUMNS, {"model": self.model})
        try:
            for row in rows:
                writer.write(row)
        finally:
            writer.close()
        self._store.put(part, file)
        self._next += 1
        return Shard(file, len(rows), sum(row["status"] != "ok" for row in rows))

    def _write_manifest(self) -> None:
        about = {"format": _FORMAT, "model": self.model, "ref": self.ref, "kind": self._kind, "next": self._next}
        # Written with every shard, so it must be fast where there are many: asdict and indent take seven times as long.
        text = json.dumps({**about, "shards": [vars(shard) for shard in self._shards]}) + "\n"
        part = self._store.aside(_MANIFEST)
        part.write_text(text, encoding="utf-8")
        self._store.put(part, _MANIFEST)
        self._manifest = text

    def _remove_strays(self) -> None:
        """Shards that the manifest doesn't name: of a run that was killed, or copied without what is outdated."""
        named = {shard.file for shard in self._shards}
        for name in self._store.names():
            stray = name.startswith("rows-") and name not in named
            if stray or name.startswith((".rows-", f".{_MANIFEST}")):
                self._store.remove(name)


def read_run(folder: str | Path) -> Iterator[dict[str, Any]]:
    """The rows of a run's folder, each picture once, also while the run goes on.

    Raises:
        UsageError: it is none, or a shard is missing or damaged.
    """
    with closing(reading_store(folder)) as store:
        about = _read_manifest(store)
        if about is None:
            raise UsageError(f"{store.place}: holds no run", hint=f"there is no {_MANIFEST}")
        for shard in about["shards"]:
            yield from _read(store, shard["file"], about["kind"])


def _read(store: Store, file: str, kind: str) -> Iterator[dict[str, Any]]:
    try:
        with store.reading(file) as path:
            yield from read_rows(path, kind, SHARD_COLUMNS)
    except (OSError, ValueError) as error:
        raise UsageError(f"{store.place}/{file}: can't be read ({error})", hint="its run must be made again") from error


def _read_manifest(store: Store) -> dict[str, Any] | None:
    """What the manifest says, and its ``text``."""
    file = f"{store.place}/{_MANIFEST}"
    try:
        text = store.text(_MANIFEST)
        about = json.loads(text)
        if about["format"] == _FORMAT and about["kind"] in KINDS and isinstance(about["shards"], list):
            return {**about, "text": text}
    except FileNotFoundError:
        return None
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise UsageError(f"{file}: can't be read ({error})", hint="use another folder") from error
    raise UsageError(f"{file}: was written by another version of dgiqa", hint="use another folder")
