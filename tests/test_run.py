"""run.py as its users call it: a sweep in a process of its own, what it leaves, what it reuses, what it refuses."""

import csv
import json
import logging
import shutil
import subprocess
import sys
from collections import Counter
from datetime import datetime, timedelta
from pathlib import Path

import numpy as np
import pytest
import torch
from hydra.errors import InstantiationException
from jobs import compose_here, run_job_here
from sklearn.metrics import accuracy_score, f1_score, label_ranking_average_precision_score

from lsep_ml.runs.files import UNFINISHED
from lsep_ml.stages.job import build_job
from lsep_ml.stages.plan import plan

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
    """The records of seed 0's separately trained runs, by loss and decision."""
    found = [json.loads(file.read_text()) for file in output.glob("runs/*/*/result.json")]
    plain = [record for record in found if record["seed"] == 0 and not record["config"]["training"]["joint"]]
    return {(record["loss"], record["decision"]): record for record in plain}


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
        of_labels = record["per_class"]["test"]
        assert [of_labels[name]["f1"] for name in record["label_names"]] == pytest.approx(
            list(f1_score(targets, predictions, average=None, zero_division=0))
        )
        assert record["counts"]["images"] == {"train": 64, "val": 40, "test": 50}
        assert record["hardware"].endswith("CPU cores")
        assert datetime.fromisoformat(record["finished"]).utcoffset() == timedelta(0)
        checkpoint = torch.load(folder / "checkpoint.ckpt", weights_only=True)
        assert checkpoint["state_dict"]
        with (folder / "history.csv").open() as history:
            rows = list(csv.DictReader(history))
        stages = Counter(row["stage"] for row in rows)
        assert stages["prediction"] == 1
        assert stages["decision"] == (record["decision"] in ("count_est", "thresh_est"))
        for picture in ("precision_recall.png", "class_f1.png", "gallery.png"):
            assert (folder / picture).read_bytes().startswith(b"\x89PNG")
        with np.load(folder / "feature_map.npz") as places:
            assert places["points"].shape == (50, 30)
            assert places["points"].any()
        assert (folder / ".hydra" / "config.yaml").is_file()


def test_a_second_call_trains_nothing_and_says_so(sweep: Path, caplog: pytest.LogCaptureFixture) -> None:
    stored = {
        file: file.stat().st_mtime_ns for file in (sweep / "store").rglob("*.*") if file.suffix != ".lock"
    }
    metrics = records(sweep)["lsep", "topk"]["metrics"]
    with caplog.at_level(logging.INFO):
        record, _ = run_job_here(sweep, *TINY, "decision=topk")
        assert "finished before" in caplog.text
        record, _ = run_job_here(sweep, *TINY, "decision=topk", "force=true")
        assert "no network is trained" in caplog.text
        assert "the network does not run" in caplog.text
    assert record["metrics"] == metrics
    assert record["reused"] == {"prediction": True, "extraction": True}
    assert stored == {
        file: file.stat().st_mtime_ns for file in (sweep / "store").rglob("*.*") if file.suffix != ".lock"
    }


def test_the_same_config_in_two_empty_stores_gives_the_same_metrics(sweep: Path, tmp_path: Path) -> None:
    again, _ = run_job_here(tmp_path, *TINY, "decision=thresh_est")
    first = records(sweep)["lsep", "thresh_est"]
    assert not again["reused"]["prediction"]
    assert again["metrics"] == first["metrics"]
    assert again["identity"] == first["identity"]


def test_another_seed_is_another_network(sweep: Path) -> None:
    record, folder = run_job_here(sweep, *TINY, "decision=topk", "seed=1")
    assert "-seed1-" in folder.name
    assert record["identity"] != records(sweep)["lsep", "topk"]["identity"]


