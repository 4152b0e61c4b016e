"""The explorer's data: what the page decodes is what the functional core counts on the whole arrays."""

import base64
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from report_runs import top, write_run, write_sweep

from lsep_ml.metrics import count_label_sets, label_set_metrics, labels_per_image
from lsep_ml.metrics.bootstrap import PairedBootstrap
from lsep_ml.metrics.indicator import SparseIndicator
from lsep_ml.reports.explorer import choose_runs, explore
from lsep_ml.reports.group_files import GroupFiles
from lsep_ml.reports.grouping import group_runs
from lsep_ml.reports.records import digest_run, find_runs
from lsep_ml.runs.arrays import read_held


def files_below(folder: Path) -> GroupFiles:
    [group] = group_runs(find_runs(folder).runs)[0]
    bootstrap = PairedBootstrap(100)
    return GroupFiles(group, {run: digest_run(run, bootstrap) for row in group.rows for run in row.runs})


def unpack(text: str, kind: str) -> np.ndarray:
    return np.frombuffer(base64.b64decode(text), kind)


def counts_of(packed: dict[str, Any], name: str, labels: int) -> np.ndarray:
    kind = {2: "<u2", 4: "<u4"}[packed["bytes"]]
    return unpack(packed[name], kind).reshape(len(packed["values"]), labels)


@pytest.mark.parametrize("decision", ["topk", "threshold", "count_est", "thresh_est"])
def test_every_step_of_every_slider(tmp_path: Path, decision: str) -> None:
    folder = write_run(tmp_path, decision=decision, images=150, labels=7, unknown=0.1)
    files = files_below(tmp_path)
    group, problems = explore(files, choose_runs(files, 10), {})
    assert problems == []
    [model], [run] = group["models"], group["runs"]
    arrays = np.load(folder / "predictions.npz")
    scores, targets, mask, own = (arrays[name] for name in ("scores", "targets", "mask", "predictions"))
    reported = count_label_sets(own, targets, mask)
    assert group["actual"] == reported.actual.tolist()
    assert group["images"] == reported.images
    assert run["right"] == reported.exact
    right = (~((own ^ targets) & mask).any(1)) & mask.any(1)

    def label_sets(mode: str, value: float) -> np.ndarray:
        if mode == "k":
            return top(scores, np.full(len(scores), int(value)))
        return scores - (arrays["thresholds"] if mode == "shift" else 0) > np.float32(value)

    modes = ["theta", "k"] + (["shift"] if decision == "thresh_est" else [])
    assert set(modes) == {"theta", "k", "shift"} & set(run)
    for mode in modes:
        packed = run["shift"] if mode == "shift" else model[mode]
        correct, predicted = (counts_of(packed, name, 7) for name in ("correct", "predicted"))
        for step in range(0, len(packed["values"]), 1 if mode == "k" else 9):
            sets = label_sets(mode, packed["values"][step])
            expected = count_label_sets(sets, targets, mask)
            np.testing.assert_array_equal(correct[step], expected.correct)
            np.testing.assert_array_equal(predicted[step], expected.predicted)
            values = {**label_set_metrics(expected), "labels_per_image": labels_per_image(expected)}
            for key, value in values.items():
                assert unpack(packed["metrics"][key], "<f8")[step] == pytest.approx(float(value), abs=1e-12)
            assert packed["exact"][step] == expected.exact
            assert run[mode]["same"][step] == count_label_sets(sets, own * mask, mask).exact
            still = (~((sets ^ (targets == 1)) & (mask == 1)).any(1)) & right
            assert run[mode]["stillRight"][step] == still.sum()


@pytest.mark.parametrize(
    ("decision", "mode"), [("topk", "k"), ("threshold", "theta"), ("thresh_est", "shift")]
)
def test_the_reported_decision_is_a_step_of_its_slider(tmp_path: Path, decision: str, mode: str) -> None:
    write_run(tmp_path, decision=decision)
    files = files_below(tmp_path)
    group, _ = explore(files, choose_runs(files, 10), {})
    assert max(group["runs"][0][mode]["same"]) == group["images"]


def test_runs_on_one_network_share_their_scores(tmp_path: Path) -> None:
    write_sweep(tmp_path, losses=["lsep", "warp"], seeds=[0, 1])
    files = files_below(tmp_path)
    group, _ = explore(files, choose_runs(files, 100), {})
    assert (len(group["models"]), len(group["runs"])) == (4, 16)
    assert len(group["shown"]) == 24
    assert all(one["picture"].startswith("data:image/webp;base64,") for one in group["shown"])


def test_the_lowest_seed_of_every_row_comes_first(tmp_path: Path) -> None:
    write_sweep(tmp_path, losses=["lsep", "warp"], decisions=["topk", "threshold"], seeds=[3, 5])
    chosen = choose_runs(files_below(tmp_path), 6)
    assert [run.seed for run in chosen] == [3, 3, 3, 3, 5, 5]


