"""The head that tells faults: trained on photographs spoiled in known ways, over the frozen network's statistics.

    python -m dgiqa.training.faults dgiqa_mobile.biq2021 --data biq2021=BIQ2021 --out runs/faults

Pictures of the data set's training part that people rated well are spoiled by none, one or two faults of
:mod:`dgiqa.distortions` in a camera's order (air, lens, shutter, sensor, development, file). What the network sees of
each is computed once and kept in ``--out``, so a run that was stopped goes on. A tenth of the photographs is held out:
it gives the calibration of the probabilities, and the table that is printed.
"""

from __future__ import annotations

import argparse
import hashlib
import multiprocessing
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
from torch import Tensor

from dgiqa import distortions
from dgiqa.cards import Explain, ModelCard, WeightsFile, read_card
from dgiqa.datasets import read_split
from dgiqa.depth import DepthEstimator, as_metres, open_depth
from dgiqa.distortions import uses_depth
from dgiqa.errors import UsageError, WeightsError
from dgiqa.exits import exit_code
from dgiqa.export.fragment import fragment
from dgiqa.export.half import round_weights, store_half
from dgiqa.export.onnx import TOLERANCE, example, trace
from dgiqa.imaging.decode import decode
from dgiqa.imaging.resize import fit as fit_picture
from dgiqa.models import find_card
from dgiqa.models.dgiqa_mobile.explain import FAULTS, Explainer, FaultHead
from dgiqa.runtimes.onnx import open_session
from dgiqa.runtimes.torch import load_module
from dgiqa.training import spoiling
from dgiqa.training.publish import replace_table
from dgiqa.training.spoiling import draw, spoil
from dgiqa.types import Float32
from dgiqa.weights.fetch import locate
from dgiqa.weights.files import fingerprint, sha256_of

#: Pictures whose evidence is computed and kept together; of this many photographs one is held out.
_PART, HELD = 250, 10
#: Of the head's training; and the weight of the severities beside the kinds.
EPOCHS, BATCH, RATE, DECAY, SEVERITY = 30, 128, 1e-3, 1.0, 1.0


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("name", help="the built-in card")
    parser.add_argument("--data", required=True, metavar="DATASET=DIR", help="rated photographs; their training part")
    parser.add_argument(
        "--out", type=Path, required=True, metavar="DIR", help="what was computed, and goes on from there"
    )
    parser.add_argument("--count", type=int, default=12000, metavar="N", help="spoiled pictures (default 12000)")
    parser.add_argument("--least", type=float, default=0.72, metavar="MOS", help="of pictures that are spoiled, 0..1")
    parser.add_argument("--workers", type=int, default=2, metavar="N", help="processes (default 2)")
    args = parser.parse_args()
    card = find_card(args.name)
    dataset, _, root = args.data.partition("=")
    split = read_split(dataset, "train", Path(root))
    paths = [path for path, mos in zip(split.paths, split.mos, strict=True) if mos >= args.least]
    if not paths:
        raise UsageError(f"--least {args.least}: no picture of {dataset} is rated so well")
    evidence = gather(card, paths, args.out, args.count, args.workers)
    head, held = fit(evidence)
    print(as_text(held))
    print(publish(card, head, [measured.threshold for measured in held]))


@dataclass(frozen=True)
class Evidence:
    """What the network sees of spoiled pictures, and what they are.

    Attributes:
        rows: (n, EVIDENCE) float16.
        severity: (n, F), 0 for none, NaN where nothing is said.
        picture: (n,) which photograph each was made of.
    """

    rows: npt.NDArray[np.float16]
    severity: Float32
    picture: npt.NDArray[np.intp]


@dataclass(frozen=True)
class Told:
    """How well one fault is told on held-out pictures.

    Attributes:
        kind: the fault; ``none`` for none.
        threshold: the probability with the best F1.
        precision, recall: at that probability.
        error: expected calibration error, in ten parts of equal count.
        count: pictures that have it.
    """

    kind: str
    threshold: float
    precision: float
    recall: float
    error: float
    count: int


def gather(card: ModelCard, paths: Sequence[Path], out: Path, count: int, workers: int) -> Evidence:
    """The evidence of the first ``count`` spoilings of the pictures at ``paths``; what ``out`` has is kept."""
    folder = out / _key(card, paths)
    folder.mkdir(parents=True, exist_ok=True)
    starts = range(0, count, _PART)
    missing = [start for start in starts if not (folder / f"{start}.npz").is_file()]
    with multiprocessing.get_context("spawn").Pool(workers, _start, (card, paths, folder)) as pool:
        for done, _ in enumerate(pool.imap_unordered(_compute, missing), len(starts) - len(missing) + 1):
            print(f"{done * _PART} of {len(starts) * _PART} pictures", flush=True)
    parts = [np.load(folder / f"{start}.npz") for start in starts]
    return Evidence(
        *(np.concatenate([part[name] for part in parts])[:count] for name in ("rows", "severity", "picture"))
    )


