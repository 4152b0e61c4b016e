"""The benchmark of the losses runs: one command, a table and a plot."""

import csv
import subprocess
import sys
from pathlib import Path

from lsep_ml import losses

PROGRAM = Path(__file__).parents[2] / "experiments" / "benchmarks" / "losses.py"


def test_it_measures_every_loss_and_its_rivals(tmp_path: Path) -> None:
    command = [sys.executable, PROGRAM, "--labels", "20", "--seconds", "0", "--folder", tmp_path]
    subprocess.run(command, check=True, capture_output=True, timeout=120)
    with (tmp_path / "losses_cpu.csv").open(newline="") as file:
        rows = {row["loss"]: row for row in csv.DictReader(file)}
    names = {name.removesuffix("_loss") for name in losses.__all__ if name.endswith("_loss")}
    assert names - {"blockwise"} <= set(rows)
    assert float(rows["BCE (torch)"]["ratio_to_bce"]) == 1
    for row in rows.values():
        assert float(row["milliseconds"]) > 0
        assert float(row["peak_to_scores"]) >= 1  # the gradient
    # At 20 labels already, pairs cost memory that their factors do not.
    assert float(rows["lsep, K x K"]["peak_to_scores"]) > 10 * float(rows["lsep"]["peak_to_scores"])
    assert (tmp_path / "losses_cpu.png").stat().st_size > 10_000
