"""Trains the small landmark network with fiducial focus augmentation and the agreement of two views.

Kar et al., "Fiducial Focus Augmentation for Facial Landmark Detection", arXiv:2402.15044. Black squares are laid on the
true landmarks after the usual augmentation; they shrink over the training and are gone at its end. Two views of each
face go through one network, whose descriptions of the face shall agree: deep canonical correlation analysis (Andrew et
al., "Deep Canonical Correlation Analysis", ICML 2013, section 3).

    draw_face ──augment──→ views ──cover──→ the frozen trunk's maps, on disk ──fit──→ publish → mobile.onnx, mobile.toml

    python -m dgiqa.training.systems.fifa --data biq2021=BIQ2021 --out runs/fifa

The faces are drawings (:mod:`dgiqa.scenes.faces`), their backgrounds photographs. With ``--test DIR`` photographs of
faces with a .pts file beside each are measured, too.
"""

from __future__ import annotations

import argparse
import dataclasses
import math
import multiprocessing
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.lib.format import open_memmap
from PIL import Image, ImageEnhance
from torch import Tensor, nn

from dgiqa.cards import Training, WeightsFile
from dgiqa.exits import exit_code
from dgiqa.explain.landmarks import AROUND, cut, square_of
from dgiqa.export.half import round_weights
from dgiqa.imaging.decode import decode
from dgiqa.metrics.landmarks import MIRRORED, auc, failure_rate, nme, read_pts
from dgiqa.models import find_card
from dgiqa.models.fifa.network import LANDMARKS, SIDE, SmallFiFA, SmallHead
from dgiqa.scenes.faces import draw_face
from dgiqa.training.finish import write_card
from dgiqa.training.small import Array, Int, Study, arguments, fit, runnable, store, study_of
from dgiqa.types import Float32, UInt8
from dgiqa.weights.fetch import locate
from dgiqa.weights.files import read_state

#: Side of the squares at the start, in pixels of a view of 256, and the share of the training at which they are gone.
FIRST, UNTIL = 5, 0.6
#: Sides that squares can have: odd, so that a landmark's pixel is the middle; 0 is none.
SIDES = (0, 1, 3, 5)
#: Views of each face; a step takes two of them.
VIEWS = 3
#: Numbers that describe a face where two views are compared.
COMPARED = 8
#: The card whose file the frozen trunk is taken from: its weights are ImageNet's, unchanged.
TRUNK = "depth_mobile.rendered"


def square_side(progress: float, first: int = FIRST, until: float = UNTIL) -> int:
    """Side of the squares at ``progress`` 0..1 of the training: from ``first`` down in odd steps, 0 from ``until`` on.

    Every side lasts equally long.
    """
    steps = (first + 1) // 2
    passed = int(steps * progress / until) if until > 0 else steps
    return max(first - 2 * passed, 0) if passed < steps else 0


def cover(pixels: UInt8, landmarks: Float32, side: int) -> UInt8:
    """A copy with a black square of ``side`` × ``side`` pixels around each landmark's pixel; none for 0.

    Args:
        landmarks: (K, 2) x and y in pixels from the upper left corner; parts outside the picture are left out.
    """
    covered = pixels.copy()
    reach = side // 2
    for x, y in np.floor(landmarks).astype(int) if side else ():
        covered[max(y - reach, 0) : max(y + reach + 1, 0), max(x - reach, 0) : max(x + reach + 1, 0)] = 0
    return covered


def disagreement(first: Tensor, second: Tensor, ridge: float = 1e-3) -> Tensor:
    """The loss of deep CCA: minus the sum of the canonical correlations of two views, which is the trace norm of
    T = S11^(-1/2) S12 S22^(-1/2).

    Args:
        first, second: (M, D) descriptions of the same M things, M above D.
        ridge: added to the variances, so that the roots exist.
    """
    (a, b), count = (h - h.mean(0) for h in (first, second)), len(first)
    eye = ridge * torch.eye(first.shape[1], dtype=first.dtype, device=first.device)
    s11, s22, s12 = a.T @ a / (count - 1) + eye, b.T @ b / (count - 1) + eye, a.T @ b / (count - 1)
    between = _inverse_root(s11) @ s12 @ _inverse_root(s22)
    correlations: Tensor = torch.linalg.svdvals(between)
    return -correlations.sum()


def _inverse_root(matrix: Tensor) -> Tensor:
    values, vectors = torch.linalg.eigh(matrix)
    root: Tensor = (vectors * values.clamp(min=1e-12).rsqrt()) @ vectors.T
    return root


