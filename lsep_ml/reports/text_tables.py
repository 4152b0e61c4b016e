"""How tables are written as Markdown, CSV and LaTeX. A cell without a run is a dash, never a zero."""

import csv
from collections.abc import Iterable, Sequence
from io import StringIO

from lsep_ml.metrics import BY_KEY
from lsep_ml.metrics.metric import DASH
from lsep_ml.reports.comparison import Answer, Comparison
from lsep_ml.reports.grouping import Row
from lsep_ml.reports.tables import Cell, Table, TableRow

LEGEND = (
    "Mean ± standard deviation over runs, in % unless the column says otherwise. Bold: best; italic: not told apart "
    "from the best at 95%."
)

_LATEX = {
    "\\": r"\textbackslash{}",
    "&": r"\&",
    "%": r"\%",
    "$": r"\$",
    "#": r"\#",
    "_": r"\_",
    "{": r"\{",
    "}": r"\}",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "θ": r"$\theta$",
    "±": r"$\pm$",
    "–": "--",
    "†": r"\dag{}",
}


def rounded(value: float | None, decimals: int = 1) -> str:
    """Write `value` to so many decimals; a dash for None."""
    return DASH if value is None else f"{value:.{decimals}f}"


def headings(table: Table) -> list[str]:
    """Return the short names of the metrics of `table`, with the unit of those that are not in %."""
    return [BY_KEY[key].heading for key in table.columns]


def names(table: Table) -> str:
    """Say what the short names of the metrics of `table` stand for."""
    metrics = [BY_KEY[key] for key in table.columns]
    return "; ".join(f"{m.short_name}: {m.name}" for m in metrics if m.short_name != m.name) + "."


def paper_number(value: float) -> str:
    """Write `value` with three significant digits, as the paper does."""
    return f"{value:.1f}" if value >= 10 else f"{value:.2f}"


def mean_std(cell: Cell) -> str:
    """Write `cell` as `67.9 ± 0.4`, as `67.9` for a single run, or as a dash."""
    mean, std = (rounded(value, cell.decimals) for value in (cell.mean, cell.std))
    return mean if cell.std is None else f"{mean} ± {std}"


def signed(value: float | None) -> str:
    """Write the difference `value` with its sign; a dash for None."""
    return DASH if value is None else f"{value:+.1f}".replace("-", "−")


def interval(comparison: Comparison) -> str:
    """Write the difference of `comparison` with its 95% interval."""
    return f"{signed(comparison.difference)} [{signed(comparison.low)}, {signed(comparison.high)}]"


def markdown_table(table: Table) -> str:
    """Write `table` as Markdown, with its title, notes and legend."""
    lines = [_cells(["method", *headings(table), "runs"])]
    lines.append("|" + " --- |" + " ---: |" * (len(table.columns) + 1))
    for row in table.rows:
        lines.append(
            _cells([_md(row.shown), *(_md_cell(row.cells[key]) for key in table.columns), runs_of(row)])
        )
    notes = [LEGEND + (" In brackets: the paper's number and ours minus it." if table.has_paper else "")]
    return "\n".join(
        [f"### {_md(table.title)}", "", *lines, "", *notes, names(table), *map(_md, table.notes), ""]
    )


def markdown_verdict(verdict: Answer) -> str:
    """Write the question of `verdict` and its comparisons as a Markdown table; bold: real at 95%."""
    head = ["against", *(f"{BY_KEY[key].short_name} [95%]" for key in verdict.keys)]
    lines = [f"#### {_md(verdict.question)}", "", _cells(head), "| --- |" + " ---: |" * len(verdict.keys)]
    for name, comparisons in verdict.rows:
        lines.append(
            _cells([_md(name), *(f"**{interval(c)}**" if c.real else interval(c) for c in comparisons)])
        )
    return "\n".join([*lines, *(["", verdict.note] if verdict.note else []), ""])