def test_a_damaged_stored_network_is_trained_again_and_said(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    first, _ = run_job_here(tmp_path, *TINY, "decision=topk")
    [checkpoint] = tmp_path.glob("store/predictions/*/checkpoint.ckpt")
    content = bytearray(checkpoint.read_bytes())
    content[len(content) // 2] ^= 1
    checkpoint.write_bytes(content)
    again, _ = run_job_here(tmp_path, *TINY, "decision=topk", "force=true")
    assert "damaged" in caplog.text
    assert not again["reused"]["prediction"]
    assert again["metrics"] == first["metrics"]


def test_joint_training_is_an_identity_of_its_own_for_each_decision(sweep: Path) -> None:
    options = ("training=joint", "training.epochs=1")
    identities = {records(sweep)["lsep", "topk"]["identity"]}
    for decision in ("thresh_est", "count_est"):
        record, folder = run_job_here(sweep, *TINY, *options, f"decision={decision}")
        identities.add(record["identity"])
        with (folder / "history.csv").open() as history:
            assert {row["stage"] for row in csv.DictReader(history)} == {"prediction"}
    assert len(identities) == 3
    with pytest.raises(ValueError, match="training=joint: decision=topk has nothing to train"):
        run_job_here(sweep, *TINY, *options, "decision=topk")
    with pytest.raises(ValueError, match=r"choose an offset by; decision\.offset=none, not class"):
        run_job_here(sweep, *TINY, *options, "decision=thresh_est", "decision.offset=class")


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (("loss=hinge",), "Available options in 'loss'"),
        (("training.epoch=3",), "Could not override 'training.epoch'"),
        (("data.val=0",), "ValueError: data.val=0"),
    ],
)
def test_bad_input_ends_with_one_message(tmp_path: Path, overrides: tuple[str, ...], message: str) -> None:
    done = run(tmp_path, *overrides, ok=False)
    said = done.stdout + done.stderr
    assert message in said
    assert "Traceback" not in said
    assert "Error executing job" not in said
    assert said.count(message) == 1
    assert not list(tmp_path.glob("runs/**/result.json"))


@pytest.mark.parametrize(
    ("overrides", "error", "message"),
    [
        (
            ("model=vgg16", "model.weights=absent.pth"),
            FileNotFoundError,
            r"model\.weights=absent\.pth: no such file",
        ),
        (("trainer=gpu",), ValueError, r"trainer\.accelerator=gpu, .*gpu.*trainer=auto"),
        (("decision=threshold", "decision.criterion=f2"), ValueError, "f2"),
        (("decision=zero",), ValueError, "loss='lsep'"),
        (("transform.mean=[0.1,0.2]",), ValueError, r"transform\.mean=\[0\.1, 0\.2\]"),
        (("+trainer.max_epochs=3",), ValueError, r"trainer\.max_epochs=3: set by the job.*training\.epochs"),
    ],
)
def test_bad_options_are_refused_before_anything_is_trained(
    tmp_path: Path, overrides: tuple[str, ...], error: type[Exception], message: str
) -> None:
    if "trainer=gpu" in overrides and torch.cuda.is_available():
        pytest.skip("there is a GPU here")
    tiny = [word for word in TINY if not (overrides[0].startswith("model=") and word.startswith("model."))]
    with pytest.raises((error, InstantiationException), match=message):
        run_job_here(tmp_path, *tiny, *overrides)
    assert not list(tmp_path.glob("store/*/*"))


def test_a_loss_that_is_not_finite_stops_with_its_name_and_step(tmp_path: Path) -> None:
    options = ("optimizer.lr=1e30", "schedule=constant", "training.epochs=3")
    with pytest.raises(
        FloatingPointError, match=r"loss=lsep .* step \d+.*(checkpoint is|no checkpoint was written)"
    ):
        run_job_here(tmp_path, *TINY, *options)


def test_a_folder_of_ones_own_keeps_its_run_until_another_is_forced_into_it(tmp_path: Path) -> None:
    own = f"hydra.run.dir={tmp_path / 'own'}"
    first, folder = run_job_here(tmp_path, *TINY, own, "decision=topk")
    assert run_job_here(tmp_path, *TINY, own, "decision=topk", "data.num_workers=1")[0] == first
    before = (folder / "result.json").read_bytes()
    for other in ("decision=threshold", "seed=1"):
        with pytest.raises(ValueError, match=r"of another configuration \(.*decision=topk\).*force=true"):
            run_job_here(tmp_path, *TINY, own, other)
        assert (folder / "result.json").read_bytes() == before
    record, _ = run_job_here(tmp_path, *TINY, own, "decision=threshold", "force=true")
    assert (record["decision"], folder) == ("threshold", tmp_path / "own")
    assert not (folder / UNFINISHED).exists()


