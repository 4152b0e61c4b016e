"""Records that cannot be used: each is named with its reason, and the rest is read."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from report_runs import edit_record, write_failure, write_run

from lsep_ml.metrics.bootstrap import PairedBootstrap
from lsep_ml.metrics.indicator import SparseIndicator
from lsep_ml.reports.records import (
    RecordDisagrees,
    ReportError,
    digest_run,
    digest_runs,
    find_runs,
    read_failure,
)
from lsep_ml.runs.finished import read_run
from lsep_ml.runs.record import RecordError

TEXT_DAMAGE = {
    "half-written": (lambda text: text[: len(text) // 2], "not JSON"),
    "empty": (lambda text: "", "not JSON"),
    "a list": (lambda text: "[1, 2]", "a JSON list, not an object"),
    "NaN": (lambda text: text.replace('"seed": 0', '"seed": NaN'), "NaN is no number"),
    "nested too deep": (lambda text: "[" * 100_000, "not JSON"),
}

VALUE_DAMAGE: dict[str, tuple[dict[str, Any], str]] = {
    "no loss": ({"loss": None}, "loss is absent"),
    "loss a number": ({"loss": 3}, "loss is 3, not a text"),
    "empty split hash": ({"split_hash": ""}, "split_hash is ''"),
    "seed a text": ({"seed": "0"}, "seed is '0', not a whole number"),
    "seed true": ({"seed": True}, "seed is True"),
    "no labels": ({"label_names": []}, r"label_names is \[\], not a list of names"),
    "labels numbers": ({"label_names": [1, 2]}, "label_names"),
    "metrics a list": ({"metrics": []}, "metrics is"),
    "no test metrics": ({"metrics": {"val": {}, "test": {}}}, "metrics.test is {}"),
    "no validation metrics": ({"metrics": {"test": {"f1": 0.5}}}, "metrics.val is absent"),
    "F1 in per cent": (
        {"metrics": {"val": {}, "test": {"f1": 62.9}}},
        r"f1 is 62.9, not a fraction in \[0, 1\]",
    ),
    "F1 negative": ({"metrics": {"val": {}, "test": {"f1": -0.1}}}, "f1 is -0.1"),
    "F1 a text": ({"metrics": {"val": {}, "test": {"f1": "0.5"}}}, "f1 is '0.5'"),
    "config a text": ({"config": "lsep"}, "config is 'lsep', not an object"),
}


@pytest.mark.parametrize("name", TEXT_DAMAGE)
def test_a_damaged_file_is_named_and_the_rest_is_read(tmp_path: Path, name: str) -> None:
    damage, message = TEXT_DAMAGE[name]
    broken, whole = write_run(tmp_path), write_run(tmp_path, seed=1)
    record = broken / "result.json"
    record.write_text(damage(record.read_text()))
    found = find_runs(tmp_path)
    assert [run.folder for run in found.runs] == [whole]
    [problem] = found.problems
    assert problem.path == record
    assert message in problem.message
    assert "run the job again" in problem.message


def test_text_that_is_no_text(tmp_path: Path) -> None:
    record = write_run(tmp_path) / "result.json"
    record.write_bytes(b"\xff\xfe\x00")
    with pytest.raises(RecordError, match="unreadable"):
        read_run(record)


@pytest.mark.parametrize("name", VALUE_DAMAGE)
def test_a_damaged_value_is_named_with_the_version(tmp_path: Path, name: str) -> None:
    changes, message = VALUE_DAMAGE[name]
    folder = write_run(tmp_path)
    edit_record(folder, **changes)
    with pytest.raises(RecordError, match=message) as error:
        read_run(folder / "result.json")
    assert "lsep-ml 0.1.0" in str(error.value)


def test_a_record_of_an_older_version_is_used_as_far_as_it_goes(tmp_path: Path) -> None:
    folder = write_run(tmp_path)
    record = json.loads((folder / "result.json").read_text())
    for split in ("val", "test"):
        del record["metrics"][split]["labels_per_image"], record["metrics"][split]["cf1"]
    edit_record(folder, metrics=record["metrics"], counts=None, versions={"lsep-ml": "0.0.3"}, intervals=None)
    found = find_runs(tmp_path)
    assert len(found.runs) == 1
    [problem] = found.problems
    assert problem.message.startswith("written by lsep-ml 0.0.3: without ")
    for key in ("counts", "metrics.test.cf1", "metrics.test.labels_per_image"):
        assert key in problem.message


def test_metrics_of_a_later_version_are_ignored(tmp_path: Path) -> None:
    folder = write_run(tmp_path)
    metrics = json.loads((folder / "result.json").read_text())["metrics"]
    metrics["test"]["hamming"] = [1, 2]
    edit_record(folder, metrics=metrics)
    run, missing = read_run(folder / "result.json")
    assert "hamming" not in run.test
    assert missing == []


def test_folders_without_results(tmp_path: Path) -> None:
    with pytest.raises(ReportError, match="no such folder"):
        find_runs(tmp_path / "nowhere")
    with pytest.raises(ReportError, match=r"no result.json below it; run `python run.py` first"):
        find_runs(tmp_path)
    write_failure(tmp_path, "ValueError: bad root", ["data=coco"])
    with pytest.raises(ReportError, match=r"all 1 jobs failed; .*bad root"):
        find_runs(tmp_path)
    (write_run(tmp_path) / "result.json").write_text("{")
    with pytest.raises(ReportError, match=r"none of its 1 result.json can be used: .*not JSON"):
        find_runs(tmp_path)


def test_failed_jobs_are_listed_unless_they_were_repeated(tmp_path: Path) -> None:
    failed = write_failure(tmp_path, "ValueError: optimizer.lr=-1", ["loss=warp", "optimizer.lr=-1"])
    repeated = write_run(tmp_path)
    (repeated / "error.json").write_text('{"error": "killed", "overrides": []}')
    found = find_runs(tmp_path)
    [failure] = found.failures
    assert failure.folder == failed
    assert failure.error == "ValueError: optimizer.lr=-1"
    assert failure.overrides == ("loss=warp", "optimizer.lr=-1")


def test_a_damaged_error_file_is_a_failed_job_all_the_same(tmp_path: Path) -> None:
    (tmp_path / "error.json").write_text("{")
    assert "not JSON" in read_failure(tmp_path / "error.json").error
    (tmp_path / "error.json").write_text('{"overrides": "seed=1"}')
    assert read_failure(tmp_path / "error.json").overrides == ("seed=1",)


def test_a_digest_is_of_the_known_entries(tmp_path: Path) -> None:
    folder = write_run(tmp_path, labels=9, unknown=0.2, images=50)
    [run] = find_runs(tmp_path).runs
    found = digest_run(run, PairedBootstrap(100))
    arrays = np.load(folder / "predictions.npz")
    known = arrays["mask"] != 0
    true, predicted = (arrays[name] * known for name in ("targets", "predictions"))
    assert found.counts.actual.tolist() == true.sum(0).tolist()
    assert found.counts.predicted.tolist() == predicted.sum(0).tolist()
    assert found.counts.correct.tolist() == (true & predicted).sum(0).tolist()
    assert (found.images, found.sizes.sum()) == (50, 50)
    for i in range(8):
        for j in range(8):
            rows = (np.minimum(true.sum(1), 7) == i) & (np.minimum(predicted.sum(1), 7) == j)
            assert found.sizes[i, j] == rows.sum()
    sparse = dict(arrays)
    for name in ("targets", "predictions", "mask"):
        sparse |= SparseIndicator.from_dense(sparse.pop(name)).named(name)
    np.savez(folder / "predictions.npz", **sparse)
    again = digest_run(run, PairedBootstrap(100))
    assert again.content == found.content
    np.testing.assert_array_equal(again.sizes, found.sizes)
    np.testing.assert_array_equal(again.replicates, found.replicates)


def test_runs_of_one_split_have_one_content_and_any_change_to_it_another(tmp_path: Path) -> None:
    folders = [write_run(tmp_path, loss=loss, images=30) for loss in ("lsep", "warp")]
    runs, bootstrap = find_runs(tmp_path).runs, PairedBootstrap(100)
    [content] = {digest_run(run, bootstrap).content for run in runs}
    file = folders[0] / "predictions.npz"
    kept = dict(np.load(file))
    [run] = [run for run in runs if run.folder == folders[0]]
    for name in ("image_ids", "mask"):
        changed = kept[name].copy()
        changed[[3, 4]] = changed[[4, 3]] if name == "image_ids" else 0
        np.savez(file, **{**kept, name: changed})
        if name == "mask":
            edit_record(folders[0], metrics={"val": {}, "test": {"map": 0.5}})  # nothing that could disagree
            [run] = [run for run in find_runs(tmp_path).runs if run.folder == folders[0]]
        assert digest_run(run, bootstrap).content != content


@pytest.mark.parametrize(("change", "refused"), [(2e-5, True), (5e-6, False)])
def test_numbers_that_predictions_contradict_are_refused_but_not_rounding(
    tmp_path: Path, change: float, refused: bool
) -> None:
    folder = write_run(tmp_path)
    metrics = json.loads((folder / "result.json").read_text())["metrics"]
    metrics["test"]["f1"] += change
    edit_record(folder, metrics=metrics)
    found = find_runs(tmp_path)
    if not refused:
        assert set(digest_runs(tmp_path, found, PairedBootstrap(100))) == set(found.runs)
        return
    with pytest.raises(RecordDisagrees, match=r"result.json says test f1 = .*, predictions.npz gives"):
        digest_run(found.runs[0], PairedBootstrap(100))
    with pytest.raises(ReportError, match="no run can be used"):
        digest_runs(tmp_path, found, PairedBootstrap(100))
    assert found.runs == []
