"""The catalogue: its rows are sound, documented, and called by one name wherever a metric is shown."""

import csv
import json
from io import StringIO
from pathlib import Path

import numpy as np
import pytest
from report_runs import edit_record, write_run, write_sweep
from rich.console import Console

from lsep_ml.metrics import BY_KEY, LABEL_SET_KEYS, METRICS, PAPER_KEYS, RANKING_KEYS, Metric
from lsep_ml.metrics.catalogue import LABEL_SET_METRICS, gain
from lsep_ml.reports import build_report
from lsep_ml.reports.records import find_runs
from lsep_ml.runs.finished import FIRST_METRICS
from lsep_ml.runs.inventory import Inventory, Item
from lsep_ml.runs.printed import print_inventory, print_result
from lsep_ml.trackers.dashboard import build_dashboard
from lsep_ml.tuning import print_tuning, tune

ROOT = Path(__file__).parents[2]


def documented(metric: Metric) -> str:
    """A metric's line in docs/metrics.md."""
    cells = [f"`{metric.key}`", metric.name, metric.short_name, metric.unit]
    cells += ["higher" if metric.higher_is_better else "lower", metric.needs, "yes" if metric.paper else ""]
    return f"| {' | '.join([*cells, metric.note])} |"


def test_rows_are_told_apart_and_documented() -> None:
    for name in ("key", "name", "short_name", "note"):
        assert len({getattr(metric, name) for metric in METRICS}) == len(METRICS)
    lines = (ROOT / "docs" / "metrics.md").read_text().splitlines()
    assert [line for line in lines if line.startswith("| `")] == [documented(metric) for metric in METRICS]
    assert {metric.unit for metric in METRICS} == {"%", "labels"}
    assert set(LABEL_SET_KEYS) | set(RANKING_KEYS) == {*BY_KEY, "map_classes"}
    assert PAPER_KEYS == ("pc_p", "pc_r", "ov_p", "ov_r", "f1", "exact_match")


def test_an_ordering_takes_the_lowest_where_lower_is_better() -> None:
    assert max([0.2, 0.1, 0.3], key=lambda value: gain("f1", value)) == 0.3
    assert max([0.2, 0.1, 0.3], key=lambda value: gain("ranking_loss", value)) == 0.1
    assert max([2.0, 1.0], key=lambda value: gain("labels_per_image", value)) == 2.0


def text_of(console: Console) -> str:
    return " ".join(console.export_text(styles=False).split())


def test_the_terminal_calls_every_metric_by_its_name(tmp_path: Path) -> None:
    record = json.loads((write_run(tmp_path) / "result.json").read_text())
    record["reused"] = {}
    many = [-0.5, *[0.25] * 69_999]
    record["choices"] = {"few": [0.123456, 2], "same": many[1:19], "theta": many}
    console = Console(record=True, width=100, quiet=False, file=StringIO())
    print_result(record, tmp_path, console)
    text = text_of(console)
    assert "few = [0.1235, 2], same = 18 times 0.25, theta = 70,000 numbers from -0.5 to 0.25" in text
    for metric in METRICS:
        low, high = record["intervals"]["test"][metric.key]
        values = [record["metrics"][split][metric.key] for split in ("val", "test")]
        unit = "" if metric.unit == "%" else f", {metric.unit}"
        row = f"{metric.label}{unit} │ {' │ '.join(map(metric.show, values))} │ {metric.show(low)} to"
        assert " ".join(row.split()) in text
        assert metric.show(high) in text


def test_tune_calls_every_metric_by_its_name(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    targets = rng.random((60, 3)) < 0.4
    np.savez(tmp_path / "scores.npz", scores=rng.normal(size=(60, 3)) + targets, targets=targets)
    tuning = tune(tmp_path / "scores.npz", decisions=["topk", "threshold"], replicates=20, progress=False)
    console = Console(record=True, width=200, file=StringIO())
    print_tuning(tuning, console)
    text = text_of(console)
    ordered = sorted(tuning.tried, key=lambda tuned: -tuned.metrics["f1"])
    assert "decision " + " ".join(metric.short_name for metric in LABEL_SET_METRICS) in text
    for tuned in ordered:
        values = [metric.show(tuned.metrics[metric.key]) for metric in LABEL_SET_METRICS]
        assert " ".join([tuned.name, *values]) in text


def test_the_report_calls_every_metric_by_its_name(tmp_path: Path) -> None:
    write_sweep(tmp_path, losses=["lsep"], decisions=["topk", "thresh_est"], seeds=[0], images=60, labels=5)
    report = build_report(tmp_path, replicates=100)
    tables = report.page.parent / "tables"
    page, markdown = report.page.read_text(), (tables / "all_digits.md").read_text()
    latex, lines = (tables / "all_digits.tex").read_text(), (tables / "all_digits.csv").read_text()
    named = {row["metric"]: row["name"] for row in csv.DictReader(StringIO(lines))}
    assert named == {metric.key: metric.name for metric in METRICS}
    explorer = json.loads(page.split('id="explorer-data">')[1].split("</script>")[0])
    assert explorer["keys"] == [
        {
            "key": metric.key,
            "name": metric.short_name,
            "note": f"{metric.name}: {metric.note}",
            "higher_is_better": metric.higher_is_better,
        }
        for metric in LABEL_SET_METRICS
    ]
    for metric in METRICS:
        assert f">{metric.heading}</button>" in page
        assert f" {metric.heading} |" in markdown
        assert f"& {metric.heading} &" in latex
        if metric.name != metric.short_name:
            assert f"{metric.short_name}: {metric.name}" in page
            assert f"{metric.short_name}: {metric.name}" in markdown
            assert f"{metric.short_name}: {metric.name}" in latex


@pytest.mark.filterwarnings("ignore")
def test_the_dashboard_charts_every_metric() -> None:
    blocks = build_dashboard("me", "lsep_ml", "digits").blocks
    titles = [panel.title for block in blocks for panel in getattr(block, "panels", [])]
    for metric in METRICS:
        assert f"test {metric.label}" in titles


def test_runs_are_listed_with_the_lowest_first_where_lower_is_better() -> None:
    runs = [
        Item("run", Path(name), 1, (name,), {"ranking_loss": value} if value else {})
        for name, value in (("none", None), ("middle", 0.2), ("high", 0.3), ("low", 0.1))
    ]
    console = Console(record=True, width=120, file=StringIO())
    print_inventory(Inventory(runs, []), console, "ranking_loss")
    text = text_of(console)
    assert "by ranking loss on validation, the best first" in text
    places = [text.index(f" {name} ") for name in ("low", "middle", "high", "none")]
    assert places == sorted(places)


def test_a_record_of_before_a_metric_is_read_without_complaint(tmp_path: Path) -> None:
    folder = write_run(tmp_path)
    metrics = json.loads((folder / "result.json").read_text())["metrics"]
    late = BY_KEY.keys() - set(FIRST_METRICS)
    for split in metrics.values():
        for key in late:
            del split[key]
    edit_record(folder, metrics=metrics)
    found = find_runs(tmp_path)
    assert (len(found.runs), found.problems) == (1, [])
    report = build_report(tmp_path, replicates=100)
    assert report.problems == []
    cells = next(table for table in report.tables if table.slug == "all_digits").rows[0].cells
    assert {key: cells[key].mean for key in late} == dict.fromkeys(late)
    assert cells["f1"].mean is not None
