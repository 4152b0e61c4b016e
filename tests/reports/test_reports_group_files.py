"""What is read of a group's files: which methods figures show, and their values against plain loops."""

from pathlib import Path

import numpy as np
import pytest
from report_runs import edit_record, write_run, write_sweep
from sklearn.metrics import f1_score

from lsep_ml.metrics.bootstrap import PairedBootstrap
from lsep_ml.reports.group_files import GroupFiles
from lsep_ml.reports.grouping import group_runs
from lsep_ml.reports.records import digest_run, find_runs
from lsep_ml.runs.finished import Method, Run


def files_below(folder: Path, *left_out: Path) -> GroupFiles:
    """The files of the only group; runs in `left_out` have no usable predictions."""
    [group] = group_runs(find_runs(folder).runs)[0]
    bootstrap = PairedBootstrap(100)
    runs = [run for row in group.rows for run in row.runs if run.folder not in left_out]
    return GroupFiles(group, {run: digest_run(run, bootstrap) for run in runs})


def arrays_of(run: Run) -> dict[str, np.ndarray]:
    return dict(np.load(run.folder / "predictions.npz"))


def test_figures_show_each_loss_thresholded_and_lsep_with_threshold_estimation(tmp_path: Path) -> None:
    write_sweep(tmp_path, losses=["bpmll", "lsep"], seeds=[0], images=40)
    single = write_run(tmp_path, loss="warp", decision="count_est", images=40)
    files = files_below(tmp_path)
    assert files.methods() == [("bpmll", "threshold"), ("warp", "count_est"), ("lsep", "thresh_est")]
    assert files_below(tmp_path, single).methods() == [("bpmll", "threshold"), ("lsep", "thresh_est")]


def test_values_of_a_method_are_those_of_its_runs(tmp_path: Path) -> None:
    write_sweep(tmp_path, losses=["lsep"], decisions=["threshold"], labels=9, unknown=0.1)
    files, method = files_below(tmp_path), Method("lsep", "threshold")
    runs = files.usable(method)
    assert [run.seed for run in runs] == [0, 1, 2]
    sizes = np.zeros((8, 8), int)
    for run, values in zip(runs, files.class_f1(method), strict=True):
        arrays = arrays_of(run)
        known = arrays["mask"] != 0
        for k in range(9):
            counted = known[:, k]
            expected = f1_score(
                arrays["targets"][counted, k], arrays["predictions"][counted, k], zero_division=0
            )
            assert values[k] == pytest.approx(expected)
        for image in range(len(known)):
            true = int(arrays["targets"][image][known[image]].sum())
            predicted = int(arrays["predictions"][image][known[image]].sum())
            sizes[min(true, 7), min(predicted, 7)] += 1
    assert files.sizes(method).tolist() == sizes.tolist()
    arrays = arrays_of(runs[0])
    assert files.frequency().tolist() == (arrays["targets"] * arrays["mask"]).sum(0).tolist()
    assert files.image_ids(runs[0]) == arrays["image_ids"].tolist()
    assert list(files.label_names) == arrays["label_names"].tolist()


def test_a_run_without_usable_predictions_counts_for_nothing(tmp_path: Path) -> None:
    first, other = (write_run(tmp_path, decision="threshold", seed=seed) for seed in (0, 1))
    files = files_below(tmp_path, first)
    assert [run.folder for run in files.usable(Method("lsep", "threshold"))] == [other]
    assert files.usable(Method("warp", "threshold")) == []
    assert files.class_f1(Method("lsep", "threshold")).shape == (1, 10)
    assert {loss: [run.folder for run in runs] for loss, runs in files.score_runs().items()} == {
        "lsep": [other]
    }


def test_thumbnails_are_of_all_runs_and_of_rows_that_there_are(tmp_path: Path) -> None:
    first, other = (write_run(tmp_path, decision="threshold", seed=seed, images=60) for seed in (0, 1))
    picture = np.full((4, 3), 7, np.uint8)
    np.savez(first / "thumbnails.npz", **{"5": picture, "1": picture})
    np.savez(other / "thumbnails.npz", **{"5": picture + 1, "30": picture, "60": picture})
    files = files_below(tmp_path)
    assert list(files.thumbnails) == [1, 5, 30]  # there is no row 60
    assert {run.seed for run in files.digests} == {0, 1}
    (other / "thumbnails.npz").write_bytes(b"no zip")
    files = files_below(tmp_path)
    assert list(files.thumbnails) == [1, 5]
    [problem] = files.problems
    assert problem.path == other
    assert problem.message.endswith("its pictures are left out")


def test_training_curves_end_with_the_shortest_and_leave_out_what_is_no_number(tmp_path: Path) -> None:
    folders = [write_run(tmp_path, decision="threshold", seed=seed) for seed in range(4)]
    for folder, losses in zip(folders, (["3", "2", "1"], ["5", "4"], ["6", "nan"]), strict=False):
        lines = [f"prediction,{epoch},{loss}" for epoch, loss in enumerate(losses, 1)]
        (folder / "history.csv").write_text("\n".join(["stage,epoch,train_loss", *lines, ""]))
    (folders[3] / "history.csv").unlink()
    files = files_below(tmp_path)
    runs = files.score_runs()["lsep"]
    for _ in range(2):  # a file that cannot be read is said once, however often it is asked for
        curve = files.training_curve(runs, "prediction", "train_loss")
        assert curve is not None
        assert curve.tolist() == [[3, 2], [5, 4]]
    assert files.training_curve(runs, "decision", "train_loss") is None
    [problem] = files.problems
    assert (problem.path, problem.message) == (
        folders[3],
        "history.csv: missing; its training curves are left out",
    )


def test_a_predictor_trained_no_network_of_its_own(tmp_path: Path) -> None:
    write_run(tmp_path, decision="threshold")
    edit_record(write_run(tmp_path, decision="topk", seed=1), predictor="br")
    files = files_below(tmp_path)
    assert set(files.score_runs()) == {"lsep", "br"}
    assert set(files.network_runs()) == {"lsep"}


def test_arrays_that_cannot_be_read_are_a_problem_of_the_figures(tmp_path: Path) -> None:
    folder = write_run(tmp_path, decision="topk")
    files = files_below(tmp_path)
    [run] = files.digests
    found = files.pictured(run, "targets", "thresholds")
    assert found is not None
    assert set(found) == {"targets"}  # top-k has no thresholds
    with np.load(folder / "predictions.npz") as arrays:
        np.testing.assert_array_equal(found["targets"], arrays["targets"][list(files.thumbnails)])
    (folder / "predictions.npz").unlink()
    assert files.pictured(run, "targets") is None
    assert (
        files.problems[-1].message
        == "predictions.npz: missing; run the job again to have it; left out of the figures"
    )
