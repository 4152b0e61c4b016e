"""Learning curves: honest out of fold, nested shares, intervals; the ranking against loops."""

import numpy as np
import pytest
import torch

from lsep_ml.data.stratified import stratified_folds
from lsep_ml.decisions import Calibrated, PerClassThreshold
from lsep_ml.metrics.functional import average_precisions
from lsep_ml.training import learning_curve as module
from lsep_ml.training.learning_curve import LabelledRows, Point, learning_curve, rank


def case(images=240, labels=3, width=12, seed=0, noise=1.0):
    rng = np.random.default_rng(seed)
    features = rng.standard_normal((images, width)).astype(np.float32)
    scores = features @ rng.standard_normal((width, labels)) + noise * rng.standard_normal((images, labels))
    targets = (scores > np.quantile(scores, [0.5, 0.7, 0.9][:labels], axis=0).diagonal()).astype(np.uint8)
    return LabelledRows(torch.from_numpy(features), targets)


def test_more_images_help_where_there_is_something_to_learn():
    points = learning_curve(case(width=40), replicates=50)
    assert [point.share for point in points] == [0.25, 0.5, 1.0]
    assert [point.images for point in points] == [48, 96, 192]
    assert points[0].map < points[1].map < points[2].map
    for point in points:
        assert np.allclose(point.ap, average_precisions(point.scores, case(width=40).targets))
        for value, (low, high) in zip(
            (*point.ap, *point.f1), (*point.ap_interval, *point.f1_interval), strict=True
        ):
            assert low <= value <= high
        assert point.map_interval[0] < point.map < point.map_interval[1]
        assert point.mean_f1_interval[0] < point.mean_f1 < point.mean_f1_interval[1]


def test_scores_are_out_of_fold():
    """Labels of pure chance cannot be told by images that were not seen: AP stays near the share of positives."""
    rng = np.random.default_rng(1)
    labelled = LabelledRows(
        torch.from_numpy(rng.standard_normal((200, 60)).astype(np.float32)),
        (rng.random((200, 3)) < 0.5).astype(np.uint8),
    )
    [point] = learning_curve(labelled, shares=(1.0,), replicates=2)
    assert point.map < 0.6  # fitted on the images themselves it is 1


def test_groups_stay_in_one_fold_and_shares_are_nested(monkeypatch: pytest.MonkeyPatch):
    seen = []
    found = module._out_of_fold
    monkeypatch.setattr(module, "_out_of_fold", lambda labelled, rows, folds: (
        seen.append((rows, folds)), found(labelled, rows, folds))[1])  # fmt: skip
    labelled = case(images=120)
    groups = np.arange(120) // 3
    learning_curve(LabelledRows(labelled.features, labelled.targets, None, groups), replicates=2)
    (few, folds), (more, _), (every, _) = seen
    for fold in range(len(few)):
        assert set(few[fold]) < set(more[fold]) < set(every[fold])
        assert not set(groups[every[fold]]) & set(groups[folds == fold])
        assert sorted([*every[fold], *np.flatnonzero(folds == fold)]) == list(range(120))


def test_unknown_entries_play_no_part():
    labelled = case()
    rng = np.random.default_rng(2)
    mask = rng.random(labelled.targets.shape) < 0.7
    known = labelled.targets * mask
    points = [
        learning_curve(
            LabelledRows(labelled.features, targets.astype(np.uint8), mask), shares=(1.0,), replicates=5
        )[0]
        for targets in (known, known)
    ]
    assert np.array_equal(points[0].scores, points[1].scores)
    expected = [
        average_precisions(
            points[0].scores[mask[:, k], k][:, None], labelled.targets[mask[:, k], k][:, None]
        )[0]
        for k in range(3)
    ]
    assert np.allclose(points[0].ap, expected)


def test_a_label_without_positives_has_no_curve():
    labelled = case()
    targets = labelled.targets.copy()
    targets[:, 1] = 0
    [point] = learning_curve(LabelledRows(labelled.features, targets), shares=(1.0,), replicates=5)
    assert np.isnan([point.ap[1], point.f1[1], *point.ap_interval[1]]).all()
    assert np.isfinite(point.map)


def test_f1_is_that_of_thresholds_of_the_other_folds():
    labelled = case()
    [point] = learning_curve(labelled, shares=(1.0,), replicates=2)
    folds = stratified_folds(labelled.targets, 5, 0)
    sets = np.zeros(labelled.targets.shape, bool)
    for fold in range(5):
        inside = folds == fold
        rule = PerClassThreshold().fit(point.scores[~inside], labelled.targets[~inside])
        sets[inside] = rule.predict(point.scores[inside]).numpy()
    for k in range(3):
        true = sum(sets[i, k] and labelled.targets[i, k] for i in range(240))
        assert point.f1[k] == pytest.approx(2 * true / (sets[:, k].sum() + labelled.targets[:, k].sum()))


def test_the_ranking_is_that_of_its_equation():
    labelled, others = case(), case(images=50, seed=7)
    [point] = learning_curve(labelled, shares=(1.0,), replicates=2)
    ranked = rank(labelled, point, others.features)
    thresholds = PerClassThreshold().fit(point.scores, labelled.targets).thresholds(None, 1)[0].numpy()
    platt = Calibrated().fit(point.scores, labelled.targets)
    curves = platt.curves.numpy()
    counts = labelled.targets.sum(axis=0)
    for row in range(50):
        expected = 0.0
        for k in range(3):
            slope, intercept = curves[k]
            z, t = slope * ranked.scores[row, k] + intercept, slope * thresholds[k] + intercept
            expected += 2 / (1 + np.exp(abs(z - t))) / counts[k]
            assert ranked.probabilities[row, k] == pytest.approx(1 / (1 + np.exp(-z)), abs=1e-6)
        assert ranked.priority[row] == pytest.approx(expected, rel=1e-5)
        assert (ranked.label_sets[row] == (ranked.scores[row] > thresholds)).all()
    assert (np.diff(ranked.priority[ranked.order]) <= 0).all()
    again = rank(labelled, point, others.features)
    assert np.array_equal(ranked.order, again.order)


@pytest.mark.parametrize("share", [0.0, -0.5, 1.5])
def test_shares_are_shares(share):
    with pytest.raises(ValueError, match="expected numbers above 0 and at most 1"):
        learning_curve(case(), shares=(share,))


def test_a_point_knows_its_means():
    nothing = np.array([np.nan, 0.5])
    point = Point(1.0, 2, 0.1, np.zeros((2, 2), np.float32), nothing, nothing, *4 * [np.zeros(2)])
    assert point.map == point.mean_f1 == 0.5
