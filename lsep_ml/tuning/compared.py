"""How decisions for the scores of any model are compared out of fold, and the best is saved and applied."""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import zip_longest
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console
from rich.progress import Progress
from rich.table import Table

from lsep_ml import terminal
from lsep_ml.bundle.predictions import Predictions
from lsep_ml.decisions import DECISIONS, Decision, load
from lsep_ml.decisions.catalogue import DecisionRow
from lsep_ml.decisions.checks import check_fit
from lsep_ml.decisions.criteria import check_criterion, criterion_metric
from lsep_ml.decisions.estimation import largest_count
from lsep_ml.files import check_writable
from lsep_ml.metrics import (
    BY_KEY,
    LABELS_PER_IMAGE,
    Metric,
    bootstrap_label_sets,
    count_label_sets,
    label_set_metrics,
    labels_per_image,
)
from lsep_ml.metrics.catalogue import LABEL_SET_METRICS
from lsep_ml.metrics.functional import label_set_value
from lsep_ml.runs.record import check_beside
from lsep_ml.training.fitting import fit_decision
from lsep_ml.tuning.label_sets import check_label_sets, export_label_sets, write_label_sets
from lsep_ml.tuning.score_files import ScoreTable, read_scores

_SHOWN = ("f1", "exact_match", "ov_p", "ov_r")


@dataclass(frozen=True)
class Tuned:
    """Holds a `decision` fitted on all images, and its `metrics` out of fold with their 95% `intervals`.

    gap: the criterion on the images it was fitted on minus the criterion out of fold.
    """

    name: str
    decision: Decision
    metrics: dict[str, float]
    intervals: dict[str, tuple[float, float]]
    gap: float
    seconds: float


@dataclass(frozen=True)
class Tuning:
    """Holds all decisions tried, of which `best` has the best `criterion` out of fold (the first on a tie)."""

    criterion: Metric
    tried: list[Tuned]

    @property
    def best(self) -> Tuned:
        return max(self.tried, key=self.gain)

    def gain(self, tuned: Tuned) -> float:
        """Return what makes a decision the better one: its criterion out of fold, negated where lower is better."""
        return float(self.criterion.gain(tuned.metrics[self.criterion.key]))


def tune(
    source: Path,
    output: Path | None = None,
    *,
    decisions: Sequence[str] = (),
    criterion: str = "f1",
    beta: float = 1.0,
    miss_cost: float = 1.0,
    folds: int = 5,
    epochs: int = 50,
    replicates: int = 1000,
    seed: int = 0,
    progress: bool = True,
) -> Tuning:
    """Fit decisions to the scores and targets in `source` (see `read_scores`), compare them, and save the best.

    Every decision is fitted on all images but one fold's and predicts that fold, for each of `folds` random
    folds: its metrics are those of the predictions out of fold. Then it is fitted on all images. output:
    where the best one is written (JSON). decisions: keys of `DECISIONS`; none means all that the file allows
    (learnt ones need features), without those that are only tried on request. criterion, beta, miss_cost: as of rules;
    decisions that choose by none are judged by it too, break-even over all entries. epochs: of the learnt ones.
    replicates: of the bootstrap.

    Raises:
        ValueError: a name or the criterion is unknown, the file has no targets, or nothing can be fitted on its data.
    """
    check_criterion(criterion, beta, miss_cost)
    if output is not None:
        check_writable(output)
    table = read_scores(source)
    targets = table.targets
    if targets is None:
        raise ValueError(f"{source}: no targets; a decision is fitted to scores and targets")
    rows = _chosen(decisions, table, source)
    check_fit(table.scores, targets, table.mask)
    if not 2 <= folds <= len(targets):
        raise ValueError(f"folds={folds}: expected 2 to {len(targets)}, the number of images")
    goal = {"criterion": criterion, "beta": beta, "miss_cost": miss_cost}
    metric = criterion_metric(criterion, beta, miss_cost, by_label=False)
    trial = _Trial(table, goal, metric, folds, epochs, replicates, seed)
    tried = []
    with Progress(console=terminal.console, disable=not progress, transient=True) as bar:
        task = bar.add_task("", total=len(rows) * (folds + 1))
        for row in rows:
            bar.update(task, description=row.key)
            tried.append(trial.of(row, lambda: bar.advance(task)))
    tuning = Tuning(metric, tried)
    if output is not None:
        tuning.best.decision.save(output)
    return tuning


