"""Learnt decisions: losses against loops, gradients, how they start, how they decide."""

import math

import decisions_oracle as oracle
import numpy as np
import pytest
import torch
from decisions_data import learnable

from lsep_ml.decisions import CountEstimation, LinearThresholds, ThresholdClass, ThresholdEstimation

KINDS = [CountEstimation, ThresholdEstimation, ThresholdClass]


def made(kind, features=20, labels=6, **options):
    decision = kind(features, labels, **options)
    scores, targets, inputs = learnable(features=features, labels=labels)
    decision.reset(scores, targets, inputs, seed=1)
    return decision, scores, targets, inputs


def random_mask(targets, seed=0):
    return torch.rand(targets.shape, generator=torch.Generator().manual_seed(seed)) < 0.8


@pytest.mark.parametrize("masked", [False, True])
@torch.no_grad()
def test_threshold_loss_is_equation_16(masked):
    decision, scores, targets, features = made(ThresholdEstimation)
    mask = random_mask(targets) if masked else torch.ones_like(targets)
    total, theta = 0.0, decision.thresholds(features, len(features))
    for i in range(len(scores)):
        for k in range(scores.shape[1]):
            share = 1 / (1 + math.exp(-(float(scores[i, k]) - float(theta[i, k]))))
            total -= mask[i, k] * math.log(share if targets[i, k] else 1 - share)
    loss = decision.loss(scores, targets, features, mask if masked else None)
    assert float(loss) == pytest.approx(float(total) / len(scores), rel=1e-5)


@pytest.mark.parametrize("zero_class", [False, True])
@pytest.mark.parametrize("masked", [False, True])
@torch.no_grad()
def test_count_loss_is_cross_entropy_of_the_capped_count(zero_class, masked):
    decision, scores, targets, features = made(CountEstimation, zero_class=zero_class)
    targets[:5] = False
    mask = random_mask(targets) if masked else torch.ones_like(targets)
    total, counted = 0.0, 0
    for i, logits in enumerate(decision.outputs(features).double().tolist()):
        if not mask[i].all():
            continue
        count = min(int(targets[i].sum()), 4)
        index = count if zero_class else max(count, 1) - 1
        total -= logits[index] - math.log(sum(math.exp(logit) for logit in logits))
        counted += 1
    assert counted < len(scores) if masked else counted == len(scores)
    loss = decision.loss(scores, targets, features, mask if masked else None)
    assert float(loss) == pytest.approx(total / counted, rel=1e-5)


def test_gradients_reach_scores_features_and_head():
    decision, scores, targets, features = made(ThresholdEstimation)
    decision = decision.double()
    inputs = [array[:6].double().requires_grad_() for array in (scores, features)]
    assert torch.autograd.gradcheck(lambda s, x: decision.loss(s, targets[:6], x), inputs)
    decision, scores, targets, features = made(CountEstimation)
    decision = decision.double()
    x = features[:6].double().requires_grad_()
    assert torch.autograd.gradcheck(lambda x: decision.loss(scores[:6], targets[:6], x), [x])
    decision.loss(scores[:6], targets[:6], x).backward()
    assert all(parameter.grad is not None for parameter in decision.parameters())


class Doubled(ThresholdEstimation):
    """One with a loss of its own, which a formula of the other does not know."""

    def loss_of(self, *given):
        return 2 * super().loss_of(*given)


@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.parametrize("kind", [*KINDS, Doubled])
def test_gradients_by_hand_are_autograds(kind, masked):
    decision, scores, targets, features = made(kind, features=300)
    data = scores, targets, features, random_mask(targets) if masked else None
    loss = decision.loss(*data)
    expected = torch.autograd.grad(loss, list(decision.parameters()))
    found, gradients = decision.gradients(*data)
    assert decision.learns_by_outputs
    assert torch.equal(found, loss.detach())
    assert all(torch.equal(one, other) for one, other in zip(gradients, expected, strict=True))
    assert not LinearThresholds(20, 6).learns_by_outputs  # there is a weight decay, and a scale


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("dtype", [torch.bool, torch.uint8, torch.int64, torch.float32])
@torch.no_grad()
def test_target_dtypes(kind, dtype):
    decision, scores, targets, features = made(kind)
    expected = decision.loss(scores, targets, features)
    assert torch.equal(decision.loss(scores, targets.to(dtype), features), expected)
    half = decision.loss(scores.half(), targets.to(dtype), features.half())
    assert half.dtype == torch.float32
    assert float(half) == pytest.approx(float(expected), rel=1e-2)


def test_a_batch_without_a_known_count_costs_nothing():
    decision, scores, targets, features = made(CountEstimation)
    mask = torch.ones_like(targets)
    mask[:, 0] = False
    loss = decision.loss(scores, targets, features, mask)
    loss.backward()
    assert float(loss.detach()) == 0
    assert all(not parameter.grad.any() for parameter in decision.parameters())


