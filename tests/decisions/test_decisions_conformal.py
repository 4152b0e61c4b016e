"""Conformal risk control: the threshold by brute force, the guarantee by simulation."""

import numpy as np
import pytest

from lsep_ml.decisions import ConformalRisk


def missed(scores, targets, theta):
    """The share of each image's labels that is missed."""
    labels = targets.sum(1)
    return np.where(labels > 0, (targets & ~(scores > theta)).sum(1) / np.maximum(labels, 1), 0.0)


def draw(generator, images, labels=6, digits=None):
    targets = generator.random((images, labels)) < np.linspace(0.1, 0.5, labels)
    scores = generator.standard_normal((images, labels)) + 1.5 * targets + np.linspace(-2, 2, labels)
    return (scores if digits is None else scores.round(digits)).astype(np.float32), targets


@pytest.mark.parametrize("seed", range(10))
@pytest.mark.parametrize("digits", [None, 0])
@pytest.mark.parametrize("alpha", [0.05, 0.2, 0.6])
def test_the_largest_threshold_that_keeps_the_risk(seed, digits, alpha):
    scores, targets = draw(np.random.default_rng(seed), 40, digits=digits)
    targets[0], targets[1] = False, True
    decision = ConformalRisk(alpha).fit(scores, targets)
    theta = decision.choices()["theta"]

    def allowed(threshold):
        return (missed(scores, targets, threshold).sum() + 1) / 41 <= alpha + 1e-12

    assert allowed(theta)
    higher = [value for value in np.unique(scores) if value > theta]
    assert not any(allowed(value) for value in higher)
    assert decision.choices()["calibrated_on"] == 40


@pytest.mark.parametrize(("shape", "calibrated_on"), [("global", 60), ("per_class", 30)])
@pytest.mark.parametrize("digits", [None, 1])
def test_the_guarantee_holds_in_simulation(shape, calibrated_on, digits):
    alpha, risks = 0.15, []
    for seed in range(250):
        generator = np.random.default_rng(seed)
        decision = ConformalRisk(alpha, shape, seed=seed).fit(*draw(generator, 60, digits=digits))
        assert decision.choices()["calibrated_on"] == calibrated_on
        scores, targets = draw(generator, 300, digits=digits)
        risks.append(missed(scores, targets, decision.theta.numpy()).mean())
    mean, error = np.mean(risks), np.std(risks) / np.sqrt(len(risks))
    assert mean <= alpha + 3 * error
    # not by predicting everything: the loss is at most 1, so the risk is at least alpha - 2 / (n + 1) without
    # ties
    assert mean >= alpha - 2 / (calibrated_on + 1) - (0.02 if digits else 0) - 3 * error


def test_one_shift_for_all_labels_on_top_of_thresholds_of_their_own():
    generator = np.random.default_rng(0)
    scores, targets = draw(generator, 400)
    scores *= np.array([1, 2, 4, 8, 16, 32], np.float32)
    scores_test, targets_test = draw(generator, 4000)
    scores_test *= np.array([1, 2, 4, 8, 16, 32], np.float32)
    predicted = {}
    for shape in ("global", "per_class"):
        decision = ConformalRisk(0.2, shape).fit(scores, targets)
        assert missed(scores_test, targets_test, decision.theta.numpy()).mean() < 0.25
        predicted[shape] = float(decision.predict(scores_test).sum(1).float().mean())
        assert decision.thresholds(None, 2).shape == (2, 6)
    assert predicted["per_class"] < predicted["global"]  # the same promise with fewer labels


def test_unknown_entries_and_images_take_no_part():
    scores, targets = draw(np.random.default_rng(3), 50)
    mask = np.ones_like(targets)
    mask[40:] = False
    mask[:5, 2] = False
    theta = ConformalRisk().fit(scores, targets & mask, mask).choices()
    assert ConformalRisk().fit(scores, targets | ~mask, mask).choices() == theta
    assert theta["calibrated_on"] == 40


def test_alpha_too_small_for_the_sample():
    scores, targets = draw(np.random.default_rng(0), 18)
    with pytest.raises(
        ValueError, match=r"alpha=0\.05 is too small for 18 calibration images.*at least 19 images"
    ):
        ConformalRisk(0.05).fit(scores, targets)
    scores, targets = draw(np.random.default_rng(0), 19)
    assert ConformalRisk(0.05).fit(scores, targets).predict(scores).numpy()[targets].all()
    with pytest.raises(ValueError, match="alpha=5"):
        ConformalRisk(5)
    with pytest.raises(ValueError, match="shape='mean'"):
        ConformalRisk(shape="mean")
    with pytest.raises(ValueError, match=r"calibration=1\.0"):
        ConformalRisk(calibration=1.0)


def test_a_loose_alpha_may_miss_everything():
    scores, targets = draw(np.random.default_rng(0), 50)
    targets[5:] = False
    decision = ConformalRisk(0.5).fit(scores, targets)
    assert missed(scores, targets, decision.theta.item()).mean() <= 0.5
