"""A card of one's own: another card's network with another curve and interval, and the weights beside it."""

from __future__ import annotations

import dataclasses
import os
import shutil
from pathlib import Path
from typing import Any

from dgiqa.calibration.toml import as_toml
from dgiqa.cards import Calibration, Explain, Interval, Measured, ModelCard, WeightsFile, read_card
from dgiqa.errors import UsageError
from dgiqa.weights.fetch import is_explained, is_here, locate, locate_explanation
from dgiqa.weights.files import sha256_of

#: What the summary of an own card adds to that of the card it comes from.
_ADDED = "; calibrated on "

#: How the file that explains the scores of a card ends.
_EXPLAINS = ".explain.onnx"


def write_own_card(
    card: ModelCard,
    path: Path,
    *,
    calibration: Calibration,
    interval: Interval | None,
    measured: tuple[Measured, ...] = (),
    what: str = "",
) -> ModelCard:
    """Writes ``card`` with another calibration to ``path``, the weights beside it, and returns what stands there.

    The weights are copied; what they go with under a name and a version, a depth card and a trunk that cards share,
    stays the installation's: of another trunk the card won't open, with another depth network rows name another model.
    Rows name such a card with a checksum: its scores don't compare with those of ``card``.

    Args:
        path: a ``.toml`` file; the weights get its name, unless they lie in its folder already.
        measured: agreement with the ratings; replaces that of ``card``.
        what: the rated pictures, for the summary.

    Raises:
        UsageError: another ending, a place that can't be written, another file where the weights would go, or a card
            whose scores are a formula's.
        WeightsError: the card's weights are not on this machine.
    """
    check_place(path, card)
    path = path.resolve()
    return save_card(
        card,
        path,
        summary=card.summary.partition(_ADDED)[0] + (_ADDED + what if what else ""),
        calibration=calibration,
        interval=interval,
        measured=measured,
        weights={kind: _bring(card, kind, path) for kind in _kinds(card)},
    )


def save_card(card: ModelCard, path: Path, **changes: Any) -> ModelCard:
    """Writes ``card`` with other values of its fields to ``path``, and returns what stands there.

    Cards of one's own, of depth or of an ensemble, are named as they are seen from there. What explains the scores
    comes along where the ONNX weights are still those that it continues.
    """
    recipe = dataclasses.replace(card.recipe, depth=_seen_from(path.parent, card, card.recipe.depth))
    ensemble = tuple(dataclasses.replace(m, card=_seen_from(path.parent, card, m.card)) for m in card.ensemble)
    own = dataclasses.replace(card, recipe=recipe, ensemble=ensemble, **changes)
    own = dataclasses.replace(own, explain=_explanation(card, own, path))
    part = path.with_name(path.name + ".part")
    part.write_text(as_toml(own, leave=("name", "folder")), encoding="utf-8")
    os.replace(part, path)
    return read_card(path)


def check_place(path: Path, card: ModelCard) -> None:
    """Raises what :func:`write_own_card` would, so that it is known before any picture is scored."""
    if path.suffix != ".toml":
        raise UsageError(f"{path}: a card's name ends in .toml")
    if path.is_dir():
        raise UsageError(f"{path}: is a folder", hint="name a file")
    if not path.parent.is_dir() or not os.access(path.parent, os.W_OK):
        raise UsageError(f"{path}: can't be written", hint="name a file in a folder that exists and is yours")
    if "numpy" in card.weights:
        raise UsageError(
            f"{card.name} is a formula, which only a built-in card may name",
            hint="choose a network: dgiqa models",
        )
    files = [(source := locate(card, kind).resolve(), source.suffix) for kind in _kinds(card)]
    if is_explained(card):
        files.append((locate_explanation(card).resolve(), _EXPLAINS))
    for source, ending in files:
        target = _place(source, path.resolve(), ending)
        if target != source and target.exists() and sha256_of(target) != sha256_of(source):
            raise UsageError(f"{target}: another file is there, and the weights would replace it", hint="rename either")


def _kinds(card: ModelCard) -> list[str]:
    """The runtimes whose weights are on this machine; all, where none are: locating them says what to do."""
    return [kind for kind in card.weights if is_here(card, kind)] or list(card.weights)


def _place(source: Path, path: Path, ending: str) -> Path:
    """Where a file goes for a card at ``path``: it stays where it is if that is beside it."""
    return source if source.parent == path.parent.resolve() else path.with_suffix(ending)


def _bring(card: ModelCard, kind: str, path: Path) -> WeightsFile:
    """The weights' entry for a card at ``path``, their file beside it."""
    source = locate(card, kind).resolve()
    return _beside(source, _place(source, path, source.suffix), card.weights[kind])


def _explanation(card: ModelCard, own: ModelCard, path: Path) -> Explain | None:
    """The table for ``own`` at ``path``, its file beside it; None if there is none, or none that fits."""
    if card.explain is None or not is_explained(card):
        return None
    if "onnx" not in own.weights or own.weights["onnx"].sha256 != card.explain.continues:
        return None
    source = locate_explanation(card).resolve()
    return dataclasses.replace(
        card.explain, weights=_beside(source, _place(source, path, _EXPLAINS), card.explain.weights)
    )


def _beside(source: Path, target: Path, stated: WeightsFile) -> WeightsFile:
    if target != source and not target.exists():
        part = target.with_name(target.name + ".part")
        shutil.copyfile(source, part)
        os.replace(part, target)
    return dataclasses.replace(
        stated,
        file=target.name,
        embedded=False,
        sha256=sha256_of(target),
        bytes=target.stat().st_size,
        url="",
        page=stated.page or stated.url,
    )


def _seen_from(folder: Path, card: ModelCard, name: str) -> str:
    """The name of a card that ``card`` names; the path of one's own, seen from ``folder``."""
    if not name.endswith(".toml"):
        return name
    file = (card.folder / name).resolve()
    try:
        return os.path.relpath(file, folder)
    except ValueError:  # another drive
        return str(file)
