"""Files of rows: CSV, JSON lines or Parquet, by the file's ending."""

from __future__ import annotations

import csv
import json
import os
import sys
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import IO, Any, Protocol

from dgiqa.errors import RuntimeMissing, UsageError
from dgiqa.results.store import RemoteStore
from dgiqa.sources.remote import is_url
from dgiqa.types import ROW_FIELDS

#: Kinds of files, and their endings.
KINDS = ("parquet", "jsonl", "csv")
#: Rows a Parquet row group.
PARQUET_ROWS = 4096
#: Columns and what they hold, as Arrow calls it.
COLUMNS: Mapping[str, str] = dict(
    zip(ROW_FIELDS, ["string"] * 2 + ["double"] * 4 + ["string"] * 2 + ["int32"] * 2 + ["string"], strict=True)
)
_PARSERS: Mapping[str, Callable[[str], Any]] = {"string": str, "double": float, "int32": int, "int64": int}


class Writer(Protocol):
    """Takes rows one by one."""

    def write(self, row: dict[str, Any]) -> None:
        """Appends a row with the writer's columns."""
        ...

    def close(self) -> None:
        """Writes what is still held, and closes the file."""
        ...


def open_writer(
    path: Path, kind: str, columns: Mapping[str, str] = COLUMNS, about: Mapping[str, str] | None = None
) -> Writer:
    """A writer of ``kind``, one of KINDS, to ``path``.

    Args:
        columns: what each holds: ``string``, ``double``, ``int32`` or ``int64``.
        about: facts of the whole file; Parquet keeps them in its metadata, the others have no place for them.

    Raises:
        RuntimeMissing: Parquet without its extra.
        OSError: the file can't be made.
    """
    if kind == "parquet":
        return _ParquetWriter(path, columns, about or {})
    return _CsvWriter(path, columns) if kind == "csv" else _JsonLinesWriter(path)


def read_rows(path: Path, kind: str, columns: Mapping[str, str] = COLUMNS) -> Iterator[dict[str, Any]]:
    """The rows of a file that :func:`open_writer` made, in order, as they were written.

    Raises:
        RuntimeMissing: Parquet without its extra.
        OSError, ValueError: the file can't be read, or is none of ``kind``.
    """
    if kind == "parquet":
        _, pq = _arrow()
        with pq.ParquetFile(path) as file:
            for group in file.iter_batches():
                yield from group.to_pylist()
        return
    with path.open(encoding="utf-8", errors="surrogateescape", newline="" if kind == "csv" else None) as stream:
        if kind == "jsonl":
            yield from map(json.loads, stream)
            return
        try:
            for row in csv.DictReader(stream):
                yield {name: _PARSERS[columns[name]](text) if text else None for name, text in row.items()}
        except csv.Error as error:
            raise ValueError(str(error)) from error


def kind_of(path: str) -> str | None:
    """One of KINDS by the file's ending; None for another."""
    kind = os.path.splitext(path)[1].lower().removeprefix(".")
    return kind if kind in KINDS else None


class RowFile:
    """``--out``: rows by the file's ending. They go to FILE.part, which becomes FILE when the run is whole; if FILE
    is a URL, to a file of this machine that becomes one object.

    Raises:
        UsageError: another ending, or a place that can't be written; known before any picture is scored.
        RuntimeMissing: Parquet, or a URL, without its extra.
    """

    def __init__(self, out: str) -> None:
        kind = kind_of(out)
        if kind is None:
            raise UsageError(f"--out {out}: the ending says the format", hint="one of .csv, .jsonl, .parquet")
        if os.path.isdir(out):
            raise UsageError(f"--out {out}: is a folder", hint="name a file")
        self.out, self.whole = out, True
        self._store: RemoteStore | None = None
        if is_url(out):
            folder, _, self._name = out.rpartition("/")
            self._store = RemoteStore(folder)
            self._part = self._store.aside(self._name)
        else:
            self._part = Path(f"{out}.part")
        try:
            if self._store:
                self._store.try_out(self._name)
            self._writer = open_writer(self._part, kind)
        except OSError as error:
            raise UsageError(f"--out {out}: can't be written ({error.strerror})") from error

    def __enter__(self) -> RowFile:
        return self

    def write(self, row: dict[str, Any]) -> None:
        """Appends a row with the fields of ROW_FIELDS."""
        self._writer.write(row)

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        try:
            self._writer.close()
            if kind is None and self.whole:
                self._put()
                return
        except OSError:
            if kind is None:
                self._say_where()
                raise
        self._say_where()

    def _say_where(self) -> None:
        print(f"dgiqa: stopped; the rows so far are in {self._part}", file=sys.stderr)

    def _put(self) -> None:
        if self._store:
            self._store.put(self._part, self._name)
            self._store.close()
        else:
            os.replace(self._part, self.out)


class _JsonLinesWriter:
    def __init__(self, path: Path) -> None:
        self._stream: IO[str] = path.open("w", encoding="utf-8", errors="surrogateescape", newline="\n")

    def write(self, row: dict[str, Any]) -> None:
        self._stream.write(json.dumps(row, ensure_ascii=True) + "\n")

    def close(self) -> None:
        self._stream.close()


class _CsvWriter:
    def __init__(self, path: Path, columns: Mapping[str, str]) -> None:
        self._stream = path.open("w", encoding="utf-8", errors="surrogateescape", newline="")
        # RFC 4180's line ends; with "\n" alone the writer would not quote a name that has a "\r" in it.
        self._csv = csv.DictWriter(self._stream, list(columns), lineterminator="\r\n")
        self._csv.writeheader()

    def write(self, row: dict[str, Any]) -> None:
        self._csv.writerow(row)

    def close(self) -> None:
        self._stream.close()


class _ParquetWriter:
    def __init__(self, path: Path, columns: Mapping[str, str], about: Mapping[str, str]) -> None:
        pa, pq = _arrow()
        fields = [(name, pa.type_for_alias(kind)) for name, kind in columns.items()]
        schema = pa.schema(fields, metadata=dict(about))
        self._schema, self._table = schema, pa.Table
        self._file = pq.ParquetWriter(path, schema)
        self._rows: list[dict[str, Any]] = []

    def write(self, row: dict[str, Any]) -> None:
        # Names that are no UTF-8 can't stand in Parquet: they are escaped rather than lost.
        self._rows.append({k: printable(v) if isinstance(v, str) else v for k, v in row.items()})
        if len(self._rows) >= PARQUET_ROWS:
            self._flush()

    def close(self) -> None:
        self._flush()
        self._file.close()

    def _flush(self) -> None:
        if self._rows:
            self._file.write_table(self._table.from_pylist(self._rows, self._schema))
            self._rows = []


def printable(text: str) -> str:
    """``text`` with what is no UTF-8 escaped."""
    return text.encode("utf-8", "backslashreplace").decode()


def _arrow() -> tuple[Any, Any]:
    try:
        import pyarrow as pa
        import pyarrow.parquet as pq
    except ImportError as error:
        raise RuntimeMissing(
            "Parquet needs pyarrow, which is not installed", hint="pip install 'dgiqa[parquet]'"
        ) from error
    return pa, pq
