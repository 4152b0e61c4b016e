"""Probabilities from scores, reliability, and which labels are called suspicious."""

import numpy as np
import pytest
from scipy.special import expit

from lsep_ml.metrics.calibration import sigmoid
from lsep_ml.reports.score_views import find_suspects, platt_probabilities, reliability


def drawn(images: int, slope: float, offset: float, seed: int) -> dict[str, np.ndarray]:
    """Labels drawn from a logistic curve of their score."""
    rng = np.random.default_rng(seed)
    scores = rng.normal(size=(images, 3)).astype(np.float32)
    targets = (rng.random(scores.shape) < expit(slope * scores + offset)).astype(np.uint8)
    return {"scores": scores, "targets": targets, "mask": np.ones_like(targets)}


def test_platt_finds_the_curve_that_drew_the_labels() -> None:
    val, test = drawn(20_000, 2.5, -1.0, 0), drawn(50, 2.5, -1.0, 1)
    expected = expit(2.5 * test["scores"] - 1.0)
    np.testing.assert_allclose(platt_probabilities(val, test), expected, atol=0.02)


def test_scores_of_any_scale_and_place() -> None:
    val, test = drawn(2000, 2.0, 0.0, 0), drawn(50, 2.0, 0.0, 1)
    plain = platt_probabilities(val, test)
    for split in (val, test):
        split["scores"] = 1e4 * split["scores"] + 3e4
    np.testing.assert_allclose(platt_probabilities(val, test), plain, atol=1e-4)


def test_labels_that_cannot_be_fitted_have_no_probability() -> None:
    val, test = drawn(100, 1.0, 0.0, 0), drawn(10, 1.0, 0.0, 1)
    val["targets"][:, 0] = 0
    val["mask"][:, 1] = 0
    val["scores"][:, 2] = 4.0  # constant: the share of positives, whatever the score
    probabilities = platt_probabilities(val, test)
    assert np.isnan(probabilities[:, :2]).all()
    assert np.isfinite(probabilities[:, 2]).all()


def test_sigmoid_does_not_overflow() -> None:
    logits = np.array([-1e4, -2.0, 0.0, 2.0, 1e4], np.float32)
    np.testing.assert_allclose(sigmoid(logits), expit(logits.astype(np.float64)))


def test_reliability_counts_by_hand() -> None:
    probabilities = np.array([[0.01, 0.99], [0.03, 0.97], [0.5, np.nan], [0.5, 0.2]])
    targets = np.array([[0, 1], [1, 1], [1, 1], [0, 1]], np.uint8)
    mask = np.array([[1, 1], [1, 1], [1, 1], [1, 0]], np.uint8)
    found = reliability(probabilities, targets, mask)
    assert found.entries.sum() == 6
    assert (found.entries[0], found.entries[7], found.entries[14]) == (2, 2, 2)
    assert found.probability[0] == pytest.approx(0.02)
    assert found.frequency[[0, 7, 14]].tolist() == [0.5, 0.5, 1.0]
    assert found.error == pytest.approx((2 * 0.48 + 2 * 0.0 + 2 * 0.02) / 6)


def test_flipped_annotations_are_found_first() -> None:
    rng = np.random.default_rng(0)
    true = (rng.random((300, 4)) < 0.4).astype(np.uint8)
    probabilities = np.where(true == 1, 0.9, 0.1) + rng.uniform(-0.05, 0.05, true.shape)
    flipped = [(3, 0), (50, 1), (51, 1), (299, 3)]
    annotated = true.copy()
    for row, label in flipped:
        annotated[row, label] ^= 1
    suspects = find_suspects(probabilities, annotated, np.ones_like(true), each=5)
    assert {(s.row, s.label) for s in suspects} == set(flipped)
    assert all(s.present == (annotated[s.row, s.label] == 1) for s in suspects)
    assert [s.belief for s in suspects] == sorted(s.belief for s in suspects)
    assert all(s.belief < 0.2 for s in suspects)


def test_unknown_entries_and_labels_without_probability_are_never_suspected() -> None:
    probabilities = np.full((5, 2), 0.01)
    probabilities[:, 1] = np.nan
    targets = np.ones((5, 2), np.uint8)
    mask = np.ones((5, 2), np.uint8)
    mask[1:, 0] = 0
    assert [(s.row, s.label) for s in find_suspects(probabilities, targets, mask, each=5)] == [(0, 0)]
