"""Experiment trackers: they are shown a run's history as it grows, then its record and its files.

A run whose network was found in the store replays the stored history, so that every run is shown whole.
"""

import logging
import os
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from datetime import datetime
from pathlib import Path
from typing import Any, Literal, Protocol, Self

import numpy as np

from lsep_ml.runs.files import TEST, THUMBNAILS

log = logging.getLogger(__name__)
_BEGAN = f"{datetime.now():%Y-%m-%d_%H-%M-%S}"

MODES = ("offline", "online", "disabled")
"""What WANDB_MODE may be."""

Row = dict[str, Any]


class Tracker(Protocol):
    """Is told of a run; `close` is called whatever happens."""

    def start(self, config: dict[str, Any], folder: Path) -> None:
        """Begin a run: `config` is its resolved configuration as plain data, `folder` its own."""

    def row(self, row: Row) -> None:
        """Take one `row` of history.csv: `stage`, `epoch`, and the metrics of that epoch."""

    def result(self, record: dict[str, Any], folder: Path) -> None:
        """Take the `record` of the finished run, as in result.json, and the `folder` that holds its arrays."""

    def close(self, failed: bool) -> None:
        """End the run."""


class Trackers:
    """Several trackers as one; none is as good as one."""

    def __init__(self, trackers: Sequence[Tracker]) -> None:
        self.trackers = trackers

    @contextmanager
    def run(self, config: dict[str, Any], folder: Path) -> Iterator[Self]:
        """Start every tracker, and close those that were started, whatever happens in between."""
        with ExitStack() as closing:
            for tracker in self.trackers:
                closing.push(lambda kind, *_, tracker=tracker: tracker.close(failed=kind is not None))
                tracker.start(config, folder)
            yield self

    def row(self, row: Row) -> None:
        """Show a row of the history to all."""
        for tracker in self.trackers:
            tracker.row(row)

    def result(self, record: dict[str, Any], folder: Path) -> None:
        """Show the finished run to all."""
        for tracker in self.trackers:
            tracker.result(record, folder)


