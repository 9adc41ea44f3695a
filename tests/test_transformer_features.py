"""Transformer features: joined maps, the shared encoder, both perceptrons, sizes, joint training."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from torch import Tensor  # noqa: E402
from torch.nn.attention import SDPBackend, sdpa_kernel  # noqa: E402
from torch.utils.flop_counter import FlopCounterMode  # noqa: E402

from dgiqa.export.onnx import TOLERANCE, export  # noqa: E402
from dgiqa.models import build_network, find_card  # noqa: E402
from dgiqa.models.transformer_features.network import Judge, TransformerFeatures, join  # noqa: E402
from dgiqa.training.small import RECIPE  # noqa: E402
from dgiqa.training.systems import transformer_features as training  # noqa: E402
from dgiqa.training.versions import Pairs  # noqa: E402
from formula import filled, formula  # noqa: E402


def narrow(part: str = "both") -> Judge:
    return Judge(12, side=3, width=16, depth=2, heads=2, part=part)  # type: ignore[arg-type]


def pictures(count: int) -> Tensor:
    side = torch.arange(384)
    v, y, x = torch.meshgrid(torch.arange(count), side, side, indexing="ij")
    return torch.stack([(3 * x + 5 * y + 40 * v) % 256, (x * y // (7 + v)) % 256, (x + 90 * v) % 256], -1).to(
        torch.uint8
    )


def test_maps_are_joined_by_means_of_blocks() -> None:
    fine, coarse = formula((2, 3, 12, 12), 1), formula((2, 5, 3, 3), 2)
    joined = join([fine, coarse], 3)
    blocks = sum(fine[:, :, i::4, j::4] for i in range(4) for j in range(4)) / 16
    torch.testing.assert_close(joined[:, :3], blocks, atol=1e-6, rtol=0)
    assert torch.equal(joined[:, 3:], coarse)


def test_judge_golden() -> None:
    judge = filled(narrow())
    assert isinstance(judge, Judge)
    picture, original = 3 * formula((2, 12, 3, 3), 3), 3 * formula((2, 12, 3, 3), 4)
    assert judge.alone(picture).tolist() == pytest.approx(GOLDEN_ALONE, abs=1e-5)
    assert judge.against(picture, original).tolist() == pytest.approx(GOLDEN_AGAINST, abs=1e-5)


GOLDEN_ALONE, GOLDEN_AGAINST = [0.712177, 0.73041], [0.726043, 0.802354]


def test_both_perceptrons_read_one_encoder() -> None:
    """Whatever moves the encoder's quality token moves both scores; each perceptron moves its own alone."""
    judge = filled(narrow())
    assert isinstance(judge, Judge)
    picture, original = 3 * formula((1, 12, 3, 3), 3), 3 * formula((1, 12, 3, 3), 4)

    def scores() -> tuple[float, float]:
        return judge.alone(picture).item(), judge.against(picture, original).item()

    before = scores()
    judge.no_reference[2].bias += 1
    assert scores()[0] != before[0]
    assert scores()[1] == before[1]
    judge.no_reference[2].bias -= 1
    judge.encoder.cls_token[..., 0] += 1
    assert all(now != then for now, then in zip(scores(), before, strict=True))


def test_against_reads_both_tokens_their_difference_and_the_places() -> None:
    judge = filled(narrow())
    assert isinstance(judge, Judge)
    picture, original = formula((2, 10, 16), 5), formula((2, 10, 16), 6)
    joined = torch.cat(
        [
            picture[:, 0],
            original[:, 0],
            picture[:, 0] - original[:, 0],
            sum((picture[:, i] - original[:, i]).abs() for i in range(1, 10)) / 9,
        ],
        1,
    )
    expected = judge.full_reference(joined).squeeze(1).sigmoid()
    torch.testing.assert_close(judge.join_tokens(picture, original), expected, atol=1e-6, rtol=0)


def test_channels_are_standardised_by_the_statistics() -> None:
    judge = narrow()
    joined = 5 + 3 * formula((40, 12, 3, 3), 7)
    judge.fit_statistics(joined)
    rows = joined.permute(1, 0, 2, 3).flatten(1)
    np.testing.assert_allclose(judge.mean, rows.mean(1), rtol=1e-5)
    np.testing.assert_allclose(judge.deviation, rows.std(1) + 1e-3, rtol=1e-5)
    plain = narrow()
    plain.load_state_dict(judge.state_dict() | {"mean": torch.zeros(12), "deviation": torch.ones(12)})
    standard = (joined - judge.mean[:, None, None]) / judge.deviation[:, None, None]
    torch.testing.assert_close(judge.alone(joined), plain.alone(standard), atol=1e-5, rtol=0)


