"""Differences by the paired bootstrap, against images repeated by hand and known cases; and the questions asked."""

from itertools import combinations
from pathlib import Path

import numpy as np
import pytest
from report_runs import edit_record, write_run, write_sweep

from lsep_ml.metrics import BY_KEY, counts
from lsep_ml.metrics.bootstrap import PairedBootstrap
from lsep_ml.metrics.functional import LABEL_SET_KEYS, count_label_sets, label_set_metrics
from lsep_ml.metrics.indicator import SparseIndicator
from lsep_ml.reports.comparison import (
    Answer,
    Comparison,
    Evidence,
    answer,
    best_decisions,
    compare_all,
    compare_rows,
    differences,
    gather,
    validated,
)
from lsep_ml.reports.grouping import RunGroup, group_runs
from lsep_ml.reports.paper import method_name
from lsep_ml.reports.records import digest_run, find_runs
from lsep_ml.runs.finished import Method


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
    predictions[:, 3], targets[:, 3] = 1, 0
    found = bootstrap.run_metrics(predictions, targets * mask, mask, "split")
    weights, order, _ = bootstrap._draws_of(30)
    assert (weights.sum(axis=1) == 30).all()
    for replicate in (0, 7, 99):
        drawn = np.repeat(order, weights[replicate].astype(int))
        expected = values(predictions[drawn], targets[drawn], mask[drawn])
        np.testing.assert_allclose(found[replicate], expected, atol=1e-12)


def test_sparse_sets_and_blocks_of_labels_give_the_same_bits(monkeypatch: pytest.MonkeyPatch) -> None:
    dense = split(30, 6)
    for of, value in ((dense[0], 0), (dense[1], 1), (dense[2], 1)):
        of[:, 4:] = value  # labels that no image has, or all have
    whole = PairedBootstrap(replicates=50).run_metrics(*dense, "split")
    monkeypatch.setattr(counts, "ENTRIES", 40)
    monkeypatch.setattr("lsep_ml.metrics.bootstrap._BLOCK", 40)  # of some replicates too
    for sets in (dense, map(SparseIndicator.from_dense, dense)):
        found = PairedBootstrap(replicates=50).run_metrics(*sets, "split")
        np.testing.assert_array_equal(found, whole, strict=True)


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


def evidence_below(folder: Path, *left_out: Path) -> tuple[RunGroup, dict[Method, Evidence]]:
    """The only group, and the evidence of its rows whose runs are not in `left_out`."""
    [group] = group_runs(find_runs(folder).runs)[0]
    bootstrap = PairedBootstrap(200)
    runs = [run for row in group.rows for run in row.runs if run.folder not in left_out]
    return group, gather(group, {run: digest_run(run, bootstrap) for run in runs}, bootstrap)


def test_evidence_is_the_mean_over_seeds_of_the_records_metrics(tmp_path: Path) -> None:
    write_sweep(tmp_path, losses=["lsep", "warp"], decisions=["topk"], seeds=[0, 1, 2])
    group, evidence = evidence_below(tmp_path)
    assert list(evidence) == [("warp", "topk"), ("lsep", "topk")]  # the paper's order
    for method, found in evidence.items():
        runs = group.chosen[method].runs
        expected = [np.mean([run.test[key] for run in runs]) for key in LABEL_SET_KEYS]
        np.testing.assert_allclose(found.mean, expected, atol=1e-6)
        assert found.replicates.shape == (200, len(LABEL_SET_KEYS))
        np.testing.assert_allclose(found.replicates.mean(0), expected, atol=0.05)


def test_a_row_of_which_a_run_lacks_its_predictions_is_no_evidence(tmp_path: Path) -> None:
    write_run(tmp_path, decision="topk")
    kept, gone = (write_run(tmp_path, loss="warp", decision="topk", seed=seed) for seed in (0, 1))
    assert set(evidence_below(tmp_path, gone)[1]) == {("lsep", "topk")}
    assert set(evidence_below(tmp_path, kept, gone)[1]) == {("lsep", "topk")}


def test_every_pair_is_compared_once_in_every_metric(tmp_path: Path) -> None:
    write_sweep(tmp_path, losses=["lsep", "warp", "bpmll"], decisions=["topk"], seeds=[0, 1])
    _, evidence = evidence_below(tmp_path)
    pairs = compare_all(evidence)
    assert list(pairs) == list(combinations(evidence, 2))
    for (first, second), found in pairs.items():
        assert [comparison.key for comparison in found] == list(LABEL_SET_KEYS)
        means = 100 * (evidence[first].mean - evidence[second].mean)
        replicates = 100 * (evidence[first].replicates - evidence[second].replicates)
        np.testing.assert_allclose([c.difference for c in found], means)
        np.testing.assert_allclose([c.low for c in found], np.percentile(replicates, 2.5, axis=0))
        np.testing.assert_allclose([c.high for c in found], np.percentile(replicates, 97.5, axis=0))
        for one, back in zip(found, compare_rows(second, first, evidence), strict=True):
            mirrored = (-one.difference, -one.high, -one.low)
            assert (back.difference, back.low, back.high) == pytest.approx(mirrored, abs=1e-9)
            assert (back.real, back.better) == (one.real, not one.better)


