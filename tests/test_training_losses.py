"""Each loss against the same thing computed by scipy or by hand, in NumPy and loops."""

from __future__ import annotations

import itertools
import math
from pathlib import Path

import numpy as np
import pytest
import scipy.stats

torch = pytest.importorskip("torch")

from hypothesis import given  # noqa: E402
from hypothesis import strategies as st  # noqa: E402

from dgiqa.training import losses  # noqa: E402
from dgiqa.training.batches import Batch  # noqa: E402
from dgiqa.training.objective import objective  # noqa: E402
from dgiqa.training.optimiser import Scales  # noqa: E402
from training_case import plan_of  # noqa: E402


def columns(n: int = 9, seed: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
    rng = np.random.default_rng(seed)
    return torch.tensor(rng.random(n)), torch.tensor(rng.random(n))


def test_l1_and_mse() -> None:
    x, y = columns()
    assert losses.l1(x, y).item() == pytest.approx(np.mean(np.abs(x.numpy() - y.numpy())))
    assert losses.mse(x, y).item() == pytest.approx(np.mean((x.numpy() - y.numpy()) ** 2))


@pytest.mark.parametrize("n", [2, 3, 16])
def test_plcc_is_one_minus_scipys(n: int) -> None:
    x, y = columns(n)
    assert losses.plcc(x, y).item() == pytest.approx(1 - scipy.stats.pearsonr(x, y).statistic, abs=1e-4)


def test_rank_is_a_hinge_over_pairs() -> None:
    x, y = columns(6)
    y[1] = y[0]  # a pair that people rate alike teaches nothing
    terms = []
    for i, j in itertools.combinations(range(6), 2):
        better, worse = (i, j) if y[i] > y[j] else (j, i)
        if y[i] != y[j]:
            terms.append(max(0.0, min(0.05, float(y[better] - y[worse])) - float(x[better] - x[worse])))
    assert len(terms) == 14
    assert losses.rank(x, y, 0.05).item() == pytest.approx(np.mean(terms))
    assert losses.rank(y, y, 0.05).item() == 0


def test_fidelity_with_scipys_normal() -> None:
    x, y = columns(5)
    deviations = torch.tensor([0.1, 0.2, math.nan, 0.15, 0.0])
    y[3] = y[2]
    terms = []
    for i, j in itertools.combinations(range(5), 2):
        together = math.hypot(float(deviations[i]), float(deviations[j]))
        gap = float(y[i] - y[j])
        certain = 0.5 if gap == 0 else float(gap > 0)
        people = scipy.stats.norm.cdf(gap / together) if together > 0 else certain  # NaN is not above 0
        network = scipy.stats.norm.cdf(float(x[i] - x[j]) / (math.sqrt(2) * 0.3))
        terms.append(1 - math.sqrt(people * network) - math.sqrt((1 - people) * (1 - network)))
    assert losses.fidelity(x, y, 0.3, deviations).item() == pytest.approx(np.mean(terms), abs=1e-4)


def test_fidelity_is_least_where_people_and_network_agree() -> None:
    y = torch.tensor([0.2, 0.5, 0.9], dtype=torch.float64)
    exact = losses.fidelity(y, y, 0.2, torch.full_like(y, 0.2))
    assert exact.item() == pytest.approx(0, abs=1e-6)
    assert losses.fidelity(1 - y, y, 0.2, torch.full_like(y, 0.2)).item() > 0.1


@pytest.mark.parametrize(("p", "q"), [(1, 2), (2, 2), (1, 1), (3, 2)])
def test_norm_in_norm(p: float, q: float) -> None:
    x, y = (column.numpy() for column in columns(8))
    a, b = x - x.mean(), y - y.mean()
    a, b = a / np.sum(np.abs(a) ** q) ** (1 / q), b / np.sum(np.abs(b) ** q) ** (1 / q)
    largest = 2**p * (8 ** (1 - p / q) if p < q else 1)
    wanted = np.sum(np.abs(a - b) ** p) / largest
    assert losses.norm_in_norm(torch.tensor(x), torch.tensor(y), p, q).item() == pytest.approx(wanted, rel=1e-6)


def test_norm_in_norm_of_two_is_plccs_square_root_free_form() -> None:
    """Paper, section 3: for p = q = 2 it is (1 − PLCC) / 2."""
    x, y = columns(12)
    assert losses.norm_in_norm(x, y, 2, 2).item() == pytest.approx(losses.plcc(x, y).item() / 2, abs=1e-5)


@given(st.integers(0, 10_000), st.integers(2, 20))
def test_norm_in_norm_lies_in_0_to_1_and_ignores_scale(seed: int, n: int) -> None:
    x, y = columns(n, seed)
    value = losses.norm_in_norm(x, y).item()
    assert 0 <= value <= 1
    assert losses.norm_in_norm(3 * x + 7, y).item() == pytest.approx(value, abs=1e-6)
    assert losses.norm_in_norm(2 * y + 1, y).item() == pytest.approx(0, abs=1e-6)


def test_spread_is_laplaces_likelihood_and_never_bends_the_score() -> None:
    x, y = columns(7)
    wide = torch.linspace(0.05, 0.4, 7, dtype=torch.float64)
    wanted = -scipy.stats.laplace.logpdf(y.numpy(), loc=x.numpy(), scale=wide.numpy()).mean()
    x.requires_grad_(True)
    wide.requires_grad_(True)
    loss = losses.spread(x, wide, y)
    assert loss.item() == pytest.approx(wanted)
    loss.backward()
    assert x.grad is None
    assert wide.grad.abs().min() > 0


def test_spread_is_least_at_the_mean_error() -> None:
    x, y = torch.zeros(1000, dtype=torch.float64), torch.tensor(np.random.default_rng(0).laplace(0, 0.2, 1000))
    grid = np.linspace(0.05, 0.5, 91)
    best = grid[np.argmin([losses.spread(x, torch.full_like(x, b), y).item() for b in grid])]
    assert best == pytest.approx(y.abs().mean().item(), abs=0.006)


def test_ladder_losses_want_the_worse_below() -> None:
    steps = torch.tensor([2.0])
    pairs = [(torch.tensor([a]), torch.tensor([b])) for a, b in ((0.7, 0.5), (0.55, 0.5), (0.5, 0.7))]
    assert [round(losses.steps_apart(*pair, steps, 0.05).item(), 6) for pair in pairs] == [0, 0.05, 0.3]
    right, close, wrong = (losses.surely_worse(*pair, 0.1).item() for pair in pairs)
    assert right < close < wrong
    wanted = 1 - math.sqrt(scipy.stats.norm.cdf(0.2 / (math.sqrt(2) * 0.1)))
    assert right == pytest.approx(wanted, abs=1e-5)


PAIRWISE = {
    "plcc": losses.plcc,
    "rank": lambda x, y: losses.rank(x, y, 0.02),
    "fidelity": lambda x, y: losses.fidelity(x, y, 0.1),
    "norm_in_norm": losses.norm_in_norm,
}


@pytest.mark.parametrize("name", PAIRWISE)
def test_nothing_to_compare_is_no_loss_and_no_nan(name: str) -> None:
    x = torch.rand(1, requires_grad=True)
    loss = PAIRWISE[name](x, torch.rand(1))
    loss.backward()
    assert (loss.item(), x.grad.item()) == (0, 0)


@pytest.mark.parametrize("name", PAIRWISE)
@pytest.mark.parametrize("found", [[0.5, 0.5, 0.5], [0.1, 0.5, 0.9], [0.0, 1.0, 0.0]])
@pytest.mark.parametrize("wanted", [[0.3, 0.3, 0.3], [0.1, 0.5, 0.9]])
def test_gradients_stay_finite_at_the_edges(name: str, found: list[float], wanted: list[float]) -> None:
    x = torch.tensor(found, requires_grad=True)
    PAIRWISE[name](x, torch.tensor(wanted)).backward()
    assert torch.isfinite(x.grad).all()


def test_each_member_has_its_own_loss_and_their_mean_is_the_loss(tmp_path: Path) -> None:
    plan = plan_of(tmp_path, "loss.rank=0.5")
    rng = np.random.default_rng(3)
    mos, none = rng.random(5).astype(np.float32), np.full(5, np.nan, np.float32)
    batch = Batch((), np.zeros(5, np.intp), mos, none, none, np.array([1.0, 2.0], np.float32))
    each = [torch.tensor(rng.uniform(0.1, 0.9, (batch.size, 2)), dtype=torch.float32) for _ in range(3)]
    scales = Scales(1)
    alone = [objective(member, batch, scales, plan) for member in each]
    total, parts = objective(torch.cat(each, 1), batch, scales, plan)
    assert total.item() == pytest.approx(np.mean([loss.item() for loss, _ in alone]), rel=1e-5)
    assert set(parts) == {"mse", "plcc", "rank", "spread", "ladder"}
    for name, part in parts.items():
        assert part.item() == pytest.approx(np.mean([found[name].item() for _, found in alone]), rel=1e-5), name
