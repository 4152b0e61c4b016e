"""The explorer's data: what the page decodes is what the functional core counts on the whole arrays."""

import base64
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from report_runs import top, write_run, write_sweep

from lsep_ml.metrics import count_label_sets, label_set_metrics, labels_per_image
from lsep_ml.metrics.bootstrap import PairedBootstrap
from lsep_ml.reports.explorer import choose_runs, explore
from lsep_ml.reports.group_files import GroupFiles
from lsep_ml.reports.grouping import group_runs
from lsep_ml.reports.records import digest_run, find_runs


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
