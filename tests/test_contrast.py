"""The contrastive loss with labels: a loop over its formula, its laws, its errors."""

from __future__ import annotations

import math

import pytest

torch = pytest.importorskip("torch")

from hypothesis import given, settings  # noqa: E402
from hypothesis import strategies as st  # noqa: E402
from torch import Tensor  # noqa: E402

from dgiqa.training.contrast import contrast  # noqa: E402
from formula import formula  # noqa: E402


def by_loop(features: Tensor, labels: list[int], temperature: float) -> float:
    """Equation 2 of arXiv:2004.11362, one row and one positive after the other."""
    rows = [[float(x) for x in row] for row in features]
    directions = [[x / math.sqrt(sum(y * y for y in row)) for x in row] for row in rows]

    def near(i: int, j: int) -> float:
        return math.exp(sum(a * b for a, b in zip(directions[i], directions[j], strict=True)) / temperature)

    losses = []
    for i in range(len(rows)):
        others = [j for j in range(len(rows)) if j != i]
        positives = [j for j in others if labels[j] == labels[i]]
        if positives:
            all_others = sum(near(i, j) for j in others)
            losses.append(sum(-math.log(near(i, p) / all_others) for p in positives) / len(positives))
    return sum(losses) / len(losses) if losses else 0.0


@settings(deadline=None, max_examples=40)
@given(st.lists(st.integers(0, 3), min_size=1, max_size=9), st.sampled_from([0.07, 0.1, 0.5, 2.0]), st.integers(0, 99))
def test_is_the_formula(labels: list[int], temperature: float, seed: int) -> None:
    features = 3 * formula((len(labels), 5), seed)
    found = contrast(features, torch.tensor(labels), temperature)
    assert found.shape == ()
    assert found.item() == pytest.approx(by_loop(features, labels, temperature), rel=1e-4, abs=1e-5)


def test_with_one_positive_it_is_nt_xent() -> None:
    """Of two views of n pictures each it is SimCLR's: cross entropy over all others with the other view wanted."""
    features = formula((8, 6), 1)
    directions = features / features.norm(dim=1, keepdim=True)
    near = (directions @ directions.T / 0.1).fill_diagonal_(-1e9)
    expected = torch.nn.functional.cross_entropy(near, torch.arange(8).roll(4))
    found = contrast(features, torch.arange(4).repeat(2), 0.1)
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=0)


def test_lengths_and_order_do_not_matter() -> None:
    features, labels = formula((7, 4), 2), torch.tensor([0, 1, 0, 2, 1, 0, 3])
    expected = contrast(features, labels, 0.2)
    order = torch.tensor([3, 6, 0, 5, 1, 4, 2])
    lengths = torch.arange(1, 8)[:, None]
    torch.testing.assert_close(contrast((lengths * features)[order], labels[order], 0.2), expected)


def test_gathered_labels_cost_least() -> None:
    labels = torch.tensor([0, 0, 1, 1])
    gathered = torch.tensor([[1.0, 0], [1, 0], [-1, 0], [-1, 0]])
    assert contrast(gathered, labels, 0.1).item() == pytest.approx(0, abs=1e-6)
    assert contrast(gathered[[0, 2, 1, 3]], labels, 0.1).item() > 10


def test_following_the_gradient_gathers_labels() -> None:
    features = formula((12, 4), 3).requires_grad_()
    labels = torch.arange(3).repeat(4)
    start = contrast(features, labels, 0.1)
    optimiser = torch.optim.SGD([features], lr=0.1)
    for _ in range(200):
        optimiser.zero_grad()
        contrast(features, labels, 0.1).backward()
        optimiser.step()
    # Four of each label in one place: none of the three positives can be told from the others.
    assert contrast(features, labels, 0.1).item() == pytest.approx(math.log(3), abs=0.1)
    assert start.item() > 2 * math.log(3)


def test_labels_that_nobody_shares_cost_nothing_and_have_a_gradient() -> None:
    features = formula((3, 4), 4).requires_grad_()
    loss = contrast(features, torch.arange(3), 0.1)
    loss.backward()
    assert loss.item() == 0
    assert features.grad is not None
    assert not features.grad.any()


def test_refuses_what_does_not_fit() -> None:
    with pytest.raises(ValueError, match=r"^features of shape \(3, 4\) and labels of \(2,\) don't fit$"):
        contrast(formula((3, 4), 1), torch.arange(2), 0.1)
    with pytest.raises(ValueError, match=r"^the temperature must be positive, not 0$"):
        contrast(formula((3, 4), 1), torch.zeros(3, dtype=torch.long), 0.0)