def _key(card: ModelCard, paths: Sequence[Path]) -> str:
    """Names what the evidence depends on."""
    depth = find_card(card.recipe.depth)
    sources = [Path(spoiling.__file__), *sorted(Path(distortions.__file__).parent.glob("*.py"))]
    parts = [locate(card, "onnx"), locate(depth, "onnx"), *sources]
    names = hashlib.sha256("".join(path.name for path in paths).encode()).hexdigest()
    return f"{fingerprint(*parts)}-{names[:8]}"


_here: tuple[Explainer, DepthEstimator, Sequence[Path], Path, ModelCard]


def _start(card: ModelCard, paths: Sequence[Path], folder: Path) -> None:
    """A worker opens its networks once."""
    global _here  # noqa: PLW0603
    torch.set_num_threads(1)
    _here = Explainer(load_module(card)).eval(), open_depth(card.recipe.depth, "onnx"), paths, folder, card


def _compute(start: int) -> None:
    """The evidence of a part, into its file."""
    explainer, depth_map, paths, folder, card = _here
    rows, severity, picture = [], [], []
    for number in range(start, start + _PART):
        plan = draw(number, len(paths))
        pixels = fit_picture(decode(paths[plan.index]).pixels, card.recipe)
        metres = as_metres(depth_map(pixels)) if any(uses_depth(kind) for kind, _, _ in plan.steps) else None
        spoiled = np.ascontiguousarray(spoil(pixels, plan, metres))
        views = [torch.tensor(array)[None] for array in (spoiled, depth_map(spoiled))]
        with torch.inference_mode():
            rows.append(explainer.evidence(*views)[0].half().numpy())
        severity.append(plan.severity)
        picture.append(plan.index)
    part = folder / f"{start}.part.npz"
    np.savez(part, rows=np.stack(rows), severity=np.array(severity, np.float32), picture=np.array(picture))
    os.replace(part, folder / f"{start}.npz")


def fit(evidence: Evidence) -> tuple[FaultHead, list[Told]]:
    """The trained and calibrated head, and how well it tells the held-out pictures' faults."""
    torch.manual_seed(0)
    rows = torch.from_numpy(evidence.rows).float()
    severity = torch.from_numpy(evidence.severity)
    there = torch.cat([(severity > 0).float(), _none(severity)], 1)
    there[:, :-1][severity.isnan()] = float("nan")
    held = torch.from_numpy(evidence.picture % HELD == 0)
    head = FaultHead()
    head.mean.copy_(rows[~held].mean(0))
    head.scale.copy_(rows[~held].std(0) + 1e-3)
    _train(head, rows[~held], there[~held], severity[~held])
    head.eval()
    with torch.no_grad():
        logits, _ = head.logits(rows[held])
    slope, bias = calibrate(logits, there[held])
    head.slope.copy_(slope)
    head.bias.copy_(bias)
    probabilities = (logits * slope + bias).sigmoid().numpy()
    return head, [
        _told(kind, probabilities[:, k], there[held][:, k].numpy()) for k, kind in enumerate((*FAULTS, "none"))
    ]


def _none(severity: Tensor) -> Tensor:
    """(n, 1) 1 where there is no fault, NaN where nothing is said of one and there is no other."""
    none = (severity.nan_to_num(0) == 0).all(1, keepdim=True).float()
    none[none.bool() & severity.isnan().any(1, keepdim=True)] = float("nan")
    return none


