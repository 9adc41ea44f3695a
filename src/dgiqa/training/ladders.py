"""Ladders: pictures spoiled by a known fault in two severities, for ranking.

Ratings of photographs don't teach what plain noise does, since in photographs it comes with everything else. A
picture and its spoiled versions need no rating: more of a fault is worse (Liu et al., "RankIQA", arXiv:1707.08347).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from dgiqa.cards import Recipe
from dgiqa.depth import as_metres
from dgiqa.distortions import distort
from dgiqa.imaging.decode import decode
from dgiqa.imaging.resize import fit
from dgiqa.imaging.views import DepthMap
from dgiqa.models.dgiqa_mobile.mobilenet import MobileNetV2
from dgiqa.training.features import CHANNELS, LowFeatures, cells, fill, open_array
from dgiqa.types import UInt8

#: Share of each kind of fault.
SHARES = {"noise": 0.25, "jpeg": 0.2, "haze": 0.15, "low_light": 0.15, "blur": 0.1, "flare": 0.1, "motion": 0.05}


@dataclass(frozen=True)
class Ladders:
    """Spoiled versions of some pictures, memory-mapped.

    Attributes:
        picture: (n,) index of the picture that is spoiled.
        severity: (n, 2) 1..5, rising.
        low: (n, 2, H/4, W/4, 24) int8 and depth: (n, 2, H/4, W/4) uint8, as in Features.
    """

    picture: npt.NDArray[np.intp]
    severity: npt.NDArray[np.intp]
    low: npt.NDArray[np.int8]
    depth: UInt8


def compute_ladders(
    paths: Sequence[Path],
    picture: npt.NDArray[np.intp],
    trunk: MobileNetV2,
    recipe: Recipe,
    depth_map: DepthMap,
    folder: Path,
) -> Ladders:
    """Computes or reopens one ladder for each of the pictures ``paths[i]``, i in ``picture``.

    ``folder`` is that of the pictures' own features, whose scale is used. Kinds and severities are drawn by a fixed
    seed.
    """
    n, side = len(picture), recipe.short_side // 4
    low = open_array(folder / "ladders-low.npy", np.int8, (n, 2, side, side, CHANNELS))
    depth = open_array(folder / "ladders-depth.npy", np.uint8, (n, 2, side, side))
    rng = np.random.default_rng(5)
    kinds = rng.choice(list(SHARES), n, p=list(SHARES.values()))
    severity = np.array([np.sort(rng.choice([1, 2, 3, 4, 5], 2, replace=False)) for _ in range(n)])
    features = LowFeatures(trunk, recipe.short_side, folder)
    features.fit_scale((), folder / "scale.npy")

    def spoil(k: int) -> tuple[npt.NDArray[np.int8], UInt8]:
        pixels = decode(paths[picture[k]], background=recipe.background).pixels
        metres = as_metres(depth_map(pixels)) if kinds[k] == "haze" else None
        steps = [distort(pixels, str(kinds[k]), int(s), depth=metres, seed=k) for s in severity[k]]
        seen = [fit(step, recipe) for step in steps]
        return features(seen), np.stack([cells(depth_map(pixels)) for pixels in seen])

    fill([low, depth], folder / "ladders.json", range(n), spoil)
    return Ladders(picture, severity, low, depth)
