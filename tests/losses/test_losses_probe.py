"""The comparison of all losses on frozen features runs: every run's metrics, a table and a picture."""

import csv
import subprocess
import sys
from pathlib import Path

import numpy as np

PROGRAM = Path(__file__).parents[2] / "experiments" / "photos" / "losses_probe.py"


def test_it_measures_losses_in_every_setting(tmp_path: Path) -> None:
    generator = np.random.default_rng(0)
    weight = generator.normal(size=(6, 3))
    arrays = {}
    for split, images in (("train", 200), ("val", 40), ("test", 50)):
        features = generator.normal(size=(images, 6)).astype(np.float32)
        arrays[f"{split}_features"] = features
        arrays[f"{split}_targets"] = (features @ weight > 1).astype(np.uint8)
    np.savez(tmp_path / "features.npz", **arrays)
    command = [sys.executable, PROGRAM, tmp_path / "features.npz", "--losses", "bce", "bce balanced", "lsep"]
    subprocess.run([*command, "--folder", tmp_path], check=True, capture_output=True, timeout=120)
    with (tmp_path / "losses_probe.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 3 * (1 + 3 + 3)
    whole = [row for row in rows if row["setting"] == "whole"]
    # The labels are linear in the features; LSEP, which compares the labels of one image, need not order images.
    assert all(float(row["test_map"]) > 0.8 for row in whole if row["loss"] != "lsep")
    cut = [row for row in rows if row["setting"] == "long tail"]
    assert all(int(row["rarest"]) < int(whole[0]["rarest"]) for row in cut)
    table = (tmp_path / "losses_probe.md").read_text().splitlines()
    assert {line.split("`")[1] for line in table[2:]} == {"bce", "bce balanced", "lsep"}
    best = max(whole, key=lambda row: float(row["test_map"]))
    assert table[2].split("|")[3].strip() == f"{100 * float(best['test_map']):.1f}"
    assert (tmp_path / "losses_probe.png").stat().st_size > 10_000
