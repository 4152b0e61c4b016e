"""Hinges with rounded kinks against loops over pairs."""

import math

import numpy as np
import pytest
import torch

from lsep_ml.losses import LabelIndices, ranking_loss
from lsep_ml.losses.hinge import smoothed_hinges

N, K = 12, 6


def case(masked: bool) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor | None]:
    draws = np.random.default_rng(0)
    scores = torch.from_numpy(draws.normal(size=(N, K)) * 2)
    targets = torch.from_numpy((draws.random((N, K)) < 0.4).astype(np.int64))
    targets[0], targets[1] = 0, 1
    return scores, targets, torch.from_numpy(draws.random((N, K)) < 0.7) if masked else None


@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.parametrize("width", [0.01, 0.5])
def test_rounded_hinges_are_the_sum_over_pairs(width: float, masked: bool) -> None:
    scores, targets, mask = case(masked)
    indices = LabelIndices.of(targets)
    total = 0.0
    known = torch.ones(N, K, dtype=torch.bool) if mask is None else mask
    for row in range(N):
        negatives = [v for v in range(K) if known[row, v] and not targets[row, v]]
        for u in range(K):
            if known[row, u] and targets[row, u]:
                x = [0.7 + float(scores[row, v] - scores[row, u]) for v in negatives]
                total += sum(width * float(np.logaddexp(0, value / width)) for value in x)
    found = smoothed_hinges(scores, indices, mask=mask, margin=0.7, width=width)
    assert float(found) == pytest.approx(total / N, rel=1e-12)
    exact = ranking_loss(scores, targets, mask=mask, margin=0.7)
    most = width * math.log(2) * K**2
    assert -1e-12 <= float(found) - float(exact) <= most


@pytest.mark.parametrize("masked", [False, True])
def test_their_gradient_is_right(masked: bool) -> None:
    scores, targets, mask = case(masked)
    indices = LabelIndices.of(targets)
    assert torch.autograd.gradcheck(
        lambda f: smoothed_hinges(f, indices, mask=mask, width=0.5), scores.clone().requires_grad_()
    )