def test_a_part_has_its_own_perceptron_alone() -> None:
    joined = formula((1, 12, 3, 3), 1)
    assert {name.split(".")[0] for name in narrow("nr").state_dict()} == {
        "mean",
        "deviation",
        "encoder",
        "no_reference",
    }
    assert "no_reference.0.weight" not in narrow("fr").state_dict()
    with pytest.raises(ValueError, match=r"^part = 'nr' takes no reference$"):
        narrow("nr").against(joined, joined)
    with pytest.raises(ValueError, match=r"^part = 'fr' compares with a reference, and there is none$"):
        narrow("fr").alone(joined)
    with pytest.raises(ValueError, match=r"^part must be nr, fr or both, not 'both parts'$"):
        TransformerFeatures(part="both parts")  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("name", "parameters", "gmacs"),
    [
        ("transformer_features.paper", 27_754_305, 12.65),
        ("transformer_features.paper_fr", 27_950_913, 25.30),
    ],
)
def test_paper_size_is_what_the_card_says(name: str, parameters: int, gmacs: float) -> None:
    card = find_card(name)
    with torch.device("meta"):
        module = build_network(card).eval()
        views = [torch.zeros(1, 384, 384, 3, dtype=torch.uint8)] * (2 if card.reference == "full" else 1)
        with sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False) as counter, torch.no_grad():
            module(*views)
    assert sum(p.numel() for p in module.parameters()) == card.network.parameters == parameters
    assert round(counter.get_total_flops() / 2e9, 2) == card.network.gmacs == gmacs


@pytest.mark.parametrize(("part", "trained"), [("nr", 475_777), ("fr", 524_929)])
def test_exported_it_gives_the_same(part: str, trained: int, tmp_path: Path) -> None:
    torch.manual_seed(0)
    card = dataclasses.replace(
        find_card("transformer_features.paper" + "_fr" * (part == "fr")),
        recipe=RECIPE,
        settings={"part": part, "size": "mobile"},
    )
    network = build_network(card)
    assert isinstance(network, TransformerFeatures)
    assert sum(p.numel() for p in network.judge.parameters()) == trained
    assert not any(p.requires_grad for p in network.trunk.parameters())
    assert export(network, card, tmp_path / "mobile.onnx") <= TOLERANCE


def test_alone_or_in_a_batch() -> None:
    torch.manual_seed(0)
    network = TransformerFeatures(size="mobile").eval()
    color, reference = pictures(2), pictures(3)[1:]
    with torch.no_grad():
        without = torch.cat([network(color[i : i + 1]) for i in range(2)])
        against = torch.cat([network(color[i : i + 1], reference[i : i + 1]) for i in range(2)])
        torch.testing.assert_close(network(color), without, atol=1e-5, rtol=0)
        torch.testing.assert_close(network(color, reference), against, atol=1e-5, rtol=0)
    assert not torch.equal(without, against)


def test_a_part_taken_out_says_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    torch.manual_seed(0)
    whole = TransformerFeatures(size="mobile").eval()
    monkeypatch.setattr(training, "trunk_state", whole.trunk.state_dict)
    color = pictures(1)
    with torch.no_grad():
        assert torch.equal(training.take(whole.judge, "nr")(color), whole(color))
        reference = color.flip(1)
        assert torch.equal(training.take(whole.judge, "fr")(color, reference), whole(color, reference))


def test_joint_training_learns_both_in_turns() -> None:
    """On eight pictures and four pairs both losses fall, and the two kinds of step take turns."""
    torch.manual_seed(0)
    judge = narrow()
    joined = formula((8, 12, 3, 3), 1).numpy()
    study = SimpleNamespace(mos=np.linspace(0, 1, 8, dtype=np.float32), held=np.arange(8))
    spoiled = np.stack([joined, joined + 0.2 * formula((8, 12, 3, 3), 2).numpy(), 0.3 * joined], 1)
    place = np.arange(4)
    nothing = np.zeros(4, np.intp)
    pairs = Pairs(place, nothing, nothing + 1, np.zeros(4, np.float32), nothing, nothing.astype(np.bool_))
    alone = training.no_reference(judge, study, joined)  # type: ignore[arg-type]
    against = training.full_reference(judge, spoiled, pairs, np.random.default_rng(0))
    turns = training.in_turns(alone, against)
    places = np.arange(8)
    start = training.score(judge.eval(), study, joined)  # type: ignore[arg-type]
    optimiser = torch.optim.AdamW(judge.parameters(), lr=3e-3)
    losses = []
    for _ in range(80):
        loss = turns(places)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        losses.append(loss.item())
    assert losses[-2] < losses[0] / 2  # alone
    assert losses[-1] < losses[1] / 2  # against
    assert losses[0] == pytest.approx(np.mean((start - study.mos) ** 2), rel=1e-4)
    found = training.compare(judge, spoiled[:4])
    assert (found[:, 0] > found[:, 1]).all()
    raw = training.score(judge, study, joined)  # type: ignore[arg-type]
    assert np.corrcoef(raw, study.mos)[0, 1] > 0.5
