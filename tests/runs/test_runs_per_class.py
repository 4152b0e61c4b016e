"""The table of each label, against scikit-learn, and its worst labels."""

import csv
import json
from pathlib import Path

import numpy as np
import pytest
from report_runs import edit_record, write_run
from sklearn import metrics as scikit

from lsep_ml.runs.finished import read_run
from lsep_ml.runs.per_class import (
    COLUMNS,
    RECORDED,
    per_class_record,
    per_class_rows,
    read_per_class,
    worst_labels,
    write_per_class,
)
from lsep_ml.runs.record import RecordError

NAMES = ["cat", "=dog", "never there", "always there", "never predicted"]


def arrays(masked: bool) -> tuple[np.ndarray, ...]:
    generator = np.random.default_rng(0)
    scores = generator.normal(size=(60, 5)).astype(np.float32)
    targets = generator.random((60, 5)) < 0.3
    targets[:, 2], targets[:, 3] = False, True
    predictions = scores > 0.3
    predictions[:, 4] = False
    mask = generator.random((60, 5)) < 0.8 if masked else np.ones((60, 5), bool)
    return predictions, targets, mask, scores


@pytest.mark.parametrize("masked", [False, True])
def test_every_number_is_scikit_learns(masked: bool) -> None:
    predictions, targets, mask, scores = arrays(masked)
    given = predictions.astype(np.uint8), targets.astype(np.uint8), mask if masked else None
    rows = per_class_rows(NAMES, *given, scores)
    assert [row["label"] for row in rows] == NAMES
    for k, row in enumerate(rows):
        p, y, f = (array[mask[:, k], k] for array in (predictions, targets, scores))
        assert (row["known"], row["support"], row["predicted"]) == (len(y), y.sum(), p.sum())
        expected = {
            "precision": scikit.precision_score(y, p) if p.any() else None,
            "recall": scikit.recall_score(y, p) if y.any() else None,
            "f1": scikit.f1_score(y, p, zero_division=0),
            "ap": scikit.average_precision_score(y, f) if y.any() else None,
            "auroc": scikit.roc_auc_score(y, f) if 0 < y.sum() < len(y) else None,
        }
        for key, value in expected.items():
            assert row[key] == (None if value is None else pytest.approx(value)), (row["label"], key)


def test_the_file_is_safe_in_spreadsheets_and_names_the_worst(tmp_path: Path) -> None:
    predictions, targets, _, scores = arrays(False)
    rows = per_class_rows(NAMES, predictions, targets, None, scores)
    write_per_class(tmp_path / "per_class.csv", rows)
    with (tmp_path / "per_class.csv").open(newline="") as file:
        read = list(csv.DictReader(file))
    assert [row["label"] for row in read] == ["cat", "'=dog", *NAMES[2:]]
    assert read[2]["recall"] == read[2]["auroc"] == read[4]["precision"] == ""
    assert float(read[0]["ap"]) == rows[0]["ap"]
    worst = worst_labels(tmp_path / "per_class.csv", 2)
    assert worst[0] == ("never predicted", 0.0, int(targets[:, 4].sum()))
    names = [name for name, *_ in worst_labels(tmp_path / "per_class.csv")]
    assert "never there" not in names
    assert "=dog" in names  # as it is called, without the mark


def test_it_is_read_as_utf_8_whatever_the_locale(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    predictions, targets, _, scores = arrays(False)
    write_per_class(tmp_path / "per_class.csv", per_class_rows(NAMES, predictions, targets, None, scores))
    encodings, opened = [], Path.open
    monkeypatch.setattr(
        Path, "open", lambda *a, **k: (encodings.append(k.get("encoding")), opened(*a, **k))[1]
    )
    worst_labels(tmp_path / "per_class.csv")
    assert encodings == ["utf-8"]


def test_without_scores_there_is_no_ranking(tmp_path: Path) -> None:
    predictions, targets, _, _ = arrays(False)
    rows = per_class_rows(NAMES, predictions, targets, None)
    assert "ap" not in rows[0]
    write_per_class(tmp_path / "per_class.csv", rows)
    assert (tmp_path / "per_class.csv").read_text().splitlines()[1].endswith(",,")


def test_the_record_has_each_label_by_name_unless_there_are_many() -> None:
    predictions, targets, _, scores = arrays(False)
    rows = per_class_rows(NAMES, predictions, targets, None, scores)
    of_labels = json.loads(json.dumps(per_class_record(rows)))["per_class"]["test"]
    assert list(of_labels) == NAMES
    assert [{"label": name, **values} for name, values in of_labels.items()] == rows
    assert not per_class_record(rows[:1] * (RECORDED + 1))


def test_what_was_written_is_read(tmp_path: Path) -> None:
    folder = write_run(tmp_path, labels=5, decision="topk", intervals=False)
    edit_record(folder, label_names=NAMES)
    run, _ = read_run(folder / "result.json")
    predictions, targets, _, scores = arrays(False)
    rows = per_class_rows(NAMES, predictions, targets, None, scores)
    write_per_class(folder / "per_class.csv", rows)
    found = read_per_class(run)
    assert tuple(found) == COLUMNS[1:]
    for name, values in found.items():
        expected = [np.nan if row[name] is None else row[name] for row in rows]
        np.testing.assert_array_equal(values, expected)
    for text, message in (
        ((folder / "per_class.csv").read_text().replace("cat", "dog"), "of other labels than result.json"),
        ("label,f1\ncat,zero\n", "of other labels"),
        ((folder / "per_class.csv").read_text().replace(",auroc", ",auc"), r"damaged \('auroc'\)"),
        (None, "missing"),
    ):
        (folder / "per_class.csv").unlink()
        if text is not None:
            (folder / "per_class.csv").write_text(text)
        with pytest.raises(RecordError, match=message):
            read_per_class(run)
