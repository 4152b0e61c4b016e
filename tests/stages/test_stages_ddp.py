"""Several processes on one job: the same numbers, one writer, and a failure that stays in its job."""

import json
import os
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from ddp_work import train_and_measure
from jobs import compose_here, forked_processes

sys.path.insert(0, str(Path(__file__).parents[2] / "experiments"))
from ddp_equality import DECISIONS, compare

from lsep_ml.stages import run

ROOT = Path(__file__).parents[2]
TINY = (
    "data.train=61",
    "data.val=40",
    "data.test=50",
    "data.canvas=24",
    "model.widths=[4,4]",
    "model.num_features=6",
    "training.epochs=1",
    "training.eval_batch_size=16",
    "fitting.epochs=1",
    "decision=topk",
    "trainer=ddp",
    "trainer.accelerator=cpu",
    "trainer.devices=2",
)


@pytest.fixture(scope="module")
def found(tmp_path_factory: pytest.TempPathFactory) -> dict:
    with forked_processes():
        return compare(tmp_path_factory.mktemp("worlds"), DECISIONS, train_and_measure)


def test_every_decision_gives_the_same_bits_on_1_2_and_3_processes(found: dict) -> None:
    (_, one), *others = found.values()
    names = {tuple(name.split()[:2]) for name in one}
    assert names >= {(images, decision) for images in ("97", "2") for decision in DECISIONS}
    assert sum(name.endswith(".npy") for name in one) == 2 * 3 * 4
    assert others == [(trained, one) for trained, _ in others]


NETWORKS = (
    "plain",
    "batch norm",
    "two-way",
    "mixed",
    "two-way, mixed",
    "csra",
    "ml_decoder",
    "gem",
    "mean_max",
)


@pytest.mark.parametrize("network", NETWORKS)
def test_training_agrees_in_double_precision_with_the_same_global_batch(found: dict, network: str) -> None:
    one = found[1][0][network]
    layer = "decoder.duplicate_pooling" if network == "ml_decoder" else "weight"
    assert np.abs(one[f"network.score_layer.{layer}"]).max() > 0.01
    for processes in (2, 3):
        other = found[processes][0][network]
        assert other.keys() == one.keys()
        for name, value in one.items():
            exact = name.startswith("network")  # what is logged is kept in float32
            np.testing.assert_allclose(
                other[name], value, rtol=1e-9 if exact else 1e-5, atol=1e-11, err_msg=name
            )


@pytest.mark.parametrize("processes", [1, 2, 3])
def test_what_overflows_on_one_process_stops_all(found: dict, processes: int) -> None:
    said = {
        what: list(found[processes][0][f"{what} overflows"]["said"]) for what in ("validation", "training")
    }
    assert said["validation"] == ["scores of loss=lsep are not finite at step 4"] * processes
    assert said["training"] == ["the loss of loss=lsep became nan at step 0 (epoch 1)"] * processes


def ends(group: int) -> bool:
    """Whether a group of processes is gone within seconds (multiprocessing's resource tracker goes last)."""
    for _ in range(100):
        try:
            os.killpg(group, 0)
        except ProcessLookupError:
            return True
        time.sleep(0.1)
    return False


def test_a_sweep_gives_each_job_its_processes_and_a_failure_stays_in_its_job(tmp_path: Path) -> None:
    command = [
        *(sys.executable, str(ROOT / "run.py"), "-m", *TINY, f"paths.output={tmp_path}"),
        "+case=killed,failing,two,one",
        "seed='${seed_of.${case}}'",
        "+seed_of={killed: 1, failing: 2, two: 3, one: 0}",
        "trainer.devices='${devices_of.${case}}'",
        "+devices_of={killed: 2, failing: 2, two: 2, one: 1}",
        "trainer.sync_batchnorm=false",
        "+diagnostics.fault={_target_: ddp_work.fault, _partial_: true, case: '${case}'}",
        *("decision=count_est", "decision.fit_on=val"),  # each process fits without other folds
        "~fitting.optimizer",
        "+fitting.optimizer={_target_: ddp_work.faulty_sgd, _partial_: true, case: '${case}'}",
    ]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    # In a session of its own, so that what outlives it is found.
    job = subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, cwd=tmp_path, env=environment,
        start_new_session=True,
    )  # fmt: skip
    output, _ = job.communicate(timeout=900)
    assert job.returncode != 0, output
    assert ends(job.pid), "a process outlives its job"
    folders = {folder.name.split("-")[3]: folder for folder in tmp_path.glob("runs/digits/*")}
    assert len(folders) == 4, f"{job.returncode}\n{output}"
    errors = {
        seed: json.loads((folder / "error.json").read_text())
        for seed, folder in folders.items()
        if (folder / "error.json").exists()
    }
    assert set(errors) == {"seed1", "seed2"}
    assert errors["seed1"]["error"] == "rank 1 of 2 processes was ended by signal 9 (SIGKILL)"
    assert errors["seed2"]["error"] == "rank 1 of 2 processes: RuntimeError: a fault of rank 1 alone"
    assert "ddp_work.py" in errors["seed2"]["traceback"]
    for error in errors.values():
        assert error["error"] in output
    for seed, processes in {"seed3": 2, "seed0": 1}.items():
        record = json.loads((folders[seed] / "result.json").read_text())
        assert record["config"]["trainer"]["devices"] == processes
        assert not record["reused"]["prediction"]
        assert {file.name for file in folders[seed].glob("run*.log")} == {
            "run.log",
            *(f"run.rank{rank}.log" for rank in range(1, processes)),
        }
        assert "Training label prediction" in (folders[seed] / "run.log").read_text()
        assert (folders[seed] / "run.log").read_text().count("Fitting decision") == 1


def test_slurm_starts_the_processes_itself(tmp_path: Path) -> None:
    common = {"SLURM_NTASKS": "2", "SLURM_NTASKS_PER_NODE": "2", "SLURM_NNODES": "1", "SLURM_NODEID": "0"}
    common |= {"SLURM_JOB_ID": str(10000 + os.getpid() % 20000), "SLURM_NODELIST": "localhost"}
    command = [sys.executable, str(ROOT / "run.py"), *TINY, f"paths.output={tmp_path}"]
    tasks = [
        subprocess.Popen(
            command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, cwd=tmp_path,
            env={**os.environ, **common, "SLURM_PROCID": rank, "SLURM_LOCALID": rank},
        )
        for rank in "01"
    ]  # fmt: skip
    said = [task.communicate(timeout=900)[0] for task in tasks]
    assert [task.returncode for task in tasks] == [0, 0], said
    assert "exact match" in said[0]
    assert said[1] == ""
    [folder] = tmp_path.glob("runs/digits/*")
    assert json.loads((folder / "result.json").read_text())["config"]["trainer"]["devices"] == 2
    assert (folder / "run.rank1.log").exists()


def test_several_machines_take_a_launcher(tmp_path: Path) -> None:
    config, folder = compose_here(tmp_path, *TINY, "trainer.num_nodes=2")
    with pytest.raises(ValueError, match=r"trainer\.num_nodes=2: start run\.py on every machine"):
        run(config, folder)


def test_more_processes_than_the_trainer_is_set_to_are_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in {"LOCAL_RANK": "0", "RANK": "0", "WORLD_SIZE": "2"}.items():
        monkeypatch.setenv(name, value)
    config, folder = compose_here(tmp_path, *TINY, "trainer.devices=1")
    with pytest.raises(ValueError, match="2 processes were started, but the trainer is set to one"):
        run(config, folder)
