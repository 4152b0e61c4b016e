"""Where each number comes from: a line for each run, from which every table can be computed again."""

import csv
from collections import defaultdict
from pathlib import Path
from statistics import fmean, stdev

import pytest
from report_runs import edit_record, write_run, write_sweep

from lsep_ml.metrics import BY_KEY
from lsep_ml.reports.grouping import group_runs
from lsep_ml.reports.provenance import Provenance, csv_runs, origin, provenance, without_places
from lsep_ml.reports.records import find_runs
from lsep_ml.reports.tables import table_of_all, table_one, table_two
from lsep_ml.reports.text_tables import csv_table
from lsep_ml.runs.finished import Run

Rows = list[dict[str, str]]
MADE = ("loss", "decision", "settings")


def origins_below(folder: Path) -> dict[Run, Provenance]:
    groups, _ = group_runs(find_runs(folder).runs)
    return {run: provenance(group, row, run) for group in groups for row in group.rows for run in row.runs}


def rows_of(text: str) -> Rows:
    return list(csv.DictReader(text.splitlines()))


def assert_computed_again(cells: Rows, runs: Rows) -> int:
    """Compute a table's cells, a line each, from the metrics of the runs; returns how many have a number."""
    by_row: dict[tuple[str, ...], Rows] = defaultdict(list)
    for run in runs:
        by_row[tuple(run[name] for name in MADE)].append(run)
    computed = 0
    for cell in cells:
        own, metric = by_row[tuple(cell[name] for name in MADE)], BY_KEY[cell["metric"]]
        column = f"test_{metric.key}"
        values = [metric.scale * float(run[column]) for run in own if run[column]]
        assert cell["runs"] == str(len(values))
        computed += bool(values)
        assert (
            cell["mean"] == ""
            if not values
            else float(cell["mean"]) == pytest.approx(fmean(values), abs=1e-4)
        )
        spread = stdev(values) if len(values) > 1 else None
        assert cell["std"] == "" if spread is None else float(cell["std"]) == pytest.approx(spread, abs=1e-4)
    return computed


def test_every_table_is_computed_again_from_the_runs(tmp_path: Path) -> None:
    write_sweep(tmp_path, losses=["lsep", "bpmll"], decisions=["topk", "thresh_est"], seeds=[0, 1, 2])
    write_run(tmp_path, settings={"training.epochs": 50})
    edit_record(write_run(tmp_path, loss="warp"), metrics={"val": {}, "test": {"f1": 0.25, "coverage": 3.5}})
    [group], _ = group_runs(find_runs(tmp_path).runs)
    runs = rows_of(csv_runs(origins_below(tmp_path)))
    assert len(runs) == 14
    tables = [table_one(group), table_two(group), table_of_all(group)]
    computed = [assert_computed_again(rows_of(csv_table(table)), runs) for table in tables]
    assert computed == [2 * 6, 2 * 6, 5 * 20 + 2]  # each table's own rows


@pytest.mark.parametrize("table", ["table1_digits/results", "table1_digits/all", "table2_digits/results"])
def test_the_recorded_tables_are_computed_again_from_the_recorded_runs(table: str) -> None:
    experiments = Path(__file__).parents[2] / "experiments"
    runs = rows_of((experiments / "table1_digits" / "runs.csv").read_text())
    assert assert_computed_again(rows_of((experiments / f"{table}.csv").read_text()), runs) > 50


def test_a_line_has_the_run_s_own_metrics_as_its_record_has_them(tmp_path: Path) -> None:
    write_run(tmp_path, decision="topk", seed=3)
    [run] = find_runs(tmp_path).runs
    [line] = rows_of(csv_runs(origins_below(tmp_path)))
    assert (line["method"], line["loss"], line["decision"], line["seed"]) == ("LSEP (K)", "lsep", "topk", "3")
    for split, metrics in (("test", run.test), ("val", run.val)):
        written = {key: float(line[f"{split}_{key}"]) for key in metrics if f"{split}_{key}" in line}
        assert {*BY_KEY, "labels_per_image"} == set(written)
        assert written == pytest.approx({key: metrics[key] for key in written}, abs=5e-9)


def test_a_run_s_origins(tmp_path: Path) -> None:
    folder = write_run(tmp_path, decision="threshold", loss="warp", seed=1)
    [(run, found)] = origins_below(tmp_path).items()
    assert (found.group, found.method, found.settings) == ("digits", "WARP (θ)", "")
    assert found.command == "python run.py data=digits model=small_cnn loss=warp decision=threshold seed=1"
    assert found.chosen == f"epoch {run.choices['epoch']}, theta {run.choices['theta']:.4g}"
    assert found.total == f"{81.2 + 4.1 + 9.7 + 1.2:.1f}"
    assert found.seconds == "prediction 81.2, extraction 4.1, decision 9.7, evaluation 1.2"
    assert found.reused == "prediction, extraction"
    assert (found.split_hash, found.identity, found.folder) == (run.split_hash, run.identity, folder.name)
    assert found.versions.startswith("python 3.11.7, lsep-ml 0.1.0, torch 2.15.0")
    assert (found.hardware, found.finished) == ("2 CPU cores", "2026-11-24T10:00:00+00:00")


def test_what_a_record_of_an_older_version_does_not_say_is_said_to_be_unknown(tmp_path: Path) -> None:
    folder = write_run(tmp_path, decision="topk")
    edit_record(folder, versions=None, hardware=None, finished=None, seconds=None, reused=None)
    (folder / ".hydra" / "overrides.yaml").unlink()
    [found] = origins_below(tmp_path).values()
    assert [found.command, found.versions, found.hardware, found.finished] == 4 * ["not recorded"]
    assert (found.total, found.seconds, found.reused) == ("0.0", "", "nothing")
    [group], _ = group_runs(find_runs(tmp_path).runs)
    assert origin(table_one(group)) == "No runs."  # LSEP (K) is no row of Table 1
    told = origin(table_two(group))
    assert told.startswith(
        "1 runs, by a command that is not recorded. Date: not recorded. Hardware: not recorded."
    )


def test_a_row_of_several_settings_is_named_by_them(tmp_path: Path) -> None:
    write_run(tmp_path)
    write_run(tmp_path, settings={"optimizer.lr": 0.5})
    settings = {origin.settings for origin in origins_below(tmp_path).values()}
    assert settings == {"optimizer.lr=0.001", "optimizer.lr=0.5"}


@pytest.mark.parametrize(
    "place",
    [
        "paths.output=/a",
        "paths=cluster",
        "+paths.data=/a",
        "hydra.verbose=true",
        "data.root=/a",
        "++data.cache=/a",
    ],
)
def test_where_files_lie_is_left_out_of_commands(place: str) -> None:
    assert without_places(["loss=lsep", place, "data.rooted=1", "model.name=data.root=1"]) == [
        "loss=lsep",
        "data.rooted=1",
        "model.name=data.root=1",
    ]
