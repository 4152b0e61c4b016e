"""Tables 1 and 2 as values and as text: the paper's numbers, means over seeds, dashes, marks, escapes."""

import csv
import json
from io import StringIO
from pathlib import Path
from statistics import fmean, stdev

import pytest
from report_runs import edit_record, write_run, write_sweep

from lsep_ml.metrics.bootstrap import PairedBootstrap
from lsep_ml.reports.comparison import answer, best_decisions, compare_all, gather
from lsep_ml.reports.grouping import RunGroup, group_runs
from lsep_ml.reports.paper import paper_numbers, paper_table
from lsep_ml.reports.records import digest_run, find_runs
from lsep_ml.reports.tables import Cell, Table, table_of_all, table_one, table_two, with_bootstrap
from lsep_ml.reports.text_tables import csv_table, latex_table, markdown_table, markdown_verdict


def only_group(folder: Path) -> RunGroup:
    [group] = group_runs(find_runs(folder).runs)[0]
    return group


def row(table: Table, label: str) -> dict[str, Cell]:
    return dict(next(row for row in table.rows if row.label == label).cells)


def test_the_paper_s_numbers() -> None:
    assert len(paper_table(1)) == 10
    assert len(paper_table(2)) == 4
    ours = {"pc_p": 73.5, "pc_r": 56.4, "ov_p": 76.3, "ov_r": 61.8, "f1": 62.9, "exact_match": 30.6}
    for table in (1, 2):
        assert paper_numbers(table, "coco")["lsep", "thresh_est"] == ours
    assert paper_numbers(1, "nuswide")["softmax", "topk"]["exact_match"] == 5.02
    assert paper_numbers(1, "voc2007")["warp", "threshold"] == {"f1": 74.7, "exact_match": 47.5}
    assert paper_numbers(1, "coco")["cnn_rnn", "none"] == {
        "pc_p": 66.0,
        "pc_r": 55.6,
        "ov_p": 69.2,
        "ov_r": 66.4,
    }
    assert paper_numbers(1, "digits") == {}


def test_cells_are_means_over_seeds_and_dashes(tmp_path: Path) -> None:
    data = {"data": "voc2007", "model": "vgg16"}
    write_sweep(tmp_path, losses=["lsep"], decisions=["thresh_est"], **data)
    write_run(tmp_path, loss="warp", decision="topk", **data)
    group = only_group(tmp_path)
    table = table_one(group)
    values = [100 * run.test["f1"] for run in group.chosen["lsep", "thresh_est"].runs]
    cell = row(table, "LSEP (threshold est.)")["f1"]
    assert cell.mean == pytest.approx(fmean(values))
    assert cell.std == pytest.approx(stdev(values))
    assert cell.runs == 3
    single = row(table, "WARP (K)")["f1"]
    assert (single.std, single.runs) == (None, 1)
    empty = row(table, "Softmax (θ)")["f1"]
    assert (empty.mean, empty.runs) == (None, 0)
    text = markdown_table(table)
    assert "| Softmax (θ) | – | – | – | – | – (74.1) | – (53.4) | – |" in text
    assert f"{cell.mean:.1f} ± {cell.std:.1f} (79.1, " in text
    assert " 0.0 " not in text.split("Softmax (θ)")[1].splitlines()[0]


def test_rows_stand_in_the_paper_s_order_and_what_it_lacks_below(tmp_path: Path) -> None:
    data = {"data": "voc2007", "model": "vgg16"}
    losses, decisions = ["bce", "lsep", "warp"], ["thresh_est", "per_class"]
    write_sweep(tmp_path, losses=losses, decisions=decisions, seeds=[0], **data)
    group = only_group(tmp_path)
    assert [row.label for row in table_one(group).rows] == [
        *(f"{loss} (K)" for loss in ("Softmax", "Ranking", "BP-MLL", "WARP")),
        *(f"{loss} (θ)" for loss in ("Softmax", "Ranking", "BP-MLL", "WARP")),
        "LSEP (threshold est.)",
        "Binary cross entropy (threshold est.)",
        "Binary cross entropy (θ per class)",
    ]
    two = table_two(group)
    assert [row.label for row in two.rows] == [
        "top-k", "threshold", "label count est.", "threshold est.", "threshold per class"
    ]  # fmt: skip
    assert [row.beside for row in two.rows] == [False, False, False, False, True]
    assert len(table_of_all(group).rows) == 6


def test_rows_without_runs_are_there_only_beside_the_paper_s_numbers(tmp_path: Path) -> None:
    write_sweep(tmp_path, losses=["bce", "lsep"], decisions=["thresh_est", "per_class"], seeds=[0])
    group = only_group(tmp_path)
    assert [row.label for row in table_one(group).rows] == [
        "LSEP (threshold est.)",
        "Binary cross entropy (threshold est.)",
        "Binary cross entropy (θ per class)",
    ]
    assert [row.label for row in table_two(group).rows] == ["threshold est.", "threshold per class"]


def test_real_sets_show_the_paper_s_number_and_the_difference(tmp_path: Path) -> None:
    write_run(tmp_path, data="coco", model="vgg16", labels=20)
    group = only_group(tmp_path)
    table = table_one(group)
    cell = row(table, "LSEP (threshold est.)")["f1"]
    assert cell.paper == 62.9
    assert cell.difference == pytest.approx(cell.mean - 62.9)
    assert "Wang et al. (CNN-RNN)" in [row.label for row in table.rows]
    [note] = table.notes
    assert "Not the paper's protocol: 300 training images (the paper: 82,081), 120 test images" in note
    assert "(62.9, " in markdown_table(table)
    assert "(5.63)" in markdown_table(table)


