"""What becomes of decisions: links, sidecar files with ratings, or a move that can be undone.

Nothing is deleted and nothing replaced: where a file is in the way, it stays, and the run says so.
"""

from __future__ import annotations

import errno
import json
import os
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import IO
from xml.sax.saxutils import escape

from dgiqa.culling.decide import VERDICTS, Decision, Verdict
from dgiqa.errors import UsageError

#: XMP's rating (-1 is "rejected") and colour label.
RATINGS: dict[Verdict, tuple[int, str]] = {"keep": (5, "Green"), "review": (3, "Yellow"), "reject": (-1, "Red")}
#: The journal of a move.
UNDO = "cull-undo.jsonl"

_SIDECAR = """<?xpacket begin="\ufeff" id="W5M0MpCehiHzreSzNTczkc9d"?>
<x:xmpmeta xmlns:x="adobe:ns:meta/">
 <rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#">
  <rdf:Description rdf:about="" xmlns:xmp="http://ns.adobe.com/xap/1.0/" xmlns:dc="http://purl.org/dc/elements/1.1/"
   xmp:Rating="{rating}" xmp:Label="{label}">
   <dc:description><rdf:Alt><rdf:li xml:lang="x-default">{reason}</rdf:li></rdf:Alt></dc:description>
  </rdf:Description>
 </rdf:RDF>
</x:xmpmeta>
<?xpacket end="w"?>
"""


def link(decisions: Sequence[Decision], folder: Path) -> Iterator[tuple[Path, str]]:
    """Symbolic links in ``folder``/keep, review and reject; yields each link, and a fault ("" where there is none)."""
    for decision, target in _targets(decisions, folder):
        source = Path(decision.path).resolve()
        yield target, _try(target, lambda source=source, target=target: os.symlink(source, target))  # type: ignore[misc]


def rate(decisions: Sequence[Decision]) -> Iterator[tuple[Path, str]]:
    """A sidecar NAME.EXT.xmp beside each picture; yields it, and a fault: one that exists already is left alone."""
    for decision in decisions:
        target = Path(f"{decision.path}.xmp")
        rating, label = RATINGS[decision.verdict]
        reason = "".join(sign if sign.isprintable() else "?" for sign in f"{decision.verdict}: {decision.reason}")
        text = _SIDECAR.format(rating=rating, label=label, reason=escape(reason))

        def write(target: Path = target, text: str = text) -> None:
            with target.open("x", encoding="utf-8") as file:
                file.write(text)

        yield target, _try(target, write)


def move(decisions: Sequence[Decision], folder: Path) -> Iterator[tuple[Path, str]]:
    """Into ``folder``/keep, review and reject, on one file system; yields each new place, and a fault.

    Before a file is moved, ``folder``/cull-undo.jsonl says from where to where, so that :func:`undo` can take it back
    whenever the run stops, and from wherever.
    """
    folder = folder.absolute()
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / UNDO).open("a", encoding="utf-8") as journal:
        for decision, target in _targets(decisions, folder):
            source = Path(os.path.abspath(decision.path))

            def carry(source: Path = source, target: Path = target) -> None:
                if os.path.lexists(target):
                    raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST))
                if not os.path.lexists(source):
                    raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT))
                _note(journal, {"from": str(source), "to": str(target)})
                os.rename(source, target)

            yield target, _try(target, carry)


def undo(journal: Path) -> Iterator[tuple[Path, str]]:
    """Takes back what a move's journal says, the last first; yields each old place, and a fault. The journal stays.

    What never was moved, or is back already, is passed over.

    Raises:
        UsageError: there is no such journal, or it is none.
    """
    try:
        lines = journal.read_text(encoding="utf-8").splitlines()
        steps = [(Path(step["from"]), Path(step["to"])) for step in map(json.loads, lines)]
    except OSError as error:
        raise UsageError(f"{journal}: can't be read ({error.strerror})") from error
    except (ValueError, KeyError, TypeError) as error:
        raise UsageError(f"{journal}: is no journal of a move", hint=f"it is called {UNDO}") from error
    for old, new in reversed(steps):
        if not os.path.lexists(new):
            continue

        def back(old: Path = old, new: Path = new) -> None:
            if os.path.lexists(old):
                raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST))
            old.parent.mkdir(parents=True, exist_ok=True)
            os.rename(new, old)

        yield old, _try(old, back)


def _targets(decisions: Sequence[Decision], folder: Path) -> Iterator[tuple[Decision, Path]]:
    """Where each goes. Two pictures of one name from different folders get -2, -3 … in the order of decisions."""
    for verdict in VERDICTS:
        (folder / verdict).mkdir(parents=True, exist_ok=True)
    taken: set[Path] = set()
    for decision in decisions:
        name = Path(decision.path)
        target, number = folder / decision.verdict / name.name, 2
        while target in taken:
            target = folder / decision.verdict / f"{name.stem}-{number}{name.suffix}"
            number += 1
        taken.add(target)
        yield decision, target


def _try(target: Path, work: Callable[[], None]) -> str:
    try:
        work()
    except FileExistsError:
        return f"{target}: is there already, left alone"
    except OSError as error:
        why = (
            "another file system; name a folder on the pictures' own" if error.errno == errno.EXDEV else error.strerror
        )
        return f"{target}: {why}"
    return ""


def _note(journal: IO[str], step: dict[str, str]) -> None:
    journal.write(json.dumps(step) + "\n")
    journal.flush()
    os.fsync(journal.fileno())
