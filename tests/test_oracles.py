"""docs/oracles.md: every loss, decision and metric has a line, and each test that it names is there."""

import re
from pathlib import Path

import pytest

from lsep_ml import losses
from lsep_ml.decisions import DECISIONS
from lsep_ml.metrics import METRICS

ROOT = Path(__file__).parents[1]
SECTIONS = {
    "Losses": [name.removesuffix("_loss") for name in losses.__all__ if name.endswith("_loss")],
    "Decisions": [row.key for row in DECISIONS],
    "Metrics": [metric.key for metric in METRICS],
}


def lines_of(section: str) -> list[tuple[str, str, str]]:
    """Name, oracle and test of each line."""
    text = (ROOT / "docs" / "oracles.md").read_text().split(f"## {section}\n")[1].split("\n## ")[0]
    return re.findall(r"^\| `(\w+)` \| (.+) \| `(tests/.+)` \|$", text, re.MULTILINE)


@pytest.mark.parametrize("section", SECTIONS)
def test_everything_has_an_oracle(section: str) -> None:
    lines = lines_of(section)
    assert {name for name, _, _ in lines} == set(SECTIONS[section])
    for _, oracle, test in lines:
        path, _, function = test.partition("::")
        assert oracle.strip()
        assert f"\ndef {function}(" in (ROOT / path).read_text(), test
