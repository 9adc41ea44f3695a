"""DiffV2IQA at small width: first a diffusion model that restores, then both branches on what it makes of each picture.

    best rated pictures ──spoil, make small──→ denoiser, on crops: predict the noise                        stage 1
    all pictures ──restore──→ d0, d1, d2 ──frozen trunk──→ maps, once ──→ both branches, against MOS        stage 2

Wang et al., arXiv:2402.14401. The paper's restoration learns from the distorted pictures of a data set and their
originals; here from well rated photographs, spoiled by :mod:`dgiqa.distortions`. As there, it is fixed
before the second stage.

    python -m dgiqa.training.systems.diffv2iqa --data biq2021=BIQ2021 --out small/diffv2iqa
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from dgiqa.exits import exit_code
from dgiqa.export.half import round_weights
from dgiqa.export.onnx import trace
from dgiqa.models.diffv2iqa.diffusion import Restoration
from dgiqa.models.diffv2iqa.network import Judge, MobileDiffV2IQA, shrink
from dgiqa.models.trunks.maps import join
from dgiqa.runtimes.onnx import open_session
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
from dgiqa.training.versions import draw

#: Most photographs that are restored in training, and that judge the restoration; of fewer pictures the best tenth.
RESTORED, JUDGED = 400, 20
#: Passes over their versions, pictures of a step, and the side of the crops: half that of the small pictures.
PASSES, BATCH, CROP = 10, 16, 48
#: Pictures that give each channel's mean and deviation.
STATISTICS = 500


def main(argv: Sequence[str] | None = None) -> None:
    args = arguments(__doc__ or "", epochs=5).parse_args(argv)
    study = study_of(args)
    torch.manual_seed(args.seed)
    network = MobileDiffV2IQA()
    network.trunk.load_state_dict(trunk_state())

    spoiled = small_versions(study, study.fitted, RESTORED)
    restoration = network.restoration
    noise = denoising(restoration, spoiled, np.random.default_rng(args.seed))
    pairs = np.arange(spoiled.shape[0] * (spoiled.shape[1] - 1))
    fit(restoration, noise, study, epochs=PASSES, batch=BATCH, seed=args.seed, places=pairs, what="restoration")
    round_weights(restoration)  # what is judged from here on is what will be stored
    print(compare(restoration, small_versions(study, study.held, JUDGED)))

    joined = study.once("diffv2iqa-picture", lambda i: join(study.maps([i]), network.judge.side)[0].numpy())
    restored = study.once(f"diffv2iqa-{_key(restoration)}", restoring(network, study))
    sample = study.fitted[:STATISTICS]
    judge = network.judge
    judge.fit_statistics(torch.cat([floats(joined[sample]), floats(restored[sample]).flatten(0, 1)]))
    fit(judge, quality(judge, study, joined, restored), study, epochs=args.epochs, seed=args.seed, what="branches")

    def of_branches(places: Int) -> Tensor:
        return torch.stack(judge.branches(floats(joined[places]), floats(restored[places])), 1)

    mos = study.mos[study.held]
    for name, raw in zip(("compensation", "difference"), predict(of_branches, study, study.held).T, strict=True):
        agree(raw, mos, f"held out, {name} branch alone")
    raw = predict(lambda places: judge(floats(joined[places]), floats(restored[places])), study, study.held)
    agree(raw, mos)
    publish(
        network,
        "diffv2iqa",
        study,
        raw,
        args,
        summary="Diffusion restoration and both branches at small width",
        data=f"restoration: {len(spoiled):,} well rated pictures of BIQ2021, {len(pairs):,} spoiled versions; quality: "
        f"BIQ2021, {len(study.fitted):,} rated pictures",
    )


def small_versions(study: Study, places: Int, most: int) -> Array:
    """(n, 1 + versions, 3, 96, 96) float16 in -1..1: the best rated pictures of ``places``, then spoiled versions."""
    count = max(1, min(most, len(places) // 10))
    best = np.sort(places[np.argsort(-study.mos[places], kind="stable")[:count]])
    originals = study.some(best)
    drawn = [draw(path.name) for path in originals.paths]

    def compute(i: int) -> Array:
        original = originals.pixels(i)
        pictures = np.stack([original, *(version.of(original) for version in drawn[i])])
        return shrink(torch.from_numpy(pictures)).numpy()

    return originals.once(f"diffv2iqa-{hashlib.sha256(repr(drawn).encode()).hexdigest()[:12]}", compute)


def denoising(restoration: Restoration, spoiled: Array, rng: np.random.Generator) -> Callable[[Int], Tensor]:
    """The loss of some versions, counted through all photographs: of the predicted noise, on random crops and mirrored.

    Args:
        spoiled: (n, 1 + versions, 3, H, W), the original first.
    """
    versions, height, width = spoiled.shape[1] - 1, *spoiled.shape[3:]

    def loss(places: Int) -> Tensor:
        pairs = []
        for i, k in zip(*np.divmod(places, versions), strict=True):
            top, left = rng.integers(height - CROP + 1), rng.integers(width - CROP + 1)
            pair = spoiled[i, [1 + k, 0], :, top : top + CROP, left : left + CROP]
            pairs.append(pair[..., :: rng.choice((-1, 1))])
        version, original = floats(np.stack(pairs, 1))
        return restoration.loss(version, original)

    return loss


@torch.no_grad()
def compare(restoration: Restoration, spoiled: Array) -> str:
    """How near versions are to their originals before and after the restoration, in words."""
    before, after = [], []
    for row in spoiled:
        versions, original = floats(row[1:]), floats(row[:1])
        before.append(_psnr(versions, original))
        after.append(_psnr(restoration(versions)[0], original))
    spoilt, restored = torch.cat(before), torch.cat(after)
    return (
        f"{len(spoilt)} versions held out, PSNR to the original: spoiled {spoilt.mean():.2f} dB, "
        f"restored {restored.mean():.2f} dB; {(restored > spoilt).float().mean():.0%} are nearer than before"
    )


def restoring(network: MobileDiffV2IQA, study: Study) -> Callable[[int], Array]:
    """What gives picture ``i``'s maps of itself made small, d0, d1 and d2: (4, channels, side, side)."""
    view = torch.zeros(1, SIDE, SIDE, 3, dtype=torch.uint8)
    graph = trace(_Looking(network).eval(), ["color"], (view,), free=(), outputs=("joined",))
    session = open_session(graph.SerializeToString(), name="restoration")
    return lambda i: np.asarray(session.run(None, {"color": study.pixels(i)[None]})[0][0])


def quality(judge: Judge, study: Study, joined: Array, restored: Array) -> Callable[[Int], Tensor]:
    """The loss of rated pictures at some places: mean squared error, as the paper's."""
    mos = torch.from_numpy(study.mos)
    return lambda places: F.mse_loss(judge(floats(joined[places]), floats(restored[places])), mos[places])


class _Looking(nn.Module):
    """The part of the network that doesn't change in the second stage."""

    def __init__(self, network: MobileDiffV2IQA) -> None:
        super().__init__()
        self.network = network

    def forward(self, color: Tensor) -> Tensor:
        return self.network.look_at_restored(color)


def _key(restoration: Restoration) -> str:
    """For the name of what depends on it."""
    found = hashlib.sha256(f"{restoration.steps} {restoration.every}".encode())
    for name, tensor in restoration.state_dict().items():
        found.update(name.encode() + tensor.numpy().tobytes())
    return found.hexdigest()[:12]


def _psnr(pictures: Tensor, original: Tensor) -> Tensor:
    """(m,) dB, of pictures in -1..1."""
    return -10 * torch.log10((pictures - original).square().mean((1, 2, 3)) / 4 + 1e-10)


if __name__ == "__main__":
    raise SystemExit(exit_code(main))
