"""What is shown of scores: which runs, curves and searches, probabilities, reliability, and suspicious labels."""

from pathlib import Path

import numpy as np
import pytest
from report_runs import top, write_run, write_sweep
from scipy.special import expit
from sklearn.metrics import f1_score

from lsep_ml.metrics.calibration import sigmoid
from lsep_ml.metrics.functional import mean_precision_recall
from lsep_ml.reports.grouping import RunGroup, group_runs
from lsep_ml.reports.records import find_runs
from lsep_ml.reports.score_views import (
    JudgedLabels,
    ScoreView,
    find_suspects,
    platt_curves,
    platt_judged,
    reliability,
    score_runs,
    view_scores,
)


def only_group(folder: Path) -> RunGroup:
    [group] = group_runs(find_runs(folder).runs)[0]
    return group


def view_of(folder: Path, loss: str = "lsep") -> tuple[ScoreView | None, list[str]]:
    group = only_group(folder)
    runs = score_runs(group, {run for row in group.rows for run in row.runs})[loss]
    view, problems = view_scores(group, loss, runs)
    return view, [problem.message for problem in problems]


def known_f1(sets: np.ndarray, arrays: dict[str, np.ndarray]) -> float:
    """The mean over labels of scikit-learn's F1 of the known entries."""
    columns = zip(sets.T, arrays["targets"].T, arrays["mask"].T != 0, strict=True)
    values = [f1_score(true[known], found[known], zero_division=0) for found, true, known in columns]
    return float(np.mean(values))


def test_of_several_decisions_the_run_with_thresholds_for_each_image_is_shown(tmp_path: Path) -> None:
    write_sweep(tmp_path, losses=["warp", "lsep"], decisions=["topk", "threshold"], seeds=[1, 0])
    write_run(tmp_path, decision="thresh_est", seed=1)
    group = only_group(tmp_path)
    every = {run for row in group.rows for run in row.runs}
    found = score_runs(group, every)
    assert {loss: [(run.decision, run.seed) for run in runs] for loss, runs in found.items()} == {
        "warp": [("threshold", 0), ("threshold", 1)],
        "lsep": [("threshold", 0), ("thresh_est", 1)],
    }
    without = {run for run in every if run.decision != "threshold" and run.loss == "lsep"}
    assert [(run.decision, run.seed) for run in score_runs(group, without)["lsep"]] == [
        ("topk", 0),
        ("thresh_est", 1),
    ]


def test_curves_and_searches_are_those_of_the_arrays(tmp_path: Path) -> None:
    folders = [write_run(tmp_path, decision="threshold", seed=seed, labels=5, unknown=0.1) for seed in (0, 1)]
    write_run(tmp_path, decision="topk", labels=5, unknown=0.1)
    [theta] = [run.choices["theta"] for run in find_runs(folders[0]).runs]
    view, problems = view_of(tmp_path)
    assert problems == []
    assert view is not None
    assert view.curves.shape == (2, 101)
    for curve, folder in zip(view.curves, folders, strict=True):
        test = np.load(folder / "predictions.npz")
        np.testing.assert_array_equal(
            curve, mean_precision_recall(test["scores"], test["targets"], test["mask"])
        )
    splits = {
        name: dict(np.load(folders[0] / f"{file}.npz"))
        for name, file in (("val", "validation"), ("test", "predictions"))
    }
    assert view.theta is not None
    assert view.k is not None
    assert view.theta.chosen == theta
    assert view.k.candidates.tolist() == [1, 2, 3, 4, 5]
    for name, arrays in splits.items():
        f1 = getattr(view.theta, name)
        for at in range(0, len(f1), 7):
            sets = arrays["scores"] > np.float32(view.theta.candidates[at])
            assert f1[at] == pytest.approx(known_f1(sets, arrays))
        for k, value in zip(range(1, 6), getattr(view.k, name), strict=True):
            assert value == pytest.approx(known_f1(top(arrays["scores"], np.full(len(sets), k)), arrays))
    val = splits["val"]["scores"]
    assert (view.theta.candidates[0], view.theta.candidates[-1]) == (val.min(), val.max())


def test_only_thresholds_that_differ_between_images_are_judged_as_probabilities(tmp_path: Path) -> None:
    write_run(tmp_path / "one", decision="threshold")
    view, _ = view_of(tmp_path / "one")
    assert view is not None
    assert view.own is None
    folder = write_run(tmp_path / "each", decision="thresh_est")
    view, _ = view_of(tmp_path / "each")
    test = np.load(folder / "predictions.npz")
    assert view is not None
    assert view.own is not None
    probabilities = expit((test["scores"] - test["thresholds"]).astype(np.float64)).ravel()
    bins = np.minimum((15 * probabilities).astype(int), 14)
    for bin_ in range(15):
        inside = bins == bin_
        assert view.own.entries[bin_] == inside.sum()
        if inside.any():
            assert view.own.probability[bin_] == pytest.approx(probabilities[inside].mean(), abs=1e-6)
            assert view.own.frequency[bin_] == pytest.approx(test["targets"].ravel()[inside].mean())


def test_what_cannot_be_read_is_left_out_and_said(tmp_path: Path) -> None:
    gone, kept = (write_run(tmp_path, decision="threshold", seed=seed) for seed in (0, 1))
    (gone / "predictions.npz").unlink()
    view, [problem] = view_of(tmp_path)
    assert view is not None
    assert len(view.curves) == 1
    assert view.theta is not None  # of the seed that is left
    assert problem.endswith("its curve is left out")
    (kept / "validation.npz").unlink()
    view, problems = view_of(tmp_path)
    assert view is not None
    assert (len(view.curves), view.theta, view.k, view.platt, view.suspects) == (1, None, None, None, ())
    assert problems[1].endswith("its searches and calibration are left out")
    (kept / "predictions.npz").unlink()
    view, problems = view_of(tmp_path)
    assert view is None
    assert len(problems) == 2


def drawn(images: int, slope: float, offset: float, seed: int) -> dict[str, np.ndarray]:
    """Labels drawn from a logistic curve of their score."""
    rng = np.random.default_rng(seed)
    scores = rng.normal(size=(images, 3)).astype(np.float32)
    targets = (rng.random(scores.shape) < expit(slope * scores + offset)).astype(np.uint8)
    return {"scores": scores, "targets": targets, "mask": np.ones_like(targets)}


def platt_probabilities(val: dict[str, np.ndarray], test: dict[str, np.ndarray]) -> np.ndarray:
    [judged] = platt_judged(platt_curves(val), test)
    return judged.probabilities


def all_judged(probabilities: np.ndarray, targets: np.ndarray, mask: np.ndarray) -> list[JudgedLabels]:
    """The labels one by one."""
    columns = zip(probabilities.T, targets.T == 1, mask.T == 1, strict=True)
    return [JudgedLabels(k, *(of[:, None] for of in column)) for k, column in enumerate(columns)]


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
    found = reliability(all_judged(probabilities, targets, mask))
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
    suspects = find_suspects(all_judged(probabilities, annotated, np.ones_like(true)), each=5)
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
    assert [(s.row, s.label) for s in find_suspects(all_judged(probabilities, targets, mask), each=5)] == [
        (0, 0)
    ]
