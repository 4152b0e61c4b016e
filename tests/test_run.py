"""run.py as its users call it: a sweep in a process of its own, what it leaves, what it reuses, what it refuses."""

import csv
import json
import subprocess
import sys
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import torch
from sklearn.metrics import accuracy_score, f1_score, label_ranking_average_precision_score

ROOT = Path(__file__).parent.parent
LOSSES = ("lsep", "warp", "bpmll", "ranking", "softmax")
DECISIONS = ("topk", "threshold", "count_est", "thresh_est")
TINY = (
    "data.train=64",
    "data.val=40",
    "data.test=50",
    "data.canvas=24",
    "model.widths=[4,4]",
    "model.num_features=6",
    "training.epochs=1",
    "fitting.epochs=1",
    "trainer=cpu",
)


def run(output: Path, *overrides: str, ok: bool = True) -> subprocess.CompletedProcess[str]:
    """`python run.py` on tiny digit scenes, its results under `output`."""
    flags = [word for word in overrides if word.startswith("-")]
    overrides = tuple(word for word in overrides if word not in flags)
    other_model = any(word.startswith("model=") for word in overrides)
    tiny = [word for word in TINY if not (other_model and word.startswith("model."))]
    command = [sys.executable, str(ROOT / "run.py"), *flags, *tiny, f"paths.output={output}", *overrides]
    done = subprocess.run(command, capture_output=True, text=True, cwd=output)
    assert (done.returncode == 0) == ok, done.stdout + done.stderr
    return done


def records(output: Path) -> dict[tuple[str, str], dict]:
    found = [json.loads(file.read_text()) for file in output.glob("runs/*/*/result.json")]
    return {(record["loss"], record["decision"]): record | {"_": None} for record in found}


@pytest.fixture(scope="module")
def sweep(tmp_path_factory: pytest.TempPathFactory) -> Path:
    output = tmp_path_factory.mktemp("sweep")
    run(output, "-m", f"loss={','.join(LOSSES)}", f"decision={','.join(DECISIONS)}")
    return output


def test_a_sweep_trains_each_network_once(sweep: Path) -> None:
    found = records(sweep)
    assert set(found) == {(loss, decision) for loss in LOSSES for decision in DECISIONS}
    trained = Counter(loss for (loss, _), record in found.items() if not record["reused"]["prediction"])
    assert trained == dict.fromkeys(LOSSES, 1)
    extracted = Counter(loss for (loss, _), record in found.items() if not record["reused"]["extraction"])
    assert extracted == dict.fromkeys(LOSSES, 1)
    for loss in LOSSES:
        assert len({found[loss, decision]["identity"] for decision in DECISIONS}) == 1


def test_the_record_and_its_files_agree(sweep: Path) -> None:
    for file in sweep.glob("runs/*/*/result.json"):
        record, folder = json.loads(file.read_text()), file.parent
        arrays = np.load(folder / "predictions.npz", allow_pickle=False)
        targets, predictions, scores = arrays["targets"], arrays["predictions"], arrays["scores"]
        assert scores.dtype == np.float32
        assert {arrays[name].dtype for name in ("targets", "predictions", "mask")} == {np.dtype(np.uint8)}
        assert targets.shape == predictions.shape == scores.shape == (50, 10)
        assert arrays["image_ids"].dtype.kind == arrays["label_names"].dtype.kind == "U"
        test = record["metrics"]["test"]
        assert test["f1"] == pytest.approx(f1_score(targets, predictions, average="macro", zero_division=0))
        assert test["exact_match"] == pytest.approx(accuracy_score(targets, predictions))
        assert test["lrap"] == pytest.approx(label_ranking_average_precision_score(targets, scores))
        low, high = record["intervals"]["test"]["f1"]
        assert low <= test["f1"] <= high
        if record["decision"] == "topk":
            assert (predictions.sum(1) == record["choices"]["k"]).all()
        if record["decision"] in ("threshold", "thresh_est"):
            assert ((scores > arrays["thresholds"]) == predictions).all()
        if record["decision"] == "threshold":
            assert np.unique(arrays["thresholds"]) == np.float32(record["choices"]["theta"])
        assert record["label_names"] == list(arrays["label_names"])
        assert record["counts"]["images"] == {"train": 64, "val": 40, "test": 50}
        checkpoint = torch.load(folder / "checkpoint.ckpt", weights_only=True)
        assert checkpoint["state_dict"]
        with (folder / "history.csv").open() as history:
            rows = list(csv.DictReader(history))
        stages = Counter(row["stage"] for row in rows)
        assert stages["prediction"] == 1
        assert stages["decision"] == (record["decision"] in ("count_est", "thresh_est"))
        for picture in ("precision_recall.png", "class_f1.png", "gallery.png"):
            assert (folder / picture).read_bytes().startswith(b"\x89PNG")
        assert (folder / ".hydra" / "config.yaml").is_file()