def heat_loss(heat: Tensor, landmarks: Tensor, spread: float = 1.0) -> Tensor:
    """Heat-map regression: the cross-entropy of each map's softmax to a Gaussian of ``spread`` cells at the landmark.

    Args:
        heat: (N, K, side, side); landmarks: (N, K, 2) shares 0..1.
    """
    side = heat.shape[-1]
    at = torch.arange(side, device=heat.device) + 0.5
    away = [(at - side * landmarks[..., axis, None]) ** 2 for axis in (1, 0)]
    wanted = torch.exp(-(away[0][..., None] + away[1][..., None, :]) / (2 * spread**2)).flatten(2)
    wanted = wanted / wanted.sum(2, keepdim=True).clamp(min=1e-6)
    return -(wanted * heat.flatten(2).log_softmax(2)).sum(2).mean()


def augment(pixels: UInt8, landmarks: Float32, rng: np.random.Generator) -> tuple[UInt8, Float32]:
    """A view (256, 256, 3) of a face and its 68 landmarks in it: turned, scaled, shifted, mirrored, in other light."""
    box = (*landmarks.min(0), *landmarks.max(0))
    left, top, side = square_of(box, rng.uniform(1.1, 1.7))
    centre = np.array([left, top]) + side * (0.5 + rng.uniform(-0.08, 0.08, 2))
    angle = rng.normal(0, 0.2)
    flip = -1.0 if rng.random() < 0.5 else 1.0
    cos, sin = math.cos(angle), math.sin(angle)
    back = side / SIDE * np.array([[cos, -sin], [sin, cos]]) @ np.diag([flip, 1.0])  # from the view to the picture
    start = centre - back @ (SIDE / 2, SIDE / 2)
    picture = Image.fromarray(pixels).transform(
        (SIDE, SIDE), Image.Transform.AFFINE, (*back[0], start[0], *back[1], start[1]), Image.Resampling.BICUBIC
    )
    for kind in (ImageEnhance.Brightness, ImageEnhance.Contrast, ImageEnhance.Color):
        picture = kind(picture).enhance(rng.uniform(0.7, 1.3))
    moved = (landmarks - start) @ np.linalg.inv(back).T
    return np.asarray(picture), np.asarray(moved[list(MIRRORED)] if flip < 0 else moved, np.float32)


@dataclass(frozen=True)
class Views:
    """Views of faces as the frozen trunk sees them.

    Attributes:
        landmarks: (N, V, 68, 2) shares of the view.
        fine, coarse: (N, V, S, 32, 32, 32) and (N, V, S, 96, 16, 16), the maps for each of the sides of the squares.
    """

    landmarks: Float32
    fine: Array
    coarse: Array
    sides: tuple[int, ...] = SIDES

    def __len__(self) -> int:
        return len(self.landmarks)

    def maps(self, places: Int, view: Int, side: int) -> list[Tensor]:
        """The maps of one view of each of the faces at ``places``."""
        at = self.sides.index(side)
        return [torch.from_numpy(column[places, view, at].astype(np.float32)) for column in (self.fine, self.coarse)]


class Losses:
    """A training step: two views of each face, their heat maps and places, and how far the descriptions agree."""

    def __init__(
        self, views: Views, head: SmallHead, steps: int, *, seed: int, squares: bool = True, agreement: float = 0.1
    ) -> None:
        self.views, self.head, self.steps = views, head, steps
        self.compare = nn.Linear(96, COMPARED)
        self.squares, self.agreement = squares, agreement
        self._rng = np.random.default_rng([seed, 3])
        self._step = 0

    def __call__(self, places: Int) -> Tensor:
        side = square_side(self._step / self.steps) if self.squares else 0
        self._step += 1
        chosen = np.argsort(self._rng.random((len(places), self.views.landmarks.shape[1])), 1)[:, :2].T
        maps = [torch.cat(both) for both in zip(*(self.views.maps(places, v, side) for v in chosen), strict=True)]
        true = torch.from_numpy(np.concatenate([self.views.landmarks[places, v] for v in chosen]))
        tokens = self.head.describe(maps)
        heat = self.head.heat(maps, tokens)
        loss = heat_loss(heat, true) + 50 * (self.head.places(heat) - true).abs().mean()
        if self.agreement:
            first, second = self.compare(tokens.mean(1)).chunk(2)
            loss = loss + self.agreement * disagreement(first, second)
        total: Tensor = loss
        return total


def trunk_state() -> dict[str, Tensor]:
    """The tensors of MobileNetV2 up to block 13, trained on ImageNet."""
    state = read_state(locate(find_card(TRUNK), "onnx"))
    return {
        name.removeprefix("trunk."): torch.from_numpy(values.astype(np.float32))
        for name, values in state.items()
        if name.startswith("trunk.")
    }


