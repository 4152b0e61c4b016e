"""Bootstrap intervals against resampling the images one replicate at a time."""

import numpy as np
import pytest

from lsep_ml.metrics import (
    LABEL_SET_KEYS,
    RANKING_KEYS,
    bootstrap,
    bootstrap_label_sets,
    bootstrap_ranking,
    count_label_sets,
    counts,
    functional,
    label_set_metrics,
    ranking_metrics,
    resampled_ranking,
)
from lsep_ml.metrics.functional import average_precisions, label_cutoffs, mean_precision_recall
from lsep_ml.metrics.indicator import SparseIndicator
from lsep_ml.metrics.resampled_ranking import DrawnImages, ResampledRanking

REPLICATES = 60


def case(masked, rows=50, labels=4):
    generator = np.random.default_rng(7)
    scores = generator.integers(0, 6, (rows, labels)).astype(np.float32)
    targets = generator.random((rows, labels)) < 0.3
    targets[2:, 0] = False  # rare: without a positive in some replicates
    mask = generator.random((rows, labels)) < 0.8 if masked else None
    if masked:
        mask[:2], mask[5] = True, False
    return scores, targets, mask


def repeated(arrays, weights):
    rows = np.repeat(np.arange(len(weights)), weights)
    return [None if array is None else array[rows] for array in arrays]


@pytest.mark.parametrize("masked", [False, True])
def test_equal_to_repeating_the_images(masked, monkeypatch):
    scores, targets, mask = case(masked)
    monkeypatch.setattr(bootstrap, "_BLOCK", 50 * 7)  # several blocks, the last one smaller
    monkeypatch.setattr(resampled_ranking, "_CELLS", 50 * 7)
    weights = np.vstack(list(bootstrap.replicate_weights(50, REPLICATES, seed=3)))
    assert weights.shape == (REPLICATES, 50)
    assert (weights.sum(1) == 50).all()
    values = {key: [] for key in LABEL_SET_KEYS + RANKING_KEYS}
    for row in weights:
        s, y, m = repeated((scores, targets, mask), row)
        for key, value in label_set_metrics(count_label_sets(s > 3, y, m)).items():
            values[key].append(float(value))
        for key, value in ranking_metrics(s, y, m).items():
            values[key].append(value)
    options = {"replicates": REPLICATES, "level": 0.9, "seed": 3}
    intervals = bootstrap_label_sets(scores > 3, targets, mask, **options)
    intervals |= bootstrap_ranking(scores, targets, mask, **options)
    for key in set(values) - {"map_classes"}:
        assert intervals[key] == pytest.approx(tuple(np.quantile(values[key], [0.05, 0.95])), abs=1e-12), key


@pytest.mark.parametrize("masked", [False, True])
def test_large_matrices_are_counted_in_blocks_to_the_same_bits(masked, monkeypatch):
    scores, targets, mask = case(masked)
    dense = scores > 3, targets, mask
    sparse = [None if held is None else SparseIndicator.from_dense(held) for held in dense]

    def found(sets, targets, mask):
        yield bootstrap_label_sets(sets, targets, mask, replicates=REPLICATES)
        yield bootstrap_ranking(scores, targets, mask, replicates=REPLICATES)
        yield ranking_metrics(scores, targets, mask)
        yield average_precisions(scores, targets, mask).tobytes()
        if mask is not None:
            yield mean_precision_recall(scores, targets, mask).tobytes()
        for count in count_label_sets(sets, targets, mask):
            yield count if isinstance(count, dict) else np.asarray(count).tolist()

    whole = list(found(*dense))
    monkeypatch.setattr(counts, "ENTRIES", 40)
    monkeypatch.setattr(resampled_ranking, "_RANKED", 60)
    assert list(found(*dense)) == list(found(*sparse)) == list(found(*dense[:2], sparse[2])) == whole
    monkeypatch.setattr(functional, "_POOLED", 1)
    monkeypatch.setattr(functional, "_ENTRIES", 40)
    assert ranking_metrics(scores, *sparse[1:]) == ranking_metrics(scores, targets, mask)
    targets = targets.astype(int)
    targets[33, 2] = 3 if mask is None else 3 * mask[33, 2]
    for core in (count_label_sets, ranking_metrics):
        if targets[33, 2]:
            with pytest.raises(ValueError, match="targets: 3 found in row 33, column 2"):
                core(scores, targets) if core is ranking_metrics else core(targets * 0, targets)
    scores[41, 1] = np.nan
    with pytest.raises(ValueError, match="NaN in row 41, column 1"):
        ranking_metrics(scores, targets * 0, mask)


