"""Sampled pairs are uniform without replacement; what sampling does to the expected loss."""

import itertools
import math

import pytest
import torch
from loss_cases import Case, draw, draw_mask, harmonic, pairs, plain
from torch import Tensor

from lsep_ml import losses
from lsep_ml.losses.kernels.labels import FAR, labels_of
from lsep_ml.losses.kernels.sampling import sampled_pairs


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def drawn(scores: Tensor, targets: Tensor, count: int, mask: Tensor | None = None, seed: int = 0) -> Tensor:
    return sampled_pairs(scores, labels_of(targets, mask, scores.dtype), count, seeded(seed))


def distinct_differences(rows: int, labels: int) -> Tensor:
    """Scores whose pairwise differences are all different."""
    return torch.rand(rows, labels, generator=seeded(5), dtype=torch.float64) * 10


@pytest.mark.parametrize("labels", [12, 1500])
@pytest.mark.parametrize("count", [1, 5, 11, 17, 32, 40, 1000])
def test_pairs_are_distinct_pairs_of_the_row(labels: int, count: int) -> None:
    """Fewer than half of the pairs, more than half, all."""
    scores = distinct_differences(40, labels)
    _, targets = draw(40, labels, 4 / labels)
    targets[0], targets[1], targets[2, :3] = 0, 1, 1
    mask = draw_mask(40, labels)
    for known in (None, mask):
        differences = drawn(scores, targets, count, known)
        for row, f, y, m in zip(
            differences, scores, targets, mask if known is not None else torch.ones_like(mask), strict=True
        ):
            positives, negatives = ((side & m).nonzero()[:, 0].tolist() for side in (y.bool(), ~y.bool()))
            every = set(pairs(f, positives, negatives).tolist())
            found = row[row > -FAR / 2].tolist()
            assert len(found) == min(count, len(every))
            assert len(set(found)) == len(found)
            assert set(found) <= every


@pytest.mark.parametrize("count", [1, 2, 3, 4, 5])
def test_every_subset_is_equally_likely(count: int) -> None:
    rows = 20_000
    scores = distinct_differences(1, 5).expand(rows, 5)
    targets = torch.tensor([[1, 0, 0, 1, 0]]).expand(rows, 5)
    differences = drawn(scores, targets, count)
    every = sorted(pairs(scores[0], [0, 3], [1, 2, 4]).tolist())
    index = torch.searchsorted(torch.tensor(every, dtype=torch.float64), differences.contiguous())
    subsets, counts = torch.unique((2**index).sum(1), return_counts=True)
    assert len(subsets) == math.comb(6, count)
    expected = rows / len(subsets)
    # Chi-squared: its mean is the degrees of freedom, its standard deviation the root of twice that.
    freedom = len(subsets) - 1
    statistic = ((counts - expected) ** 2 / expected).sum().item()
    assert statistic < freedom + 4.5 * math.sqrt(2 * freedom)


@pytest.mark.parametrize("name", ["lsep", "pairwise_logistic"])
def test_enough_pairs_are_the_exact_loss(name: str) -> None:
    scores, targets = draw(30, 12, 0.3)
    case = plain(name)
    sampled = Case(name, case.oracle, {"max_pairs": 36})
    torch.testing.assert_close(sampled.computed(scores, targets), case.computed(scores, targets))


def test_a_generator_decides_the_draw() -> None:
    scores, targets = draw(30, 12, 0.3)

    def value(seed: int) -> Tensor:
        return losses.lsep_loss(scores, targets, max_pairs=3, generator=seeded(seed))

    assert value(1) == value(1)
    assert value(1) != value(2)


def test_gradient_of_sampled_pairs() -> None:
    scores, targets = draw(3, 6, 0.5)
    scores.requires_grad_()
    for name in ("lsep", "pairwise_logistic"):
        loss = getattr(losses, f"{name}_loss")
        assert torch.autograd.gradcheck(
            lambda f, loss=loss: loss(f, targets, max_pairs=4, generator=seeded()), scores
        )


def every_subset(scores: Tensor, targets: Tensor, count: int) -> Tensor:
    """sum of exp over each subset of `count` pairs of one row."""
    positives, negatives = targets[0].nonzero()[:, 0].tolist(), (targets[0] == 0).nonzero()[:, 0].tolist()
    terms = pairs(scores[0], positives, negatives).exp().tolist()
    return torch.tensor([sum(some) for some in itertools.combinations(terms, count)], dtype=torch.float64)


def test_sampled_lsep_is_biased_low() -> None:
    """Its mean is that of log(1 + sum) over all subsets of t pairs, below the exact loss."""
    scores, targets = draw(1, 7, 0.4, seed=2)
    rows = 20_000
    values = losses.lsep_loss(
        scores.expand(rows, 7), targets.expand(rows, 7), max_pairs=4, generator=seeded(), reduction="none"
    )
    subsets = torch.log1p(every_subset(scores, targets, 4))
    error = subsets.std() / math.sqrt(rows)
    assert abs(values.mean() - subsets.mean()) < 4.5 * error
    assert subsets.mean() < losses.lsep_loss(scores, targets) - 0.1


