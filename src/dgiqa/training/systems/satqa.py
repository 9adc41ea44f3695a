"""SaTQA at small width: an encoder learns how pictures are spoiled, then the rest learns what that does to ratings.

    good photographs → spoiled by 24 kinds and 4 levels → encoder, projector ──contrast──→ encoder, frozen
    rated pictures → trunk's maps, encoder's feature → judge ──L1 against MOS──→ score

Shi, Gao, Qin, arXiv:2312.06995: the encoder is trained first, by contrast between 97 labels (kind times level, and
untouched), the temperature 0.1; then it is frozen. The paper spoils KADIS-700k, with a ResNet-50.

    python -m dgiqa.training.systems.satqa --data biq2021=BIQ2021 --out small/satqa
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from dgiqa.distortions import distort, kinds_of
from dgiqa.exits import exit_code
from dgiqa.models.satqa.network import Projector, Small, SmallEncoder
from dgiqa.training.contrast import contrast
from dgiqa.training.small import Array, Int, Study, agree, arguments, fit, predict, publish, study_of, trunk_state
from dgiqa.training.versions import GOOD

#: KADID-10k's kinds but one, as many as make the paper's 97 labels with four levels. Denoising, which looks like blur
#: and takes longest to compute, is left out.
KINDS = tuple(kind for kind in kinds_of("kadid") if kind != "denoise")
#: Of five severities; the first is hardly visible.
LEVELS = (2, 3, 4, 5)
#: Kinds times levels; 0 is the untouched picture.
LABELS = 1 + len(KINDS) * len(LEVELS)
#: Most photographs that are spoiled, and versions of each: some 20 of each label.
ORIGINALS, VERSIONS = 320, 6
#: Labels of a step, and pictures of each.
TOGETHER, EACH = 32, 4
#: Passes over the labels, in each of which a label gives one handful of pictures.
PASSES = 160
TEMPERATURE = 0.1
#: Pictures that give each channel's mean and deviation.
STATISTICS = 500


def main(argv: Sequence[str] | None = None) -> None:
    parser = arguments(__doc__ or "", epochs=5)
    parser.add_argument("--passes", type=float, default=PASSES, metavar="P", help="of the encoder, over the labels")
    args = parser.parse_args(argv)
    study = study_of(args)
    torch.manual_seed(args.seed)
    network = Small()
    network.trunk.load_state_dict(trunk_state())
    network.fit_statistics(study.maps(study.fitted[:STATISTICS]))

    good = study.fitted[study.mos[study.fitted] >= GOOD][:ORIGINALS]
    spoiled, labels = spoil(study, good)
    pre_train(network.encoder, study, spoiled, labels, args.passes, args.seed)
    print(
        f"of the same label is the nearest of another photograph: {100 * nearest(network, spoiled, labels):.1f} %, "
        f"by chance {100 * by_chance(labels):.1f} %"
    )

    fit(network.judge, rating_loss(network, study), study, epochs=args.epochs, seed=args.seed, what="ratings")
    raw = predict(lambda places: score(network, study.maps(places)), study, study.held, module=network)
    agree(raw, study.mos[study.held])
    publish(
        network,
        "satqa",
        study,
        raw,
        args,
        summary="Patch attention between what is seen and how it is spoiled, at small width",
        data=f"BIQ2021: {len(spoiled):,} photographs of MOS from {GOOD:g} spoiled by {LABELS - 1} kinds and levels for "
        f"the encoder, {len(study.fitted):,} rated pictures for the rest",
        teachers="kinds and levels of the distortions",
    )


def label_of(kind: str, level: int) -> int:
    """1 to LABELS - 1."""
    return 1 + KINDS.index(kind) * len(LEVELS) + LEVELS.index(level)


def draw(count: int) -> Int:
    """(count, 1 + VERSIONS) labels: untouched first, then all others in turns, in random order, each as often."""
    rng = np.random.default_rng(97)
    turns = [1 + rng.permutation(LABELS - 1) for _ in range(-(-count * VERSIONS // (LABELS - 1)))]
    spoiled = np.concatenate(turns)[: count * VERSIONS].reshape(count, VERSIONS)
    return np.concatenate([np.zeros((count, 1), np.intp), spoiled], 1)


def spoil(study: Study, places: Int) -> tuple[Array, Int]:
    """The trunk's maps of some pictures and their spoiled versions, computed once; and the labels, (n, 1 + VERSIONS).

    Maps are :func:`pack`-ed: (n, 1 + VERSIONS, values) float16.
    """
    originals, labels = study.some(places), draw(len(places))

    def compute(i: int) -> Array:
        pixels = originals.pixels(i)
        versions = [pixels]
        for label in labels[i, 1:]:
            kind, level = divmod(int(label) - 1, len(LEVELS))
            versions.append(distort(pixels, KINDS[kind], LEVELS[level], seed=i))
        return pack(study.look(np.stack(versions)))

    key = hashlib.sha256(f"{KINDS} {LEVELS} {labels.tolist()}".encode()).hexdigest()[:12]
    return originals.once(f"satqa-{key}", compute), labels


def pack(maps: Sequence[Tensor]) -> Array:
    """Maps behind each other, a row a picture."""
    return torch.cat([m.flatten(1) for m in maps], 1).numpy()


def unpack(rows: Array) -> list[Tensor]:
    """The maps again, (m, 32, 48, 48), (m, 96, 24, 24), (m, 320, 12, 12) float."""
    sizes = ((32, 48), (96, 24), (320, 12))
    parts = torch.split(torch.from_numpy(np.asarray(rows, np.float32)), [c * side**2 for c, side in sizes], 1)
    return [part.reshape(-1, c, side, side) for part, (c, side) in zip(parts, sizes, strict=True)]


def pre_train(encoder: SmallEncoder, study: Study, spoiled: Array, labels: Int, passes: float, seed: int) -> None:
    """Trains the encoder by contrast between labels, with a projector that is thrown away, and freezes it."""
    projector = Projector(sum(encoder.WIDTHS), 256, 128)
    encoder.requires_grad_(True)
    loss = contrast_loss(encoder, projector, spoiled, labels, np.random.default_rng(seed))
    there = np.unique(labels)
    parts = nn.ModuleList([encoder, projector])
    fit(parts, loss, study, epochs=passes, batch=TOGETHER, seed=seed, places=there, what="contrast")
    encoder.requires_grad_(False)


def contrast_loss(
    encoder: SmallEncoder, projector: Projector, spoiled: Array, labels: Int, rng: np.random.Generator
) -> Callable[[Int], Tensor]:
    """The loss of some labels: of each, EACH random pictures (fewer where there are none more) are contrasted."""

    def loss(chosen: Int) -> Tensor:
        found = [np.argwhere(labels == label) for label in chosen]
        at = np.concatenate([rows[rng.permutation(len(rows))[:EACH]] for rows in found])
        features = projector(encoder(unpack(spoiled[at[:, 0], at[:, 1]])))
        return contrast(features, torch.from_numpy(labels[at[:, 0], at[:, 1]]), TEMPERATURE)

    return loss


@torch.no_grad()
def nearest(network: Small, spoiled: Array, labels: Int) -> float:
    """How often the nearest feature among all other photographs' has the same label, 0..1; these were trained on."""
    rows = [network.encoder(unpack(row)).mean((2, 3)) for row in spoiled]
    features = F.normalize(torch.cat(rows), dim=1)
    photograph = torch.arange(len(labels)).repeat_interleave(labels.shape[1])
    near = (features @ features.T).masked_fill(photograph[:, None] == photograph[None, :], -2.0)
    flat = torch.from_numpy(labels).flatten()
    return float((flat[near.argmax(1)] == flat).float().mean())


def by_chance(labels: Int) -> float:
    """What :func:`nearest` is where the nearest is anyone."""
    share = np.bincount(labels.ravel()) / labels.size
    return float((share**2).sum())


def rating_loss(network: Small, study: Study) -> Callable[[Int], Tensor]:
    """The loss of rated pictures at some places: mean absolute error."""
    mos = torch.from_numpy(study.mos)
    return lambda places: F.l1_loss(score(network, study.maps(places)), mos[places])


def score(network: Small, maps: Sequence[Tensor]) -> Tensor:
    """(m,) raw scores of pictures whose trunk's maps are there."""
    out: Tensor = network.judge(maps[-1], network.encoder(maps))
    return out


if __name__ == "__main__":
    raise SystemExit(exit_code(main))
