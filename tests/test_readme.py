"""The README's Python examples run as they stand, the files it names exist, and pages show what is kept."""

import csv
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text()


@pytest.mark.parametrize("code", re.findall(r"```python\n(.*?)```", README, re.DOTALL))
def test_examples_run(code: str) -> None:
    exec(compile(code, "README.md", "exec"), {})


@pytest.mark.parametrize("target", re.findall(r"\]\(([^)#:]+)\)", README))
def test_linked_files_exist(target: str) -> None:
    assert (ROOT / target).exists()


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
