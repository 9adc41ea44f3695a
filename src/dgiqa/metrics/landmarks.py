"""How far landmarks lie from where people put them: normalised mean error, failure rate, area under the curve.

The error of a face is the mean distance of its landmarks from the annotated ones, as a share of a length of that face:
the distance of the outer corners of the eyes (300-W, COFW, WFLW) or a length of its box (Sagonas et al., ICCV workshops
2013; Bulat and Tzimiropoulos, arXiv:1703.07332, section 3). Failure rate and area as in 300-W and WFLW (Wu et al.,
arXiv:1805.10483, section 5.1). Readers of the files that such sets come in are here too.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from dgiqa.errors import UsageError

Points = npt.NDArray[np.floating[Any]]
Float64 = npt.NDArray[np.float64]

#: Outer corners of the eyes by the number of landmarks: iBUG 300-W has 68, WFLW 98, COFW 29.
CORNERS = {68: (36, 45), 98: (60, 72), 29: (8, 9)}
#: Landmarks around each eye, the one at the picture's left first.
EYES = {
    68: (tuple(range(36, 42)), tuple(range(42, 48))),
    98: (tuple(range(60, 68)), tuple(range(68, 76))),
    29: ((8, 10, 12, 13, 16), (9, 11, 14, 15, 17)),
}
#: What each of the 68 landmarks becomes in a mirrored picture.
MIRRORED = (
    *range(16, -1, -1), *range(26, 16, -1), *range(27, 31), *range(35, 30, -1),
    45, 44, 43, 42, 47, 46, 39, 38, 37, 36, 41, 40,
    *range(54, 47, -1), *range(59, 54, -1), *range(64, 59, -1), *range(67, 64, -1),
)  # fmt: skip


def nme(found: Points, true: Points, by: Literal["eyes", "box", "diagonal"] = "eyes") -> Float64:
    """(N,) the mean distance of each face's landmarks, as a share of a length of the true face; 0.05 is 5 %.

    Args:
        found, true: (N, K, 2) x and y in any one unit.
        by: the distance of the outer corners of the ``eyes``; the root of the area of the landmarks' ``box``; or its
            ``diagonal``.

    Raises:
        UsageError: unequal shapes, a number of landmarks whose eyes aren't known, or a face of no extent.
    """
    a, b = np.asarray(found, np.float64), np.asarray(true, np.float64)
    if a.shape != b.shape or b.ndim != 3 or b.shape[2] != 2:
        raise UsageError(f"landmarks of shapes {a.shape} and {b.shape}", hint="give (N, K, 2) twice")
    length = _length(b, by)
    if not (length > 0).all():
        raise UsageError(f"face {int(np.argmin(length))}: its landmarks have no extent")
    return np.asarray(np.linalg.norm(a - b, axis=2).mean(1) / length)


def failure_rate(errors: Float64, limit: float = 0.1) -> float:
    """The share of faces whose error exceeds ``limit``, 0..1."""
    return float(np.mean(_known(errors) > limit))


def auc(errors: Float64, limit: float = 0.1) -> float:
    """The area under the share of faces with at most an error, from 0 to ``limit``, as a share of all; 1 is perfect.

    Exact: each face adds the part of 0..limit that lies above its error.
    """
    return float(np.mean(np.clip(limit - _known(errors), 0, None)) / limit)


def read_pts(path: Path) -> Float64:
    """(K, 2) landmarks of a ``.pts`` file of 300-W, from the picture's upper left corner.

    The files count pixels from 1, so the centre of the first pixel, 1 there, is 0.5 here.

    Raises:
        UsageError: no such file, or not as many numbers as it says.
    """
    words = _text(path).replace("{", " { ").replace("}", " } ").split()
    try:
        count = int(words[words.index("n_points:") + 1])
        values = [float(word) for word in words[words.index("{") + 1 : words.index("}")]]
    except (ValueError, IndexError) as error:
        raise _broken(path, "no .pts file: n_points: K, then K lines of x y in braces") from error
    if len(values) != 2 * count or not np.isfinite(values).all():
        raise _broken(path, f"says {count} points and holds {len(values) / 2:g}")
    return np.asarray(values).reshape(count, 2) - 0.5


def read_wflw(path: Path) -> list[tuple[str, Float64, tuple[float, float, float, float]]]:
    """The faces of a list of WFLW: the picture's name, (98, 2) landmarks and (left, top, right, bottom) of the box.

    A line holds 196 coordinates, 4 of the box, 6 attributes, and the name. They count pixels from 0.

    Raises:
        UsageError: no such file, or a line of another kind, by its number.
    """
    faces = []
    for number, line in enumerate(_text(path).splitlines(), 1):
        words = line.split()
        if not words:
            continue
        try:
            values = np.array([float(word) for word in words[:206]])
        except ValueError as error:
            raise _broken(path, f"line {number} holds a word where a number should be") from error
        if len(words) != 207 or len(values) != 206:
            raise _broken(path, f"line {number} has {len(words)} words, not 207")
        left, top, right, bottom = values[196:200].tolist()
        faces.append((words[206], values[:196].reshape(98, 2) + 0.5, (left, top, right, bottom)))
    return faces


def _length(true: Float64, by: str) -> Float64:
    if by == "eyes":
        count = true.shape[1]
        if count not in CORNERS:
            raise UsageError(
                f"the eyes of {count} landmarks aren't known", hint=f"known: {', '.join(map(str, CORNERS))}; or by box"
            )
        left, right = CORNERS[count]
        return np.asarray(np.linalg.norm(true[:, left] - true[:, right], axis=1))
    sides = true.max(1) - true.min(1)
    return np.asarray(np.sqrt(sides.prod(1)) if by == "box" else np.linalg.norm(sides, axis=1))


def _known(errors: Float64) -> Float64:
    errors = np.asarray(errors, np.float64)
    if errors.size == 0 or np.isnan(errors).any():
        raise UsageError("errors: none, or one that is no number")
    return errors


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except FileNotFoundError as error:
        raise UsageError(f"{path}: there is no such file") from error
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"{path}: can't be read as text ({error})") from error


def _broken(path: Path, why: str) -> UsageError:
    return UsageError(f"{path}: {why}", hint="give the file as its data set has it")
