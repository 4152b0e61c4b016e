"""Tables as text, letter for letter: numbers, dashes, marks, the paper's rows, and what must be escaped."""

from dataclasses import replace

import pytest

from lsep_ml.reports.comparison import Answer, Comparison
from lsep_ml.reports.grouping import RunGroup
from lsep_ml.reports.tables import Cell, Table, TableRow
from lsep_ml.reports.text_tables import (
    csv_comparisons,
    csv_table,
    csv_text,
    interval,
    latex_table,
    markdown_table,
    markdown_verdict,
    mean_std,
    paper_number,
    rounded,
    runs_of,
    signed,
)

GROUP = RunGroup("digits", "digits", "digits", "small_cnn", {"split_hash": "0123456789abcdef"}, (), {})
KEYS = ("f1", "coverage")


def row(label: str, *cells: Cell, beside: bool = False) -> TableRow:
    return TableRow(label, None, dict(zip(KEYS, cells, strict=True)), beside)


def table(*rows: TableRow, notes: tuple[str, ...] = ()) -> Table:
    return Table("all_digits", "Every loss", GROUP, KEYS, rows, notes)


BEST = Cell(67.04, 1.26, 3, low=65.5, high=68.5, mark="best")
TIED = Cell(66.0, None, 1, mark="tied")
LABELS = Cell(2.345, 0.051, 3, decimals=2)


@pytest.mark.parametrize(
    ("value", "decimals", "text"),
    [(None, 1, "–"), (0.0, 1, "0.0"), (67.04, 1, "67.0"), (2.345, 2, "2.35"), (-1.26, 1, "-1.3")],
)
def test_numbers(value: float | None, decimals: int, text: str) -> None:
    assert rounded(value, decimals) == text


@pytest.mark.parametrize(
    ("value", "text"), [(5.02, "5.02"), (9.999, "10.00"), (10.0, "10.0"), (62.9, "62.9")]
)
def test_the_paper_s_numbers_have_its_digits(value: float, text: str) -> None:
    assert paper_number(value) == text


@pytest.mark.parametrize(("value", "text"), [(None, "–"), (2.46, "+2.5"), (-2.46, "−2.5"), (0.0, "+0.0")])
def test_differences_have_their_sign(value: float | None, text: str) -> None:
    assert signed(value) == text


def test_cells() -> None:
    assert [mean_std(cell) for cell in (BEST, TIED, LABELS, Cell())] == [
        "67.0 ± 1.3",
        "66.0",
        "2.35 ± 0.05",
        "–",
    ]
    assert runs_of(row("a", BEST, LABELS)) == "3"
    assert runs_of(row("a", BEST, TIED)) == "1 to 3"
    assert runs_of(row("a", Cell(), Cell())) == "–"


def test_markdown() -> None:
    paper = replace(TIED, paper=62.9)
    text = markdown_table(table(row("a|b", BEST, LABELS), row("c", paper, Cell()), notes=("a *note*",)))
    assert text.splitlines() == [
        "### Every loss",
        "",
        "| method | F1 | coverage (labels) | runs |",
        "| --- | ---: | ---: | ---: |",
        "| a\\|b | **67.0 ± 1.3** | 2.35 ± 0.05 | 3 |",
        "| c | *66.0* (62.9, +3.1) | – | 1 |",
        "",
        "Mean ± standard deviation over runs, in % unless the column says otherwise. Bold: best; italic: not told "
        "apart from the best at 95%. In brackets: the paper's number and ours minus it.",
        "F1: macro F1.",
        "a \\*note\\*",
    ]


def test_latex_has_the_paper_s_numbers_in_a_row_of_their_own_and_a_line_above_what_it_lacks() -> None:
    ours = row("a_b", replace(BEST, paper=62.9), LABELS)
    text = latex_table(table(ours, row("50%", TIED, Cell(), beside=True)))
    assert text.splitlines()[1:] == [
        r"\begin{tabular}{lrrr}",
        r"\toprule",
        r"Method & F1 & coverage (labels) & runs \\",
        r"\midrule",
        r"a\_b & \textbf{67.0 $\pm$ 1.3} & 2.35 $\pm$ 0.05 & 3 \\",
        r"\quad paper & 62.9 & -- &  \\",
        r"\midrule",
        r"50\% & \textit{66.0} & -- & 1 \\",
        r"\bottomrule",
        r"\end{tabular}",
    ]


def test_csv_has_what_each_cell_was_made_of() -> None:
    lines = csv_table(table(row('say "a"', BEST, Cell(paper=3.5)))).splitlines()
    assert lines[0] == (
        "table,data,model,split_hash,method,loss,decision,settings,metric,name,mean,std,runs,seeds,low,high,paper,difference"
    )
    start = 'all_digits,digits,small_cnn,0123456789abcdef,"say ""a""",,,,'
    assert lines[1:] == [
        start + "f1,macro F1,67.0400,1.2600,3,,65.5000,68.5000,,",
        start + "coverage,coverage,,,0,,,,3.5000,",
    ]
    assert csv_text(["a"], [["b\nc"], [1]]) == 'a\n"b\nc"\n1\n'


def test_comparisons_and_answers() -> None:
    real = Comparison("LSEP (K)", "a|b", "f1", 2.46, 1.53, 3.54)
    level = Comparison("LSEP (K)", "a|b", "exact_match", -0.6, -2.5, 1.1)
    assert interval(real) == "+2.5 [+1.5, +3.5]"
    assert markdown_verdict(Answer("LSEP (K) against all", [real, level])).splitlines() == [
        "#### LSEP (K) against all",
        "",
        "| against | F1 [95%] | exact match [95%] |",
        "| --- | ---: | ---: |",
        "| a\\|b | **+2.5 [+1.5, +3.5]** | −0.6 [−2.5, +1.1] |",
    ]
    assert csv_comparisons([real, level]).splitlines() == [
        "first,second,metric,name,difference,low,high,real",
        "LSEP (K),a|b,f1,macro F1,2.4600,1.5300,3.5400,yes",
        "LSEP (K),a|b,exact_match,exact match,-0.6000,-2.5000,1.1000,no",
    ]
