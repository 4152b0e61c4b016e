"""Which test images a run keeps thumbnails of."""

import numpy as np
import pytest

from lsep_ml.reports.figures.of_run import SPREAD, rows_to_show, spread_rows


def test_the_shown_rows_hold_the_extremes_of_the_frequent_labels() -> None:
    rng = np.random.default_rng(0)
    scores = rng.normal(size=(400, 5)).astype(np.float32)
    targets = (rng.random((400, 5)) < [0.5, 0.3, 0.2, 0.1, 0.02]).astype(np.uint8)
    mask = (rng.random((400, 5)) < 0.8).astype(np.uint8)
    thresholds = rng.normal(size=(400, 5)).astype(np.float32)
    rows = rows_to_show(scores, targets, mask, thresholds)
    assert len(rows) <= 84
    assert (np.diff(rows) > 0).all()
    assert set(spread_rows(400)) <= set(rows)
    known = mask[:, 0] == 1
    positives, negatives = (np.flatnonzero((targets[:, 0] == value) & known) for value in (1, 0))
    expected = {
        positives[scores[positives, 0].argmin()],
        negatives[scores[negatives, 0].argmax()],
        positives[thresholds[positives, 0].argmin()],
        positives[thresholds[positives, 0].argmax()],
    }
    assert expected <= set(rows)


def test_one_threshold_for_all_images_orders_nothing() -> None:
    rng = np.random.default_rng(0)
    scores = rng.normal(size=(50, 2)).astype(np.float32)
    targets = (scores > 0).astype(np.uint8)
    mask = np.ones_like(targets)
    constant = np.full_like(scores, 0.3)
    np.testing.assert_array_equal(
        rows_to_show(scores, targets, mask, constant), rows_to_show(scores, targets, mask)
    )


@pytest.mark.parametrize("images", [1, 2, 23, 24, 25, 1000])
def test_spread_rows(images: int) -> None:
    rows = spread_rows(images)
    assert len(rows) == min(images, SPREAD)
    assert (rows[0], rows[-1]) == (0, images - 1)


def test_labels_without_positives_or_negatives() -> None:
    scores = np.zeros((3, 2), np.float32)
    targets = np.array([[1, 0]] * 3, np.uint8)
    assert rows_to_show(scores, targets, np.ones_like(targets), scores).tolist() == [0, 1, 2]
    assert spread_rows(0).tolist() == []