def prepare(
    seeds: Sequence[int], backgrounds: Sequence[UInt8], sides: tuple[int, ...], count: int, file: Path
) -> Views:
    """Draws a face for each seed and looks at ``count`` views of it; kept at ``file``, read from there if it is."""
    shapes = {"landmarks": (68, 2), "fine": (len(sides), 32, 32, 32), "coarse": (len(sides), 96, 16, 16)}
    files = {name: file.with_name(f"{file.name}-{name}.npy") for name in shapes}
    if not all(path.is_file() for path in files.values()):
        file.parent.mkdir(parents=True, exist_ok=True)
        parts = {
            name: open_memmap(
                path.with_suffix(".part"), "w+", np.float32 if name == "landmarks" else np.float16,
                (len(seeds), count, *shapes[name]),
            )
            for name, path in files.items()
        }  # fmt: skip
        context = multiprocessing.get_context("spawn")
        with context.Pool(2, _start, (list(backgrounds), sides, count)) as pool:
            for i, rows in enumerate(pool.imap(_look, seeds, chunksize=4)):
                for name, values in zip(shapes, rows, strict=True):
                    parts[name][i] = values
        for name, path in files.items():
            parts[name].flush()
            path.with_suffix(".part").replace(path)
    read = {name: np.load(path, mmap_mode="r") for name, path in files.items()}
    return Views(np.array(read["landmarks"]), read["fine"], read["coarse"], sides)


_worker: dict[str, Any] = {}


def _start(backgrounds: list[UInt8], sides: tuple[int, ...], count: int) -> None:
    torch.set_num_threads(1)
    _worker.update(backgrounds=backgrounds, sides=sides, count=count, trunk=open_trunk())


def _look(seed: int) -> tuple[Float32, Array, Array]:
    """Landmarks and maps of the views of one face."""
    face = draw_face(seed, backgrounds=_worker["backgrounds"])
    return look_at(face.pixels, face.landmarks, _worker["trunk"], _worker["sides"], _worker["count"], seed)


def look_at(
    pixels: UInt8, landmarks: Float32, trunk: Any, sides: tuple[int, ...], count: int, seed: int
) -> tuple[Float32, Array, Array]:
    """(V, 68, 2) landmarks and the trunk's maps of ``count`` random views of a face, for each side of the squares."""
    rng = np.random.default_rng([seed, *b"view"])
    rows = []
    for _ in range(count):
        view, moved = augment(pixels, landmarks, rng)
        seen = [trunk.run(None, {"color": cover(view, moved, side)[None]}) for side in sides]
        rows.append((moved / SIDE, *(np.stack([maps[i][0] for maps in seen]) for i in range(2))))
    return tuple(np.stack(column) for column in zip(*rows, strict=True))  # type: ignore[return-value]


