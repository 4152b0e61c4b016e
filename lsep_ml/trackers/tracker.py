"""What a tracker is told of a run, and several trackers as one.

A run whose network was found in the store replays the stored history, so that every run is shown whole.
"""

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, Protocol, Self

from lsep_ml.trackers.lightning import LightningLogger, LightningTracker

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
    """Tells several trackers as one; none is as good as one. A logger of Lightning's becomes a tracker here."""

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
