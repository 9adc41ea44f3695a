"""LoDa at small width: one stage, with the paper's loss, of everything behind the frozen trunk.

    maps of the frozen trunk, mirrored at random ──→ small ViT ←─ injectors ←─ local tokens ──→ cosine, against MOS

Xu et al., CVPR 2024, arXiv:2308.12001, section 4: AdamW with weight decay 0.01 and a cosine down to 0, pictures
mirrored both ways, a loss of the batch's correlation, the last weights. The rate is above the paper's 3e-4, since the
small ViT starts from random weights.

    python -m dgiqa.training.systems.loda --data biq2021=BIQ2021 --out small/loda
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import torch
from torch import Tensor

from dgiqa.exits import exit_code
from dgiqa.models.loda.network import Judge, SmallLoDa
from dgiqa.training.losses import plcc_mse
from dgiqa.training.small import Int, Study, agree, arguments, fit, mirror, predict, publish, study_of, trunk_state

#: Pictures a step. The paper has 128: here that would leave too few steps.
BATCH = 64
RATE, DECAY = 1e-3, 1e-2
#: Pictures that give each channel's mean and deviation.
STATISTICS = 500


def main(argv: Sequence[str] | None = None) -> None:
    args = arguments(__doc__ or "", epochs=8).parse_args(argv)
    study = study_of(args)
    torch.manual_seed(args.seed)
    network = SmallLoDa()
    network.trunk.load_state_dict(trunk_state())
    judge = network.judge
    judge.fit_statistics(study.maps(study.fitted[:STATISTICS]))

    loss = correlation(judge, study, np.random.default_rng(args.seed))
    fit(judge, loss, study, epochs=args.epochs, batch=BATCH, rate=RATE, decay=DECAY, seed=args.seed, what="correlation")

    raw = predict(lambda places: judge(study.maps(places)), study, study.held, module=judge)
    agree(raw, study.mos[study.held])
    publish(
        network,
        "loda",
        study,
        raw,
        args,
        summary="Local distortions injected into a vision transformer, at small width",
        data=f"BIQ2021: {len(study.fitted):,} rated pictures",
    )


def correlation(judge: Judge, study: Study, rng: np.random.Generator) -> Callable[[Int], Tensor]:
    """The loss of the pictures at some places, mirrored at random."""
    mos = torch.from_numpy(study.mos)
    return lambda places: plcc_mse(judge(mirror(study.maps(places), rng, (2, 3))), mos[places])


if __name__ == "__main__":
    raise SystemExit(exit_code(main))
