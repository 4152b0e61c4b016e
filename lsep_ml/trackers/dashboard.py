"""A W&B report of the runs on one data set: both tables as bars, the curves, the galleries.

A bar is a number of the paper's tables: the mean over the runs of one method, of one data set and one decision (Table
1) or one loss (Table 2), never over several. Building the report needs no service and is tested; `save` sends it and
needs an account, which the tests do not have.
"""

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

from lsep_ml.metrics import BY_KEY, METRICS, PAPER_KEYS

if TYPE_CHECKING:
    import wandb_workspaces.reports.v2 as reports

TABLE_METRICS = PAPER_KEYS
"""The columns of the paper's Table 1."""

PAPER_DECISIONS, PAPER_LOSS = ("topk", "threshold", "thresh_est"), "lsep"
"""The decisions of Table 1, and the loss of Table 2."""

_WIDTH, _HEIGHT, _COLUMNS = 6, 6, 4


def create_dashboard(entity: str, project: str, data: str, **chosen: Any) -> str:
    """Send the report to W&B as a draft; returns its address. `chosen` is what `build_dashboard` takes further.

    Raises:
        ValueError: a name is missing, no login, or W&B refuses it.
    """
    if not entity or not project or not data:
        raise ValueError(
            f"--entity {entity!r} --project {project!r} --data {data!r}: give the names of an account, a project and "
            "a data set"
        )
    report = build_dashboard(entity, project, data, **chosen)
    try:
        report.save(draft=True)
        return str(report.url)
    except Exception as error:  # W&B's clients raise their own, of several packages
        raise ValueError(
            f"W&B does not take a report for --entity {entity} --project {project}: {error}; `wandb login` logs in"
        ) from error


def build_dashboard(
    entity: str,
    project: str,
    data: str,
    *,
    decisions: Sequence[str] = PAPER_DECISIONS,
    loss: str = PAPER_LOSS,
    group: str | None = None,
) -> "reports.Report":
    """Build the report as an object, not yet sent.

    Args:
        entity, project: where the runs are.
        data: the data set, as `data=` names it.
        decisions: a Table 1 of each.
        loss: whose decisions Table 2 compares.
        group: only the runs of this sweep; None: all of the project.

    Raises:
        ValueError: the wandb-workspaces package is not installed.
    """
    try:
        import wandb_workspaces.reports.v2 as panels
        from wandb_workspaces.expr import Config, Metric
    except ImportError as error:
        raise ValueError("the dashboard needs wandb-workspaces: pip install 'lsep-ml[dashboard]'") from error

    def grid(found: list[Any], **names: str) -> Any:
        """Give panels the runs whose `names` are these."""
        wanted = [
            Config(f"names.value.{part}").isin([name]) for part, name in {"data": data, **names}.items()
        ]
        if group is not None:
            wanted.append(Metric("Group").isin([group]))
        runs = panels.Runset(
            entity=entity, project=project, name=", ".join([data, *names.values()]), filters=wanted
        )
        for place, panel in enumerate(found):
            across, down = place % _COLUMNS, place // _COLUMNS
            panel.layout = panels.Layout(x=_WIDTH * across, y=_HEIGHT * down, w=_WIDTH, h=_HEIGHT)
        return panels.PanelGrid(runsets=[runs], panels=found)

    def bars(by: str, keys: Iterable[str] = TABLE_METRICS) -> list[Any]:
        return [
            panels.BarPlot(
                title=f"test {BY_KEY[key].label}",
                metrics=[panels.SummaryMetric(f"test/{key}")],
                groupby=panels.Config(f"names.{by}"),
                groupby_aggfunc="mean",
                orientation="v",
            )
            for key in keys
        ]

    def curve(stage: str, key: str) -> Any:
        return panels.LinePlot(title=f"{stage}: {key}", x=f"{stage}/epoch", y=[f"{stage}/{key}"])

    of_training = ("train_loss", "val_loss", "val_map", "val_ranking_loss", "lr")
    further = [metric.key for metric in METRICS if metric.key not in TABLE_METRICS]
    curves = [*(curve("prediction", key) for key in of_training), curve("decision", "train_loss")]
    gallery = panels.MediaBrowser(title="test images, by their mean threshold", media_keys=["gallery"])
    blocks: list[Any] = [panels.H1("Table 1: losses")]
    for decision in decisions:
        blocks += [panels.H2(f"Label sets by {decision}"), grid(bars("method"), decision=decision)]
    blocks += [
        panels.H1("Table 2: decisions"),
        panels.H2(f"On the scores of {loss}"),
        grid(bars("decision"), method=loss),
    ]
    blocks += [panels.H1("Further metrics"), panels.H2(f"On the scores of {loss}")]
    blocks += [grid(bars("decision", further), method=loss)]
    blocks += [panels.H1("Curves"), grid(curves), panels.H1("Images"), grid([gallery])]
    return panels.Report(
        entity=entity, project=project, title=f"lsep_ml: {data}", width="fluid", blocks=blocks
    )