class WandbTracker:
    """Weights & Biases: one run a job, tagged data / loss / decision, grouped by sweep; offline unless asked.

    Curves are logged by epoch as `prediction/<key>` and `decision/<key>`; the summary holds the final metrics under
    the keys of result.json (`test/f1`, ...); per-class F1, the mean precision-recall curve, test images with their
    labels, and test images in the order of their mean threshold (where the decision has thresholds) as tables.

    Args:
        project: the W&B project.
        mode: "offline" writes a run to be sent later with `wandb sync`; "online" sends it, and needs a login. The
            environment variable WANDB_MODE goes before it, and may be "disabled" too.
        group: what the runs of a sweep share; None for the time this process began, with the sweep's first job.
        entity: the W&B account or team, None for the login's own.
    """

    def __init__(
        self,
        project: str = "lsep_ml",
        mode: Literal["offline", "online"] = "offline",
        group: str | None = None,
        entity: str | None = None,
    ) -> None:
        if mode not in ("offline", "online"):
            raise ValueError(f"logger.wandb.mode={mode!r}: expected offline or online")
        asked: Any = os.environ.get("WANDB_MODE") or mode  # W&B's own way to say it for all programs
        if asked not in MODES:
            raise ValueError(f"WANDB_MODE={asked}: expected one of {', '.join(MODES)}")
        self.project, self.mode, self.group, self.entity = project, asked, group or _BEGAN, entity
        self._run: Any = None

    def start(self, config: dict[str, Any], folder: Path) -> None:
        import wandb

        names = config["names"]
        self._run = wandb.init(
            project=self.project,
            entity=self.entity,
            mode=self.mode,
            group=self.group,
            name=folder.name,
            tags=[names["data"], names["loss"], names["decision"]],
            config=config,
            dir=str(folder),
            settings=wandb.Settings(silent=True, console="off"),
            reinit="finish_previous",
        )
        for stage in ("prediction", "predictor", "decision"):
            self._run.define_metric(f"{stage}/epoch")
            self._run.define_metric(f"{stage}/*", step_metric=f"{stage}/epoch")

    def row(self, row: Row) -> None:
        self._run.log({f"{row['stage']}/{key}": float(value) for key, value in row.items() if key != "stage"})

    def result(self, record: dict[str, Any], folder: Path) -> None:
        import wandb

        from lsep_ml.metrics.curves import RECALLS, mean_precision_recall
        from lsep_ml.metrics.functional import count_label_sets, per_class_metrics

        for split, metrics in record["metrics"].items():
            self._run.summary.update({f"{split}/{key}": value for key, value in metrics.items()})
        self._run.summary.update({f"choices/{key}": value for key, value in record["choices"].items()})
        with np.load(folder / TEST, allow_pickle=False) as file:
            arrays = dict(file)
        names, mask = record["label_names"], arrays["mask"]
        counts = count_label_sets(arrays["predictions"], arrays["targets"], mask)
        f1 = per_class_metrics(counts.correct, counts.predicted, counts.actual)["f1"]
        bars = wandb.Table(
            columns=["label", "f1"], data=[[n, float(v)] for n, v in zip(names, f1, strict=True)]
        )
        shown = {
            "class_f1": wandb.plot.bar(bars, "label", "f1", title="F1 of each class"),
            "gallery": self._gallery(arrays, names, folder),
        }
        if "scores" in arrays:  # a predictor may have none
            precision = mean_precision_recall(arrays["scores"], arrays["targets"], mask)
            curve = wandb.Table(
                columns=["recall", "precision"], data=np.column_stack([RECALLS, precision]).tolist()
            )
            shown["precision_recall"] = wandb.plot.line(
                curve, "recall", "precision", title="Mean precision and recall"
            )
        self._run.log(shown)

    def _gallery(self, arrays: dict[str, Any], names: list[str], folder: Path) -> Any:
        """Test images with their labels; in the order of their mean threshold where there are thresholds."""
        import wandb

        table = wandb.Table(columns=["image", "id", "true", "predicted", "mean threshold"])
        with np.load(folder / THUMBNAILS, allow_pickle=False) as thumbnails:
            rows = [(int(key), thumbnails[key]) for key in thumbnails.files]
        thresholds = arrays.get("thresholds")
        mean = {row: float(thresholds[row].mean()) if thresholds is not None else None for row, _ in rows}
        for row, image in sorted(rows, key=lambda item: (mean[item[0]] or 0.0, item[0])):
            sets = [
                ", ".join(names[k] for k in np.flatnonzero(arrays[kind][row]))
                for kind in ("targets", "predictions")
            ]
            table.add_data(wandb.Image(image), str(arrays["image_ids"][row]), *sets, mean[row])
        return table

    def close(self, failed: bool) -> None:
        if self._run is not None:
            offline = self.mode == "offline"
            place = Path(self._run.dir).parent
            self._run.finish(exit_code=int(failed))
            self._run = None
            if offline:
                # a warning, since a sweep shows nothing less on the terminal
                log.warning("W&B run written offline; send it with: wandb sync %s", place)


class TensorBoardTracker:
    """TensorBoard event files in the run's folder (needs the `tensorboard` package)."""

    def __init__(self) -> None:
        self._writer: Any = None

    def start(self, config: dict[str, Any], folder: Path) -> None:
        try:
            from torch.utils.tensorboard import SummaryWriter
        except ImportError as error:
            raise ValueError(
                "logger=tensorboard needs the tensorboard package: pip install tensorboard"
            ) from error
        self._writer = SummaryWriter(str(folder / "tensorboard"))

    def row(self, row: Row) -> None:
        for key, value in row.items():
            if key not in ("stage", "epoch"):
                self._writer.add_scalar(f"{row['stage']}/{key}", float(value), int(row["epoch"]))

    def result(self, record: dict[str, Any], folder: Path) -> None:
        for split, metrics in record["metrics"].items():
            for key, value in metrics.items():
                self._writer.add_scalar(f"{split}/{key}", value, record["choices"]["epoch"])

    def close(self, failed: bool) -> None:
        if self._writer is not None:
            self._writer.close()
            self._writer = None
