"""What the page has of every label, unpacked, against per_class.csv."""

import base64
import csv
import json
import zlib
from pathlib import Path

import numpy as np
import pytest
from report_runs import edit_record, write_run

from lsep_ml.reports.label_figures import (
    COUNTS,
    LABEL_COLUMNS,
    LEFT_OUT,
    NONE,
    SHARES,
    fit_figures,
    label_figures,
    packed_names,
)
from lsep_ml.runs.finished import Run, read_run


def run_below(folder: Path, **options: object) -> Run:
    return read_run(write_run(folder, intervals=False, **options) / "result.json")[0]  # type: ignore[arg-type]


def unpack(text: str, kind: str) -> np.ndarray:
    return np.frombuffer(zlib.decompress(base64.b64decode(text)), kind)


@pytest.mark.parametrize("unknown", [0.0, 0.1])
def test_the_values_are_those_of_the_file(tmp_path: Path, unknown: float) -> None:
    run = run_below(tmp_path, images=40, labels=30, unknown=unknown)
    thresholds = np.linspace(-1, 1, 30, dtype=np.float32)
    packed = label_figures(run, 40, thresholds)
    assert isinstance(packed, dict)
    columns = {column["key"] for column in LABEL_COLUMNS}
    assert set(packed) == columns - (set() if unknown else {"known"})
    with (run.folder / "per_class.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    for key in COUNTS.keys() & packed.keys():
        assert unpack(packed[key], "<u4").tolist() == [int(row[key]) for row in rows]
    for key in SHARES:
        for value, row in zip(unpack(packed[key], "<u2").tolist(), rows, strict=True):
            assert (value == NONE) == (row[key] == "")
            assert value == NONE or abs(value / 1000 - float(row[key])) <= 0.0005 + 1e-12
    np.testing.assert_array_equal(unpack(packed["threshold"], "<f4"), thresholds)


def test_a_half_is_rounded_up_as_in_the_page(tmp_path: Path) -> None:
    run = run_below(tmp_path, labels=2)
    text = "label,known,support,predicted,precision,recall,f1,ap,auroc\n0,9,8,8,0.0625,0.1875,1,,\n1,9,0,0,,,0,,\n"
    (run.folder / "per_class.csv").write_text(text)
    packed = label_figures(run, 9, None)
    assert isinstance(packed, dict)
    assert set(packed) == {"support", "predicted", "precision", "recall", "f1"}  # without what no label has
    assert unpack(packed["precision"], "<u2").tolist() == [63, NONE]
    assert unpack(packed["recall"], "<u2").tolist() == [188, NONE]


def test_a_run_without_the_file_says_so(tmp_path: Path) -> None:
    run = run_below(tmp_path)
    (run.folder / "per_class.csv").unlink()
    assert (
        label_figures(run, 120, None)
        == f"{run.folder.name}: per_class.csv: missing; run the job again to have it"
    )


def test_names_come_back(tmp_path: Path) -> None:
    names = ["blue_eyes", "</script>", "Žluť 𝄞", "\ud800"]
    assert json.loads(zlib.decompress(base64.b64decode(packed_names(names)))) == names
    edit_record(write_run(tmp_path, labels=4), label_names=names)


def test_the_page_has_as_many_runs_as_fit() -> None:
    def groups() -> list[dict]:
        figures = ["x" * 100, "y" * 100, "per_class.csv: missing", "z" * 100]
        runs = [{"figures": text if "csv" in text else {"f1": text}} for text in figures]
        return [{"runs": runs[:3]}, {"runs": runs[3:]}]

    size = len(json.dumps(groups()))
    for room, left in ((size, 0), (size - 1, 1), (size - 101, 2), (0, 3)):
        found = groups()
        fit_figures(found, room)
        texts = [run["figures"] for group in found for run in group["runs"]]
        assert texts.count(LEFT_OUT) == left
        assert texts[2] == "per_class.csv: missing"
        assert [text == LEFT_OUT for text in (texts[3], texts[1], texts[0])] == [i < left for i in range(3)]
