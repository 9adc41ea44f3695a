"""A card, or a part of one, as TOML text: what :func:`dgiqa.cards.read_card` reads."""

from __future__ import annotations

import dataclasses
import datetime
import json
import re
from collections.abc import Iterator
from typing import Any


def as_toml(value: Any, *, leave: tuple[str, ...] = (), table: str = "") -> str:
    """A card, or a part of one, as TOML that reads back as the same. Only what is empty by default is left out.

    Args:
        leave: fields that are not written.
        table: the table that the fields stand in, such as ``interval``.
    """
    fields = {key: item for key, item in _plain(value).items() if key not in leave}
    return "\n".join(_lines(fields, table)).strip() + "\n"


def _plain(value: Any) -> Any:
    """Dataclasses as tables, tuples as lists."""
    if dataclasses.is_dataclass(value):
        pairs = ((f, getattr(value, f.name)) for f in dataclasses.fields(value))
        return {f.name: _plain(v) for f, v in pairs if not _empty_by_default(f, v)}
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items()}
    return [_plain(item) for item in value] if isinstance(value, (list, tuple)) else value


def _empty_by_default(f: dataclasses.Field[Any], value: Any) -> bool:
    default = f.default if f.default_factory is dataclasses.MISSING else f.default_factory()
    return value in (None, "", (), {}) and value == default


def _lines(fields: dict[str, Any], table: str, *, header: str = "[{}]") -> Iterator[str]:
    """Plain values first, then the tables below them, as TOML wants it."""
    below = {key: value for key, value in fields.items() if isinstance(value, dict) or _are_tables(value)}
    if table and (len(below) < len(fields) or not fields or header != "[{}]"):
        yield "\n" + header.format(table)
    for key, value in fields.items():
        if key not in below:
            yield f"{_key(key)} = {_value(value)}"
    for key, value in below.items():
        name = f"{table}.{_key(key)}" if table else _key(key)
        if isinstance(value, dict):
            yield from _lines(value, name)
        else:
            for part in value:
                yield from _lines(part, name, header="[[{}]]")


def _are_tables(value: Any) -> bool:
    return isinstance(value, list) and bool(value) and all(isinstance(item, dict) for item in value)


def _value(value: Any) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, str):
        return _text(value)
    if isinstance(value, (datetime.date, datetime.time)):
        return value.isoformat()
    if isinstance(value, dict):
        return "{ " + ", ".join(f"{_key(k)} = {_value(v)}" for k, v in value.items()) + " }"
    if isinstance(value, list):
        return "[" + ", ".join(map(_value, value)) + "]"
    return repr(value)


def _key(key: str) -> str:
    return key if re.fullmatch(r"[A-Za-z0-9_-]+", key) else _text(key)


def _text(text: str) -> str:
    """A basic string; what is no character (a byte of an odd file name) is escaped."""
    printable = text.encode("utf-8", "backslashreplace").decode()
    return json.dumps(printable, ensure_ascii=False).replace("\x7f", "\\u007f")