def test_normalized_pairwise_logistic_stays_unbiased() -> None:
    scores, targets = draw(1, 9, 0.4, seed=2)
    rows = 20_000
    values = losses.pairwise_logistic_loss(
        scores.expand(rows, 9),
        targets.expand(rows, 9),
        max_pairs=3,
        normalize=True,
        generator=seeded(),
        reduction="none",
    )
    exact = losses.pairwise_logistic_loss(scores, targets, normalize=True)
    assert abs(values.mean() - exact) < 4.5 * values.std() / math.sqrt(rows)


def wsabie(f: Tensor, positives: list[int], negatives: list[int], generator: torch.Generator) -> float:
    """Draw negatives until one violates, positive by positive."""
    total = 0.0
    for u in positives:
        for tries in range(1, len(negatives) + 1):
            v = negatives[int(torch.randint(len(negatives), (), generator=generator))]
            if f[v] > f[u] - 1:
                total += harmonic(len(negatives) // tries) * float(1 + f[v] - f[u])
                break
    return total


def test_sampled_warp_has_the_distribution_of_wsabie() -> None:
    scores, targets = draw(1, 8, 0.3, seed=4)
    rows = 4000
    positives, negatives = targets[0].nonzero()[:, 0].tolist(), (targets[0] == 0).nonzero()[:, 0].tolist()
    reference = torch.tensor(
        [wsabie(scores[0], positives, negatives, generator) for generator in [seeded(9)] for _ in range(rows)]
    )
    for given in (targets.expand(rows, 8), losses.LabelIndices.of(targets.expand(rows, 8))):
        values = losses.warp_loss(
            scores.expand(rows, 8), given, sampled=True, generator=seeded(), reduction="none"
        )
        error = math.sqrt((reference.var() + values.var()) / rows)
        assert abs(values.mean() - reference.mean()) < 4.5 * error
        assert values.std().item() == pytest.approx(reference.std().item(), rel=0.1)
        levels = torch.linspace(0.05, 0.95, 10, dtype=torch.float64)
        found = torch.stack([(values <= q).double().mean() for q in reference.double().quantile(levels)])
        below = torch.stack([(reference <= q).double().mean() for q in reference.double().quantile(levels)])
        torch.testing.assert_close(found, below, rtol=0, atol=4.5 * math.sqrt(0.5 / rows))


def test_sampled_warp_takes_these_values_and_no_others() -> None:
    """w(floor(|not-Y| / n)) times the hinge of one violator, or nothing where 5 tries find none."""
    scores = torch.tensor([[0.0, -3.0, 0.5, -2.0, -4.0, -5.0]], dtype=torch.float64)
    targets = torch.tensor([[1, 0, 0, 0, 0, 0]])
    values = losses.warp_loss(
        scores.expand(3000, 6), targets.expand(3000, 6), sampled=True, generator=seeded(), reduction="none"
    )
    ranks = [5 // n for n in range(1, 6)]
    expected = {0.0} | {harmonic(rank) * 1.5 for rank in ranks}
    found = torch.unique(values)
    torch.testing.assert_close(found, torch.tensor(sorted(expected), dtype=torch.float64))
    # None of 5 tries succeeds, each with probability 1 / 5.
    assert (values == 0).double().mean().item() == pytest.approx(0.8**5, abs=0.04)


def test_sampled_warp_without_a_violator_or_a_pair_is_zero() -> None:
    scores = torch.tensor([[9.0, 0.0, 1.0], [1.0, 2.0, 3.0], [1.0, 2.0, 3.0]], requires_grad=True)
    targets = torch.tensor([[1, 0, 0], [0, 0, 0], [1, 1, 1]])
    values = losses.warp_loss(scores, targets, sampled=True, reduction="none")
    values.sum().backward()
    assert values.tolist() == [0, 0, 0]
    assert scores.grad is not None
    assert (scores.grad == 0).all()


def test_sampled_warp_where_everything_violates() -> None:
    """The first try succeeds: w(|not-Y|) times one hinge."""
    scores = torch.tensor([[-9.0, 0.0, 0.0, 0.0]], dtype=torch.float64, requires_grad=True)
    value = losses.warp_loss(scores, torch.tensor([[1, 0, 0, 0]]), sampled=True)
    assert value.item() == pytest.approx(harmonic(3) * 10)
    value.backward()
    assert scores.grad is not None
    assert scores.grad[0, 0].item() == pytest.approx(-harmonic(3))
    assert scores.grad[0, 1:].max().item() == pytest.approx(harmonic(3))