def test_of_very_many_labels_the_page_has_some(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = write_run(tmp_path, decision="thresh_est", images=90, labels=30, unknown=0.1)
    files = files_below(tmp_path)
    every, _ = explore(files, choose_runs(files, 1), {})
    assert every["note"] == ""
    for name, value in {"MOST_LABELS": 20, "OFTEN": 4, "RARE": 3, "WORST": 5}.items():
        monkeypatch.setattr(f"lsep_ml.reports.explorer.{name}", value)
    group, problems = explore(files, choose_runs(files, 1), {})
    assert problems == []
    arrays = np.load(folder / "predictions.npz")
    labels = [list(files.label_names).index(name) for name in group["labels"]]
    actual = (arrays["targets"] * arrays["mask"]).sum(0)
    assert labels == sorted(set(labels))
    assert 7 <= len(labels) <= 12
    assert set(np.argsort(-actual, kind="stable")[:4]) <= set(labels)
    assert group["actual"] == actual[labels].tolist()
    assert f"Of 30 labels the page has {len(labels)}" in group["note"]
    [model], [run], [dense], [dense_run] = group["models"], group["runs"], every["models"], every["runs"]
    pictures = len(group["shown"])
    for packed, whole, name, kind in (
        (model, dense, "scores", "<f4"),
        (run, dense_run, "predictions", "u1"),
        (run, dense_run, "thresholds", "<f4"),
    ):
        expected = unpack(whole[name], kind).reshape(pictures, 30)[:, labels]
        np.testing.assert_array_equal(unpack(packed[name], kind).reshape(pictures, -1), expected)
    assert model["ap"] == [dense["ap"][k] for k in labels]
    for packed, whole in (
        (model["k"], dense["k"]),
        (model["theta"], dense["theta"]),
        (run["shift"], dense_run["shift"]),
    ):
        for name in ("correct", "predicted"):
            expected = counts_of(whole, name, 30)[:, labels]
            np.testing.assert_array_equal(counts_of(packed, name, len(labels)), expected)
        assert [packed[name] for name in ("values", "exact", "metrics")] == [
            whole[name] for name in ("values", "exact", "metrics")
        ]
    for some, all_of, image, whole in zip(
        model["top"], dense["top"], group["shown"], every["shown"], strict=True
    ):
        assert [labels[k] if k >= 0 else None for k in some] == [k if k in labels else None for k in all_of]
        assert [labels[k] for k in image["true"]] == [k for k in whole["true"] if k in labels]
        assert [labels[k] for k in image["unknown"]] == [k for k in whole["unknown"] if k in labels]


def test_more_images_than_sixteen_bits_count(tmp_path: Path) -> None:
    """Counts that a 16-bit number cannot hold are packed in 32 bits."""
    folder = write_run(tmp_path, decision="topk", images=70_000, labels=3, intervals=False)
    files = files_below(tmp_path)
    group, _ = explore(files, choose_runs(files, 1), {})
    packed = group["models"][0]["k"]
    assert packed["bytes"] == 4
    arrays = np.load(folder / "predictions.npz")
    expected = count_label_sets(np.ones_like(arrays["targets"]), arrays["targets"])
    np.testing.assert_array_equal(counts_of(packed, "predicted", 3)[2], expected.predicted)


def test_a_run_whose_thresholds_are_damaged_leaves_the_others(tmp_path: Path) -> None:
    write_run(tmp_path, decision="topk")
    folder = write_run(tmp_path)
    files = files_below(tmp_path)
    arrays = dict(np.load(folder / "predictions.npz"))
    arrays["thresholds"][4, 2] = np.nan
    np.savez(folder / "predictions.npz", **arrays)
    group, [problem] = explore(files, choose_runs(files, 10), {})
    assert len(group["runs"]) == 1
    assert "thresholds holds nan in row 4" in problem.message


def test_by_blocks_and_from_sparse_matrices_all_is_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_run(tmp_path, decision="thresh_est", images=90, labels=30, unknown=0.1)
    write_run(tmp_path, decision="threshold", images=90, labels=30, unknown=0.1)
    monkeypatch.setattr("lsep_ml.reports.explorer.MOST_LABELS", 20)
    monkeypatch.setattr("lsep_ml.reports.explorer.OFTEN", 5)
    files = files_below(tmp_path)
    whole = explore(files, choose_runs(files, 2), {})
    for module, name in (
        ("metrics.counts", "ENTRIES"),
        ("metrics.operating_points", "_ENTRIES"),
        ("reports.score_views", "_ENTRIES"),
        ("runs.arrays", "ENTRIES"),
    ):
        monkeypatch.setattr(f"lsep_ml.{module}.{name}", 200)
    held = read_held(next(iter(files.digests)), "predictions.npz", "targets")
    assert isinstance(held["targets"], SparseIndicator)
    again = files_below(tmp_path)
    [group], [other] = ([found] for found in (explore(again, choose_runs(again, 2), {})[0], whole[0]))
    for model in (*group["models"], *group["runs"], *other["models"], *other["runs"]):
        for mode in ("theta", "shift"):  # sums over images, to rounding
            packed = model.get(mode, {}).pop("metrics", {})
            model[f"{mode} metrics"] = {
                key: unpack(value, "<f8").round(12).tolist() for key, value in packed.items()
            }
    assert group == other
    [view], [expected] = again.views.values(), files.views.values()
    for name, found in (("theta", view.theta), ("k", view.k), ("platt", view.platt), ("own", view.own)):
        for one, two in zip(found, getattr(expected, name), strict=True):
            np.testing.assert_allclose(*(np.array(of, float) for of in (one, two)), rtol=1e-12)
    np.testing.assert_array_equal(view.curves, expected.curves)
    assert view.suspects == expected.suspects
    for digest, dense in zip(again.digests.values(), files.digests.values(), strict=True):
        np.testing.assert_array_equal(digest.replicates, dense.replicates)
        assert digest.content == dense.content