def test_the_store_stays_where_it_is_when_hydra_changes_the_folder(tmp_path: Path) -> None:
    words = [*TINY, "decision=topk", "hydra.job.chdir=true"]
    command = [sys.executable, str(ROOT / "run.py"), *words]
    subprocess.run(command, capture_output=True, cwd=tmp_path, check=True)
    assert [path.relative_to(tmp_path) for path in tmp_path.rglob("store")] == [Path("outputs/store")]
    assert len(list(tmp_path.glob("outputs/runs/*/*/result.json"))) == 1


def test_a_plan_leaves_what_failed_on_record(tmp_path: Path) -> None:
    _, folder = compose_here(tmp_path, *TINY, "decision=topk")
    (folder / "error.json").write_text("{}")
    run(tmp_path, "plan=true", "decision=topk")
    assert (folder / "error.json").exists()


def test_a_plan_says_what_would_be_done_and_does_nothing(tmp_path: Path) -> None:
    output = tmp_path / "outputs"
    for before in (b"of an earlier sweep", None):  # None: there was none
        (output / "runs").mkdir(parents=True)
        if before is not None:
            (output / "runs" / "multirun.yaml").write_bytes(before)
        done = run(tmp_path, "-m", "plan=true", "decision=topk,threshold", f"paths.output={output}")
        if before is not None:
            assert [file.read_bytes() for file in output.rglob("*") if file.is_file()] == [before]
            shutil.rmtree(output)
    assert not output.exists()
    assert "trains network" in done.stdout
    assert "by an earlier job of this sweep" in done.stdout
    assert not list(tmp_path.rglob("*.ckpt"))


def test_a_plan_finds_what_is_there(sweep: Path, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO):
        for options in (("decision.max_k=3",), ()):
            config, folder = compose_here(sweep, *TINY, "decision=topk", *options)
            plan(build_job(config), folder)
    assert "in the store" in caplog.text
    assert "nothing to do" in caplog.text


def test_a_job_that_fails_is_recorded_and_the_others_go_on(tmp_path: Path) -> None:
    done = run(tmp_path, "-m", "decision=topk", "decision.max_k=0,2", ok=False)
    assert done.returncode == 3
    assert "Traceback" not in done.stdout + done.stderr
    assert sum("failed: " in line for line in done.stdout.splitlines() if line.startswith("#")) == 1
    [error] = tmp_path.glob("runs/*/*/error.json")
    assert "max_k=0" in json.loads(error.read_text())["error"]
    [result] = tmp_path.glob("runs/*/*/result.json")
    assert result.parent != error.parent


def test_an_output_folder_that_cannot_be_written_is_said(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    for flags in ([], ["-m"]):
        output = f"paths.output={tmp_path / 'file' / 'outputs'}"
        command = [sys.executable, str(ROOT / "run.py"), *flags, *TINY, output]
        done = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path)
        assert done.returncode == 1
        [said] = (done.stdout + done.stderr).splitlines()
        assert f"{tmp_path / 'file' / 'outputs'}" in said
        assert "Not a directory; the results go there, paths.output=FOLDER names another place" in said


@pytest.mark.skipif(not Path("/proc/self").exists(), reason="a file size limit of a process")
def test_a_disk_that_is_full_before_a_job_begins_is_one_message(tmp_path: Path) -> None:
    """Nothing can be written at all: not even what Hydra writes before it calls the job."""
    command = " ".join([sys.executable, str(ROOT / "run.py"), *TINY, f"paths.output={tmp_path}"])
    shell = ["bash", "-c", f"trap '' XFSZ; ulimit -f 0; exec {command}"]
    done = subprocess.run(shell, capture_output=True, text=True, cwd=tmp_path)
    assert done.returncode == 1
    [said] = (done.stdout + done.stderr).splitlines()
    assert said.startswith("OSError: File too large; ")
    assert "paths.output" in said
