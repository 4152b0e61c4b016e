"""The W&B workspace: built without the service; every metric and chart in it is one that runs log."""

import pytest

from lsep_ml.metrics.functional import LABEL_SET_KEYS, RANKING_KEYS
from lsep_ml.trackers.dashboard import TABLE_METRICS, build_workspace, create_workspace


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


@pytest.mark.filterwarnings("ignore")
def test_a_workspace_that_cannot_be_sent_is_one_message(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(workspace: object) -> None:
        raise ConnectionError("no API key configured")

    monkeypatch.setattr("wandb_workspaces.workspaces.Workspace.save", refuse)
    with pytest.raises(
        ValueError, match=r"--entity someone --project x: no API key configured; `wandb login`"
    ):
        create_workspace("someone", "x")
    with pytest.raises(ValueError, match="give the names"):
        create_workspace("", "x")
