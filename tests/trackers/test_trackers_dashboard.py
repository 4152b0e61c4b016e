"""The W&B workspace: built without the service; every metric and chart in it is one that runs log."""

import pytest

from lsep_ml.metrics.functional import LABEL_SET_KEYS, RANKING_KEYS
from lsep_ml.trackers.dashboard import TABLE_METRICS, build_workspace


@pytest.mark.filterwarnings("ignore")
def test_the_workspace_shows_what_runs_log() -> None:
    workspace = build_workspace("someone", "lsep_ml")
    assert [section.name for section in workspace.sections][:2] == ["Table 1: losses", "Table 2: decisions"]
    assert set(TABLE_METRICS) <= set(LABEL_SET_KEYS)
    keys = {
        str(y)
        for section in workspace.sections
        for panel in section.panels
        for y in getattr(panel, "y", None) or []
    }
    logged = {"train_loss", "val_loss", "lr"} | {f"val_{key}" for key in RANKING_KEYS}
    for key in keys:
        stage, name = key.split("/")
        assert stage in ("prediction", "decision")
        assert name in logged
    assert keys
