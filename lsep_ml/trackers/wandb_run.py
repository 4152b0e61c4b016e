"""A run in Weights & Biases, one for a job, also for one that was stopped and continued; and what it shows there."""

import logging
import os
import shlex
import shutil
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from lsep_ml.metrics import METRICS
from lsep_ml.metrics.functional import RECALLS, compare_label_sets, mean_precision_recall
from lsep_ml.runs.arrays import Arrays, read_test_split, read_thumbnails
from lsep_ml.runs.files import RESULT, WANDB
from lsep_ml.runs.finished import read_run
from lsep_ml.runs.per_class import COLUMNS
from lsep_ml.trackers.tracker import label_rows, summary_numbers

log = logging.getLogger(__name__)

MODES = ("offline", "online", "disabled")
"""What WANDB_MODE may be."""

_STAGING = "WANDB_DATA_DIR"
"""W&B's own variable for the folder in which the files of its tables wait to be sent."""


class WandbTracker:
    """Shows a run in Weights & Biases: one W&B run a job, tagged data / loss / decision; offline unless asked.

    Curves are logged by epoch as `prediction/KEY` and `decision/KEY`; the summary holds `summary_numbers`; tables,
    charts and images are those of `result_media`. All of its files lie in the run's own folder, the pictures too.

    A job that was stopped keeps its W&B run when it is continued. Online it goes on after what W&B has; offline, where
    a continued job shows its history from the beginning, the new files take the place of those not yet sent.

    Args:
        project: the W&B project.
        mode: "offline" writes a run to be sent later with `wandb sync`; "online" sends it, and needs a login. The
            environment variable WANDB_MODE goes before it, and may be "disabled" too.
        group: what the runs of a sweep share; None: none.
        entity: the W&B account or team, None for the login's own.

    Raises:
        ValueError: another mode.
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
        self.project, self.mode, self.group, self.entity = project, asked, group, entity
        self._run: Any = None
        self._sent: dict[str, float] = {}  # by stage, the last epoch that W&B has of a run that is continued

    def start(self, config: dict[str, Any], folder: Path) -> None:
        import wandb

        names = config["names"]
        # before anything looks for W&B's host, which offline nothing may
        wandb.setup(wandb.Settings(mode=self.mode))
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
            resume="auto",  # the id is kept in `folder` until the run ends well
        )
        for earlier in unsent_runs(folder):
            if (earlier / f"run-{self._run.id}.wandb").exists() and earlier != self._place:
                shutil.rmtree(earlier)
        for stage in ("prediction", "predictor", "decision"):
            self._run.define_metric(f"{stage}/epoch")
            self._run.define_metric(f"{stage}/*", step_metric=f"{stage}/epoch")
            if self._run.resumed:
                self._sent[stage] = self._run.summary.get(f"{stage}/epoch", 0)

    @property
    def _place(self) -> Path:
        """Return the folder of the W&B run, below that of the job's run."""
        return Path(self._run.dir).parent

    def row(self, row: dict[str, Any]) -> None:
        if float(row["epoch"]) > self._sent.get(row["stage"], 0):
            self._run.log(
                {f"{row['stage']}/{key}": float(value) for key, value in row.items() if key != "stage"}
            )

    def result(self, record: dict[str, Any], folder: Path) -> None:
        run, _ = read_run(folder / RESULT)
        test, thumbnails = read_test_split(run), read_thumbnails(run)
        labels = label_rows(record, test)
        self._run.summary.update(summary_numbers(record, labels))
        with _staging_in(self._place):
            self._run.log(result_media(record, test, labels, thumbnails))

    def close(self, failed: bool) -> None:
        if self._run is not None:
            place = self._place
            self._run.finish(exit_code=int(failed))
            self._run, self._sent = None, {}
            if self.mode == "offline":
                log.info("W&B run written offline; send it with: wandb sync %s", shlex.quote(str(place)))


def unsent_runs(folder: Path) -> list[Path]:
    """Return the folders of W&B runs that were written offline in a run's `folder` and not sent since."""
    found = sorted((folder / WANDB).glob("offline-run-*"))
    return [place for place in found if not any(place.glob("*.synced"))]


