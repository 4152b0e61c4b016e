"""The experiment on very many labels, on few."""

import json
import runpy
import sys
from contextlib import redirect_stdout
from io import StringIO
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
from scipy.sparse import csc_array

from lsep_ml.decisions import PerClassThreshold
from lsep_ml.metrics.functional import count_label_sets, label_set_metrics, ranking_metrics

SCRIPT = Path(__file__).parents[1] / "experiments" / "scale.py"


def scale(monkeypatch: pytest.MonkeyPatch, *arguments: str) -> None:
    monkeypatch.setattr(sys, "argv", [str(SCRIPT), *arguments])
    runpy.run_path(str(SCRIPT), run_name="__main__")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("scale")


@pytest.fixture(scope="module")
def found(folder: Path) -> dict[str, Any]:
    size, costs = ("--images", "400", "--labels", "30", "--epochs", "1"), str(folder / "costs.csv")
    with pytest.MonkeyPatch.context() as patch, redirect_stdout(StringIO()) as printed:
        scale(patch, *size, "--out", str(folder), "--losses", "lsep,bce", "--costs", costs, "--json")
    result: dict[str, Any] = json.loads(printed.getvalue().splitlines()[-1])
    return result


def test_it_ends_in_one_json_object(found: dict[str, Any], folder: Path) -> None:
    assert (found["images"], found["labels"], found["losses"]) == (400, 30, ["lsep", "bce"])
    assert set(found["seconds"]) == set(found["peak_gib"]) == {"data", "train", "fit", "evaluate", "report"}
    costs = pl.read_csv(folder / "costs.csv")
    assert dict(zip(costs["stage"], costs["peak_gib"], strict=True)) == found["peak_gib"]
    assert costs.select("images", "labels", "epochs", "losses").unique().row(0) == (400, 30, 1, "lsep|bce")
    assert (costs["cpu_seconds"] >= 0).all()
    assert set(found["metrics"]) == {"lsep", "bce"}
    for of_loss in found["metrics"].values():
        assert set(of_loss) == {"threshold", "per_class"}
        assert all(0 < values[key] <= 1 for values in of_loss.values() for key in ("f1", "map"))
    assert {"report.md", "labels_lsep.csv", "precision_by_frequency.png"} <= {
        p.name for p in folder.iterdir()
    }


def test_its_numbers_are_those_of_dense_matrices(found: dict[str, Any], folder: Path) -> None:
    (data,), layers = folder.glob("store/data/*/features.npy"), folder.glob("store/layers/*/entry.json")
    features = np.load(data)
    indptr, indices = np.load(data.with_name("indptr.npy")), np.load(data.with_name("indices.npy"))
    targets = np.zeros((400, 30), np.uint8)
    targets[np.repeat(np.arange(400), np.diff(indptr)), indices] = 1
    seal = next(seal for seal in layers if json.loads(seal.read_text())["made_by"]["loss"] == "lsep")
    with np.load(seal.with_name("layer.npz")) as file:
        scores = features @ file["weight"].T + file["bias"]
    rule = PerClassThreshold(search="grid").fit(scores[360:380], targets[360:380])
    counts = count_label_sets(scores[380:] > rule.theta.numpy(), targets[380:])
    values = found["metrics"]["lsep"]["per_class"]
    assert values["f1"] == pytest.approx(float(label_set_metrics(counts)["f1"]), abs=1e-6)
    assert values["map"] == pytest.approx(ranking_metrics(scores[380:], targets[380:])["map"], abs=1e-6)


def test_what_was_done_is_found_again(
    found: dict[str, Any], folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    before = {path: path.stat().st_mtime_ns for path in folder.glob("store/*/*/entry.json")}
    size = ("--images", "400", "--labels", "30", "--epochs", "1", "--out", str(folder))
    scale(monkeypatch, *size)
    assert {path: path.stat().st_mtime_ns for path in folder.glob("store/*/*/entry.json")} == before
    assert "| bce | per_class |" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("--images", "50", "--labels", "30"), "--images=50"),
        (("--images", "500", "--labels", "3"), "--labels=3"),
        (("--images", "500", "--labels", "30", "--losses", "lsepp"), "no loss is called 'lsepp'"),
        (("--images", "500", "--labels", "30", "--losses", "blockwise"), "no loss is called 'blockwise'"),
    ],
)
def test_what_cannot_be_run_is_refused(
    arguments: tuple[str, ...],
    words: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    with pytest.raises(SystemExit):
        scale(monkeypatch, *arguments)
    assert words in capsys.readouterr().err


def test_labels_follow_zipf_s_law_and_come_once_an_image() -> None:
    draw = runpy.run_path(str(SCRIPT))["draw_labels"]
    targets = draw(3000, 50, np.random.default_rng(0))
    dense = csc_array(targets).toarray()
    assert dense.max() == 1
    assert dense.sum(1).min() >= 1
    shares = dense.mean(0)
    assert shares[0] > 2 * shares[20] > 0
