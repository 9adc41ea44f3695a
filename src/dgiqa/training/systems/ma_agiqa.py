"""MA-AGIQA at small width: one stage, with the paper's loss, of everything behind the frozen trunk.

    maps of the frozen trunk, mirrored, some channels left out ─┬─ MANIQA ──────────────────→ expert ─┐
                                                                └─ questions ─→ vectors ─→ experts ─┴ gate ─→ score

Wang et al., arXiv:2404.17762: the mean squared error of the score, one stage, nothing else in the loss. The authors go
on from ImageNet's ViT with a rate of 1e-5; here all that is trained starts from random weights, so the rate is higher.

    python -m dgiqa.training.systems.ma_agiqa --data biq2021=BIQ2021 --out small/ma_agiqa
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from dgiqa.exits import exit_code
from dgiqa.models.ma_agiqa.network import SmallJudge, SmallMAAGIQA
from dgiqa.training.small import Int, Study, agree, arguments, fit, mirror, predict, publish, study_of, trunk_state

#: Pictures that give each channel's mean and deviation.
STATISTICS = 500


def main(argv: Sequence[str] | None = None) -> None:
    args = arguments(__doc__ or "", epochs=8).parse_args(argv)
    study = study_of(args)
    torch.manual_seed(args.seed)
    network = SmallMAAGIQA()
    network.trunk.load_state_dict(trunk_state())
    judge = network.judge
    judge.fit_statistics(study.maps(study.fitted[:STATISTICS]))

    loss = squares(judge, study, np.random.default_rng(args.seed))
    fit(judge, loss, study, epochs=args.epochs, seed=args.seed, what="squares")

    raw = predict(lambda places: judge(study.maps(places)), study, study.held, module=judge)
    agree(raw, study.mos[study.held])
    publish(
        network,
        "ma_agiqa",
        study,
        raw,
        args,
        summary="MANIQA and two learnt questions, weighed by a gate, at small width; no large multimodal model",
        data=f"BIQ2021: {len(study.fitted):,} rated pictures",
    )


def squares(judge: SmallJudge, study: Study, rng: np.random.Generator) -> Callable[[Int], Tensor]:
    """The mean squared error of the pictures at some places, mirrored at random."""
    mos = torch.from_numpy(study.mos)
    return lambda places: F.mse_loss(judge(mirror(study.maps(places), rng)), mos[places])


if __name__ == "__main__":
    raise SystemExit(exit_code(main))
