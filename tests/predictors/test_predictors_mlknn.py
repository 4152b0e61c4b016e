"""ML-kNN against its paper's counts, written as loops."""

import numpy as np
import pytest
from predictors_data import images

from lsep_ml.predictors import MLkNN

FEATURES, TARGETS = images(0, 60)
NEW, _ = images(1, 25)


def nearest(x: np.ndarray, k: int, leave_out: int | None = None) -> list[int]:
    distances = [(float(((row - x) ** 2).sum()), i) for i, row in enumerate(FEATURES) if i != leave_out]
    return [i for _, i in sorted(distances)[:k]]


def oracle(targets: np.ndarray, k: int, s: float, queries: list[list[int]]) -> np.ndarray:
    """P(label | number of neighbours with it), (queries, K), from the neighbours of each query."""
    n, labels = targets.shape
    result = np.zeros((len(queries), labels))
    for label in range(labels):
        prior = (s + targets[:, label].sum()) / (2 * s + n)
        with_it, without = [0] * (k + 1), [0] * (k + 1)
        for i in range(n):
            found = sum(int(targets[j, label]) for j in nearest(FEATURES[i], k, leave_out=i))
            (with_it if targets[i, label] else without)[found] += 1
        for row, neighbours in enumerate(queries):
            j = sum(int(targets[i, label]) for i in neighbours)
            yes = prior * (s + with_it[j]) / (s * (k + 1) + sum(with_it))
            no = (1 - prior) * (s + without[j]) / (s * (k + 1) + sum(without))
            result[row, label] = yes / (yes + no)
    return result


@pytest.mark.parametrize(("k", "s"), [(4, 1.0), (1, 0.5)])
def test_it_is_the_paper_s_rule(k: int, s: float) -> None:
    wanted = oracle(TARGETS, k, s, [nearest(x, k) for x in NEW])
    label_sets, scores = MLkNN(k, s).fit(FEATURES, TARGETS).predict(NEW)
    np.testing.assert_allclose(1 / (1 + np.exp(-scores)), wanted, rtol=1e-5)
    np.testing.assert_array_equal(label_sets, wanted > 0.5)
    assert label_sets.any()
    assert scores.dtype == np.float32


def test_training_images_are_not_their_own_neighbours() -> None:
    wanted = oracle(TARGETS, 4, 1.0, [nearest(x, 4, leave_out=i) for i, x in enumerate(FEATURES)])
    found = MLkNN(4).fit_predict(FEATURES, TARGETS)
    np.testing.assert_allclose(1 / (1 + np.exp(-found.scores)), wanted, rtol=1e-5)


def test_labels_that_never_vary() -> None:
    targets = TARGETS.copy()
    targets[:, 0], targets[:, 1] = 0, 1
    label_sets, scores = MLkNN(4).fit(FEATURES, targets).predict(NEW)
    assert not label_sets[:, 0].any()
    assert label_sets[:, 1].all()
    assert np.isfinite(scores).all()


def test_what_it_refuses() -> None:
    with pytest.raises(ValueError, match="neighbours=0"):
        MLkNN(0)
    with pytest.raises(ValueError, match="neighbours=60: an image of 60 has at most 59"):
        MLkNN(60).fit(FEATURES, TARGETS)
    with pytest.raises(ValueError, match=r"1 entries .* are unknown, and it counts how many neighbours"):
        MLkNN(4).fit(FEATURES, TARGETS, np.arange(TARGETS.size).reshape(TARGETS.shape) != 7)
