"""The script of losses on features of photographs, on a handful of drawn ones."""

import csv
import importlib.util
import sys
from pathlib import Path

import numpy as np
import pytest

SCRIPT = Path(__file__).parents[2] / "experiments" / "photos" / "losses.py"


def test_script_writes_its_tables(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    spec = importlib.util.spec_from_file_location("losses_on_photos", SCRIPT)
    assert spec is not None
    assert spec.loader is not None
    script = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(script)
    draws, arrays = np.random.default_rng(0), {}
    for name, number in (("train", 90), ("val", 40), ("test", 40)):
        features = draws.normal(size=(number, 6)).astype(np.float32)
        arrays[f"{name}_features"] = features
        arrays[f"{name}_targets"] = (features[:, :3] + draws.normal(size=(number, 3)) > 0.3).astype(np.uint8)
    np.savez(tmp_path / "features.npz", **arrays)
    monkeypatch.setattr(script, "FOLDER", tmp_path)
    monkeypatch.setattr(script, "REPLICATES", 5)
    monkeypatch.setattr(sys, "argv", ["losses", str(tmp_path / "features.npz"), "--splits", "2"])
    script.main()
    with (tmp_path / "losses.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert {row["method"] for row in rows if row["how"] == "sgd"} == set(script.SEVEN)
    assert {row["method"] for row in rows if row["split"] == "1"} == {"bce", *script.PARTS}
    with (tmp_path / "losses_differences.csv").open(newline="") as file:
        compared = list(csv.DictReader(file))
    assert len(compared) == 2 * 6 * len(script.METRICS)
    assert all(float(row["low"]) <= float(row["high"]) for row in compared)
