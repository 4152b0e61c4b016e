"""The benchmark of the training runs: one command, both stages, both ways."""

import subprocess
import sys
from pathlib import Path

import pytest

PROGRAM = Path(__file__).parents[2] / "experiments" / "benchmarks" / "training.py"


def test_it_measures_both_stages() -> None:
    command = [sys.executable, PROGRAM, "--scenes", "64", "--epochs", "1", "--rounds", "1", "--images", "64"]
    done = subprocess.run(command, check=True, capture_output=True, text=True, timeout=300)
    rows = [line.split("│") for line in done.stdout.splitlines() if line.startswith("│ stage")]
    assert [row[1].split(",")[0].strip() for row in rows[:3]] == ["stage 1", "stage 2", "stage 2"]
    for row in rows:
        ours, plain, ratio = float(row[2]), float(row[3]), float(row[4].split()[0])
        assert ratio == pytest.approx(plain / ours, rel=0.05)
