"""Metrics from blocks of labels are those of the whole matrix."""

from typing import Any

import numpy as np
import pytest

from lsep_ml.metrics.bootstrap import bootstrap_label_sets
from lsep_ml.metrics.functional import count_label_sets, label_set_metrics
from lsep_ml.metrics.indicator import SparseIndicator
from lsep_ml.metrics.label_blocks import CountsByBlock, LinearScores


def drawn(images: int, labels: int) -> tuple[Any, Any]:
    rng = np.random.default_rng(labels)
    targets = rng.random((images, labels)) < 0.3
    return targets ^ (rng.random(targets.shape) < 0.1), targets


@pytest.mark.parametrize(("images", "labels", "size"), [(50, 11, 4), (1, 3, 3), (30, 5, 1)])
def test_counts_and_intervals_are_those_of_all_labels_at_once(images: int, labels: int, size: int) -> None:
    predictions, targets = drawn(images, labels)
    by_block = CountsByBlock(images, replicates=40, seed=3)
    for start in range(0, labels, size):
        by_block.add(predictions[:, start : start + size], targets[:, start : start + size])
    counts, whole = by_block.counts(), count_label_sets(predictions, targets)
    for key, value in label_set_metrics(whole).items():
        assert label_set_metrics(counts)[key] == value, key
    expected = bootstrap_label_sets(predictions, targets, replicates=40, seed=3)
    found = by_block.intervals()
    assert found.keys() == expected.keys()
    for key, bounds in expected.items():
        assert found[key] == pytest.approx(bounds, abs=1e-12), key


def test_linear_scores_are_the_score_layer_s() -> None:
    rng = np.random.default_rng(0)
    features, weight, bias = rng.normal(size=(20, 6)), rng.normal(size=(9, 6)), rng.normal(size=9)
    targets = rng.random((20, 9)) < 0.4
    blocks = list(
        LinearScores(
            features.astype(np.float16),
            weight.astype(np.float32),
            bias.astype(np.float32),
            SparseIndicator.from_dense(targets),
            4,
        )
    )
    assert [block.labels for block in blocks] == [slice(0, 4), slice(4, 8), slice(8, 9)]
    scores = np.hstack([block.scores for block in blocks])
    loops = [
        [
            sum(f * w for f, w in zip(row, of_label, strict=True)) + b
            for of_label, b in zip(weight, bias, strict=True)
        ]
        for row in features.astype(np.float16).astype(float)
    ]
    np.testing.assert_allclose(scores, loops, atol=1e-5)
    assert (np.hstack([block.targets for block in blocks]) == targets).all()
