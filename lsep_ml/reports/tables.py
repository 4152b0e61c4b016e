"""The paper's Tables 1 and 2 from our runs, and a table of every row there is."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from statistics import fmean, stdev

from lsep_ml.metrics import BY_KEY, METRICS, PAPER_KEYS
from lsep_ml.metrics.bootstrap import percentiles
from lsep_ml.metrics.catalogue import gain
from lsep_ml.metrics.functional import LABEL_SET_KEYS
from lsep_ml.reports.comparison import HEADLINE_METRICS, Comparison, Evidence, compare_rows
from lsep_ml.reports.grouping import Row, RunGroup, mean_gain
from lsep_ml.reports.paper import decision_name, departures, method_name, paper_numbers, paper_table
from lsep_ml.reports.remarks import marks, remarks
from lsep_ml.runs.finished import Method, Run

ALL_KEYS = tuple(metric.key for metric in METRICS)


@dataclass(frozen=True)
class Cell:
    """Holds a metric in its unit: `mean` over `runs` runs and standard deviation `std` (None for a single run).

    mean is None where no run has the metric. paper: the paper's number, None where it has none. low, high: the paired
    bootstrap's 95% interval of the mean. mark: "best" of its column; "tied" when the difference to the best is not
    real at 95%. decimals: how many are shown.
    """

    mean: float | None = None
    std: float | None = None
    runs: int = 0
    paper: float | None = None
    low: float | None = None
    high: float | None = None
    mark: str = ""
    decimals: int = 1

    @property
    def difference(self) -> float | None:
        """Return our number minus the paper's; None where one is missing."""
        return None if self.mean is None or self.paper is None else self.mean - self.paper


@dataclass(frozen=True, eq=False)
class TableRow:
    """Holds one method: its `label`, its runs' `row` (None without runs) and a cell for each column.

    beside: whether the paper's table lacks it.
    """

    label: str
    row: Row | None
    cells: Mapping[str, Cell]
    beside: bool = False

    @property
    def shown(self) -> str:
        """Return the label with the marks of what its runs warn of."""
        return f"{self.label}{marks(self.row)}"


@dataclass(frozen=True)
class Headline:
    """Names the `method` of highest validation F1: what it is worth on test, how far the next is, where it lies.

    methods: how many there are. cells: its F1 and exact match. next: its F1 against the method next by validation, if
    both have their predictions. run: of its runs the one of highest validation F1.
    """

    method: str
    methods: int
    cells: Mapping[str, Cell]
    next: Comparison | None
    run: Run


@dataclass(frozen=True)
class Table:
    """Holds a table of one `group`. slug: its file name; columns: metric keys; notes: what a reader must know."""

    slug: str
    title: str
    group: RunGroup
    columns: Sequence[str]
    rows: Sequence[TableRow]
    notes: Sequence[str] = field(default_factory=tuple)

    @property
    def has_paper(self) -> bool:
        """Say whether a cell has a number of the paper beside it."""
        return any(cell.paper is not None for row in self.rows for cell in row.cells.values())


def table_one(group: RunGroup) -> Table:
    """Make Table 1 of `group`: the losses under top-k and thresholding, and LSEP with threshold estimation.

    Below the paper's rows stand what it lacks: binary cross entropy and any further loss, under every decision run.
    Rows without a run are there only where the paper has a number for them.
    """
    rows = _paper_rows(group, 1, lambda method: method_name(*method))
    losses = {loss for loss, _ in paper_table(1)}
    rows += [
        _row(method_name(*method), row, {}, beside=True)
        for method, row in group.chosen.items()
        if method[0] not in losses
    ]
    title = f"Table 1. Losses on {group.title} ({group.model})"
    return Table(f"table1_{group.name}", title, group, PAPER_KEYS, rows, _notes(group, rows))


def table_two(group: RunGroup) -> Table:
    """Make Table 2 of `group`: the decisions on LSEP's scores; below the paper's rows any further decision run."""
    ours = _paper_rows(group, 2, lambda method: decision_name(method.decision))
    ours += [
        _row(decision_name(decision), row, {}, beside=True)
        for (loss, decision), row in group.chosen.items()
        if loss == "lsep" and (loss, decision) not in paper_table(2)
    ]
    title = f"Table 2. Label decisions on LSEP's scores, {group.title} ({group.model})"
    return Table(f"table2_{group.name}", title, group, PAPER_KEYS, ours, _notes(group, ours))


def table_of_all(group: RunGroup) -> Table:
    """Make a table of every row of `group`: each loss, decision and setting, with every metric."""
    rows = []
    for row in group.rows:
        label = method_name(*row.method) + (f" [{row.variant}]" if row.variant else "")
        rows.append(_row(label, row, {}, ALL_KEYS))
    title = f"Every loss, decision and setting on {group.title} ({group.model})"
    return Table(f"all_{group.name}", title, group, ALL_KEYS, rows, _remarks(rows))


