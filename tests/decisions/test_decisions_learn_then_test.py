"""Learn then test: p-values by exact sums, the threshold by plain loops, the guarantee by simulation."""

import math

import numpy as np
import pytest
from test_decisions_conformal import draw

from lsep_ml.decisions import LearnThenTest
from lsep_ml.decisions.learn_then_test import false_shares, p_value
from lsep_ml.decisions.learnt import NEVER


def false_share(scores, targets, theta):
    """Of each image, its wrong labels over its predicted ones, 0 where there are none."""
    shares = []
    for row, true in zip(scores.tolist(), targets.tolist(), strict=True):
        chosen = [label for label, score in enumerate(row) if score > theta]
        shares.append(sum(not true[label] for label in chosen) / len(chosen) if chosen else 0.0)
    return np.array(shares)


def exact_p(risk, images, alpha):
    """As `p_value`, from sums of Python's integers and floats."""
    low = min(risk, alpha)
    terms = [a * math.log(a / b) if a else 0.0 for a, b in ((low, alpha), (1 - low, 1 - alpha))]
    wrong = math.ceil(round(images * risk, 9))
    below = math.fsum(math.comb(images, i) * alpha**i * (1 - alpha) ** (images - i) for i in range(wrong + 1))
    return min(math.exp(-images * sum(terms)), math.e * below, 1.0)


@pytest.mark.parametrize("images", [5, 40, 200])
@pytest.mark.parametrize("alpha", [0.05, 0.3, 0.8])
def test_p_values(images, alpha):
    risks = np.array([0.0, 0.01, 0.049, alpha / 2, alpha, 0.9, 1.0])
    expected = [exact_p(risk, images, alpha) for risk in risks.tolist()]
    assert p_value(risks, images, alpha) == pytest.approx(expected, rel=1e-9)
    assert p_value(np.array([0.0]), images, alpha)[0] == pytest.approx(
        min((1 - alpha) ** images, 1), rel=1e-9
    )


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("digits", [None, 0])
def test_the_last_threshold_before_a_test_fails(seed, digits):
    scores, targets = draw(np.random.default_rng(seed), 120, digits=digits)
    targets |= scores > 1.5  # so that there is something to promise
    known = np.random.default_rng(seed).random(targets.shape) < 0.9
    decision = LearnThenTest(0.3, 0.1, seed=seed, steps=20).fit(scores, targets, known)
    rows = np.random.default_rng(seed).permutation(120)
    tested, learnt = rows[:96], rows[96:]
    seen = np.quantile(scores[learnt][known[learnt]], np.linspace(1, 0, 20)).astype(np.float32)
    chosen = NEVER
    for theta in sorted(set(seen.tolist()), reverse=True):
        hidden = np.where(known[tested], scores[tested], -np.inf)
        if exact_p(false_share(hidden, targets[tested], theta).mean(), 96, 0.3) > 0.1:
            break
        chosen = theta
    assert decision.choices() == {"theta": pytest.approx(chosen), "calibrated_on": 96}
    assert chosen < NEVER


def test_false_shares():
    scores, targets = draw(np.random.default_rng(0), 50, digits=1)
    thetas = np.array([2.0, 0.5, -1.0, -50.0], np.float32)
    found = false_shares(scores, targets, np.ones_like(targets), thetas)
    assert np.allclose(found, np.stack([false_share(scores, targets, theta) for theta in thetas], 1))


@pytest.mark.parametrize("digits", [None, 1])
@pytest.mark.parametrize(("alpha", "delta"), [(0.3, 0.2), (0.5, 0.1)])
def test_the_guarantee_holds_in_simulation(alpha, delta, digits):
    """The true mean false share exceeds alpha in no more than a share delta of the draws."""
    exceeded, predicted = [], []
    for seed in range(200):
        generator = np.random.default_rng(seed)
        decision = LearnThenTest(alpha, delta, seed=seed).fit(*draw(generator, 150, digits=digits))
        scores, targets = draw(generator, 2000, digits=digits)
        chosen = scores > float(decision.theta)
        wrong = (chosen & ~targets).sum(1) / np.maximum(chosen.sum(1), 1)
        exceeded.append(wrong.mean() > alpha)
        predicted.append(chosen.sum(1).mean())
    assert np.mean(exceeded) <= delta + 3 * np.sqrt(delta * (1 - delta) / 200)
    assert np.mean(predicted) > 0.3  # not by predicting nothing


def test_too_few_images_are_refused_and_how_many_are_needed():
    scores, targets = draw(np.random.default_rng(0), 10)
    with pytest.raises(ValueError, match=r"for 8 calibration images \(of 10\).*at least 22 are needed"):
        LearnThenTest(0.1, 0.1).fit(scores, targets)
    assert (1 - 0.1) ** 22 <= 0.1 < (1 - 0.1) ** 21
    ok = draw(np.random.default_rng(0), 28)
    assert LearnThenTest(0.1, 0.1).fit(*ok).choices()["calibrated_on"] == 22


def test_where_nothing_can_be_promised_nothing_is_predicted_and_that_is_said():
    scores, targets = draw(np.random.default_rng(0), 200)
    targets[:] = False
    targets[0] = True
    scores[np.random.default_rng(0).permutation(200)[160:]] -= (
        100  # those that say which thresholds are tested
    )
    decision = LearnThenTest(0.1, 0.1).fit(scores, targets)
    assert not decision.predict(scores).any()
    assert "every predicted label set is empty" in decision.problems(scores)[0]
    assert LearnThenTest().fit(*draw(np.random.default_rng(0), 200)).problems(scores) == []


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"alpha": 0.0}, "alpha=0.0"),
        ({"delta": 1.0}, "delta=1.0"),
        ({"calibration": 1.0}, "calibration"),
        ({"steps": 1}, "steps"),
    ],
)
def test_options_are_checked(given, message):
    with pytest.raises(ValueError, match=message):
        LearnThenTest(**given)