def apply(
    decision: Path,
    source: Path,
    output: Path,
    *,
    tool: str | None = None,
    root: Path | None = None,
    spreadsheet: bool = False,
) -> tuple[np.ndarray, dict[str, float] | None]:
    """Run the decision saved in `decision` on the scores in `source` and write the label sets to `output`.

    By its suffix `output` is npz as a run's predictions.npz, or the table that `predict` writes: CSV, JSONL or parquet;
    or it is JSON for a `tool`: "fiftyone", "cleanlab" or "label_studio". root: what image_ids are relative to, for it.
    spreadsheet: whether texts of a CSV that a spreadsheet would take for formulas are marked as text.

    Returns:
        The label sets, bool (N, K), and their metrics where the file has targets.

    Raises:
        ValueError: the labels of `source` are not those that the decision was fitted for, by number or by name; or a
            file is a run's and not as the run left it.
    """
    check_label_sets(output, tool)
    check_beside(decision)
    fitted, table = load(decision), read_scores(source)
    ours, theirs = fitted.label_names, table.label_names
    if ours is not None and theirs is not None and ours != theirs:
        pairs = zip_longest(ours, theirs, fillvalue="none")
        here, there = next((name, other) for other, name in pairs if name != other)
        raise ValueError(
            f"{source}: its labels are not those of {decision}, in this order; the first that differs is {here!r}, "
            f"where the decision has {there!r}"
        )
    decided = fitted.decide(table.scores, table.features)
    predictions = decided.label_sets.numpy()
    thresholds, counts, probabilities = (None if values is None else values.numpy() for values in decided[1:])
    ask = None if fitted.abstention is None else fitted.abstention.asks(table.scores, decided).numpy()
    if tool is None:
        others = {"counts": counts, "probabilities": probabilities, "ask": ask}
        write_label_sets(output, table, predictions, thresholds, **others, spreadsheet=spreadsheet)
    else:
        found = Predictions(table.names, table.scores, predictions, thresholds, counts, probabilities)
        export_label_sets(output, table, found, tool, root)
    return predictions, None if table.targets is None else _metrics(predictions, table)


def print_tuning(tuning: Tuning, console: Console) -> None:
    """Print the tables of `tuning`, the best criterion first: some metrics with intervals, then all of them."""
    ordered = sorted(tuning.tried, key=tuning.gain, reverse=True)
    criterion = tuning.criterion
    shown = dict.fromkeys([criterion, *(BY_KEY[key] for key in _SHOWN)])
    table = Table(title="Decisions, out of fold, in % (95% bootstrap intervals over images)")
    table.add_column("decision", no_wrap=True)  # a name that is cut stands for several
    for heading in (
        *(metric.short_name for metric in shown),
        "labels an image",
        f"{criterion.short_name} gap",
        "s",
    ):
        table.add_column(heading, justify="right", min_width=max(map(len, heading.split())))
    for tuned in ordered:
        cells = []
        for metric in shown:
            low, high = map(metric.show, tuned.intervals[metric.key])
            cells.append(f"{metric.show(tuned.metrics[metric.key])} [{low}, {high}]")
        labels = LABELS_PER_IMAGE.show(tuned.metrics[LABELS_PER_IMAGE.key])
        table.add_row(tuned.name, *cells, labels, f"{100 * tuned.gap:+.1f}", f"{tuned.seconds:.1f}")
    console.print(table)
    title = "\nEvery metric, out of fold, in %"
    every = Table(title=title, box=None, padding=(0, 1, 0, 0), pad_edge=False, title_justify="left")
    every.add_column("decision", no_wrap=True)
    for metric in LABEL_SET_METRICS:
        every.add_column(metric.short_name, justify="right", overflow="fold")
    for tuned in ordered:
        every.add_row(tuned.name, *(metric.show(tuned.metrics[metric.key]) for metric in LABEL_SET_METRICS))
    console.print(every)
    console.print(f"gap: {criterion.short_name} on the images a decision was fitted on, minus out of fold")