def latex_table(table: Table) -> str:
    """Write `table` as LaTeX (booktabs), to be put inside `table*`."""
    with_paper = [key for key in table.columns if any(row.cells[key].paper is not None for row in table.rows)]
    lines = [
        f"% {table.title}. {LEGEND} {names(table)} protocol: "
        + ", ".join(f"{name}={value[:12]}" for name, value in table.group.protocol.items()).replace(
            "\n", " "
        ),
        r"\begin{tabular}{l" + "r" * len(table.columns) + "r}",
        r"\toprule",
        " & ".join(["Method", *headings(table), "runs"]) + r" \\",
        r"\midrule",
    ]
    previous = True
    for row in table.rows:
        if row.beside and not previous:
            lines.append(r"\midrule")
        previous = row.beside
        cells = [_latex_cell(row.cells[key]) for key in table.columns]
        lines.append(" & ".join([_latex(row.shown), *cells, _latex(runs_of(row))]) + r" \\")
        if with_paper and any(row.cells[key].paper is not None for key in with_paper):
            paper = [_latex(_paper(row.cells[key])) for key in table.columns]
            lines.append(r" & ".join([r"\quad paper", *paper, ""]) + r" \\")
    return "\n".join([*lines, r"\bottomrule", r"\end{tabular}", ""])


def csv_table(table: Table) -> str:
    """Write `table` as CSV: one line for each cell, with what it was made of."""
    head = [
        "table",
        "data",
        "model",
        "split_hash",
        "method",
        "loss",
        "decision",
        "settings",
        "metric",
        "name",
        "mean",
        "std",
    ]
    head += ["runs", "seeds", "low", "high", "paper", "difference"]
    lines = []
    for row in table.rows:
        own = row.row
        made = [*own.method, own.variant] if own else ["", "", ""]
        for key, cell in row.cells.items():
            values = [_plain(value) for value in (cell.mean, cell.std)]
            bounds = [_plain(value) for value in (cell.low, cell.high, cell.paper, cell.difference)]
            group = [table.slug, table.group.data, table.group.model, table.group.protocol["split_hash"]]
            lines.append(
                [*group, row.label, *made, key, BY_KEY[key].name, *values, cell.runs, _seeds(own), *bounds]
            )
    return csv_text(head, lines)


def csv_comparisons(comparisons: Iterable[Comparison]) -> str:
    """Write `comparisons` as CSV: one line for each pair of rows and metric, in points of %."""
    head = ["first", "second", "metric", "name", "difference", "low", "high", "real"]
    return csv_text(
        head,
        [
            [
                c.first,
                c.second,
                c.key,
                BY_KEY[c.key].name,
                _plain(c.difference),
                _plain(c.low),
                _plain(c.high),
                "yes" if c.real else "no",
            ]
            for c in comparisons
        ],
    )


def csv_text(head: Sequence[str], lines: Iterable[Sequence[object]]) -> str:
    """Write `lines` below `head` as CSV."""
    buffer = StringIO()
    writer = csv.writer(buffer, lineterminator="\n")
    writer.writerow(head)
    writer.writerows(lines)
    return buffer.getvalue()


def runs_of(row: TableRow) -> str:
    """Say how many runs the cells of `row` are means of: one number, or the lowest to the highest."""
    counts = sorted({cell.runs for cell in row.cells.values() if cell.mean is not None})
    return DASH if not counts else f"{counts[0]}" if len(counts) == 1 else f"{counts[0]} to {counts[-1]}"


def _md_cell(cell: Cell) -> str:
    mark = {"best": "**", "tied": "*"}.get(cell.mark, "")
    text = f"{mark}{mean_std(cell)}{mark}"
    if cell.paper is None:
        return text
    difference = f", {signed(cell.difference)}" if cell.difference is not None else ""
    return f"{text} ({paper_number(cell.paper)}{difference})"


def _latex_cell(cell: Cell) -> str:
    text = _latex(mean_std(cell))
    command = {"best": r"\textbf", "tied": r"\textit"}.get(cell.mark)
    return f"{command}{{{text}}}" if command else text


def _paper(cell: Cell) -> str:
    return DASH if cell.paper is None else paper_number(cell.paper)


def _seeds(row: Row | None) -> str:
    return " ".join(map(str, row.seeds)) if row else ""


def _plain(value: float | None) -> str:
    return "" if value is None else f"{value:.4f}"


def _cells(values: Iterable[str]) -> str:
    return "| " + " | ".join(values) + " |"


def _md(text: str) -> str:
    return (
        text.replace("\\", "\\\\")
        .replace("|", "\\|")
        .replace("*", "\\*")
        .replace("<", "&lt;")
        .replace("\n", " ")
    )


def _latex(text: str) -> str:
    return "".join(_LATEX.get(letter, letter) for letter in text.replace("\n", " "))
