"""PIGUIQA at small width: an imaging model on water that is known, then quality on ratings and on more or less water.

    picture, depth ──water columns──→ versions with known T, B ──→ fit the imaging model           (1)
    rated pictures ──imaging model──→ maps of distortion ──→ score, against MOS ┐
    versions of one picture ────────→ maps of distortion ──→ score, in order    ┴→ fit the rest    (2)

Xian et al., arXiv:2412.15527. Underwater ratings can't be had freely, so water is laid over photographs, whose depth is
estimated, and over rendered scenes, whose depth is known: clear ocean to green coast, from thin to dense, from near to
far. Of two columns the murkier or the farther one shall score lower. How often it does is printed of pictures that
nothing was trained on.

    python -m dgiqa.training.systems.piguiqa --data biq2021=BIQ2021 --out small/piguiqa

``--pictures-of-water DIR`` also scores photographs: each folder in DIR, and how often its pictures score above those of
the same name in DIR/raw.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable, Sequence
from dataclasses import astuple, dataclass, replace
from itertools import accumulate
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from dgiqa import Scorer, load
from dgiqa.depth import as_metres, open_depth
from dgiqa.distortions import underwater
from dgiqa.exits import exit_code
from dgiqa.models.piguiqa.imaging import Water
from dgiqa.models.piguiqa.network import CELL, Judge, SmallPIGUIQA, cells_of, pair
from dgiqa.scenes import render
from dgiqa.training.sets import Rated
from dgiqa.training.small import (
    SIDE,
    Array,
    Int,
    Study,
    agree,
    arguments,
    fit,
    floats,
    predict,
    publish,
    study_of,
    trunk_state,
)
from dgiqa.types import Float32, UInt8

#: Photographs and rendered scenes under water, that are trained on and that judge.
TRAINED, JUDGED = (400, 200), (100, 100)
#: Photographs that lend scenes their surfaces, and the first seeds of scenes.
TEXTURES, FITTED_SEEDS, HELD_SEEDS = 60, 6_000_000, 7_000_000
#: What each picture becomes: without water, under water, under more of the same, farther off.
VERSIONS = ("dry", "water", "murkier", "farther")
#: Better and worse, by what sets them apart.
PAIRS = {"dry above water": (0, 1), "water above murkier": (1, 2), "near above far": (1, 3)}
#: All pairs that are trained on. Murkier and farther are not compared.
ORDERED = ((0, 1), (0, 2), (0, 3), (1, 2), (1, 3))
#: What is kept of each version: light and true water by cell, the trunk's two maps.
SHAPES = ((3, 48, 48), (3, 48, 48), (3, 48, 48), (128, 24, 24), (320, 12, 12))
#: Pictures under water in a step, besides the rated ones; the difference that says 0.73 to 0.27; weight of the order.
GROUPS, UNIT, WEIGHT = 4, 0.1, 0.02
#: Passes over the versions in the first stage.
IMAGING_EPOCHS = 8


def main(argv: Sequence[str] | None = None) -> None:
    parser = arguments(__doc__ or "", epochs=5)
    parser.add_argument("--pictures-of-water", type=Path, action="append", default=[], metavar="DIR")
    args = parser.parse_args(argv)
    study = study_of(args)
    photographs, scenes = photographs_under_water, scenes_under_water
    drawn = [min(count, args.pictures // 5) if args.pictures else count for count in (TRAINED[1], JUDGED[1])]
    fitted = np.concatenate(
        [photographs(study, study.fitted, TRAINED[0], args.cache), scenes(study, FITTED_SEEDS, drawn[0], args.cache)]
    )
    held = {
        "photographs": photographs(study, study.held, JUDGED[0], args.cache),
        "scenes": scenes(study, HELD_SEEDS, drawn[1], args.cache),
    }

    torch.manual_seed(args.seed)
    judge = Judge()
    rows = fitted.reshape(-1, fitted.shape[-1])
    fit(judge.imaging, water_loss(judge, rows), study, epochs=IMAGING_EPOCHS, rate=2e-3, seed=args.seed,
        places=np.arange(len(rows)), what="imaging")  # fmt: skip
    for name, wet in held.items():
        print(f"{name} held out: {water_errors(judge, wet, fitted)}")

    light = study.once("piguiqa-light", lambda i: light_of(study.pixels(i)[None])[0])
    rated = predict(
        lambda places: judge.distortions(pair(study.maps(places)), floats(light[places])),
        study, np.arange(len(study)), module=judge,
    )  # fmt: skip
    judge.imaging.requires_grad_(False)
    loss = quality_loss(judge, study, rated, fitted, np.random.default_rng(args.seed))
    fit(judge, loss, study, epochs=args.epochs, seed=args.seed, what="quality")

    raw = predict(
        lambda places: judge.score(pair(study.maps(places)), torch.from_numpy(rated[places])),
        study, study.held, module=judge,
    )  # fmt: skip
    agree(raw, study.mos[study.held])
    for name, wet in held.items():
        print(f"{name} held out, in order: {in_words(order(score(judge, wet)))}, n = {len(wet)}")
    card = publish(
        whole(judge),
        "piguiqa",
        study,
        raw,
        args,
        summary="Underwater quality by what the water did to the picture, at small width",
        data=f"BIQ2021: {len(study.fitted):,} rated pictures; {len(fitted):,} photographs and rendered scenes under "
        "synthetic water, of which the order alone was used. No rating of an underwater picture",
        teachers="depth_mobile.rendered, for the depth of photographs",
    )
    for folder in args.pictures_of_water:
        print(report_on(folder, load(card)))


@dataclass(frozen=True)
class Column:
    """Water between camera and scene; see :func:`dgiqa.distortions.underwater.column`.

    Attributes:
        coast: 0 for clear ocean to 1 for green coast.
        density: against the tables there.
        over: metres of water over the scene.
        nearer: what distances are multiplied by.
    """

    coast: float
    density: float
    over: float
    nearer: float

    def over_depth(self, metres: Float32) -> tuple[Float32, Float32]:
        """(H, W, 3) each, T and B of (H, W) metres."""
        return underwater.column(metres * np.float32(self.nearer), self.coast, self.density, self.over)


def draw_columns(key: str) -> tuple[Column, Column, Column]:
    """Water, the same but murkier, the same but farther off: random, but the same for the same ``key``."""
    rng = np.random.default_rng(list(hashlib.sha256(key.encode()).digest()))
    density, nearer = (
        math.exp(rng.uniform(math.log(low), math.log(high))) for low, high in ((0.15, 1.5), (0.03, 0.15))
    )
    water = Column(rng.uniform(), density, rng.uniform(0.3, 3.0), nearer)
    murkier = replace(water, density=density * rng.uniform(1.7, 3.5))
    return water, murkier, replace(water, nearer=nearer * rng.uniform(1.7, 3.5))


def put_under(pixels: UInt8, metres: Float32, columns: Sequence[Column]) -> tuple[UInt8, Float32, Float32]:
    """VERSIONS of a picture: (4, H, W, 3) sRGB, T and B; dry comes first, with T = 1 and B = 0."""
    water = [column.over_depth(metres) for column in columns]
    seen = [underwater.submerge(pixels, *parts) for parts in water]
    ones = np.ones(pixels.shape, np.float32)
    transmissions, backscatters = zip((ones, 0 * ones), *water, strict=True)
    return np.stack([pixels, *seen]), np.stack(transmissions), np.stack(backscatters)


def photographs_under_water(study: Study, places: Int, count: int, cache: Path) -> Array:
    """(n, 4, …) what is kept of VERSIONS of the first ``count`` photographs at ``places``; from disk if it is there."""
    chosen = places[:count]
    paths = tuple(study.paths[i] for i in chosen)
    depth = open_depth("depth_mobile.rendered")

    def picture(i: int) -> tuple[UInt8, Float32]:
        pixels = study.pixels(int(chosen[i]))
        return pixels, as_metres(depth(pixels))

    return _kept(study, paths, picture, cache, depth.card.label)


def scenes_under_water(study: Study, first: int, count: int, cache: Path) -> Array:
    """The same of ``count`` rendered scenes, seeds from ``first`` on; photographs that are trained on lend surfaces."""
    lent = study.fitted[-TEXTURES:]
    textures = [study.pixels(int(i))[::2, ::2] for i in lent]

    def picture(i: int) -> tuple[UInt8, Float32]:
        scene = render(first + i, size=(SIDE, SIDE), textures=textures)
        return scene.pixels, scene.depth

    # A scene has no file; its name is what the cache knows it by.
    names = tuple(Path(f"scene {first + i}") for i in range(count))
    return _kept(study, names, picture, cache, " ".join(study.paths[i].name for i in lent))


def _kept(
    study: Study, paths: tuple[Path, ...], picture: Callable[[int], tuple[UInt8, Float32]], cache: Path, made_from: str
) -> Array:
    columns = [draw_columns(path.name) for path in paths]
    key = hashlib.sha256(f"{[tuple(map(astuple, drawn)) for drawn in columns]} {made_from}".encode()).hexdigest()[:12]
    nothing = np.zeros(len(paths), np.float32)
    under = Study(
        Rated(study.name, paths, nothing, nothing, nothing), np.arange(len(paths)), np.empty(0, np.intp), cache
    )
    return under.once(f"piguiqa-{key}", lambda i: pack(*put_under(*picture(i), columns[i]), study))


def pack(pixels: UInt8, transmission: Float32, backscatter: Float32, study: Study) -> Array:
    """(m, …) float16: what SHAPES lists, of (m, 384, 384, 3) pictures and their water, in one row each."""
    water = [means_of_cells(values) for values in (transmission, backscatter)]
    parts = [light_of(pixels), *water, *(m.numpy() for m in pair(study.look(pixels)))]
    return np.concatenate([part.reshape(len(pixels), -1).astype(np.float16) for part in parts], 1)


def unpack(rows: Array) -> tuple[Tensor, Water, list[Tensor]]:
    """Light, true water, and the trunk's two maps of (m, …) rows."""
    ends = list(accumulate(math.prod(shape) for shape in SHAPES))
    parts = np.split(rows, ends[:-1], 1)
    light, transmission, backscatter, fine, coarse = (
        floats(part.reshape(len(rows), *shape)) for part, shape in zip(parts, SHAPES, strict=True)
    )
    return light, Water(transmission, backscatter), [fine, coarse]


