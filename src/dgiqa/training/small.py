"""Small checkpoints of the related systems: one frozen trunk whose maps are computed once, the rest trained in minutes.

    study_of(args) → Study ──maps──→ fit(the system's own losses) ──→ predict(held out) ──→ publish → mobile.toml

Each system of :mod:`dgiqa.training.systems` is a main of its own on these five. All are judged on the same tenth of
BIQ2021's official train part, which nobody trains on.
"""

from __future__ import annotations

import argparse
import dataclasses
import hashlib
import os
import sys
from collections.abc import Callable, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from numpy.lib.format import open_memmap
from torch import Tensor, nn
from tqdm import tqdm

from dgiqa.cards import ModelCard, Recipe, Training, WeightsFile
from dgiqa.export.onnx import export, trace
from dgiqa.export.shared import PREFIX, split
from dgiqa.imaging.decode import decode
from dgiqa.imaging.resize import fit as fit_size
from dgiqa.metrics.correlation import srcc
from dgiqa.models import find_card, list_models
from dgiqa.models.trunks.mobilenet import FrozenMobileNetV2
from dgiqa.runtimes.onnx import files_of, joined, open_session
from dgiqa.runtimes.torch import load_module
from dgiqa.stream import in_order
from dgiqa.training.finish import judged, size_of, write_card
from dgiqa.training.recipe import DataSet, Loss, Model, Plan, Validation
from dgiqa.training.sets import Rated, read_sets
from dgiqa.types import Float32, UInt8
from dgiqa.weights.fetch import locate
from dgiqa.weights.files import read_state, sha256_of

Int = npt.NDArray[np.intp]
Array = npt.NDArray[Any]

#: Side of the views of the small networks, in pixels.
SIDE = 384
RECIPE = Recipe(short_side=SIDE, kernel="bicubic", views="grid", crop=SIDE)
#: The card of the trunk that they share.
TRUNK = "trunks.mobilenet_v2"
#: The card's tag, and the file's name.
TAG = "mobile"


def arguments(description: str, *, epochs: float | None) -> argparse.ArgumentParser:
    """What every system's command takes; ``--epochs`` unless it is None."""
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", required=True, metavar="biq2021=DIR", help="the folder of BIQ2021")
    parser.add_argument(
        "--cache", type=Path, default=Path("cache"), metavar="DIR", help="the trunk's maps are kept here"
    )
    parser.add_argument("--out", type=Path, required=True, metavar="DIR", help="the card and the weights go here")
    parser.add_argument("--pictures", type=int, default=0, metavar="N", help="take only that many; 0 for all")
    if epochs is not None:
        parser.add_argument("--epochs", type=float, default=epochs, metavar="E", help=f"passes, {epochs:g} by default")
    parser.add_argument("--seed", type=int, default=0, metavar="S")
    return parser


