"""The README's Python examples run as they stand, the files it names exist, and pages show what is kept."""

import csv
import re
from pathlib import Path

import pytest

from lsep_ml.metrics import BY_KEY, PAPER_KEYS

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text()


@pytest.mark.parametrize("code", re.findall(r"```python\n(.*?)```", README, re.DOTALL))
def test_examples_run(code: str) -> None:
    exec(compile(code, "README.md", "exec"), {})


@pytest.mark.parametrize("target", re.findall(r"\]\(([^)#:]+)\)", README))
def test_linked_files_exist(target: str) -> None:
    assert (ROOT / target).exists()


@pytest.mark.parametrize("name", ["table1_digits", "table2_digits"])
def test_the_tables_are_the_experiments(name: str) -> None:
    table = (ROOT / "experiments" / name / "table.md").read_text()
    rows = [line for line in table.splitlines() if line.startswith("| ")]
    assert len(rows) > 4
    assert rows[0] == f"| method | {' | '.join(BY_KEY[key].heading for key in PAPER_KEYS)} | runs |"
    assert "\n".join(rows) in README


def test_the_verdicts_are_the_experiments() -> None:
    verdicts = (ROOT / "experiments" / "table1_digits" / "verdicts.md").read_text()
    told = re.findall(r"([A-Za-z-]+(?: cross entropy)? \([^()]+\)) \(([+−][^()]+)\)", README)
    assert len(told) > 10
    for method, difference in told:
        lines = [line for line in verdicts.splitlines() if line.startswith(f"| {method} | ")]
        assert any(difference in line for line in lines), (method, difference)


def test_the_comparison_of_decisions_is_the_experiments() -> None:
    page = (ROOT / "docs" / "choose-a-decision.md").read_text()
    with (ROOT / "experiments" / "table2_digits" / "results.csv").open() as file:
        cells = {(row["decision"], row["metric"]): row for row in csv.DictReader(file)}
    for decision in {decision for decision, _ in cells}:
        [line] = [line for line in page.splitlines() if line.startswith(f"| `{decision}` | ") and "±" in line]
        for shown, metric in zip(line.split(" | ")[1:], ("f1", "exact_match", "pc_p", "pc_r"), strict=True):
            mean, std, low, high = (
                float(cells[decision, metric][key]) for key in ("mean", "std", "low", "high")
            )
            assert shown.rstrip(" |") == f"{mean:.1f} ± {std:.1f} [{low:.1f}, {high:.1f}]"


PHOTOS = ROOT / "experiments" / "photos"


def test_the_photographs_tables_are_the_experiments() -> None:
    kept = (PHOTOS / "tables.md").read_text()
    [section] = re.findall(r"## Results on photographs\n(.*?)\n## ", README, re.DOTALL)
    rows = [line for line in section.splitlines() if line.startswith("| ")]
    assert len(rows) == 22
    assert [row for row in rows if row not in kept] == []
    told = re.findall(r"[+−][0-9.]+ \[[+−][0-9.]+, [+−][0-9.]+\]", section)
    assert len(told) > 10
    assert [difference for difference in told if difference not in kept] == []


def test_the_photographs_tables_are_the_runs() -> None:
    with (PHOTOS / "runs.csv").open() as file:
        runs = list(csv.DictReader(file))
    kept = (PHOTOS / "tables.md").read_text().split("## Split ")[1]
    shown = 0
    for run in runs:
        fit_on = "train" if run["decision"] in ("thresh_est", "count_est") else "crossfit"  # as in Table 1
        if (run["split"], run["fit_on"]) == ("0", fit_on) and run["loss"] in ("lsep", "bce", "two_way"):
            cells = []
            for key in ("f1", "exact_match"):
                mean, low, high = (100 * float(run[f"test_{key}{end}"]) for end in ("", "_low", "_high"))
                cells.append(f"{mean:.1f} [{low:.1f}, {high:.1f}]")
            shown += f"| {' / '.join(cells)} |" in kept
    assert shown == 21


def test_what_decisions_are_fitted_on_is_the_experiments() -> None:
    page = (ROOT / "docs" / "claims.md").read_text()
    kept = (PHOTOS / "tables.md").read_text()
    [table] = re.findall(r"\| decision, fitted on \|.*?\n\n", page, re.DOTALL)
    rows = table.splitlines()[2:-1]
    assert len(rows) == 11
    for row in rows:
        assert row.partition("`")[0].strip("| ,") in kept
        assert row.partition("` |")[2].strip(" |") in kept
