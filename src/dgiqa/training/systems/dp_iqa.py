"""DP-IQA at small width: a diffusion prior, a teacher that reads it, a student that learns from the teacher.

    maps of the frozen trunk ──components──→ latents ──noise──→ fit the U-Net to find it              (1)
    latents, no noise, t = 1 ──U-Net, adapters, decoder──→ score, map: fit all to MOS                 (2)
    maps ──convolutions──→ score, map: fit to MOS and to the teacher's map                            (3)

Fu et al., arXiv:2405.19996, section 3. Stable Diffusion learned from captioned pictures; here the only words are those
of quality and distortion, so in the first stage half of the steps tell the U-Net which quality the ratings say, and the
others show it all prompts. Published is the student.

    python -m dgiqa.training.systems.dp_iqa --data biq2021=BIQ2021 --out small/dp_iqa
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from dgiqa.exits import exit_code
from dgiqa.models.dp_iqa.network import SmallStudent, StudentJudge
from dgiqa.models.dp_iqa.prompts import QUALITIES
from dgiqa.models.dp_iqa.teacher import TeacherJudge
from dgiqa.models.trunks.maps import join
from dgiqa.training.small import Int, Study, agree, arguments, fit, mirror, predict, publish, study_of, trunk_state
from dgiqa.types import Float32

#: Pictures that give the components of the latents.
STATISTICS = 500
#: Passes of the first two stages, for each of the student's.
PRIOR_SHARE, TEACHER_SHARE = 0.5, 0.75
#: Steps of the noise, and its variance at the first and at the last, as Stable Diffusion has them.
STEPS, FIRST, LAST = 1000, 0.00085, 0.012


def main(argv: Sequence[str] | None = None) -> None:
    args = arguments(__doc__ or "", epochs=4).parse_args(argv)
    study = study_of(args)
    rng = np.random.default_rng(args.seed)
    torch.manual_seed(args.seed)
    teacher, network = TeacherJudge(), SmallStudent()
    network.trunk.load_state_dict(trunk_state())
    student = network.judge

    share = teacher.latents.fit(join(study.maps(study.fitted[:STATISTICS])))
    print(f"latents: {share:.1%} of the maps' variance")
    prior = nn.ModuleList([teacher.prior.unet, teacher.prompts])
    fit(prior, noise_loss(teacher, study, rng), study, epochs=PRIOR_SHARE * args.epochs, seed=args.seed, what="prior")
    fit(teacher, score_loss(teacher, study, rng), study, epochs=TEACHER_SHARE * args.epochs, seed=args.seed,
        what="teacher")  # fmt: skip
    agree(scores(teacher, study, study.held), study.mos[study.held], "teacher, held out")

    loss = student_loss(student, teacher, study, rng)
    fit(student, loss, study, epochs=args.epochs, seed=args.seed, what="student")
    raw = scores(student, study, study.held)
    agree(raw, study.mos[study.held], "student, held out")
    publish(
        network,
        "dp_iqa",
        study,
        raw,
        args,
        summary="A convolutional network taught by a small diffusion prior",
        data=f"BIQ2021: {len(study.fitted):,} rated pictures",
        teachers="a small teacher of the same command, on the same pictures",
    )


def noise_loss(teacher: TeacherJudge, study: Study, rng: np.random.Generator) -> Callable[[Int], Tensor]:
    """The squared error of the noise found in latents, at random times (Ho et al., arXiv:2006.11239, equation 14)."""
    kept = torch.from_numpy(kept_signal())
    words = torch.from_numpy(quality_of(study.mos))

    def loss(places: Int) -> Tensor:
        latents = teacher.latents(join(mirror(study.maps(places), rng)))
        time = torch.from_numpy(rng.integers(STEPS, size=len(places)))
        noise = torch.randn_like(latents)
        signal = kept[time][:, None, None, None]
        noisy = signal.sqrt() * latents + (1 - signal).sqrt() * noise
        return F.mse_loss(teacher.denoise(noisy, time, words[places] if rng.random() < 0.5 else None), noise)

    return loss


def score_loss(teacher: TeacherJudge, study: Study, rng: np.random.Generator) -> Callable[[Int], Tensor]:
    """The teacher's squared error against MOS."""
    mos = torch.from_numpy(study.mos)
    return lambda places: F.mse_loss(teacher(mirror(study.maps(places), rng))[0], mos[places])


def student_loss(
    student: StudentJudge, teacher: TeacherJudge, study: Study, rng: np.random.Generator
) -> Callable[[Int], Tensor]:
    """The student's squared errors against MOS and against the teacher's map, weighed alike."""
    mos = torch.from_numpy(study.mos)
    teacher.eval()

    def loss(places: Int) -> Tensor:
        maps = mirror(study.maps(places), rng)
        with torch.no_grad():
            taught = teacher(maps)[1]
        score, seen = student(maps)
        return F.mse_loss(score, mos[places]) + F.mse_loss(seen, taught)

    return loss


def scores(judge: StudentJudge | TeacherJudge, study: Study, places: Int) -> Float32:
    """(m,) of the pictures at ``places``."""
    return predict(lambda some: judge(study.maps(some))[0], study, places, module=judge)


def kept_signal() -> Float32:
    """(STEPS,) float32: the share of the signal in the variance at each time; roots of what is lost rise evenly."""
    betas = np.linspace(FIRST**0.5, LAST**0.5, STEPS) ** 2
    kept: Float32 = np.cumprod(1 - betas).astype(np.float32)
    return kept


def quality_of(mos: Float32) -> Int:
    """The place in QUALITIES that each MOS of 0..1 falls to: five equal parts."""
    return np.clip(mos * len(QUALITIES), 0, len(QUALITIES) - 1).astype(np.intp)


if __name__ == "__main__":
    raise SystemExit(exit_code(main))