class Study:
    """Rated pictures with the frozen trunk's maps, computed once and kept on disk.

    Attributes:
        paths: of the pictures.
        mos: (n,) 0..1, higher is better.
        fitted, held: indices of those that are trained on, and of those that judge.
    """

    def __init__(self, rated: Rated, fitted: Int, held: Int, cache: Path) -> None:
        self.paths, self.mos, self.name = rated.paths, rated.mos.astype(np.float32), rated.name
        self.fitted, self.held, self._kept_in = fitted, held, cache
        names = "\n".join(path.name for path in self.paths)
        key = hashlib.sha256(f"{names} {RECIPE} {sha256_of(locate(find_card(TRUNK), 'onnx'))}".encode()).hexdigest()[
            :12
        ]
        self._cache = cache / f"small-{key}"

    def __len__(self) -> int:
        return len(self.paths)

    def some(self, places: Int) -> Study:
        """Those at ``places`` alone, all fitted, kept on disk by themselves."""
        mos = self.mos[places]
        rated = Rated(self.name, tuple(self.paths[i] for i in places), mos, mos, mos)
        return Study(rated, np.arange(len(places)), np.empty(0, np.intp), self._kept_in)

    def pixels(self, i: int) -> UInt8:
        """(384, 384, 3) picture ``i`` as the small networks see it; the middle of one that isn't square."""
        image = decode(self.paths[i])
        pixels = fit_size(image.pixels, RECIPE, image.full)
        top, left = (pixels.shape[0] - SIDE) // 2, (pixels.shape[1] - SIDE) // 2
        return np.ascontiguousarray(pixels[top : top + SIDE, left : left + SIDE])

    def maps(self, places: Sequence[int] | Int) -> list[Tensor]:
        """The trunk's maps of some pictures: float (m, 32, 48, 48), (m, 96, 24, 24), (m, 320, 12, 12)."""
        places = np.asarray(places, np.intp)
        return [floats(column[places]) for column in self._maps]

    def look(self, pixels: UInt8) -> list[Tensor]:
        """The same of (m, 384, 384, 3) other pixels, computed now."""
        columns = zip(*(self._trunk.run(None, {"color": pixels[i : i + 1]}) for i in range(len(pixels))), strict=True)
        return [torch.from_numpy(np.concatenate(column).astype(np.float32)) for column in columns]

    def once(self, name: str, compute: Callable[[int], Array], workers: int = 2) -> Array:
        """(n, …) float16: ``compute`` of each picture's index, read from disk if it was computed before.

        Args:
            name: of the file; it must change with whatever the values depend on.
        """
        return self._columns((name,), lambda i: [compute(i)], workers)[0]

    @cached_property
    def _maps(self) -> list[Array]:
        return self._columns(("maps8", "maps16", "maps32"), self._look_at, 2)

    def _look_at(self, i: int) -> list[Array]:
        return [values[0] for values in self._trunk.run(None, {"color": self.pixels(i)[None]})]

    @cached_property
    def _trunk(self) -> Any:
        trunk = FrozenMobileNetV2()
        trunk.load_state_dict(trunk_state())
        return runnable(trunk, ("maps8", "maps16", "maps32"))

    def _columns(self, names: tuple[str, ...], compute: Callable[[int], list[Array]], workers: int) -> list[Array]:
        files = [self._cache / f"{name}.npy" for name in names]
        if not all(file.is_file() for file in files):
            self._cache.mkdir(parents=True, exist_ok=True)
            first = compute(0)
            parts = [file.with_suffix(f".{os.getpid()}.part") for file in files]
            columns = [
                open_memmap(part, "w+", np.float16, (len(self), *values.shape))
                for part, values in zip(parts, first, strict=True)
            ]
            rows = in_order(compute, range(len(self)), workers)
            for i, row in enumerate(tqdm(rows, total=len(self), desc=", ".join(names), file=sys.stderr)):
                for column, values in zip(columns, row, strict=True):
                    column[i] = values
            for column, part, file in zip(columns, parts, files, strict=True):
                column.flush()
                os.replace(part, file)
        return [np.load(file, mmap_mode="r") for file in files]


