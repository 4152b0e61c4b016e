"""Calibration against its own equations and scikit-learn; expected F1 against enumeration."""

import itertools

import numpy as np
import pytest
import torch
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.calibration import CalibratedClassifierCV
from sklearn.frozen import FrozenEstimator
from sklearn.isotonic import IsotonicRegression

from lsep_ml.decisions import Calibrated, ExpectedF1, calibration


def random_case(seed, rows=60, labels=4):
    generator = np.random.default_rng(seed)
    targets = generator.random((rows, labels)) < 0.4
    scores = (10 * (generator.standard_normal((rows, labels)) + targets) + 100).astype(np.float32)
    mask = generator.random((rows, labels)) < 0.8
    targets[0], mask[0] = [True, *[False] * (labels - 1)], True
    return scores, targets, mask


class AsItIs(ClassifierMixin, BaseEstimator):
    """A classifier whose decision is its only feature."""

    def fit(self, column, positive):
        self.classes_ = np.array([False, True])
        return self

    def decision_function(self, column):
        return column[:, 0]

    def predict(self, column):
        return column[:, 0] > 0


def residuals(probability, positive):
    """Of Platt's smoothed targets: both sums vanish at the maximum of the likelihood."""
    above, below = (positive.sum() + 1) / (positive.sum() + 2), 1 / ((~positive).sum() + 2)
    return probability - np.where(positive, above, below)


@pytest.mark.parametrize("seed", range(4))
def test_platt_is_the_maximum_of_the_smoothed_likelihood(seed):
    scores, targets, mask = random_case(seed)
    targets[:, 2] = False  # a label without a positive
    scores[:, 3] = np.where(targets[:, 3], 1e3, -1e3)  # a separable label
    decision = Calibrated().fit(scores, targets, mask)
    probabilities = decision.probabilities(scores).numpy()
    for label in range(4):
        rows = mask[:, label]
        rest = residuals(probabilities[rows, label], targets[rows, label])
        standard = (scores[rows, label] - scores[rows, label].mean()) / scores[rows, label].std()
        assert abs(rest.mean()) < 1e-7
        assert abs((rest * standard).mean()) < 1e-7
    assert ((probabilities > 0) & (probabilities < 1)).all()
    assert torch.equal(decision.predict(scores), torch.from_numpy(probabilities > 0.5))


def test_platt_is_scikit_learns():
    scores, targets, _ = random_case(1)
    probabilities = Calibrated().fit(scores, targets).probabilities(scores).numpy()
    for label in range(4):
        column = scores[:, label : label + 1].astype(np.float64)
        model = CalibratedClassifierCV(
            FrozenEstimator(AsItIs().fit(column, targets[:, label])), method="sigmoid"
        )
        model.fit(column, targets[:, label])
        expected = model.predict_proba(column)[:, 1]
        np.testing.assert_allclose(probabilities[:, label], expected, atol=1e-4)


def test_isotonic_is_scikit_learns():
    scores, targets, mask = random_case(7)
    targets[:, 2] = False
    decision = Calibrated("isotonic").fit(scores, targets, mask)
    beyond = np.vstack([scores, scores.min(0) - 50, scores.max(0) + 50]).astype(np.float32)
    probabilities = decision.probabilities(beyond).numpy()
    for label in range(4):
        rows = mask[:, label]
        model = IsotonicRegression(out_of_bounds="clip")
        model.fit(scores[rows, label].astype(np.float64), targets[rows, label].astype(np.float64))
        np.testing.assert_allclose(probabilities[:, label], model.predict(beyond[:, label]), atol=1e-7)


@pytest.mark.parametrize("method", ["platt", "isotonic"])
def test_a_label_without_known_entries_takes_the_curve_of_all(method):
    scores, targets, mask = random_case(3)
    mask[:, 1] = False
    decision = Calibrated(method).fit(scores, targets, mask)
    pooled = Calibrated(method).fit(scores[mask][:, None], targets[mask][:, None])
    torch.testing.assert_close(decision.probabilities(scores)[:, 1:2], pooled.probabilities(scores[:, 1:2]))


def test_a_constant_label_has_its_smoothed_frequency():
    scores, targets, _ = random_case(0)
    scores[:, 2] = 5.0
    share = (targets[:, 2].sum() * (targets[:, 2].sum() + 1) / (targets[:, 2].sum() + 2)) / 60
    share += ((~targets[:, 2]).sum() / ((~targets[:, 2]).sum() + 2)) / 60
    assert float(Calibrated().fit(scores, targets).probabilities(scores)[0, 2]) == pytest.approx(
        share, abs=1e-6
    )


def enumerated(probabilities):
    """Expected F1 of every label set, by enumerating every truth."""
    labels = len(probabilities)
    sets = list(itertools.product([False, True], repeat=labels))
    values = {}
    for chosen in sets:
        total = 0.0
        for truth in sets:
            chance = np.prod([p if t else 1 - p for p, t in zip(probabilities, truth, strict=True)])
            hits, size = sum(c and t for c, t in zip(chosen, truth, strict=True)), sum(chosen) + sum(truth)
            total += chance * (2 * hits / size if size else 1.0)
        values[chosen] = total
    return values


@pytest.mark.parametrize("seed", range(12))
def test_no_label_set_has_a_higher_expected_f1(seed):
    generator = np.random.default_rng(seed)
    probabilities = generator.random((1, 5)) ** generator.integers(1, 6)
    if seed == 0:
        probabilities[:] = [0.0, 1.0, 0.5, 0.5, 0.0]
    values = enumerated(probabilities[0])
    size = calibration.best_sizes(torch.from_numpy(probabilities))[0]
    top = np.argsort(-probabilities[0], kind="stable")[:size]
    assert values[tuple(bool(label in top) for label in range(5))] == pytest.approx(
        max(values.values()), abs=1e-12
    )
    ranked = -np.sort(-probabilities, axis=1)
    for m, value in enumerate(calibration.expected_f1(torch.from_numpy(ranked))[0].tolist()):
        assert value == pytest.approx(
            enumerated(ranked[0])[tuple(label < m for label in range(5))], abs=1e-12
        )


def test_expected_f1_predicts_what_its_probabilities_say():
    scores, targets, mask = random_case(5)
    decision = ExpectedF1().fit(scores, targets, mask)
    predictions = decision.predict(scores)
    for row, chosen in zip(decision.probabilities(scores).tolist(), predictions.tolist(), strict=True):
        values = enumerated(row)
        assert values[tuple(chosen)] == pytest.approx(max(values.values()), abs=1e-12)


def test_blocks_of_images_change_nothing(monkeypatch):
    scores, targets, mask = random_case(5)
    decision = ExpectedF1().fit(scores, targets, mask)
    expected = decision.decide(scores)
    assert calibration.rows_at_once(4) > 60
    monkeypatch.setattr(calibration, "_CELLS", 3 * 25)
    assert calibration.rows_at_once(4) == 3
    assert torch.equal(decision.decide(scores).label_sets, expected.label_sets)
    assert torch.equal(decision.decide(scores).counts, expected.counts)
    assert calibration.best_sizes(torch.zeros(0, 7)).shape == (0,)


def test_options_are_checked():
    with pytest.raises(ValueError, match="method='beta': expected 'platt' or 'isotonic'"):
        ExpectedF1("beta")
