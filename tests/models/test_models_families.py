"""A small network of each of timm's families runs as a training of ours builds it: a sample, and what was recorded."""

import csv
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
sys.path.insert(0, str(ROOT / "experiments"))
from timm_families import COLUMNS, run, smallest_of_each_family  # noqa: E402

SAMPLE = ("byobnet", "convnext", "efficientnet", "levit", "mobilevit", "nfnet", "vision_transformer", "xcit")


def recorded() -> dict[str, dict[str, str]]:
    with (ROOT / "experiments" / "timm_families.csv").open() as file:
        reader = csv.DictReader(file)
        assert tuple(reader.fieldnames or ()) == COLUMNS
        return {row["family"]: row for row in reader}


@pytest.mark.parametrize("family", SAMPLE)
def test_a_family_runs_at_its_own_size(family: str) -> None:
    known = smallest_of_each_family()[family]
    pool, width = run(known)
    assert (pool, str(width)) == (recorded()[family]["pool"], recorded()[family]["features"])


def test_every_family_was_run_or_is_too_large() -> None:
    rows, families = recorded(), smallest_of_each_family()
    assert len(families) > 90
    assert families.keys() == rows.keys()
    for family, known in families.items():
        row = rows[family]
        assert (row["name"], int(row["parameters"])) == (known.name, known.parameters)
        assert row["problem"] == ("left out: too large" if known.parameters > 60e6 else "")