def _paper_rows(group: RunGroup, table: int, name: Callable[[Method], str]) -> list[TableRow]:
    numbers = paper_numbers(table, group.data)
    return [
        _row(name(method), group.chosen.get(method), numbers.get(method, {}))
        for method in paper_table(table)
        if method in group.chosen or numbers.get(method)
    ]


def _row(
    label: str,
    row: Row | None,
    paper: Mapping[str, float],
    columns: Sequence[str] = PAPER_KEYS,
    *,
    beside: bool = False,
) -> TableRow:
    return TableRow(label, row, {key: _cell(row, key, paper.get(key)) for key in columns}, beside)


def _cell(row: Row | None, key: str, paper: float | None) -> Cell:
    metric = BY_KEY[key]
    values = [metric.scale * run.test[key] for run in row.runs if key in run.test] if row else []
    if not values:
        return Cell(paper=paper)
    std = stdev(values) if len(values) > 1 else None
    return Cell(fmean(values), std, len(values), paper, decimals=metric.decimals)


def _notes(group: RunGroup, rows: Sequence[TableRow]) -> list[str]:
    images = {name.removeprefix("images."): value for name, value in group.protocol.items()}
    notes = []
    apart = departures(group.data, group.model, images)
    if apart:
        notes.append(f"Not the paper's protocol: {', '.join(apart)}. Read the differences with that in mind.")
    for row in rows:
        if row.row is not None and row.row.variant:
            others = sum(other.method == row.row.method for other in group.rows)
            notes.append(
                f"{row.label}: one of {others} settings, the one of most seeds, then of highest validation F1 "
                f"({row.row.variant})."
            )
    return notes + _remarks(rows)


def _remarks(rows: Sequence[TableRow]) -> list[str]:
    return remarks((row.label, row.row) for row in rows if row.row is not None)


def headline(group: RunGroup, evidence: Mapping[Method, Evidence]) -> Headline:
    """Name the best of the methods of `group` by validation F1; the test split chooses nothing."""
    first, *others = sorted(group.chosen, key=lambda method: -mean_gain(group.chosen[method], "f1"))
    row = group.chosen[first]
    told = [
        c
        for other in others[:1]
        if {first, other} <= set(evidence)
        for c in compare_rows(first, other, evidence)
    ]
    return Headline(
        method_name(*first),
        len(group.chosen),
        {key: _cell(row, key, None) for key in HEADLINE_METRICS},
        next((c for c in told if c.key == "f1"), None),
        max(row.runs, key=lambda run: run.val.get("f1", -1.0)),
    )


def with_bootstrap(
    table: Table,
    evidence: Mapping[Method, Evidence],
    pairs: Mapping[tuple[Method, Method], Sequence[Comparison]],
) -> Table:
    """Add intervals to `table`, and marks at the best of each column and at what is not told apart from it.

    evidence and pairs are of the group's chosen rows (`gather`, `compare_all`); other rows get neither.
    """
    tied = {
        (method, c.key)
        for (first, second), found in pairs.items()
        for c in found
        if not c.real
        for method in ((first, second), (second, first))
    }
    rows = [replace(row, cells=_with_intervals(table.group, row, evidence)) for row in table.rows]
    for key in table.columns:
        filled = [row for row in rows if row.cells[key].mean is not None]
        if len(filled) < 2:
            continue
        best = max(filled, key=lambda row: gain(key, row.cells[key].mean or 0.0))
        for row in filled:
            method, other = _evidence_key(table.group, row), _evidence_key(table.group, best)
            mark = "best" if row.cells[key].mean == best.cells[key].mean else ""
            if not mark and method and other and ((method, other), key) in tied:
                mark = "tied"
            cells = {**row.cells, key: replace(row.cells[key], mark=mark)}
            rows[rows.index(row)] = replace(row, cells=cells)
    return replace(table, rows=rows)


def _with_intervals(group: RunGroup, row: TableRow, evidence: Mapping[Method, Evidence]) -> dict[str, Cell]:
    method, cells = _evidence_key(group, row), dict(row.cells)
    if method is not None and method in evidence:
        low, high = 100 * percentiles(evidence[method].replicates)
        for position, key in enumerate(LABEL_SET_KEYS):
            if key in cells:
                cells[key] = replace(cells[key], low=float(low[position]), high=float(high[position]))
    return cells


def _evidence_key(group: RunGroup, row: TableRow) -> Method | None:
    """Return the method of `row` where it is the row of it that `group` chose."""
    own = row.row
    return None if own is None or group.chosen.get(own.method) is not own else own.method
