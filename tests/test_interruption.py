"""A whole run that is killed, terminated or out of room in any of its parts, and started again: the same results."""

import csv
import errno
import json
import logging
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from jobs import ROOT, run_job_here

from lsep_ml.models import Network
from lsep_ml.stages import experiment, scores
from lsep_ml.training.label_decision import LabelDecision

TINY = (
    "data.train=96",
    "data.val=20",
    "data.test=20",
    "data.canvas=24",
    "data.num_workers=1",
    "model.widths=[4,4]",
    "model.num_features=6",
    "model.dropout=0.3",
    "transform.crop=20",
    "training.batch_size=8",
    "training.epochs=2",
    "training.eval_batch_size=8",
    "fitting.epochs=3",
    "trainer=cpu",
    "checkpoint.every_n_steps=2",
)


class Killed(BaseException):
    """Ends a run as SIGKILL does: nothing is saved any more."""


def left(output: Path) -> dict[str, Any]:
    """All that a run leaves and must not differ."""
    [file] = output.glob("runs/*/*/result.json")
    folder, record = file.parent, json.loads(file.read_text())
    found = {key: record[key] for key in ("identity", "metrics", "intervals", "choices", "split_hash")}
    for name in ("predictions.npz", "validation.npz"):
        with np.load(folder / name, allow_pickle=False) as arrays:
            found |= {f"{name} {key}": value.tobytes() for key, value in arrays.items()}
    state = torch.load(folder / "checkpoint.ckpt", weights_only=True)["state_dict"]
    found |= {key: value.numpy().tobytes() for key, value in state.items()}
    with (folder / "history.csv").open() as history:
        rows = list(csv.DictReader(history))
    found["history"] = [{key: value for key, value in row.items() if key != "seconds"} for row in rows]
    found["decision"] = (folder / "decision.safetensors").read_bytes()
    return found


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    output = tmp_path_factory.mktemp("whole")
    run_job_here(output, *TINY)
    return left(output)


def start(output: Path) -> subprocess.Popen:
    command = [sys.executable, str(ROOT / "run.py"), *TINY, "training.epochs=2", f"paths.output={output}"]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, start_new_session=True)


def saved(output: Path) -> list[int]:
    return sorted(int(file.stem.split("-")[1]) for file in output.rglob("state-*.ckpt"))


def wait_for_a_state(output: Path, process: subprocess.Popen, beyond: int) -> None:
    while process.poll() is None and max(saved(output), default=0) <= beyond:
        time.sleep(0.001)


def test_sigterm_then_sigkill_to_all_processes_of_a_run(whole: dict[str, Any], tmp_path: Path) -> None:
    process = start(tmp_path)
    wait_for_a_state(tmp_path, process, 0)
    os.killpg(process.pid, signal.SIGTERM)  # the loader's worker gets it too, as from a scheduler
    said = process.communicate()[0].decode()
    assert process.returncode == 143, said
    assert "SIGTERM: saved" in said
    before = saved(tmp_path)[-1]
    process = start(tmp_path)
    wait_for_a_state(tmp_path, process, before)
    os.killpg(process.pid, signal.SIGKILL)
    assert "Continuing to train" in process.communicate()[0].decode()
    run_job_here(tmp_path, *TINY)
    assert left(tmp_path) == whole


def failing(function: Callable[..., Any], call: int, error: BaseException) -> Callable[..., Any]:
    """The function, failing at its `call`-th call."""
    calls = iter(range(1, call + 1))

    def wrapped(*args: Any, **options: Any) -> Any:
        if next(calls, None) == call:
            raise error
        return function(*args, **options)

    return wrapped


@pytest.mark.parametrize(
    ("owner", "name", "call"),
    [
        (Network, "extract", 40),
        (scores, "_fill", 2),
        (LabelDecision, "training_step", 2),
        (experiment, "write_files", 1),
        (experiment, "write_record", 1),
    ],
    ids=["extraction", "scores", "stage 2", "writing", "before the record"],
)
def test_killed_after_stage_1(
    whole: dict[str, Any], tmp_path: Path, owner: object, name: str, call: int
) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(owner, name, failing(getattr(owner, name), call, Killed()))
        with pytest.raises(Killed):
            run_job_here(tmp_path, *TINY)
    record, _ = run_job_here(tmp_path, *TINY)
    assert record["reused"]["prediction"]
    assert left(tmp_path) == whole


@pytest.mark.parametrize("call", [2, 16, 20])
def test_a_full_disk_is_said_and_what_was_done_before_is_used_when_there_is_room_again(
    whole: dict[str, Any], tmp_path: Path, call: int
) -> None:
    full = OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("lsep_ml.files.os.fsync", failing(os.fsync, call, full))
        with pytest.raises(
            OSError, match=r"No space left on device \([\d,]+ bytes are free\); make room"
        ) as error:
            run_job_here(tmp_path, *TINY)
    assert Path(error.value.filename).is_relative_to(tmp_path)
    assert not [file for file in tmp_path.rglob(".*") if file.is_file() and file.suffix != ".lock"]
    run_job_here(tmp_path, *TINY)
    assert left(tmp_path) == whole


SMALL_FILES = """
import resource, sys
from pathlib import Path
import numpy as np
from lsep_ml.stages import extraction
folder = Path(sys.argv[1])
resource.setrlimit(resource.RLIMIT_FSIZE, (2000, resource.RLIM_INFINITY))
extraction.save_array(folder / "small.npy", np.zeros((4, 4), np.float32))
try:
    extraction.save_array(folder / "large.npy", np.zeros((400, 4), np.float32))
except OSError as error:
    print(error)
"""
"""In a process of its own, since the limit would also hold for what the tests themselves write."""


def test_no_room_for_an_array_is_an_error_before_it_is_written(tmp_path: Path) -> None:
    ran = subprocess.run([sys.executable, "-c", SMALL_FILES, str(tmp_path)], capture_output=True, text=True)
    assert re.search(r"File too large .*; make room.*large\.npy", ran.stdout), ran.stdout + ran.stderr
    assert (tmp_path / "small.npy").exists()


@pytest.mark.parametrize("name", ["predictions.npz", "history.csv", "result.json", "decision.json"])
def test_a_damaged_result_is_said_and_made_again(
    whole: dict[str, Any],
    tmp_path_factory: pytest.TempPathFactory,
    name: str,
    caplog: pytest.LogCaptureFixture,
) -> None:
    output = tmp_path_factory.getbasetemp() / "damaged"
    _, folder = run_job_here(output, *TINY)
    content = (folder / name).read_bytes()
    (folder / name).write_bytes(content.replace(b"0", b"1", 1))
    with caplog.at_level(logging.WARNING):
        record, _ = run_job_here(output, *TINY)
    assert "are damaged" in caplog.text
    assert record["reused"] == {"prediction": True, "extraction": True}
    assert left(output) == whole