def open_trunk() -> Any:
    """An ONNX Runtime session of the frozen trunk, pixels to its two maps."""
    network = SmallFiFA()
    network.trunk.load_state_dict(trunk_state())

    class _Trunk(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.inner = network

        def forward(self, color: Tensor) -> tuple[Tensor, ...]:
            return tuple(self.inner.look(color))

    return runnable(_Trunk(), ("fine", "coarse"), SIDE)


@torch.no_grad()
def found_in(views: Views, head: SmallHead) -> Float32:
    """(N, 68, 2) where ``head`` finds the landmarks of the first view of each face, without squares."""
    head.eval()
    places = np.arange(len(views))
    parts = [
        head(views.maps(part, np.zeros(len(part), np.intp), 0)) for part in np.array_split(places, len(views) // 64 + 1)
    ]
    return torch.cat(parts).numpy()


def photographs(folder: Path) -> Iterator[tuple[str, UInt8, Float32]]:
    """Name, pixels and 68 landmarks of each picture in ``folder`` that has a .pts file of its name."""
    for points in sorted(folder.glob("*.pts")):
        pictures = [path for path in folder.glob(f"{points.stem}.*") if path != points]
        if pictures:
            yield points.stem, decode(pictures[0]).pixels, read_pts(points).astype(np.float32)


@torch.no_grad()
def errors_on(folder: Path, network: nn.Module) -> Float32:
    """(N,) the inter-ocular error on photographs, from the boxes of their true landmarks."""
    network.eval()
    errors = []
    for _, pixels, true in photographs(folder):
        x, y, side = square_of((*true.min(0), *true.max(0)), AROUND)
        shares = network(torch.from_numpy(cut(pixels, (x, y, side), SIDE).copy())[None])[0].numpy()
        errors.append(nme((shares * side + (x, y))[None], true[None])[0])
    return np.asarray(errors, np.float32)


def say(what: str, errors: Array) -> str:
    """Mean error, failures and area of some faces, in one line, printed."""
    line = (
        f"{what}: NME {100 * errors.mean():.2f} %, median {100 * np.median(errors):.2f} %, "
        f"failures {100 * failure_rate(errors):.1f} %, AUC@0.1 {auc(errors):.3f}, n = {len(errors)}"
    )
    print(line, flush=True)
    return line


def train(
    views: Views,
    study: Study,
    *,
    epochs: float,
    seed: int,
    squares: bool = True,
    agreement: float = 0.1,
    batch: int = 32,
) -> SmallHead:
    """The trained head."""
    torch.manual_seed(seed)
    head = SmallHead(LANDMARKS, 48)
    losses = Losses(
        views, head, max(1, round(epochs * len(views) / batch)), seed=seed, squares=squares, agreement=agreement
    )
    both = nn.ModuleList([head, losses.compare])
    fit(both, losses, study, epochs=epochs, batch=batch, rate=2e-3, seed=seed, places=np.arange(len(views)))
    return head


def publish(head: SmallHead, args: argparse.Namespace, lines: Sequence[str]) -> Path:
    """Writes ``mobile.onnx`` and ``mobile.toml`` into ``args.out``; what is measured is what is stored."""
    args.out.mkdir(parents=True, exist_ok=True)
    network = SmallFiFA()
    network.trunk.load_state_dict(trunk_state())
    network.judge.load_state_dict(head.state_dict())
    paper, trunk = find_card("fifa.paper"), find_card(TRUNK)
    card = dataclasses.replace(
        paper,
        name="fifa.mobile",
        summary="68 landmarks of a face, small, trained on drawn faces only",
        settings={"size": "mobile"},
        weights={"onnx": WeightsFile("mobile.onnx")},
        training=Training(
            f"{args.faces:,} faces drawn by dgiqa.scenes.faces before photographs of BIQ2021's train part; "
            + "; ".join(lines),
            "trunk: MobileNetV2 1.0 up to block 13, trained on ImageNet (google-coral/test_data, Apache-2.0), kept "
            "frozen; the rest random",
            "none",
            "python -m dgiqa.training.systems.fifa --data biq2021=BIQ2021 --out runs/fifa",
        ),
        licence=dataclasses.replace(
            trunk.licence,
            data="faces drawn by this project (Apache-2.0); backgrounds from BIQ2021's train part",
            note=trunk.licence.note.removeprefix("No depth teacher. "),
        ),
        folder=args.out,
    )
    path: Path = args.out / "mobile.toml"
    write_card(store(network, card), path)
    print(path)
    return path


def main(words: Sequence[str] | None = None) -> int:
    parser = arguments(__doc__, epochs=20)
    parser.set_defaults(pictures=300)
    parser.add_argument("--faces", type=int, default=1500, metavar="N", help="faces that are drawn (default 1500)")
    parser.add_argument("--test", type=Path, metavar="DIR", help="photographs with .pts files, measured")
    parser.add_argument(
        "--compare", type=float, default=0, metavar="E", help="also train with and without each part, E passes"
    )
    args = parser.parse_args(words)
    study = study_of(args)
    backgrounds = [study.pixels(int(i)) for i in study.fitted]
    name = f"faces-{args.seed}-{args.faces}-{len(backgrounds)}"
    first = 10**6 * args.seed
    views = prepare(range(first, first + args.faces), backgrounds, SIDES, VIEWS, args.cache / name)
    held = range(first + 900_000, first + 900_000 + max(args.faces // 8, 8))
    judges = prepare(held, backgrounds, (0,), 1, args.cache / f"{name}-held")
    for squares, agreement in ((False, 0), (True, 0), (False, 0.1), (True, 0.1)) if args.compare else ():
        head = train(views, study, epochs=args.compare, seed=args.seed, squares=squares, agreement=agreement)
        _measure(f"squares {squares}, agreement {agreement:g}", head, judges, args.test)
    head = train(views, study, epochs=args.epochs, seed=args.seed)
    round_weights(head)
    publish(head, args, _measure("", head, judges, args.test))
    return 0


def _measure(what: str, head: SmallHead, judges: Views, test: Path | None) -> list[str]:
    lines = [say(f"{what} drawn faces, held out".strip(), nme(found_in(judges, head), judges.landmarks[:, 0]))]
    if test:
        network = SmallFiFA()
        network.trunk.load_state_dict(trunk_state())
        network.judge = head
        lines.append(say(f"{what} photographs".strip(), errors_on(test, network)))
    return lines


if __name__ == "__main__":
    raise SystemExit(exit_code(main))
