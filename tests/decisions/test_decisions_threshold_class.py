"""One threshold an image: the adaptive thresholding loss against loops."""

import math

import pytest
import torch
from decisions_data import learnable

from lsep_ml.decisions import ThresholdClass


def made():
    decision, data = ThresholdClass(20, 6), learnable()
    decision.reset(*data, seed=1)
    return decision, *data


@pytest.mark.parametrize("masked", [False, True])
def test_loss_is_the_adaptive_thresholding_loss(masked):
    decision, scores, targets, features = made()
    targets[0], targets[1] = False, True
    mask = torch.ones_like(targets)
    if masked:
        mask = torch.rand(mask.shape, generator=torch.Generator().manual_seed(0)) < 0.7
        mask[2] = False
    theta = decision.thresholds(features, len(features))[:, 0].tolist()
    total = 0.0
    for i, row in enumerate(scores.tolist()):
        positive = [row[k] for k in range(6) if targets[i, k] and mask[i, k]]
        negative = [row[k] for k in range(6) if not targets[i, k] and mask[i, k]]
        for u in positive:
            total -= math.log(math.exp(u) / (math.exp(theta[i]) + sum(map(math.exp, positive))))
        total -= math.log(math.exp(theta[i]) / (math.exp(theta[i]) + sum(map(math.exp, negative))))
    with torch.no_grad():
        loss = decision.loss(scores, targets, features, mask if masked else None)
    assert float(loss) == pytest.approx(total / len(scores), rel=1e-5)


def test_gradients_reach_scores_and_features():
    decision, scores, targets, features = made()
    inputs = [array[:6].double().requires_grad_() for array in (scores, features)]
    targets[0], targets[1] = False, True
    mask = torch.ones_like(targets[:6])
    mask[2] = False
    decision = decision.double()
    assert torch.autograd.gradcheck(lambda s, x: decision.loss(s, targets[:6], x, mask), inputs)


def test_large_scores_stay_finite():
    decision, scores, targets, features = made()
    loss = decision.loss(scores * 1e4, targets, features)
    loss.backward()
    assert torch.isfinite(loss)
    assert all(torch.isfinite(parameter.grad).all() for parameter in decision.parameters())


def test_one_strict_threshold_for_all_labels_of_an_image():
    decision, scores, _, features = made()
    theta = decision.thresholds(features, len(features))
    assert theta.shape == scores.shape
    assert (theta == theta[:, :1]).all()
    assert theta[:, 0].std() > 0
    assert torch.equal(decision.predict(scores, features), scores > theta)
