"""What a tracker is told of a run and shows of it, loggers of Lightning's as trackers, several trackers as one.

A run whose network was found in the store replays the stored history, so that every run is shown whole.
"""

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, Protocol, Self, runtime_checkable

from lsep_ml.runs.arrays import Arrays, read_test_split
from lsep_ml.runs.files import RESULT
from lsep_ml.runs.finished import read_run
from lsep_ml.runs.per_class import per_class_rows

Row = dict[str, Any]

LABELS_ALONE = 100
"""Of a run with more labels, a tracker has no number of each; its table of them, and per_class.csv, have all."""


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


@runtime_checkable
class LightningLogger(Protocol):
    """Is what a logger of Lightning's can do; `pytorch_lightning.loggers` and `lightning.pytorch.loggers` both have."""

    def log_hyperparams(self, params: dict[str, Any]) -> None:
        """Take the configuration of the run."""

    def log_metrics(self, metrics: dict[str, float], step: int | None = None) -> None:
        """Take numbers of one epoch."""

    def finalize(self, status: str) -> None:
        """End with `status`, success or failed."""


class LightningTracker:
    """Shows a run to a `logger` of Lightning's (MLflow, Comet, ...): configuration, every epoch, and the final numbers.

    The numbers of an epoch are `prediction/KEY` and `decision/KEY` with the epoch as the step; the final ones, those
    of `summary_numbers`, have the chosen epoch.
    """

    def __init__(self, logger: LightningLogger) -> None:
        self.logger = logger

    def start(self, config: dict[str, Any], folder: Path) -> None:
        self.logger.log_hyperparams(config)

    def row(self, row: dict[str, Any]) -> None:
        numbers = {
            f"{row['stage']}/{key}": float(value)
            for key, value in row.items()
            if key not in ("stage", "epoch")
        }
        self.logger.log_metrics(numbers, step=int(float(row["epoch"])))

    def result(self, record: dict[str, Any], folder: Path) -> None:
        run, _ = read_run(folder / RESULT)
        numbers = summary_numbers(record, label_rows(record, read_test_split(run)))
        numbers = {key: float(value) for key, value in numbers.items() if isinstance(value, int | float)}
        self.logger.log_metrics(numbers, step=int(record["choices"]["epoch"]))

    def close(self, failed: bool) -> None:
        self.logger.finalize("failed" if failed else "success")


class Trackers:
    """Tells several trackers, or none, what one is told. A logger of Lightning's becomes a tracker here."""

    def __init__(self, trackers: Sequence[Tracker | LightningLogger]) -> None:
        self.trackers: list[Tracker] = [
            LightningTracker(tracker) if isinstance(tracker, LightningLogger) else tracker
            for tracker in trackers
        ]

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


def label_rows(record: dict[str, Any], test: Arrays) -> list[dict[str, Any]]:
    """Return a row of `lsep_ml.runs.per_class.COLUMNS` for each label, of the arrays of the `test` split."""
    return per_class_rows(
        record["label_names"], test["predictions"], test["targets"], test["mask"], test.get("scores")
    )


def summary_numbers(record: dict[str, Any], labels: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Return the final numbers of a run by name.

    `test/f1`, `val/f1` and so on, as in result.json; `test/f1_low`, `test/f1_high`, the ends of the 95% interval;
    `choices/epoch` and what else was chosen; `label/NAME/f1` and the other columns of per_class.csv for each of the
    `labels`, as far as they are defined, where there are at most LABELS_ALONE.
    """
    numbers = {
        f"{split}/{key}": value
        for split, metrics in record["metrics"].items()
        for key, value in metrics.items()
    }
    for split, intervals in record["intervals"].items():
        for key, (low, high) in intervals.items():
            numbers |= {f"{split}/{key}_low": low, f"{split}/{key}_high": high}
    numbers |= {f"choices/{key}": value for key, value in record["choices"].items()}
    if len(labels) <= LABELS_ALONE:
        for row in labels:
            measured = {key: value for key, value in row.items() if key != "label" and value is not None}
            numbers |= {f"label/{row['label']}/{key}": value for key, value in measured.items()}
    return numbers