def sync_command(folders: Iterable[Path]) -> str | None:
    """Return the one command that sends what the runs in `folders` wrote offline; None where there is nothing."""
    parents = sorted({str(folder.parent) for folder in folders if unsent_runs(folder)})
    if not parents:
        return None
    # The shell fills in the runs; W&B passes over those that were sent.
    return " ".join(["wandb sync", *(f"{shlex.quote(parent)}/*/{WANDB}/offline-run-*" for parent in parents)])


@contextmanager
def _staging_in(place: Path) -> Iterator[None]:
    """Let the files of W&B's tables wait in `place`, unless the user says where."""
    if os.environ.get(_STAGING):
        yield
        return
    os.environ[_STAGING] = str(place)
    try:
        yield
    finally:
        del os.environ[_STAGING]


def result_media(
    record: dict[str, Any],
    test: Arrays,
    labels: list[dict[str, Any]],
    thumbnails: Mapping[int, NDArray[np.uint8]],
) -> dict[str, Any]:
    """Return by key what W&B shows of a finished run.

    `metrics` and `per_class`, tables; `class_f1` and, of a run with scores, `precision_recall`, charts; `gallery`, test
    images, and `images`, the table of what each is, both by mean threshold where there are thresholds.

    Args:
        record: as in result.json.
        test: the arrays of the test split.
        labels: a row of per_class.csv for each label.
        thumbnails: small images by their row in the test split.
    """
    import wandb

    of_labels = [[row.get(column) for column in COLUMNS] for row in labels]
    bars = wandb.Table(columns=["label", "f1"], data=[[row["label"], row["f1"]] for row in labels])
    shown = {
        "metrics": _metrics(record),
        "per_class": wandb.Table(columns=list(COLUMNS), data=of_labels),
        "class_f1": wandb.plot.bar(bars, "label", "f1", title="F1 of each class"),
        **_images(test, record["label_names"], thumbnails),
    }
    if "scores" in test:  # a predictor may have none
        precision = mean_precision_recall(test["scores"], test["targets"], test["mask"])
        curve = wandb.Table(
            columns=["recall", "precision"], data=np.column_stack([RECALLS, precision]).tolist()
        )
        title = "Mean precision and recall"
        shown["precision_recall"] = wandb.plot.line(curve, "recall", "precision", title=title)
    return shown


def _metrics(record: dict[str, Any]) -> Any:
    import wandb

    table = wandb.Table(columns=["metric", "name", "validation", "test", "test low", "test high"])
    val, test = record["metrics"]["val"], record["metrics"]["test"]
    for metric in METRICS:
        if metric.key in val or metric.key in test:
            low, high = record["intervals"]["test"].get(metric.key, (None, None))
            table.add_data(
                metric.key, metric.short_name, val.get(metric.key), test.get(metric.key), low, high
            )
    return table


def _images(test: Arrays, names: list[str], pictures: Mapping[int, NDArray[np.uint8]]) -> dict[str, Any]:
    """Return the pictures, which lie in the run's own folder, and their table.

    A table of pictures would keep them elsewhere: W&B stages what is in its tables away from the run.
    """
    import wandb

    thresholds = test.get("thresholds")
    mean = {row: None if thresholds is None else float(thresholds[row].mean()) for row in pictures}
    table = wandb.Table(columns=["picture", "id", "true", "predicted", "wrong", "missed", "mean threshold"])
    gallery = []
    for row in sorted(pictures, key=lambda row: (mean[row] or 0.0, row)):
        predicted, true, known = (test[key][row] for key in ("predictions", "targets", "mask"))
        compared = compare_label_sets(predicted, true, known)
        sets = [
            ", ".join(names[k] for k in np.flatnonzero(chosen))
            for chosen in (true, predicted, compared.wrong, compared.missed)
        ]
        threshold = "" if mean[row] is None else f"\nmean threshold: {mean[row]:.3f}"
        caption = f"{test['image_ids'][row]}\ntrue: {sets[0]}\npredicted: {sets[1]}{threshold}"
        gallery.append(wandb.Image(pictures[row], caption=caption))
        table.add_data(len(gallery), str(test["image_ids"][row]), *sets, mean[row])
    return {"gallery": gallery, "images": table}
