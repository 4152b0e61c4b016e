"""The W&B report: built without the service; its bars are the numbers of the tables, its curves are what runs log."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from report_runs import write_run

from lsep_ml.files import read_json
from lsep_ml.metrics.functional import LABEL_SET_KEYS, RANKING_KEYS
from lsep_ml.trackers.dashboard import PAPER_DECISIONS, TABLE_METRICS, build_dashboard, create_dashboard
from lsep_ml.trackers.tracker import summary_numbers

pytestmark = pytest.mark.filterwarnings("ignore")


def value_at(config: Mapping[str, Any], path: str) -> Any:
    """What W&B has at a path of a configuration: the value of each top-level key lies under `value`."""
    first, *rest = path.split(".")
    found: Any = {"value": config[first]}
    for part in rest if "value" in rest else ["value", *rest]:
        found = found[part]
    return found


def shown_by(runset: Any, run: Mapping[str, Any]) -> bool:
    """Whether W&B counts a run among those of a run set."""
    from wandb_workspaces.expr import expr_to_filters

    def holds(node: Any) -> bool:
        if node.filters is not None:
            return (any if node.op == "OR" else all)(holds(child) for child in node.filters)
        assert node.op == "IN"
        own = {"run": lambda: run["group"], "config": lambda: value_at(run["config"], node.key.name)}
        return own[node.key.section]() in node.value

    return holds(expr_to_filters(runset.filters))


def drawn(panel: Any, runset: Any, runs: list[dict[str, Any]]) -> dict[str, float]:
    """The bars of a panel: for each group of the runs that its run set has, the mean of a final number."""
    [metric] = panel.metrics
    assert panel.groupby_aggfunc == "mean"
    groups: dict[str, list[float]] = {}
    for run in runs:
        if shown_by(runset, run):
            groups.setdefault(value_at(run["config"], panel.groupby.name), []).append(
                run["summary"][metric.name]
            )
    return {name: float(np.mean(values)) for name, values in groups.items()}


def grids(report: Any) -> list[Any]:
    return [block for block in report.blocks if hasattr(block, "panels")]


def test_a_bar_is_a_number_of_the_table(tmp_path: Path) -> None:
    runs = []
    for data in ("digits", "other"):
        for loss in ("lsep", "warp"):
            for decision in ("topk", "threshold"):
                for seed in (0, 1):
                    where: dict[str, Any] = {"data": data, "loss": loss, "decision": decision}
                    folder = write_run(
                        tmp_path, **where, seed=seed, images=60, settings={"names.method": loss}
                    )
                    record = read_json(folder / "result.json")
                    summary = summary_numbers(record, [])
                    runs.append(
                        {**where, "config": record["config"], "summary": summary, "group": f"s{seed}"}
                    )

    def mean(key: str, **where: str) -> float:
        found = [run for run in runs if all(run[part] == name for part, name in where.items())]
        return float(np.mean([run["summary"][f"test/{key}"] for run in found]))

    seen = 0
    for group in (None, "s0"):
        report = build_dashboard("someone", "lsep_ml", "digits", decisions=("topk", "threshold"), group=group)
        for grid in grids(report):
            [runset] = grid.runsets
            for panel in grid.panels:
                [metric] = getattr(panel, "metrics", None) or [None]
                if metric is None or metric.name not in runs[0]["summary"]:
                    continue  # no bars, or of a metric that these runs have not
                key, bars = metric.name.removeprefix("test/"), drawn(panel, runset, runs)
                chosen = {"data": "digits", **({} if group is None else {"group": group})}
                if panel.groupby.name == "names.method":
                    chosen["decision"] = runset.name.split(", ")[1]
                    wanted = {loss: mean(key, loss=loss, **chosen) for loss in ("lsep", "warp")}
                else:
                    wanted = {d: mean(key, loss="lsep", decision=d, **chosen) for d in ("topk", "threshold")}
                assert bars == pytest.approx(wanted)
                seen += 1
    assert seen >= 2 * 3 * len(TABLE_METRICS)


def test_the_report_shows_what_runs_log() -> None:
    report = build_dashboard("someone", "lsep_ml", "digits")
    heads = [block.text for block in report.blocks if hasattr(block, "text")]
    assert heads[0] == "Table 1: losses"
    assert heads[1:4] == [f"Label sets by {decision}" for decision in PAPER_DECISIONS]
    assert set(TABLE_METRICS) <= set(LABEL_SET_KEYS)
    panels = [panel for grid in grids(report) for panel in grid.panels]
    keys = {str(getattr(y, "name", y)) for panel in panels for y in getattr(panel, "y", None) or []}
    logged = {"train_loss", "val_loss", "lr"} | {f"val_{key}" for key in RANKING_KEYS}
    for key in keys:
        stage, name = key.split("/")
        assert stage in ("prediction", "decision")
        assert name in logged
    assert keys
    assert [panel.media_keys for panel in panels if hasattr(panel, "media_keys")] == [["gallery"]]


def test_a_report_that_cannot_be_sent_is_one_message(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(report: object, **options: object) -> None:
        raise ConnectionError("no API key configured")

    monkeypatch.setattr("wandb_workspaces.reports.v2.Report.save", refuse)
    with pytest.raises(
        ValueError, match=r"--entity someone --project x: no API key configured; `wandb login`"
    ):
        create_dashboard("someone", "x", "digits")
    with pytest.raises(ValueError, match="give the names"):
        create_dashboard("", "x", "digits")