def water_loss(judge: Judge, rows: Array) -> Callable[[Int], Tensor]:
    """The first stage: mean absolute errors of T and of B, which is at most a quarter and so counts four times."""

    def loss(places: Int) -> Tensor:
        light, true, features = unpack(rows[places])
        found = judge.water(features, light)
        return F.l1_loss(found.transmission, true.transmission) + 4 * F.l1_loss(found.backscatter, true.backscatter)

    return loss


def quality_loss(
    judge: Judge, study: Study, rated: Float32, fitted: Array, rng: np.random.Generator
) -> Callable[[Int], Tensor]:
    """The second stage: squared error of MOS, and cross entropy of which of two versions is the better one.

    Args:
        rated: (n, 6, 12, 12) maps of distortion of the rated pictures.
        fitted: (m, 4, …) versions under water.
    """
    mos, below = torch.from_numpy(study.mos), distortions_of(judge, fitted)

    def loss(places: Int) -> Tensor:
        drawn = np.sort(rng.integers(len(fitted), size=GROUPS))
        *_, wet = unpack(fitted[drawn].reshape(-1, fitted.shape[-1]))
        features = [torch.cat(both) for both in zip(pair(study.maps(places)), wet, strict=True)]
        maps = torch.cat([torch.from_numpy(rated[places]), torch.from_numpy(below[drawn]).flatten(0, 1)])
        # In one batch, so that batch norm sees dry and wet pictures together as it later does.
        scores = judge.score(features, maps)
        versions = scores[len(places) :].reshape(len(drawn), -1)
        better, worse = (versions[:, list(side)] for side in zip(*ORDERED, strict=True))
        return F.mse_loss(scores[: len(places)], mos[places]) + WEIGHT * F.softplus((worse - better) / UNIT).mean()

    return loss