def _train(head: FaultHead, rows: Tensor, there: Tensor, severity: Tensor) -> None:
    optimiser = torch.optim.AdamW(head.parameters(), RATE, weight_decay=DECAY)
    steps = EPOCHS * -(-len(rows) // BATCH)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, RATE, steps, pct_start=0.1)
    head.train()
    for _ in range(EPOCHS):
        for chosen in torch.split(torch.randperm(len(rows)), BATCH):
            logits, severities = head.logits(rows[chosen])
            loss = masked_entropy(logits, there[chosen])
            some = severity[chosen] > 0
            loss = loss + SEVERITY * F.smooth_l1_loss(severities[some].sigmoid(), severity[chosen][some] / 5, beta=0.1)
            optimiser.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            optimiser.step()
            schedule.step()


def masked_entropy(logits: Tensor, there: Tensor) -> Tensor:
    """Binary cross entropy, of what is known (not NaN)."""
    known = ~there.isnan()
    return F.binary_cross_entropy_with_logits(logits[known], there[known])


def calibrate(logits: Tensor, there: Tensor) -> tuple[Tensor, Tensor]:
    """Slope and bias of each column of log odds (Platt, 1999), by cross entropy; the slope stays positive."""
    count = logits.shape[1]
    slope, bias = torch.zeros(count, requires_grad=True), torch.zeros(count, requires_grad=True)
    optimiser = torch.optim.LBFGS([slope, bias], max_iter=200, line_search_fn="strong_wolfe")

    def loss() -> Tensor:
        optimiser.zero_grad()
        # A little pull towards leaving the logits as they are, so that a fault seen seldom can't run away.
        value = masked_entropy(logits * slope.exp() + bias, there) + 1e-4 * (slope.square().sum() + bias.square().sum())
        value.backward()  # type: ignore[no-untyped-call]
        return value

    optimiser.step(loss)  # type: ignore[no-untyped-call]
    return slope.detach().exp(), bias.detach()


def _told(kind: str, probability: Float32, there: Float32) -> Told:
    known = ~np.isnan(there)
    probability, has = probability[known], there[known] > 0
    order = np.argsort(-probability)
    hits = np.cumsum(has[order])
    precision, recall = hits / np.arange(1, len(hits) + 1), hits / max(hits[-1], 1)
    best = int(np.argmax(2 * precision * recall / np.maximum(precision + recall, 1e-9)))
    parts = np.array_split(np.sort(probability), 10), np.array_split(has[np.argsort(probability)], 10)
    error = float(np.mean([abs(p.mean() - h.mean()) for p, h in zip(*parts, strict=True)]))
    return Told(
        kind, float(probability[order][best]), float(precision[best]), float(recall[best]), error, int(has.sum())
    )


def as_text(held: Sequence[Told]) -> str:
    """The table of what is told on held-out pictures."""
    rows = [f"{'fault':16} {'n':>5} {'precision':>9} {'recall':>7} {'from':>6} {'calibration error':>18}"]
    rows += [
        f"{t.kind:16} {t.count:5} {t.precision:9.3f} {t.recall:7.3f} {t.threshold:6.2f} {t.error:18.3f}" for t in held
    ]
    return "\n".join(rows)


def publish(card: ModelCard, head: FaultHead, least: Sequence[float]) -> str:
    """Writes the continuation beside the card's weights and its table into the card; returns what was done, in words.

    Raises:
        WeightsError: torch and ONNX Runtime differ, or the network's graph isn't part of the explanation's.
    """
    import onnx

    base = locate(card, "onnx")
    explainer = Explainer(load_module(card)).eval()
    round_weights(head)
    explainer.faults = head.eval()
    names, outputs = ["color", "depth"], ("raw", "parts", "attention", "faults", "severities")
    side, step = card.recipe.short_side, card.recipe.multiple
    whole = trace(explainer, names, example(names, (side, side + step)), outputs=outputs)
    store_half(whole)
    more = fragment(onnx.load(base), whole).SerializeToString()
    session = open_session(base.read_bytes() + more, name=f"the explanation of {card.name}")
    worst = 0.0
    for size in ((side, side), (side, side + 5 * step), (side + 4 * step, side)):
        views = example(names, size)
        found = session.run(list(outputs), {name: view.numpy() for name, view in zip(names, views, strict=True)})
        with torch.no_grad():
            wanted = explainer(*views)
        worst = max(worst, *(float(np.abs(f - w.numpy()).max()) for f, w in zip(found, wanted, strict=True)))
    if not worst <= TOLERANCE:
        raise WeightsError(f"the explanation differs by {worst:g} between torch and ONNX Runtime, over {TOLERANCE:g}")
    path = card.folder / f"{base.stem}.explain.onnx"
    path.write_bytes(more)
    weights = WeightsFile(path.name, embedded=True, sha256=sha256_of(path), bytes=len(more))
    table = Explain(sha256_of(base), FAULTS, tuple(round(value, 3) for value in least[: len(FAULTS)]), weights)
    file = card.folder / card.file
    file.write_text(replace_table(file.read_text(encoding="utf-8"), "explain", table), encoding="utf-8")
    read_card(file)
    return f"{path}: {len(more)} bytes, torch and ONNX Runtime differ by at most {worst:.1e}"


if __name__ == "__main__":
    raise SystemExit(exit_code(main))