@pytest.mark.parametrize(("rows", "labels"), [(40, 5), (300, 250)])  # sums of 16 bits, and of more
def test_cutoffs_of_drawn_images_are_those_of_repeated_ones(rows, labels, monkeypatch):
    monkeypatch.setattr(resampled_ranking, "_CHUNK", 64)
    generator = np.random.default_rng(1)
    scores = generator.integers(0, 60, rows * labels) / np.float32(8)
    positive, images = generator.random(rows * labels) < 0.1, np.arange(rows * labels) // labels
    kept = (scores != 3) | positive  # a tie of positives alone
    scores, positive, images = scores[kept], positive[kept], images[kept]
    weights = np.vstack(list(bootstrap.replicate_weights(rows, 5, seed=2))).T
    found = ResampledRanking(scores, positive, images).cutoffs(DrawnImages(weights))
    for replicate, drawn in enumerate(weights.T):
        entries = np.repeat(np.arange(len(scores)), drawn[images])
        expected = label_cutoffs(scores[entries], positive[entries])
        kinds = [np.broadcast_to(values, found.found.shape)[:, replicate] for values in found[:4]]
        some = kinds[0] > 0  # the ties of which this replicate has a positive
        for own, of_repeated in zip(kinds, expected, strict=False):
            np.testing.assert_array_equal(own[some], of_repeated[expected.found > 0])
        assert found.negatives[replicate] == expected.negatives


def test_mean_number_of_labels_and_determinism():
    scores, targets, _ = case(masked=False)
    low, high = bootstrap_label_sets(scores > 3, targets)["labels_per_image"]
    assert low < (scores > 3).sum() / len(scores) < high
    assert bootstrap_label_sets(scores > 3, targets, seed=1) == bootstrap_label_sets(
        scores > 3, targets, seed=1
    )
    assert bootstrap_label_sets(scores > 3, targets, seed=1) != bootstrap_label_sets(
        scores > 3, targets, seed=2
    )


def test_intervals_hold_their_level():
    # exact match of 400 images is a binomial share: a 95% interval should cover its mean in about 95% of
    # draws
    generator, covered = np.random.default_rng(0), 0
    for draw in range(200):
        right = generator.random((400, 1)) < 0.3
        low, high = bootstrap_label_sets(right, np.ones_like(right), replicates=200, seed=draw)["exact_match"]
        covered += low <= 0.3 <= high
    assert 178 <= covered <= 200  # 3.8 standard deviations around 190


def test_intervals_have_a_width_where_every_sample_gives_the_same_value():
    right = np.ones((40, 3), bool)
    known = np.ones((44, 3), bool)
    known[40:] = False  # images of which nothing is known are no trials
    padded = np.vstack([right, np.zeros((4, 3), bool)])
    z2 = 1.959963984540054**2
    for intervals in (bootstrap_label_sets(right, right), bootstrap_label_sets(padded, padded, known)):
        for key in ("pc_p", "ov_r", "f1", "exact_match", "jaccard"):
            assert intervals[key] == pytest.approx((40 / (40 + z2), 1.0))
        assert intervals["hamming_loss"] == pytest.approx((0.0, z2 / (40 + z2)))
        assert intervals["labels_per_image"] == (3, 3)
    targets = np.eye(3, dtype=bool)[np.arange(40) % 3]
    noise = np.random.default_rng(0).random((40, 3)).astype(np.float32)
    ranking = bootstrap_ranking(targets + 0.1 * noise, targets)
    assert ranking["one_error"] == pytest.approx((0.0, z2 / (40 + z2)))
    assert ranking["coverage"] == (1, 1)


def test_wilson_against_its_definition():
    """At both ends the share found lies just z standard deviations away, in the spread that they would give."""
    for share, trials in ((1.0, 40), (0.0, 7), (0.5, 12), (0.975, 40)):
        low, high = bootstrap.wilson(share, trials)
        assert 0 <= low <= share <= high <= 1
        for p in (low, high):
            if 0 < p < 1:
                assert abs(share - p) / np.sqrt(p * (1 - p) / trials) == pytest.approx(1.959963984540054)


def test_intervals_hold_their_level_near_the_edge():
    """Of 40 images, each right with 97%, all are right in three of ten draws; percentiles alone miss all of these."""
    generator, covered = np.random.default_rng(1), 0
    for draw in range(300):
        right = generator.random((40, 1)) < 0.97
        low, high = bootstrap_label_sets(right, np.ones_like(right), replicates=200, seed=draw)["exact_match"]
        covered += low <= 0.97 <= high
    assert covered >= 0.87 * 300