def _chosen(decisions: Sequence[str], table: ScoreTable, source: Path) -> list[DecisionRow]:
    rows = sorted(DECISIONS, key=lambda row: row.load().needs_features)  # rules first: they are quick
    known = {row.key: row for row in rows}
    for name in decisions:
        if name not in known:
            raise ValueError(f"unknown decision {name!r}; known are {', '.join(known)}")
        if known[name].load().needs_features and table.features is None:
            raise ValueError(f"{source}: no features, which {name} decides from")
    possible = [row for row in rows if table.features is not None or not row.load().needs_features]
    return [known[name] for name in dict.fromkeys(decisions)] or [
        row for row in possible if not row.on_request
    ]


@dataclass(frozen=True)
class _Trial:
    """Says how each decision is tried on `table`."""

    table: ScoreTable
    goal: dict[str, Any]
    metric: Metric
    folds: int
    epochs: int
    replicates: int
    seed: int

    def of(self, row: DecisionRow, advance: Callable[[], None]) -> Tuned:
        """Fit the decision of `row` on all images but one fold's, fold by fold, then on all; `advance` after each."""
        started = time.perf_counter()
        table = self.table
        order = np.random.default_rng(self.seed).permutation(len(table.scores))
        held_out = np.zeros(table.scores.shape, bool)
        for fold in np.array_split(order, self.folds):
            held_out[fold] = _predict(self._fit(row, np.setdiff1d(order, fold)), table, fold)
            advance()
        decision = self._fit(row, slice(None))
        fitted = _metrics(_predict(decision, table, slice(None)), table, self.metric)
        advance()
        metrics = _metrics(held_out, table, self.metric)
        intervals = bootstrap_label_sets(
            held_out,
            table.targets,
            table.mask,
            replicates=self.replicates,
            seed=self.seed,
            further=[] if self.metric.key in BY_KEY else [self.metric],
        )
        gap = fitted[self.metric.key] - metrics[self.metric.key]
        return Tuned(row.key, decision, metrics, intervals, gap, time.perf_counter() - started)

    def _fit(self, row: DecisionRow, rows: Any) -> Decision:
        """Fit the decision of `row` on `rows` of the table."""
        table = self.table
        features = 0 if table.features is None else table.features.shape[1]
        sizes = {"num_features": features, "num_labels": table.scores.shape[1]}
        decision = row.build(**self.goal, max_count=self._largest_count(rows), **sizes)
        decision.label_names = table.label_names
        arrays = [
            None if a is None else a[rows] for a in (table.scores, table.targets, table.features, table.mask)
        ]
        return fit_decision(decision, *arrays, epochs=self.epochs, seed=self.seed)  # type: ignore[arg-type]

    def _largest_count(self, rows: Any) -> int:
        """Return what `count_est` counts to: the label counts of nearly all of these rows of the table."""
        targets, mask = self.table.targets, self.table.mask
        assert targets is not None
        return largest_count(targets[rows], None if mask is None else mask[rows])


def _predict(decision: Decision, table: ScoreTable, rows: Any) -> np.ndarray:
    features = None if table.features is None else table.features[rows]
    return decision.predict(table.scores[rows], features).numpy()


def _metrics(predictions: np.ndarray, table: ScoreTable, criterion: Metric | None = None) -> dict[str, float]:
    """Compute the label-set metrics of `predictions`, a criterion too, and the mean number of labels predicted."""
    counts = count_label_sets(predictions, table.targets, table.mask)
    values = {key: float(value) for key, value in label_set_metrics(counts).items()}
    if criterion is not None:
        values[criterion.key] = float(label_set_value(criterion.formula, counts))
    return {**values, LABELS_PER_IMAGE.key: float(labels_per_image(counts))}