def study_of(args: argparse.Namespace) -> Study:
    """The pictures that ``args`` mean: BIQ2021's official train part, a tenth of it held out.

    Raises:
        UsageError: no such folder, or files that are missing.
    """
    name, _, folder = args.data.rpartition("=")
    data = DataSet(name or "biq2021", validation=Validation(share=0.1, seed=2021))
    parts = read_sets(Plan(Model("dgiqa_mobile", RECIPE), (data,), Loss(mse=1.0)), {data.key: Path(folder)})[0]
    fitted, held = parts.fitted, parts.held
    if args.pictures:
        rng = np.random.default_rng(1)
        count = max(2, args.pictures // 10)
        held = held.some(rng.permutation(len(held))[:count])
        fitted = fitted.some(rng.permutation(len(fitted))[: args.pictures - count])
    together = Rated(
        fitted.name,
        fitted.paths + held.paths,
        *(np.concatenate([getattr(fitted, c), getattr(held, c)]) for c in ("mos", "deviations", "targets")),
    )
    return Study(together, np.arange(len(fitted)), np.arange(len(fitted), len(together)), args.cache)


def runnable(module: nn.Module, outputs: tuple[str, ...], side: int = SIDE) -> Any:
    """An ONNX Runtime session of what ``module`` makes of ``color`` (1, side, side, 3) uint8, several times as fast."""
    view = torch.zeros(1, side, side, 3, dtype=torch.uint8)
    graph = trace(module.eval(), ["color"], (view,), free=(), outputs=outputs)
    return open_session(graph.SerializeToString(), name=type(module).__name__)


def trunk_state() -> dict[str, Tensor]:
    """The shared trunk's tensors, for ``network.trunk.load_state_dict``."""
    state = read_state(locate(find_card(TRUNK), "onnx"))
    return {name.removeprefix(PREFIX): torch.from_numpy(values.astype(np.float32)) for name, values in state.items()}


def floats(values: Array) -> Tensor:
    """What is kept in 16 bits, in 32."""
    return torch.from_numpy(np.ascontiguousarray(values, np.float32))


def mirror(maps: Sequence[Tensor], rng: np.random.Generator, axes: Sequence[int] = (3,)) -> list[Tensor]:
    """(N, C_i, H_i, W_i) maps, turned over along each of ``axes`` or not, all of the batch alike.

    The maps of a mirrored picture are only nearly these: the trunk pads on two sides of four.
    """
    turned = [axis for axis in axes if rng.random() < 0.5]
    return [features.flip(turned) for features in maps]


def fit(
    parts: nn.Module,
    loss: Callable[[Int], Tensor],
    study: Study,
    *,
    epochs: float,
    batch: int = 32,
    rate: float = 1e-3,
    decay: float = 0.02,
    seed: int = 0,
    places: Int | None = None,
    what: str = "",
) -> None:
    """Trains ``parts`` on the fitted pictures, or those at ``places``: AdamW, a short rise, a cosine, the last weights.

    Args:
        loss: of the pictures at some indices; whatever else a step needs, it brings itself.
        what: words before the progress bar.
    """
    places = study.fitted if places is None else places
    rng = np.random.default_rng([seed, 7])
    weights = [p for p in parts.parameters() if p.requires_grad]
    optimiser = torch.optim.AdamW(weights, lr=rate, weight_decay=decay)
    steps = max(1, round(epochs * len(places) / batch))
    rise = max(1, steps // 20)
    torch.manual_seed(seed)
    parts.train()
    order: Int = np.empty(0, np.intp)
    with tqdm(total=steps, desc=what, file=sys.stderr) as bar:
        for step in range(steps):
            if len(order) < min(batch, len(places)):
                order = np.concatenate([order, places[rng.permutation(len(places))]])
            chosen, order = order[:batch], order[batch:]
            share = (
                (step + 1) / rise if step < rise else 0.5 * (1 + np.cos(np.pi * (step - rise) / max(1, steps - rise)))
            )
            for group in optimiser.param_groups:
                group["lr"] = rate * share
            value = loss(np.sort(chosen))  # sorted: files are read forwards
            optimiser.zero_grad(set_to_none=True)
            value.backward()  # type: ignore[no-untyped-call]
            torch.nn.utils.clip_grad_norm_(weights, 1.0)
            optimiser.step()
            bar.update()
            if step % 20 == 0:
                bar.set_postfix(loss=f"{value.item():.4f}")
    parts.eval()


@torch.no_grad()
def predict(
    judge: Callable[[Int], Tensor], study: Study, places: Int, *, batch: int = 64, module: nn.Module | None = None
) -> Float32:
    """(m,) what ``judge`` says of the pictures at ``places``, with ``module`` in eval mode."""
    if module is not None:
        module.eval()
    rows = [judge(places[i : i + batch]) for i in range(0, len(places), batch)]
    return torch.cat(rows).float().numpy()


def agree(raw: Float32, mos: Float32, what: str = "held out") -> float:
    """SRCC, printed."""
    found = srcc(raw, mos)
    print(f"{what}: SRCC {found:.4f}, n = {len(mos)}")
    return found


def publish(
    network: nn.Module,
    arch: str,
    study: Study,
    raw_held: Float32 | None,
    args: argparse.Namespace,
    *,
    summary: str,
    data: str,
    teachers: str = "none",
    tag: str = TAG,
    settings: dict[str, Any] | None = None,
    reference: bool = False,
    note: str = "",
) -> Path:
    """Writes ``TAG.onnx`` and ``TAG.toml`` into ``args.out``; returns the card's path.

    The trunk's tensors stay in the trunk's own file. What is measured is what is stored: ``network`` is rounded to 16
    bits in place.

    Args:
        raw_held: raw scores of the held-out pictures; None for a network that compares, whose raw score 0..1 then is
            quality 0..100 by convention.

    Raises:
        WeightsError: torch and ONNX Runtime differ.
    """
    args.out.mkdir(parents=True, exist_ok=True)
    relative = next(card for card in list_models() if card.arch == arch)
    trunk, file = find_card(TRUNK), args.out / f"{tag}.onnx"
    passes = f" --epochs {args.epochs:g}" if "epochs" in args else ""
    card = dataclasses.replace(
        relative,
        name=f"{arch}.{tag}",
        version="1.0",
        summary=summary,
        recipe=RECIPE,
        reference="full" if reference else "none",
        settings=settings or {"size": "mobile"},
        weights={"onnx": WeightsFile(file.name)},
        calibration=type(relative.calibration)(),
        interval=None,
        measured=(),
        published=(),
        training=Training(
            data,
            initialisation=f"{trunk.label}, frozen; the rest random",
            teachers=teachers,
            command=f"python -m dgiqa.training.systems.{arch} --data biq2021=BIQ2021{passes} --out small/{arch}",
        ),
        licence=dataclasses.replace(
            trunk.licence,
            note=f"{note} The trunk is {trunk.label}; see its card.".strip(),
        ),
        folder=args.out,
    )
    card = store(network, card, trunk)
    if raw_held is not None:
        mos = study.mos[study.held]
        rated = Rated(study.name, tuple(study.paths[i] for i in study.held), mos, mos, mos)
        card = dataclasses.replace(card, **judged(rated, raw_held[:, None]))
    path: Path = args.out / f"{tag}.toml"
    write_card(card, path)
    _compare(card, network)
    print(f"{path}: {card.network.parameters:,} parameters, {card.network.gmacs} GMACs")
    return path


def store(network: nn.Module, card: ModelCard, trunk: ModelCard | None = None) -> ModelCard:
    """Writes the ONNX file of ``card`` into its folder, in 16 bits; returns the card with file and size as they are.

    Args:
        network: rounded to 16 bits in place.
        trunk: whose tensors stay in its own file; None for a file that is whole.

    Raises:
        WeightsError: torch and ONNX Runtime differ.
    """
    file = card.folder / card.weights["onnx"].file
    export(network, card, file, half=True)
    if trunk is not None:
        split(file, locate(trunk, "onnx"))
    stated = WeightsFile(
        file.name,
        embedded=True,
        sha256=sha256_of(file),
        bytes=file.stat().st_size,
        shares=trunk.label if trunk is not None else "",
    )
    print(f"{file}: {stated.bytes:,} bytes of its own")
    return dataclasses.replace(card, network=size_of(network, card), weights={"onnx": stated})


def _compare(card: ModelCard, network: nn.Module) -> None:
    """What was written, read back by torch, is what ``network`` has; and the joined files open.

    How many batches a batch norm has seen is in no exported file, and nothing reads it.
    """
    open_session(joined(files_of(card)), name=card.name)
    read = load_module(card).state_dict()
    own = {name: t for name, t in network.state_dict().items() if not name.endswith("num_batches_tracked")}
    wrong = [name for name, tensor in own.items() if not torch.equal(read[name], tensor)]
    assert not wrong, f"{wrong[0]} was not written as it is"
