"""Where a card's weights lie on this machine, and how they come there.

A file lies beside its card (in the wheel, or with a card of one's own), or in the cache under the card's
name. It is fetched only when asked for, over https, and only when the card states its SHA-256.

Environment: ``DGIQA_CACHE`` moves the cache folder, ``DGIQA_OFFLINE=1`` forbids the network,
``DGIQA_MIRROR=https://host/path`` takes every file from ``{mirror}/{card name}/{file}``.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import quote

from dgiqa.cards import ModelCard, WeightsFile
from dgiqa.errors import FetchError, UsageError, WeightsError
from dgiqa.weights.files import sha256_of

if TYPE_CHECKING:
    import ssl

#: Called with a file's name, the bytes that are here, and the bytes of the whole (0 when unknown).
Progress = Callable[[str, int, int], None]

_BUILT_IN = Path(__file__).resolve().parents[1] / "models"


def locate(card: ModelCard, runtime: str) -> Path:
    """The file that ``runtime`` loads for ``card``, checked against the card's size and SHA-256.

    Raises:
        WeightsError: the card has none for this runtime, or the file is missing or has the wrong size.
            The hint has the command, the address and the path that help.
    """
    weights = _weights_of(card, runtime)
    return _checked(card, weights, f"weights for the runtime {runtime!r} are")


def locate_explanation(card: ModelCard) -> Path:
    """The file that continues the card's ONNX weights to an explanation, checked like them.

    Raises:
        WeightsError: the card names none, or it is missing or has the wrong size or sum.
    """
    if card.explain is None:
        raise WeightsError(f"{card.name} has nothing that explains its scores", hint="choose another model")
    return _checked(card, card.explain.weights, "explanation is")


def _checked(card: ModelCard, weights: WeightsFile, what: str) -> Path:
    path = _here(card, weights)
    if path is None:
        raise WeightsError(f"{card.name}: its {what} not on this machine", hint=_way_out(card, weights))
    # The wheel's own files are checked by its tests; anything else could have been put there by hand.
    if fault := _wrong_size(path, weights) if is_built_in(card) and weights.embedded else _fault(path, weights):
        raise WeightsError(f"{path}: {fault}", hint=_way_out(card, weights))
    return path


def fetch(
    card: ModelCard,
    runtime: str | None = None,
    *,
    offline: bool = False,
    mirror: str | None = None,
    timeout: float = 30.0,
    progress: Progress | None = None,
    context: ssl.SSLContext | None = None,
) -> list[Path]:
    """Makes the weights of ``card`` be on this machine, checked, and returns their paths.

    What is here already is verified and not downloaded again. A download goes on where an earlier one
    stopped; a second process waits for the first and finds the file done.

    Args:
        runtime: only this runtime's file; every one of the card by default.
        offline: never touch the network (as ``DGIQA_OFFLINE=1`` does).
        mirror: https address that stands in for the card's (as ``DGIQA_MIRROR`` does).
        timeout: seconds without a byte after which a try is given up.
        progress: see :data:`Progress`.
        context: TLS settings; the system's trusted authorities by default.

    Raises:
        FetchError: the download did not succeed, is not allowed, or has no address to come from.
        WeightsError: a file that lies beside its card is missing or does not match the card.
        UsageError: a mirror that is not https.
    """
    offline = offline or os.environ.get("DGIQA_OFFLINE", "").lower() not in ("", "0", "false", "no", "off")
    if not timeout > 0:
        raise UsageError(f"a timeout of {timeout:g} seconds is none", hint="give a positive number")
    mirror = mirror or os.environ.get("DGIQA_MIRROR") or None
    if mirror and not mirror.startswith("https://"):
        raise UsageError(f"the mirror {mirror} is not an https address", hint="it must start with https://")
    wanted = [_weights_of(card, runtime)] if runtime else list(card.weights.values())
    paths = []
    for weights in {weights.file: weights for weights in wanted}.values():
        path = _verified(card, weights)
        if path is None:
            url = _address(card, weights, mirror)
            if offline:
                raise FetchError(
                    f"{card.name}: {weights.file} is not on this machine and the network is switched off",
                    hint=f"bring {url} by other means and put it at {_by_hand(card, weights)}",
                )
            path = _bring(card, weights, url, timeout=timeout, progress=progress, context=context)
        paths.append(path)
    return paths


def cache_folder() -> Path:
    """The folder of downloaded weights: ``DGIQA_CACHE``, or the operating system's place for caches."""
    if chosen := os.environ.get("DGIQA_CACHE"):
        return Path(chosen).expanduser().absolute()
    try:
        home = Path.home()
    except RuntimeError as error:
        raise WeightsError(
            "this user has no home folder to keep downloaded weights in",
            hint="set DGIQA_CACHE to a folder that can be written",
        ) from error
    if sys.platform == "win32":
        return Path(os.environ.get("LOCALAPPDATA") or home / "AppData" / "Local") / "dgiqa"
    if sys.platform == "darwin":
        return home / "Library" / "Caches" / "dgiqa"
    base = Path(os.environ.get("XDG_CACHE_HOME", ""))
    return (base if base.is_absolute() else home / ".cache") / "dgiqa"


