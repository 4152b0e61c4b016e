"""What warns of a row stands in its tables and verdicts, and how its learning rate was chosen."""

from pathlib import Path
from typing import Any

import pytest
from report_runs import edit_record, write_run

from lsep_ml.metrics.bootstrap import PairedBootstrap
from lsep_ml.reports.comparison import Answer, answer, gather
from lsep_ml.reports.grouping import RunGroup, group_runs
from lsep_ml.reports.provenance import provenance
from lsep_ml.reports.records import digest_run, find_runs
from lsep_ml.reports.remarks import EXPLAINED, marks, rate_of
from lsep_ml.reports.report import build_report
from lsep_ml.reports.tables import Table, table_of_all, table_one
from lsep_ml.reports.text_tables import latex_table, markdown_table, markdown_verdict
from lsep_ml.runs.finished import read_run
from lsep_ml.runs.record import RecordError

CLAMPED = "the loss sat at its clamp on 7 images of the chosen epoch"
SEARCHED = {"chosen": "search", "lr": 0.16}
BORROWED = {"chosen": "other", "of": "lsep", "lr": 0.05}


def sweep(folder: Path) -> RunGroup:
    """LSEP searched on two seeds, BP-MLL warned of on one of two, BCE at LSEP's rate."""
    for seed, rate in ((0, 0.16), (1, 0.05)):
        searched = {"chosen": "search", "lr": rate}
        run = write_run(folder, seed=seed, images=60, settings={"optimizer.lr": rate})
        edit_record(run, rate=searched)
        run = write_run(folder, loss="bpmll", decision="threshold", seed=seed, images=60)
        edit_record(run, warnings=[CLAMPED] if seed else [], rate={"chosen": "tuned", "lr": 0.1})
    edit_record(write_run(folder, loss="bce", images=60), rate=BORROWED)
    [group] = group_runs(find_runs(folder).runs)[0]
    return group


def shown(table: Table) -> list[str]:
    return [row.shown for row in table.rows if row.row is not None]


def test_tables_mark_rows_and_say_why(tmp_path: Path) -> None:
    group = sweep(tmp_path)
    for table in (table_one(group), table_of_all(group)):
        assert set(shown(table)) == {
            "LSEP (threshold est.)",  # both seeds in one row, whatever rate either found
            "BP-MLL (θ) (!)",
            "Binary cross entropy (threshold est.) †",
        }
        assert f"(!) {CLAMPED}: BP-MLL (θ) (1 of 2 runs)." in table.notes
        [rates] = [note for note in table.notes if note.startswith("Learning rates: ")]
        assert "LSEP 0.16, searched on validation mAP" in rates
        assert "LSEP 0.05, searched on validation mAP" in rates
        assert "BP-MLL 0.1, of a recorded sweep for the loss" in rates
        assert "Binary cross entropy 0.05, another loss's † (LSEP's)" in rates
        assert "| BP-MLL (θ) (!) |" in markdown_table(table)
        assert r"Binary cross entropy (threshold est.) \dag{} &" in latex_table(table)


def test_tables_say_which_images_are_left_to_a_person(tmp_path: Path) -> None:
    for seed, coverage in ((0, 0.5), (1, 0.7)):
        found = {"asked_for": 0.9, "least": 0.1, "test": {"coverage": coverage, "exact_match": 0.88}}
        edit_record(write_run(tmp_path, seed=seed, images=60), abstention=found)
    [group] = group_runs(find_runs(tmp_path).runs)[0]
    [note] = [note for note in table_of_all(group).notes if "person" in note]
    assert note.endswith("LSEP (threshold est.) answers 60.0% of them, 88.0% wholly right (90% asked for).")


def test_verdicts_mark_what_is_compared(tmp_path: Path) -> None:
    group = sweep(tmp_path)
    bootstrap = PairedBootstrap(100)
    digests = {run: digest_run(run, bootstrap) for row in group.rows for run in row.runs}
    verdicts = answer(group, gather(group, digests, bootstrap))
    assert {name for verdict in verdicts for name, _ in verdict.rows} == {
        "BP-MLL (θ) (!)",
        "Binary cross entropy (threshold est.) †",
    }
    assert all(EXPLAINED in markdown_verdict(verdict) for verdict in verdicts)
    assert all(len(comparisons) for verdict in verdicts for _, comparisons in verdict.rows)
    assert Answer("who?", verdicts[0].comparisons).note == ""


def test_the_row_that_is_compared_is_marked_too(tmp_path: Path) -> None:
    edit_record(write_run(tmp_path, images=60), warnings=["the best epoch is the first of 9"])
    write_run(tmp_path, loss="warp", images=60)
    [group] = group_runs(find_runs(tmp_path).runs)[0]
    bootstrap = PairedBootstrap(100)
    digests = {run: digest_run(run, bootstrap) for row in group.rows for run in row.runs}
    verdicts = answer(group, gather(group, digests, bootstrap))
    assert verdicts
    assert all("LSEP (threshold est.) (!) against" in verdict.question for verdict in verdicts)


def test_the_page_and_the_list_of_runs_say_it(tmp_path: Path) -> None:
    sweep(tmp_path)
    built = build_report(tmp_path, replicates=100)
    page = built.page.read_text()
    for text in ("BP-MLL (θ) (!)", CLAMPED, "Binary cross entropy (threshold est.) †", EXPLAINED):
        assert text in page
    runs = (built.page.parent / "tables" / "runs.csv").read_text()
    assert CLAMPED in runs
    assert "0.16, searched on validation mAP" in runs


@pytest.mark.parametrize(
    ("rate", "told", "mark"),
    [
        ({}, "–", ""),
        (SEARCHED, "0.16, searched on validation mAP", ""),
        ({"chosen": "given", "lr": 0.3}, "0.3, given with the command", ""),
        ({"chosen": "tuned", "lr": 0.02}, "0.02, of a recorded sweep for the loss", ""),
        (BORROWED, "0.05, another loss's † (LSEP's)", " †"),
        ({"chosen": "default", "lr": 0.001}, "0.001, the default †", " †"),
        ({"chosen": "solver"}, "none needed, solved", ""),
        ({"chosen": "of a later version"}, "–", ""),
    ],
)
def test_a_rate_says_how_it_was_chosen(tmp_path: Path, rate: dict[str, Any], told: str, mark: str) -> None:
    edit_record(write_run(tmp_path, images=20), rate=rate)
    [group] = group_runs(find_runs(tmp_path).runs)[0]
    [row] = group.rows
    assert rate_of(row.runs[0]) == provenance(group, row, row.runs[0]).rate == told
    assert marks(row) == mark


def test_records_without_rates_and_warnings_have_no_notes(tmp_path: Path) -> None:
    write_run(tmp_path, images=20)
    [group] = group_runs(find_runs(tmp_path).runs)[0]
    assert table_of_all(group).notes == []
    assert marks(None) == ""


@pytest.mark.parametrize(("key", "value"), [("warnings", "none"), ("warnings", [1]), ("rate", 0.1)])
def test_what_is_no_warning_or_rate_is_refused(tmp_path: Path, key: str, value: Any) -> None:
    folder = write_run(tmp_path, images=20)
    edit_record(folder, **{key: value})
    with pytest.raises(RecordError, match=f"{key} is"):
        read_run(folder / "result.json")
