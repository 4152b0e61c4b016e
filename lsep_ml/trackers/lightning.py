"""Loggers of Lightning as trackers: MLflow, Comet, TensorBoard, CSV and others, each by its own configuration."""

from pathlib import Path
from typing import Any, Protocol, runtime_checkable

from lsep_ml.trackers.summary import label_rows, read_test_split, summary_numbers


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
    """Shows a run to a `logger` of Lightning's: the configuration, every epoch, and the final numbers.

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
        numbers = summary_numbers(record, label_rows(record, read_test_split(folder)))
        numbers = {key: float(value) for key, value in numbers.items() if isinstance(value, int | float)}
        self.logger.log_metrics(numbers, step=int(record["choices"]["epoch"]))

    def close(self, failed: bool) -> None:
        self.logger.finalize("failed" if failed else "success")
