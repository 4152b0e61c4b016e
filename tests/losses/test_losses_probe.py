"""The comparison of all losses on frozen features runs: every run's metrics, tables and a picture."""

import csv
import importlib.util
import sys
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

PROGRAM = Path(__file__).parents[2] / "experiments" / "losses_probe" / "losses_probe.py"


@pytest.fixture(scope="module")
def program() -> ModuleType:
    spec = importlib.util.spec_from_file_location("losses_probe", PROGRAM)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def table(path: Path) -> list[dict[str, str]]:
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


@pytest.mark.filterwarnings("ignore::lsep_ml.training.fitting.DecisionWarning")  # few images
def test_it_measures_losses_in_every_setting(
    program: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    generator = np.random.default_rng(0)
    weight = generator.normal(size=(6, 3))
    arrays = {}
    for split, images in (("train", 200), ("val", 40), ("test", 50)):
        features = generator.normal(size=(images, 6)).astype(np.float32)
        arrays[f"{split}_features"] = features
        arrays[f"{split}_targets"] = (features @ weight > 1).astype(np.uint8)
    np.savez(tmp_path / "features.npz", **arrays)
    monkeypatch.setattr(program, "REPLICATES", 50)
    monkeypatch.setattr(program, "SEEDS", (0, 1))
    command = ["losses_probe", "made_up", str(tmp_path / "features.npz"), "--folder", str(tmp_path)]
    command += ["--runs", str(tmp_path), "--losses", "bce", "bce balanced", "lsep", "--settings"]
    monkeypatch.setattr(sys, "argv", [*command, "whole", "long tail, half hidden"])
    program.main()
    rows, summary = (table(tmp_path / f"made_up{end}.csv") for end in ("", "_compared"))
    assert len(rows) == 3 * (1 + 2)
    whole = [row for row in rows if row["setting"] == "whole"]
    # The labels are linear in the features; LSEP, which compares the labels of one image, need not order images.
    assert all(float(row["test_map"]) > 0.8 for row in whole if row["loss"] != "lsep")
    cut = [row for row in rows if row["setting"] != "whole"]
    assert all(int(row["rarest"]) < int(whole[0]["rarest"]) for row in cut)
    for row in summary:
        of = [r for r in rows if (r["setting"], r["loss"]) == (row["setting"], row["loss"])]
        values = [float(r[f"test_{row['measure']}"]) for r in of]
        assert float(row["mean"]) == pytest.approx(np.mean(values), rel=1e-4)
        assert float(row["low"]) <= float(row["mean"]) <= float(row["high"])
        assert row["loss"] != "bce" or float(row["against_low"]) == float(row["against_high"]) == 0
    assert (tmp_path / "made_up.md").read_text().count("| `bce`") == 2
    assert (tmp_path / "made_up.png").stat().st_size > 10_000
    monkeypatch.setattr(program, "solved", None)  # what was made is found
    program.main()
    assert table(tmp_path / "made_up.csv") == rows
    text = (tmp_path / "made_up.md").read_text()
    (tmp_path / "made_up.md").unlink()
    (tmp_path / "made_up.png").unlink()
    monkeypatch.setattr(sys, "argv", ["losses_probe", "made_up", "--folder", str(tmp_path)])
    program.main()
    assert (tmp_path / "made_up.md").read_text() == text
    assert (tmp_path / "made_up.png").exists()
    program.write(tmp_path / "made_up.csv", [{"setting": "whole", "seed": 7}])  # other settings stay
    assert [row["seed"] for row in table(tmp_path / "made_up.csv")] == ["7"] + ["0"] * 3 + ["1"] * 3


def test_an_image_that_several_files_test_has_one_weight_in_a_sample(
    program: ModuleType, tmp_path: Path
) -> None:
    paths = []
    for number, tested in enumerate((["a", "b", "c"], ["c", "d"])):
        arrays = {}
        for split, ids in (("train", ["x", "y"]), ("val", ["z"]), ("test", tested)):
            arrays[f"{split}_features"] = np.zeros((len(ids), 2), np.float32)
            arrays[f"{split}_targets"] = np.ones((len(ids), 2), np.uint8)
            arrays[f"{split}_images"] = np.array(ids)
        paths.append(tmp_path / f"{number}.npz")
        np.savez(paths[-1], **arrays)
    first, second = program.read(paths)
    assert np.array_equal(first.weights[:, 2], second.weights[:, 0])
    assert not np.array_equal(first.weights[:, 0], second.weights[:, 0])
    assert (first.weights.sum(1) + second.weights[:, 1] == 4).all()


def test_names_stand_apart_in_their_order(program: ModuleType) -> None:
    heights = np.array([3.0, 0.0, 0.1, 0.2, 9.0])
    moved = program.spread(heights, 1.0)
    assert np.array_equal(np.argsort(moved), np.argsort(heights))
    assert (np.diff(np.sort(moved)) >= 1 - 1e-9).all()
    assert moved[4] == 9
    assert moved[[1, 2, 3]].mean() == pytest.approx(0.1)