def test_another_network_than_the_paper_s_is_said(tmp_path: Path) -> None:
    write_run(tmp_path, data="voc2007", model="timm", settings={"model.name": "resnet50"})
    [note] = table_one(only_group(tmp_path)).notes
    assert "network timm resnet50 (the paper: VGG16)" in note


def test_a_metric_that_a_record_lacks_is_a_dash(tmp_path: Path) -> None:
    folder = write_run(tmp_path)
    metrics = json.loads((folder / "result.json").read_text())["metrics"]
    del metrics["test"]["pc_p"]
    edit_record(folder, metrics=metrics)
    write_run(tmp_path, seed=1)
    cells = row(table_one(only_group(tmp_path)), "LSEP (threshold est.)")
    assert cells["pc_p"].runs == 1
    assert cells["f1"].runs == 2


def finished(folder: Path) -> tuple[RunGroup, Table, Table]:
    """Table 1 and the table of all rows with intervals and marks."""
    group, bootstrap = only_group(folder), PairedBootstrap(200)
    evidence = gather(
        group, {run: digest_run(run, bootstrap) for row in group.rows for run in row.runs}, bootstrap
    )
    pairs = compare_all(evidence)
    return (
        group,
        with_bootstrap(table_one(group), evidence, pairs),
        with_bootstrap(table_of_all(group), evidence, pairs),
    )


def test_marks_and_intervals(tmp_path: Path) -> None:
    write_sweep(
        tmp_path, losses=["lsep", "bpmll"], decisions=["threshold", "thresh_est"], images=400, seeds=[0, 1]
    )
    _, table, every = finished(tmp_path)
    means = {row.label: row.cells["f1"].mean for row in table.rows if row.cells["f1"].mean is not None}
    best = max(means, key=lambda label: means[label])
    assert {row.label for row in table.rows if row.cells["f1"].mark == "best"} == {best}
    ours, weak = (row(table, label)["f1"] for label in ("LSEP (threshold est.)", "BP-MLL (θ)"))
    assert ours.low < ours.mean < ours.high
    assert weak.mark == ""
    assert f"**{ours.mean:.1f} ± {ours.std:.1f}**" in markdown_table(table)
    assert rf"\textbf{{{ours.mean:.1f} $\pm$ {ours.std:.1f}}}" in latex_table(table)
    assert {cell.mark for row in every.rows for cell in row.cells.values()} >= {"best", "tied", ""}


def test_verdicts_choose_decisions_on_validation(tmp_path: Path) -> None:
    folders = {d: write_run(tmp_path, loss="warp", decision=d) for d in ("topk", "threshold")}
    write_run(tmp_path, loss="lsep", decision="topk")
    for decision, val in {"topk": 0.99, "threshold": 0.01}.items():
        metrics = json.loads((folders[decision] / "result.json").read_text())["metrics"]
        metrics["val"]["f1"] = val
        edit_record(folders[decision], metrics=metrics)
    group, bootstrap = only_group(tmp_path), PairedBootstrap(100)
    assert best_decisions(group, group.chosen, "f1")["warp"] == ("warp", "topk")
    digests = {run: digest_run(run, bootstrap) for row in group.rows for run in row.runs}
    first, *_ = answer(group, gather(group, digests, bootstrap))
    assert first.question == "F1: LSEP (K) against each loss, all under the decision of highest validation F1"
    assert [name for name, _ in first.rows] == ["WARP (K)"]
    assert "| WARP (K) |" in markdown_verdict(first)


def test_csv_has_a_line_for_every_cell(tmp_path: Path) -> None:
    write_sweep(tmp_path, losses=["lsep"], decisions=["thresh_est"], data="coco", model="vgg16", labels=20)
    group, table, _ = finished(tmp_path)
    lines = list(csv.DictReader(StringIO(csv_table(table))))
    assert len(lines) == 10 * 6
    line = next(line for line in lines if line["loss"] == "lsep" and line["metric"] == "f1")
    assert line["split_hash"] == group.protocol["split_hash"]
    assert (line["runs"], line["seeds"], line["paper"]) == ("3", "0 1 2", "62.9000")
    assert float(line["low"]) < float(line["mean"]) < float(line["high"])
    empty = next(line for line in lines if line["method"] == "Softmax (K)" and line["metric"] == "f1")
    assert (empty["mean"], empty["std"], empty["runs"]) == ("", "", "0")


def test_awkward_names_are_escaped(tmp_path: Path) -> None:
    write_run(tmp_path, loss="my_loss|a & b", decision="50% $x$ {y}\\", data="d_1")
    table = table_of_all(only_group(tmp_path))
    assert r"my\_loss|a \& b (50\% \$x\$ \{y\}\textbackslash{})" in latex_table(table)
    assert "my_loss\\|a & b (50% $x$ {y}\\\\)" in markdown_table(table)
    tex = latex_table(table)
    body = tex.split(r"\midrule")[1].split(r"\bottomrule")[0]
    assert body.count(r"\\" + "\n") == 1