@pytest.mark.parametrize(
    ("key", "difference", "low", "high", "real", "better"),
    [
        ("f1", 2.0, 0.5, 3.0, True, True),
        ("f1", -2.0, -3.0, -0.5, True, False),
        ("f1", 2.0, 0.0, 3.0, False, True),  # an interval that touches 0 does not leave it out
        ("hamming_loss", -2.0, -3.0, -0.5, True, True),  # lower is better
        ("hamming_loss", 2.0, -0.5, 3.0, False, False),
    ],
)
def test_what_a_difference_says(
    key: str, difference: float, low: float, high: float, real: bool, better: bool
) -> None:
    found = Comparison("a", "b", key, difference, low, high)
    assert (found.real, found.better) == (real, better)


def test_an_answer_has_a_row_for_each_opponent() -> None:
    found = [Comparison("a", other, key, 1, 0, 2) for other in ("b", "c") for key in ("f1", "exact_match")]
    told = Answer("who?", found)
    assert told.keys == ["f1", "exact_match"]
    assert told.rows == [("b", found[:2]), ("c", found[2:])]


def test_the_paper_s_questions_are_asked_of_the_rows_there_are(tmp_path: Path) -> None:
    decisions = ["topk", "threshold", "thresh_est"]
    write_sweep(tmp_path, losses=["lsep", "warp"], decisions=decisions, seeds=[0, 1], images=60)
    write_run(tmp_path, loss="bce", images=60)
    group, evidence = evidence_below(tmp_path)
    f1, exact, on_lsep, on_table_one = answer(group, evidence)
    for found, key, name in ((f1, "f1", "F1"), (exact, "exact_match", "exact match")):
        best = best_decisions(group, evidence, key)
        ours = {"topk": "K", "threshold": "θ", "thresh_est": "threshold est."}[best["lsep"].decision]
        assert found.question == (
            f"{name}: LSEP ({ours}) against each loss, all under the decision of highest validation {name}"
        )
        assert (found.keys, len(found.rows)) == ([key], 2)
        for loss in ("lsep", "warp"):
            values = {
                decision: np.mean([run.val[key] for run in group.chosen[Method(loss, decision)].runs])
                for decision in decisions
            }
            assert values[best[loss].decision] == max(values.values())
    assert on_lsep.question == "LSEP (threshold est.) against the other decisions on LSEP's scores"
    assert [name for name, _ in on_lsep.rows] == ["LSEP (K)", "LSEP (θ)"]
    assert [name for name, _ in on_table_one.rows] == [
        "WARP (K)",
        "WARP (θ)",
        "Binary cross entropy (threshold est.)",
    ]
    assert on_table_one.keys == ["f1", "exact_match"]


def test_validation_says_which_decisions_on_the_same_scores_are_worse_than_the_best(tmp_path: Path) -> None:
    for decision in ("topk", "threshold", "thresh_est"):
        for seed in (0, 1):
            folder = write_run(tmp_path, loss="warp", decision=decision, seed=seed, images=400)
            edit_record(folder, identity=f"network of seed {seed}")
    write_run(tmp_path, loss="bce", images=400)
    [group] = group_runs(find_runs(tmp_path).runs)[0]
    bootstrap = PairedBootstrap(200)
    [verdict] = validated(group, bootstrap)
    val = {method: np.mean([run.val["f1"] for run in row.runs]) for method, row in group.chosen.items()}
    ours = [method for method in val if method.scorer == "warp"]
    best = max(ours, key=lambda method: val[method])
    assert verdict.question.startswith(f"Validation F1: {method_name(*best)} against")
    assert verdict.comparisons
    for comparison in verdict.comparisons:
        [worse] = [method for method in ours if method_name(*method) == comparison.second]
        assert comparison.low > 0
        assert comparison.difference == pytest.approx(100 * (val[best] - val[worse]), abs=1e-3)
    for folder in tmp_path.rglob("*thresh_est*/validation.npz"):  # without it nothing can be said of a run
        folder.unlink()
    assert all(
        method_name("warp", "thresh_est") not in found.question for found in validated(group, bootstrap)
    )


def test_without_lsep_nothing_is_asked(tmp_path: Path) -> None:
    write_sweep(tmp_path, losses=["warp", "bpmll"], decisions=["topk"], seeds=[0], images=40)
    assert answer(*evidence_below(tmp_path)) == []
