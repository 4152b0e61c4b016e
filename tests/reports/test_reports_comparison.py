"""The paired bootstrap: against images repeated by hand, on cases with a known answer, and its rate of false alarms."""

import numpy as np
import pytest

from lsep_ml.metrics import BY_KEY
from lsep_ml.metrics.bootstrap import PairedBootstrap
from lsep_ml.metrics.functional import LABEL_SET_KEYS, count_label_sets, label_set_metrics
from lsep_ml.reports.comparison import differences


def split(images: int, labels: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    targets = (rng.random((images, labels)) < 0.3).astype(np.uint8)
    predictions = targets ^ (rng.random(targets.shape) < 0.2)
    return predictions.astype(np.uint8), targets, (rng.random(targets.shape) < 0.9).astype(np.uint8)


def values(predictions: np.ndarray, targets: np.ndarray, mask: np.ndarray) -> np.ndarray:
    found = label_set_metrics(count_label_sets(predictions, targets, mask))
    return np.array([float(found[key]) for key in LABEL_SET_KEYS])


def test_a_replicate_is_the_metrics_of_the_drawn_images() -> None:
    predictions, targets, mask = split(30, 4)
    mask[5] = 0  # an image of which nothing is known
    bootstrap = PairedBootstrap(replicates=100)
    found = bootstrap.run_metrics(predictions, targets * mask, mask, "split")
    weights, order, _ = bootstrap._draws_of(30)
    assert (weights.sum(axis=1) == 30).all()
    for replicate in (0, 7, 99):
        drawn = np.repeat(order, weights[replicate].astype(int))
        expected = values(predictions[drawn], targets[drawn], mask[drawn])
        np.testing.assert_allclose(found[replicate], expected, atol=1e-12)


def test_weights_are_multinomial() -> None:
    weights = PairedBootstrap(replicates=2000)._draws_of(50).weights.astype(float)
    assert weights.mean() == 1
    assert weights.var() == pytest.approx(1 - 1 / 50, rel=0.05)
    assert np.corrcoef(weights[:, 0], weights[:, 1])[0, 1] == pytest.approx(-1 / 49, abs=0.07)


def test_many_images_are_drawn_in_groups(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every image is in one group, groups are of one size, and the spread is that of images drawn one by one."""
    predictions, targets, _ = split(3000, 4)
    mask = np.ones_like(targets)
    single = PairedBootstrap(1000).run_metrics(predictions, targets, mask, "split")
    monkeypatch.setattr("lsep_ml.metrics.bootstrap.GROUPS", 700)
    bootstrap = PairedBootstrap(1000)
    grouped = bootstrap.run_metrics(predictions, targets, mask, "split")
    _, order, starts = bootstrap._draws_of(3000)
    assert sorted(order) == list(range(3000))
    assert set(np.diff([*starts, 3000])) == {4, 5}
    np.testing.assert_allclose(grouped.mean(0), single.mean(0), atol=2e-3)
    np.testing.assert_allclose(grouped.std(0), single.std(0), rtol=0.12)


def test_it_is_a_function_of_its_seed_alone() -> None:
    predictions, targets, mask = split(40, 3)
    first, again, other = (
        PairedBootstrap(100, seed).run_metrics(predictions, targets * mask, mask, "split")
        for seed in (0, 0, 1)
    )
    np.testing.assert_array_equal(first, again)
    assert not np.array_equal(first, other)


def test_a_row_against_itself_and_against_a_far_better_one() -> None:
    predictions, targets, mask = split(200, 5)
    bootstrap = PairedBootstrap(300)
    runs = [bootstrap.run_metrics(sets, targets * mask, mask, "split") for sets in (predictions, targets)]
    means = [values(sets, targets, mask) for sets in (predictions, targets)]
    for comparison in differences("a", "a", (means[0], means[0]), (runs[0], runs[0])):
        assert (comparison.difference, comparison.low, comparison.high) == (0, 0, 0)
        assert not comparison.real
    for comparison in differences("a", "b", (means[0], means[1]), (runs[0], runs[1])):
        assert comparison.real
        assert comparison.low <= comparison.difference <= comparison.high
        assert not comparison.better
        assert (comparison.high < 0) == BY_KEY[comparison.key].higher_is_better


def test_seeds_are_drawn_too_and_stay_paired() -> None:
    """Two rows whose seeds vary together differ by a constant; a row's own spread over seeds widens its interval."""
    bootstrap = PairedBootstrap(400)
    seeds = [np.full((400, 8), level) for level in (0.2, 0.5, 0.8)]
    row, better = (bootstrap.mean_over_seeds([seed + gain for seed in seeds]) for gain in (0.0, 0.1))
    np.testing.assert_allclose(better - row, 0.1)
    assert row.std() == pytest.approx(np.std([0.2, 0.5, 0.8]) / np.sqrt(3), rel=0.15)
    single = bootstrap.mean_over_seeds(seeds[:1])
    np.testing.assert_array_equal(single, seeds[0])


def test_equal_methods_are_told_apart_about_one_time_in_twenty() -> None:
    real = 0
    trials = 200
    for trial in range(trials):
        rng = np.random.default_rng(trial)
        targets = (rng.random((150, 6)) < 0.4).astype(np.uint8)
        mask = np.ones_like(targets)
        bootstrap = PairedBootstrap(200, trial)
        sets = [(targets ^ (rng.random(targets.shape) < 0.25)).astype(np.uint8) for _ in range(2)]
        runs = [bootstrap.run_metrics(one, targets, mask, "split") for one in sets]
        means = [values(one, targets, mask) for one in sets]
        found = differences("a", "b", (means[0], means[1]), (runs[0], runs[1]))
        real += next(c for c in found if c.key == "f1").real
    assert 0.01 <= real / trials <= 0.11  # 5% expected; 200 trials have a standard error of 1.5 points