@pytest.mark.parametrize("zero_class", [False, True])
def test_a_count_of_k_picks_the_k_best(zero_class):
    decision, scores, _, features = made(CountEstimation, zero_class=zero_class)
    scores = scores.round()  # ties
    with torch.no_grad():
        decision.head[-1].weight.mul_(10)
    counts = decision.counts(features)
    assert set(counts.tolist()) <= set(range(0 if zero_class else 1, 5))
    assert len(set(counts.tolist())) > 1
    predictions = decision.predict(scores, features)
    for row, count, chosen in zip(scores.tolist(), counts.tolist(), predictions.tolist(), strict=True):
        assert chosen == oracle.top_k(row, count)


def test_counts_are_capped_at_the_number_of_labels():
    decision, scores, _, features = made(CountEstimation, labels=2, max_count=4)
    assert decision.outputs(features).shape == (400, 2)
    assert decision.predict(scores, features).sum(1).max() <= 2


def test_thresholds_are_strict_and_float32():
    decision, scores, _, features = made(ThresholdEstimation)
    theta = decision.thresholds(features, len(features))
    assert theta.dtype == torch.float32
    assert torch.equal(decision.predict(scores, features), scores > theta)
    assert not decision.predict(theta, features).any()


@pytest.mark.parametrize("kind", KINDS)
def test_starting_from_scratch_is_determined_by_the_seed_alone(kind):
    state = torch.get_rng_state()
    first, scores, targets, features = made(kind)
    second = kind(20, 6)
    torch.rand(3)
    second.reset(scores, targets, features, seed=1)
    third = kind(20, 6)
    third.reset(scores, targets, features, seed=2)
    weights = [decision.state_dict() for decision in (first, second, third)]
    assert all(torch.equal(value, weights[1][key]) for key, value in weights[0].items())
    assert not torch.equal(weights[0]["head.0.weight"], weights[2]["head.0.weight"])
    torch.set_rng_state(state)
    kind(20, 6).reset(scores, targets, features)
    assert torch.equal(torch.get_rng_state(), state)


@pytest.mark.parametrize("scale", [1e-4, 1.0, 1e4])
def test_standardised_features_have_no_scale(scale):
    decision, scores, targets, features = made(ThresholdEstimation)
    features = features * scale + 7 * scale
    features[:, 3] = 5.0  # a dead unit
    decision.reset(scores, targets, features)
    standard = (features - decision.feature_mean) * decision.feature_scale
    alive = [column for column in range(20) if column != 3]
    assert standard[:, alive].mean(0).abs().max() < 1e-3
    assert (standard[:, alive].std(0, correction=0) - 1).abs().max() < 1e-3
    assert standard[:, 3].abs().max() < 1e-3
    plain = ThresholdEstimation(20, 6, standardize=False)
    plain.reset(scores, targets, features)
    assert not plain.feature_mean.any()
    assert (plain.feature_scale == 1).all()


def test_moments_over_several_blocks(monkeypatch):
    decision, scores, targets, features = made(ThresholdEstimation)
    expected = decision.feature_mean, decision.feature_scale
    monkeypatch.setattr("lsep_ml.decisions.checks.BLOCK", 7)
    decision.reset(scores, targets, features)
    torch.testing.assert_close((decision.feature_mean, decision.feature_scale), expected)
    np.testing.assert_allclose(decision.feature_mean, features.double().mean(0), rtol=1e-5)
    np.testing.assert_allclose(1 / decision.feature_scale, features.double().std(0, correction=0), rtol=1e-5)


def test_heads_start_at_the_best_constant():
    decision, _, targets, features = made(CountEstimation, zero_class=True)
    with torch.no_grad():
        decision.head[-1].weight.zero_()
    shares = torch.softmax(decision.outputs(features)[0], 0)
    counts = targets.sum(1).clamp(max=4)
    assert shares.tolist() == pytest.approx([float((counts == c).float().mean()) for c in range(5)], abs=0.01)
    decision, scores, targets, features = made(ThresholdEstimation)
    middle = (scores[targets].mean() + scores[~targets].mean()) / 2
    assert decision.head[-1].bias.tolist() == pytest.approx([float(middle)] * 6)


def test_problems_are_named():
    decision, scores, _, features = made(ThresholdEstimation)
    assert decision.problems(scores, features) == []
    assert decision.problems(scores - 1e6, features) == ["every predicted label set is empty"]
    with torch.no_grad():
        decision.head[2].bias.fill_(-1e6)  # every unit of the second layer is dead
    assert "the head predicts the same for every image" in decision.problems(scores, features)[0]
    count, scores, _, features = made(CountEstimation)
    with torch.no_grad():
        count.head[-1].bias[2] = 1e6
    assert "the head predicts the same for every image" in count.problems(scores, features)[0]