def test_a_second_call_trains_nothing_and_says_so(sweep: Path) -> None:
    before = {file: file.stat().st_mtime_ns for file in (sweep / "store").rglob("*") if file.is_file()}
    metrics = records(sweep)["lsep", "topk"]["metrics"]
    done = run(sweep, "decision=topk")
    assert "finished before" in done.stdout
    done = run(sweep, "decision=topk", "force=true")
    assert "no network is trained" in done.stdout
    assert "found in the store" in done.stdout
    assert records(sweep)["lsep", "topk"]["metrics"] == metrics
    after = {file: file.stat().st_mtime_ns for file in (sweep / "store").rglob("*") if file.is_file()}
    assert {file for file in before if not file.name.endswith(".lock")} == {
        file for file in after if not file.name.endswith(".lock")
    }


def test_the_same_config_in_two_empty_stores_gives_the_same_metrics(sweep: Path, tmp_path: Path) -> None:
    run(tmp_path, "decision=thresh_est")
    again, first = records(tmp_path)["lsep", "thresh_est"], records(sweep)["lsep", "thresh_est"]
    assert not again["reused"]["prediction"]
    assert again["metrics"] == first["metrics"]
    assert again["identity"] == first["identity"]


def test_another_seed_or_rate_is_another_network(sweep: Path) -> None:
    identity = records(sweep)["lsep", "topk"]["identity"]
    run(sweep, "-m", "decision=topk", "seed=1")
    files = list(sweep.glob("runs/*/*seed1*/result.json"))
    assert len(files) == 1
    assert json.loads(files[0].read_text())["identity"] != identity


def test_a_damaged_stored_network_is_trained_again_and_said(tmp_path: Path) -> None:
    run(tmp_path, "decision=topk")
    metrics = records(tmp_path)["lsep", "topk"]["metrics"]
    [checkpoint] = tmp_path.glob("store/predictions/*/checkpoint.ckpt")
    content = bytearray(checkpoint.read_bytes())
    content[len(content) // 2] ^= 1
    checkpoint.write_bytes(content)
    done = run(tmp_path, "decision=topk", "force=true")
    assert "damaged" in done.stdout
    assert not records(tmp_path)["lsep", "topk"]["reused"]["prediction"]
    assert records(tmp_path)["lsep", "topk"]["metrics"] == metrics


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (("loss=hinge",), "Available options in 'loss'"),
        (("training.epoch=3",), "epoch"),
        (("data.val=0",), "data.val=0"),
        (
            ("model=vgg16", "model.weights=absent.pth"),
            "absent.pth: no such file",
        ),
        (("trainer=gpu",), "gpu"),
        (("decision=threshold", "decision.criterion=f2"), "f2"),
    ],
)
def test_bad_input_ends_with_one_message(tmp_path: Path, overrides: tuple[str, ...], message: str) -> None:
    if "trainer=gpu" in overrides and torch.cuda.is_available():
        pytest.skip("there is a GPU here")
    done = run(tmp_path, *overrides, ok=False)
    said = done.stdout + done.stderr
    assert message in said
    assert said.count("Traceback") <= ("training.epoch=3" in overrides)
    assert not list(tmp_path.glob("runs/**/result.json"))


def test_a_loss_that_is_not_finite_stops_with_its_name_and_step(tmp_path: Path) -> None:
    done = run(tmp_path, "optimizer.lr=1e30", "schedule=constant", "training.epochs=3", ok=False)
    said = done.stdout + done.stderr
    assert "loss=lsep became" in said or "scores of loss=lsep" in said
    assert "step" in said


def test_a_plan_says_what_would_be_done_and_does_nothing(sweep: Path, tmp_path: Path) -> None:
    done = run(tmp_path, "-m", "plan=true", "decision=topk,threshold")
    assert "trains network" in done.stdout
    assert "by an earlier job of this sweep" in done.stdout
    assert not list(tmp_path.rglob("*.ckpt"))
    done = run(sweep, "plan=true", "decision=topk", "decision.max_k=3")
    assert "in the store" in done.stdout
    assert "nothing to do" in run(sweep, "plan=true", "decision=topk").stdout


def test_a_job_that_fails_is_recorded_and_the_others_go_on(tmp_path: Path) -> None:
    run(tmp_path, "-m", "decision=topk", "training.epochs=1", "decision.max_k=0,2", ok=False)
    [error] = tmp_path.glob("runs/*/*/error.json")
    assert "max_k=0" in json.loads(error.read_text())["error"]
    [result] = tmp_path.glob("runs/*/*/result.json")
    assert result.parent != error.parent


def test_an_output_folder_that_cannot_be_written_is_said(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    command = [sys.executable, str(ROOT / "run.py"), *TINY, f"paths.output={tmp_path / 'file' / 'outputs'}"]
    done = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path)
    assert done.returncode != 0
    assert "Not a directory" in done.stdout + done.stderr
