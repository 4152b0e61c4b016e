"""Label-set metrics against plain loops and scikit-learn, in any batching, order and array type."""

import warnings

import numpy as np
import pytest
import torch
from metrics_oracle import SCIKIT_LABEL_SETS, label_sets

from lsep_ml.metrics import (
    LABEL_SET_KEYS,
    LabelSetMetrics,
    count_label_sets,
    label_set_metrics,
)


def random_case(seed, rows=37, labels=6, masked=True):
    generator = np.random.default_rng(seed)
    predictions, targets = generator.random((2, rows, labels)) < generator.uniform(0.1, 0.7)
    mask = generator.random((rows, labels)) < 0.7 if masked else None
    targets[:, seed % labels] &= seed % 2 == 0  # sometimes a label without a positive
    predictions[:, (seed + 1) % labels] &= seed % 3 == 0  # sometimes a label that is never predicted
    return predictions, targets, mask


@pytest.mark.parametrize("seed", range(12))
@pytest.mark.parametrize("masked", [False, True])
def test_equal_to_loops(seed, masked):
    predictions, targets, mask = random_case(seed, masked=masked)
    if masked:
        mask[:3] = False  # images without a known label are left out
    values = label_set_metrics(count_label_sets(predictions, targets, mask))
    expected = label_sets(predictions, targets, np.ones_like(targets) if mask is None else mask)
    assert tuple(values) == LABEL_SET_KEYS
    for key in LABEL_SET_KEYS:
        assert float(values[key]) == pytest.approx(expected[key], abs=1e-14), key


@pytest.mark.parametrize("seed", range(4))
def test_equal_to_scikit_learn(seed):
    predictions, targets, _ = random_case(seed, rows=200)
    values = label_set_metrics(count_label_sets(predictions, targets))
    for key in LABEL_SET_KEYS:
        assert float(values[key]) == pytest.approx(SCIKIT_LABEL_SETS[key](targets, predictions)), key


@pytest.mark.parametrize("masked", [False, True])
def test_metric_is_the_core_bit_for_bit_in_any_batching_and_order(masked):
    predictions, targets, mask = (
        None if a is None else torch.from_numpy(a) for a in random_case(3, 101, 7, masked)
    )
    expected = label_set_metrics(
        count_label_sets(predictions.numpy(), targets.numpy(), None if mask is None else mask.numpy())
    )
    for batch in (1, 7, 101):
        order = torch.randperm(101, generator=torch.Generator().manual_seed(batch))
        metric = LabelSetMetrics(7)
        for rows in order.split(batch):
            metric.update(predictions[rows], targets[rows], None if mask is None else mask[rows])
        values = metric.compute()
        assert {key: float(value) for key, value in values.items()} == {
            k: float(v) for k, v in expected.items()
        }
        assert all(value.dtype == torch.float64 for value in values.values())


@pytest.mark.parametrize("dtype", [torch.bool, torch.uint8, torch.int64, torch.float16, torch.float32])
def test_dtypes_of_zeros_and_ones_do_not_matter(dtype):
    predictions, targets, mask = (torch.from_numpy(array) for array in random_case(5))
    expected, metric = LabelSetMetrics(6), LabelSetMetrics(6)
    expected.update(predictions, targets, mask)
    metric.update(predictions.to(dtype), targets.to(dtype), mask)
    assert metric.compute() == expected.compute()


def test_unknown_entries_change_nothing():
    predictions, targets, mask = random_case(8)
    values = label_set_metrics(count_label_sets(predictions, targets, mask))
    flipped = label_set_metrics(count_label_sets(predictions ^ ~mask, targets ^ ~mask, mask))
    assert {k: float(v) for k, v in values.items()} == {k: float(v) for k, v in flipped.items()}


def test_leading_axes_are_replicates():
    cases = [random_case(seed) for seed in range(4)]
    predictions, targets, mask = (np.stack(arrays) for arrays in zip(*cases, strict=True))
    stacked = label_set_metrics(count_label_sets(predictions, targets, mask))
    for index, case in enumerate(cases):
        for key, value in label_set_metrics(count_label_sets(*case)).items():
            assert stacked[key][index] == value


def test_nothing_predicted_and_nothing_true_count_zero_without_warnings():
    nothing = np.zeros((4, 3), bool)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        values = label_set_metrics(count_label_sets(nothing, nothing))
    assert {key: float(value) for key, value in values.items() if value} == {"exact_match": 1.0}


def test_wrong_input_is_named():
    metric = LabelSetMetrics(3)
    good = torch.zeros(4, 3)
    with pytest.raises(ValueError, match=r"targets: shape \(4, 2\), expected \(N, 3\)"):
        metric.update(good, good[:, :2])
    with pytest.raises(ValueError, match=r"mask: shape \(2, 3\)"):
        metric.update(good, good, torch.ones(2, 3, dtype=torch.bool))
    with pytest.raises(ValueError, match=r"targets: 2\.0 found in row 0, column 0, expected only 0 and 1"):
        metric.update(good, good + 2)
    with pytest.raises(ValueError, match=r"predictions: 0\.5 found"):
        metric.update(good + 0.5, good)
    metric.update(good, good + 2, torch.zeros(4, 3, dtype=torch.bool))  # unknown entries may hold anything