@torch.no_grad()
def distortions_of(judge: Judge, wet: Array) -> Float32:
    """(n, 4, 6, 12, 12) maps of distortion of (n, 4, …) versions."""
    judge.eval()
    rows = []
    for versions in wet:
        light, _, features = unpack(versions)
        rows.append(judge.distortions(features, light))
    return torch.stack(rows).numpy()


@torch.no_grad()
def score(judge: Judge, wet: Array) -> Float32:
    """(n, 4) raw scores of (n, 4, …) versions."""
    maps = torch.from_numpy(distortions_of(judge, wet))
    return torch.stack([judge.score(unpack(row)[2], m) for row, m in zip(wet, maps, strict=True)]).numpy()


def order(scores: Float32) -> dict[str, float]:
    """The share of pictures whose two versions have the right order, for each of PAIRS; equal scores are wrong."""
    return {name: float((scores[:, better] > scores[:, worse]).mean()) for name, (better, worse) in PAIRS.items()}


def in_words(shares: dict[str, float]) -> str:
    return ", ".join(f"{name} {100 * share:.1f} %" for name, share in shares.items())


@torch.no_grad()
def water_errors(judge: Judge, wet: Array, fitted: Array) -> str:
    """Mean absolute errors of T and B under water, beside those of the mean water of what was trained on."""
    judge.eval()
    usual = [part.mean((0, 2, 3), keepdim=True) for part in unpack(fitted[:, 1:].reshape(-1, fitted.shape[-1]))[1]]
    errors = []
    for versions in wet:
        light, true, features = unpack(versions[1:])
        found = judge.water(features, light)
        errors.append(
            [float((a - t).abs().mean()) for guess in (found, usual) for a, t in zip(guess, true, strict=True)]
        )
    t, b, usual_t, usual_b = np.mean(errors, 0)
    return f"error of T {t:.4f} (the mean T: {usual_t:.4f}), of B {b:.4f} (the mean B: {usual_b:.4f})"