def _weights_of(card: ModelCard, runtime: str) -> WeightsFile:
    if runtime not in card.weights:
        has = ", ".join(card.weights)
        raise WeightsError(f"{card.name} has no weights for the runtime {runtime!r}", hint=f"it has: {has}")
    return card.weights[runtime]


def _here(card: ModelCard, weights: WeightsFile) -> Path | None:
    """Where the file is, if it is anywhere: beside its card, else in the cache."""
    beside = card.folder / weights.file
    if weights.embedded or beside.is_file():
        return beside if beside.is_file() else None
    cached = _in_cache(card, weights)
    return cached if cached.is_file() else None


def _in_cache(card: ModelCard, weights: WeightsFile) -> Path:
    return cache_folder() / card.name / weights.file


def _verified(card: ModelCard, weights: WeightsFile) -> Path | None:
    """The file if it is here and matches the card; None if it has to be brought."""
    path = _here(card, weights)
    if path is None:
        if weights.embedded:
            raise WeightsError(f"{card.folder / weights.file}: missing", hint=_way_out(card, weights))
        return None
    fault = _fault(path, weights)
    if not fault:
        return path
    if path == _in_cache(card, weights):
        return None  # a damaged file in the cache is replaced
    raise WeightsError(f"{path}: {fault}", hint=_way_out(card, weights))


def _fault(path: Path, weights: WeightsFile) -> str:
    """What is wrong with a file, empty when it is what the card says."""
    return _wrong_size(path, weights) or _wrong_sum(path, weights)


def _wrong_size(path: Path, weights: WeightsFile) -> str:
    size = path.stat().st_size
    wrong = weights.bytes and size != weights.bytes
    return f"{size} bytes, but the card says {weights.bytes}" if wrong else ""


def _wrong_sum(path: Path, weights: WeightsFile) -> str:
    found = sha256_of(path) if weights.sha256 else ""
    return f"SHA-256 is {found}, but the card says {weights.sha256}" if found != weights.sha256 else ""


def _address(card: ModelCard, weights: WeightsFile, mirror: str | None) -> str:
    if mirror and weights.sha256:
        return f"{mirror.rstrip('/')}/{quote(card.name)}/{quote(weights.file)}"
    if not weights.url:
        raise FetchError(
            f"{card.name}: there is no address to download {weights.file} from",
            hint=_way_out(card, weights),
        )
    return weights.url


def _bring(
    card: ModelCard,
    weights: WeightsFile,
    url: str,
    *,
    timeout: float,
    progress: Progress | None,
    context: ssl.SSLContext | None,
) -> Path:
    """Downloads the file into the cache, one process at a time."""
    from filelock import FileLock

    from dgiqa.weights.https import download

    path = _in_cache(card, weights)
    part = path.with_name(path.name + ".part")
    by_hand = f"or bring {url} by other means and put it at {path}"
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with FileLock(path.with_name(path.name + ".lock")):
            if path.is_file() and not _fault(path, weights):  # another process was faster
                return path
            report = (lambda done, total: progress(weights.file, done, total)) if progress else None
            download(
                url,
                part,
                size=weights.bytes,
                timeout=timeout,
                progress=report,
                context=context,
                by_hand=by_hand,
            )
            if fault := _wrong_sum(part, weights):
                part.unlink()
                raise FetchError(
                    f"{url}: {fault}",
                    hint="the download was discarded; try again, and distrust the source if it repeats",
                )
            os.replace(part, path)
    except (OSError, NotImplementedError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise FetchError(
            f"{path}: can't be written ({reason})",
            hint="make room or get the right to write there, or set DGIQA_CACHE to another folder",
        ) from error
    return path


def _by_hand(card: ModelCard, weights: WeightsFile) -> Path:
    """Where a person puts the file."""
    return _in_cache(card, weights) if is_built_in(card) else card.folder / weights.file


def is_here(card: ModelCard, runtime: str) -> bool:
    """Whether the file for ``runtime`` is on this machine, unchecked."""
    return _here(card, _weights_of(card, runtime)) is not None


def is_explained(card: ModelCard) -> bool:
    """Whether the card names a file that explains its scores, and it is on this machine, unchecked."""
    return card.explain is not None and _here(card, card.explain.weights) is not None


def is_built_in(card: ModelCard) -> bool:
    """Whether the card comes with the package; others are cards of one's own."""
    return _BUILT_IN in card.folder.resolve().parents


def _way_out(card: ModelCard, weights: WeightsFile) -> str:
    """What a person can do about a file that is missing or wrong."""
    if weights.embedded and is_built_in(card):
        return "it belongs to the installation: pip install --force-reinstall dgiqa"
    place = _by_hand(card, weights)
    if weights.url and not weights.embedded:
        name = card.name if is_built_in(card) else card.folder / card.file
        return f"run `dgiqa fetch {name}`, or bring {weights.url} by other means and put it at {place}"
    source = weights.page or weights.url or "whoever made the card"
    if is_built_in(card) and (_BUILT_IN / card.arch / "convert.py").is_file():
        return f"get the authors' checkpoint from {source} and run `dgiqa convert {card.name} FILE`"
    return f"get it from {source} and put it at {place}"
