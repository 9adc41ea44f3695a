"""Scoring as a function from Arrow to Arrow: what every engine that moves tables can run.

A table of sources goes in, with a column ``path``, and ``ref`` for a model that compares; a table of rows comes out,
with the columns of a shard. Pictures are read where they are scored. Ray Data runs it (:mod:`.ray`), and Spark's
``mapInArrow`` (``examples/spark.py``).
"""

from __future__ import annotations

import os
import pickle
from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from functools import lru_cache
from typing import Any

from dgiqa.errors import ImageError, ImageUnreadable, ReferenceMismatch, RuntimeMissing
from dgiqa.results.run import SHARD_COLUMNS, identity_of, stamped
from dgiqa.scorer import Scorer, load
from dgiqa.sources import Found, Stamp, hold, source_of
from dgiqa.stream import batched
from dgiqa.types import Failure, Result, Score


def table_of(sources: Iterable[Found]) -> Any:
    """Sources as a table: ``path``, and ``origin``, whatever else is known of one, for workers of this version."""
    some = list(sources)
    extra = [None if s == Found(s.path) else pickle.dumps(s) for s in some]
    pa = _arrow()
    paths = [os.fsencode(s.path) for s in some]  # names are bytes, which need be no UTF-8
    return pa.table({"path": pa.array(paths, pa.binary()), "origin": pa.array(extra, pa.binary())})


@lru_cache(maxsize=2)
def kept(model: str = "default", runtime: str | None = None, **options: Any) -> Scorer:
    """:func:`dgiqa.load` for engines that send a function anew with each task: a process opens a model once.

    By default on the first runtime that the model has weights for, as the command does.
    """
    return load(model, runtime, **options)


def refused(table: Any, reason: str) -> Any:
    """The sources of ``table`` with an error of their own: they become failed rows without being looked at."""
    named = [Found(source.path, ImageUnreadable(f"{source.path}: {reason}")) for source in _sources(table)]
    return table_of(named)


class ArrowScorer:
    """Calls on tables of sources, see :func:`table_of`, or of bare paths and URLs in a column ``path``.

    A column ``ref`` of such paths names the originals; one that names none is a failed row.

    Args:
        open_scorer: makes the scorer, once where it is called, such as ``functools.partial(kept, "default")``.
        batch: pictures a call of the network.
        folder: what relative paths are relative to.
    """

    def __init__(self, open_scorer: Callable[[], Scorer], *, batch: int = 1, folder: str | None = None) -> None:
        self._open, self._batch, self._folder = open_scorer, batch, folder
        self._scorer: Scorer | None = None

    def __call__(self, table: Any) -> Any:
        """A table with SHARD_COLUMNS and ``notes``, a row a source, in order."""
        if self._scorer is None:
            if self._folder and os.path.isdir(self._folder):
                os.chdir(self._folder)
            self._scorer = self._open()
        rows = [row for some in batched(_sources(table), self._batch) for row in self._score(self._scorer, some)]
        return _arrow().Table.from_pylist(rows, schema())

    def map_batches(self, batches: Iterable[Any]) -> Iterator[Any]:
        """The same for an iterator of record batches, as Spark's ``mapInArrow`` hands them over."""
        pa = _arrow()
        for batch in batches:
            yield from self(pa.Table.from_batches([batch])).to_batches()

    def _score(self, scorer: Scorer, some: list[Found]) -> Iterator[dict[str, Any]]:
        held = [hold(source) for source in some]
        results = scorer.score_batch([source for source, _ in held])
        for result, (_, stamp) in zip(results, held, strict=True):
            row = stamped(result.as_row(), identity_of(result, stamp))
            yield {**row, "path": os.fsencode(result.path), "notes": list(result.notes)}

    def __reduce__(self) -> tuple[Any, ...]:  # the scorer stays where it is
        return (_rebuild, (self._open, self._batch, self._folder))


def _rebuild(open_scorer: Callable[[], Scorer], batch: int, folder: str | None) -> ArrowScorer:
    return ArrowScorer(open_scorer, batch=batch, folder=folder)


def schema() -> Any:
    """Of the tables that come out."""
    pa = _arrow()
    columns = [(name, pa.type_for_alias(kind)) for name, kind in SHARD_COLUMNS.items()]
    return pa.schema([("path", pa.binary()), *columns[1:], ("notes", pa.list_(pa.string()))])


def results_of(table: Any) -> Iterator[tuple[Result, Stamp | None]]:
    """What a table that came out says, as scoring here would have given it; numbers are rounded as rows are."""
    for row in table.to_pylist():
        path = os.fsdecode(row["path"])
        stamp = None if row["sha256"] is None else Stamp(row["size"], row["tag"] or "", row["sha256"])
        about = {"notes": tuple(row["notes"]), "runtime": row["runtime"]}
        if row["status"] != "ok":
            yield Failure(path, ImageError(row["error"]), row["model"], **about), stamp
            continue
        numbers = {name: row[name] for name in ("quality", "raw", "width", "height", "low", "high")}
        yield Score(path, model=row["model"], **numbers, **about), stamp


def _sources(table: Any) -> Iterator[Found]:
    for row in table.select([name for name in ("path", "origin", "ref") if name in table.column_names]).to_pylist():
        source: Found = pickle.loads(row["origin"]) if row.get("origin") is not None else _named(row["path"])
        if "ref" not in row:
            yield source
        elif row["ref"] is None:
            yield Found(source.path, ReferenceMismatch(f"{source.path}: no original in the column ref"))
        else:
            yield replace(source, reference=_named(row["ref"]))


def _named(path: str | bytes) -> Found:
    return Found(os.fsdecode(path)) if isinstance(path, bytes) else source_of(path)


def _arrow() -> Any:
    try:
        import pyarrow
    except ImportError as error:
        raise RuntimeMissing("tables need the package pyarrow", hint="pip install 'dgiqa[parquet]'") from error
    return pyarrow