def report_on(folder: Path, scorer: Scorer) -> str:
    """A line for each folder in ``folder``: mean quality, and how often a picture scores above its namesake in raw."""
    lines = [f"{folder}:"]
    raw: dict[str, float] = {}
    for part in sorted((p for p in folder.iterdir() if p.is_dir()), key=lambda p: (p.name != "raw", p.name)):
        found = {path.stem: scorer.score(path).quality for path in sorted(part.iterdir())}
        raw = raw or found
        both = [found[name] > raw[name] for name in found.keys() & raw.keys()]
        above = "" if found is raw else f", above raw {100 * float(np.mean(both)):.0f} %" if both else ""
        lines.append(f"  {part.name}: mean {np.mean(list(found.values())):.1f}{above}, n = {len(found)}")
    return "\n".join(lines)


def whole(judge: Judge) -> SmallPIGUIQA:
    """The network of a trained judge."""
    network = SmallPIGUIQA()
    network.trunk.load_state_dict(trunk_state())
    network.judge.load_state_dict(judge.state_dict())
    return network.eval()


def light_of(pixels: UInt8) -> Float32:
    """(m, 384, 384, 3) to (m, 3, 48, 48): the light of each cell."""
    return cells_of(torch.from_numpy(np.array(pixels))).numpy()


def means_of_cells(values: Float32) -> Float32:
    """(m, 384, 384, 3) floats to (m, 3, 48, 48)."""
    return F.avg_pool2d(torch.from_numpy(values).permute(0, 3, 1, 2), CELL).numpy()


if __name__ == "__main__":
    raise SystemExit(exit_code(main))
