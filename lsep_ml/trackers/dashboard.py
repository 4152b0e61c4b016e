"""A W&B workspace for the runs that `logger=wandb` makes: the two tables, the curves, the galleries.

Building it needs no service and is tested; `save` sends it and needs an account, which the tests do not have.
"""

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from lsep_ml.metrics import BY_KEY, METRICS, PAPER_KEYS

if TYPE_CHECKING:
    import wandb_workspaces.workspaces as workspaces

TABLE_METRICS = PAPER_KEYS
"""The columns of the paper's Table 1."""


def create_workspace(entity: str, project: str) -> str:
    """Send the workspace to W&B; returns its address.

    Raises:
        ValueError: no entity, no login, or W&B refuses it.
    """
    if not entity or not project:
        raise ValueError(
            f"--entity {entity!r} --project {project!r}: give the names of an account and a project"
        )
    workspace = build_workspace(entity, project)
    try:
        return str(workspace.save().url)
    except Exception as error:  # W&B's clients raise their own, of several packages
        raise ValueError(
            f"W&B does not take a workspace for --entity {entity} --project {project}: {error}; `wandb login` logs in"
        ) from error


def build_workspace(entity: str, project: str) -> "workspaces.Workspace":
    """Build the workspace of `project` as an object, not yet sent.

    Raises:
        ValueError: the wandb-workspaces package is not installed.
    """
    try:
        import wandb_workspaces.reports.v2 as panels
        import wandb_workspaces.workspaces as workspaces
    except ImportError as error:
        raise ValueError("the dashboard needs wandb-workspaces: pip install 'lsep-ml[dashboard]'") from error

    def bars(group: str, keys: Iterable[str] = TABLE_METRICS) -> list[Any]:
        return [
            panels.BarPlot(
                title=f"test {BY_KEY[key].label} by {group}",
                metrics=[panels.SummaryMetric(f"test/{key}")],
                groupby=panels.Config(f"names.{group}"),
                orientation="v",
            )
            for key in keys
        ]

    def curve(stage: str, key: str) -> panels.LinePlot:
        return panels.LinePlot(title=f"{stage}: {key}", x=f"{stage}/epoch", y=[f"{stage}/{key}"])

    further = [metric.key for metric in METRICS if metric.key not in TABLE_METRICS]
    curves = [
        curve("prediction", key) for key in ("train_loss", "val_loss", "val_map", "val_ranking_loss", "lr")
    ]
    sections = [
        workspaces.Section("Table 1: losses", panels=bars("loss"), is_open=True),
        workspaces.Section("Table 2: decisions", panels=bars("decision"), is_open=True),
        workspaces.Section("Further metrics", panels=bars("loss", further)),
        workspaces.Section("Curves", panels=[*curves, curve("decision", "train_loss")]),
        workspaces.Section(
            "Images, by their mean threshold",
            panels=[panels.MediaBrowser(title="gallery", media_keys=["gallery"], num_columns=1)],
        ),
    ]
    return workspaces.Workspace(entity=entity, project=project, name="lsep_ml", sections=sections)
