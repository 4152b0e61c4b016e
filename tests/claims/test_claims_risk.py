"""Risk minimisers against answers that are known, and the counterexample in rational numbers."""

from fractions import Fraction

import counterexample
import numpy as np
import pytest
import torch
from consistency import FAMILIES, LOSSES, compare, draw
from risk import HINGE, SMOOTH, label_sets, marginals, minimiser, pair_probabilities, risk
from torch import Tensor

from lsep_ml.losses import LabelIndices


def drawn(family: str, num_labels: int, count: int = 20) -> Tensor:
    return draw(family, num_labels, count, np.random.default_rng(0))


def centred(scores: Tensor) -> Tensor:
    return scores - scores.mean(1, keepdim=True)


@pytest.mark.parametrize("family", FAMILIES)
def test_families_are_distributions(family: str) -> None:
    probabilities = drawn(family, 4)
    torch.testing.assert_close(probabilities.sum(1), torch.ones(20, dtype=torch.float64))
    sizes = (probabilities @ label_sets(4).sum(1).double()).tolist()
    if family in ("one label", "two labels"):
        assert sizes == pytest.approx([{"one label": 1, "two labels": 2}[family]] * 20)


@pytest.mark.parametrize("loss", ["lsep", "softmax", "pairwise logistic"])
def test_with_one_label_an_image_the_minimiser_is_its_log_probability(loss: str) -> None:
    probabilities = drawn("one label", 4)
    expected = centred(marginals(probabilities).log())
    torch.testing.assert_close(minimiser(loss, probabilities), expected, rtol=0, atol=1e-4)


@pytest.mark.parametrize("family", ["concentration 1", "independent", "two labels"])
def test_softmax_always_has_eqn_19_and_bce_the_log_odds(family: str) -> None:
    probabilities = drawn(family, 5)
    p = marginals(probabilities)
    torch.testing.assert_close(minimiser("softmax", probabilities), centred(p.log()), rtol=0, atol=1e-6)
    torch.testing.assert_close(minimiser("bce", probabilities), p.logit(), rtol=0, atol=1e-6)


@pytest.mark.parametrize(("loss", "factor"), [("lsep", 1), ("pairwise logistic", 1), ("bpmll", 0.5)])
def test_of_two_labels_the_difference_is_eqn_25_or_half_of_it(loss: str, factor: float) -> None:
    probabilities = drawn("concentration 1", 2)
    beta = pair_probabilities(probabilities)
    scores = minimiser(loss, probabilities)
    expected = factor * (beta[:, 0, 1] / beta[:, 1, 0]).log()
    torch.testing.assert_close(scores[:, 0] - scores[:, 1], expected, rtol=0, atol=1e-6)


def test_of_three_labels_lsep_has_the_order_of_the_marginals() -> None:
    probabilities = drawn("concentration 0.3", 3, 200)
    row = compare(minimiser("lsep", probabilities), probabilities)
    assert row["misordered"] == 0
    assert row["off_eqn_19"] > 0.1


@pytest.mark.parametrize("loss", LOSSES)
def test_no_scores_near_or_far_have_a_lower_risk(loss: str) -> None:
    probabilities = drawn("concentration 1", 3, 5)
    scores = minimiser(loss, probabilities)
    function = (SMOOTH | HINGE)[loss]
    lowest = risk(function, scores, probabilities)
    generator = torch.Generator().manual_seed(0)
    for scale in (0.01, 0.3, 2.0):
        for _ in range(200):
            moved = scores + scale * torch.randn(scores.shape, generator=generator, dtype=torch.float64)
            assert (risk(function, moved, probabilities) >= lowest - 1e-8).all()


def test_a_minimiser_at_infinity_is_bounded() -> None:
    probabilities = torch.tensor([[0, 0, 1.0, 0]], dtype=torch.float64)  # the first label, always
    for loss in ("lsep", "bpmll"):
        scores = minimiser(loss, probabilities)
        assert 10 < scores[0, 0] - scores[0, 1] < 50


SMALLEST = {(3,): 2, (2, 3): 1, (1, 2, 3): 3, (0, 1): 2}
"""Eighths: label 1 has 5, label 2 has 4."""


def test_the_counterexample_is_proved_and_nothing_else() -> None:
    tied, better = counterexample.certificate(SMALLEST, 4, above=1, below=2)
    assert counterexample.is_proved(SMALLEST, 1, 2, tied, better)
    assert not counterexample.is_proved(SMALLEST, 2, 1, tied, better)
    # With more weight on {0, 1} the minimiser has the order of the marginals.
    usual = SMALLEST | {(0, 1): 4}
    assert not counterexample.is_proved(usual, 1, 2, *counterexample.certificate(usual, 4, 1, 2))
    # Where 2 is never without 3, nothing bounds the scores, and nothing is proved.
    unbounded = {(3,): 2, (2, 3): 1, (0, 1): 2}
    assert not counterexample.is_proved(unbounded, 1, 2, tied, better)
    with pytest.raises(ValueError, match="equal scores"):
        counterexample.is_proved(SMALLEST, 1, 2, better, better)


def test_no_smaller_distribution_contradicts_the_marginals() -> None:
    assert counterexample.search(4, 4) is None


def test_the_exact_gradient_is_that_of_the_loss() -> None:
    x = [Fraction(3, 2), Fraction(1, 4), Fraction(2), Fraction(1)]
    weights = {(0,): 2, (1, 2): 1, (0, 1, 3): 3}
    f = torch.tensor([[float(value) for value in x]] * 3, dtype=torch.float64).log().requires_grad_()
    targets = LabelIndices(torch.tensor([[0, -1, -1], [1, 2, -1], [0, 1, 3]]), 4)
    losses = SMOOTH["lsep"](f, targets, reduction="none")
    (gradient,) = torch.autograd.grad(losses @ torch.tensor([2.0, 1, 3]).double(), f)
    exact = [float(value) for value in counterexample._gradient(weights, x)]
    torch.testing.assert_close(gradient.sum(0), torch.tensor(exact, dtype=torch.float64))


def test_distributions_are_counted_up_to_renaming_the_labels() -> None:
    # Two images of two labels: {a}{a} and {a}{b}; {a}{b} is {b}{a}.
    assert len(list(counterexample.distributions(2, 2))) == 2
    # Burnside, by hand, for three labels: 6 sets, pairs of them with repetition.
    assert len(list(counterexample.distributions(3, 2))) == 6
