"""Kill a run at random moments, start it again, and compare what it leaves with a run that nothing interrupted.

    python experiments/kill_test.py --kills 20
    python experiments/kill_test.py --kills 6 --processes 2

Every kill is SIGKILL to all processes of a run.py in a store of its own: in turn in stage 1, in the extraction, in
stage 2, and while the results are written, after a time drawn from how long that part took uninterrupted. The run has
augmentation, a worker, dropout, momentum and a schedule, and saves its state every 5 steps. Compared to the last bit:
the weights, the decision, predictions of test and validation, metrics and intervals, the history without its seconds.
Ends with exit code 1 if anything differs.
"""

import argparse
import csv
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from rich.console import Console
from rich.table import Table

ROOT = Path(__file__).parent.parent
JOB = (
    "data.train=640",
    "data.val=150",
    "data.test=150",
    "data.canvas=32",
    "data.num_workers=1",
    "transform.crop=28",
    "model.widths=[8,8]",
    "model.dropout=0.3",
    "training.epochs=4",
    "fitting.epochs=20",
    "checkpoint.every_n_steps=5",
)
PARTS = {  # and the line that says it begins; the results are written when the first file is there
    "stage 1": "raining label prediction",
    "extraction": "Extracting features",
    "stage 2": "Fitting decision",
    "writing": "",
}


class Run:
    """One call of run.py; `began` has the moment at which each part was seen to begin."""

    def __init__(self, output: Path, processes: int) -> None:
        devices = (
            ["trainer=cpu"]
            if processes == 1
            else ["trainer=ddp", "trainer.accelerator=cpu", f"trainer.devices={processes}"]
        )
        command = [sys.executable, str(ROOT / "run.py"), *JOB, *devices, f"paths.output={output}"]
        self.output, self.lines = output, list[str]()
        self.began: dict[str, float] = {}
        self._process = subprocess.Popen(
            command,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            env=os.environ | {"OMP_NUM_THREADS": "1"},
            start_new_session=True,
        )
        self._reader = threading.Thread(target=self._read)
        self._reader.start()

    def _read(self) -> None:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            self.lines.append(line)
            for part, mark in PARTS.items():
                if mark and (mark in line or (part == "stage 1" and "Continuing to train" in line)):
                    self.began.setdefault(part, time.monotonic())

    def wait_for(self, part: str) -> None:
        """Return when a part begins, or the run is over."""
        while part not in self.began and self._process.poll() is None:
            if part == "writing" and list(self.output.glob("runs/*/*/checkpoint.ckpt")):
                self.began[part] = time.monotonic()
            time.sleep(0.002)

    def kill(self) -> None:
        """SIGKILL to every process of the run."""
        os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()
        self._reader.join()

    def finish(self) -> None:
        """Wait for its end, which must be a good one."""
        for part in PARTS:
            self.wait_for(part)
        code = self._process.wait()
        self._reader.join()
        self.ended = time.monotonic()
        if code:
            raise SystemExit("".join(self.lines))

    def continued_from(self) -> str:
        """What the run said about where it took up the work."""
        said = "".join(self.lines)
        for line in said.splitlines():
            if "Continuing to train" in line:
                return line.rsplit("/", 1)[1].removesuffix(".ckpt")
        if "finished before" in said:
            return "nothing left"
        if "was trained before" in said:
            return "features" if "extracted before" in said else "network"
        return "the start"


def left(output: Path) -> dict[str, Any]:
    """Everything a run leaves that must not differ, as plain values and bytes."""
    [folder] = [file.parent for file in output.glob("runs/*/*/result.json")]
    record = json.loads((folder / "result.json").read_text())
    found: dict[str, Any] = {key: record[key] for key in ("metrics", "intervals", "choices", "identity")}
    for name in ("predictions.npz", "validation.npz"):
        with np.load(folder / name, allow_pickle=False) as arrays:
            found |= {f"{name} {key}": (str(value.dtype), value.tobytes()) for key, value in arrays.items()}
    state = torch.load(folder / "checkpoint.ckpt", weights_only=True)["state_dict"]
    found |= {f"weights {key}": value.numpy().tobytes() for key, value in state.items()}
    for name in ("decision.json", "decision.safetensors"):
        found[name] = (folder / name).read_bytes()
    with (folder / "history.csv").open(newline="") as history:
        found["history"] = [{**row, "seconds": None} for row in csv.DictReader(history)]
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--processes", type=int, default=1)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--folder", type=Path, default=ROOT / "outputs" / "kill_test")
    arguments = parser.parse_args()
    draw = random.Random(arguments.seed)
    shutil.rmtree(arguments.folder, ignore_errors=True)
    arguments.folder.mkdir(parents=True)

    whole = Run(arguments.folder / "whole", arguments.processes)
    whole.finish()
    expected = left(whole.output)
    begins = [*(whole.began[part] for part in PARTS), whole.ended]
    lasts = {part: begins[i + 1] - begins[i] for i, part in enumerate(PARTS)}

    table = Table(title=f"{arguments.kills} kills, {arguments.processes} process(es) a run")
    for heading in ("kill", "killed in", "after s", "of about s", "continued from", "equal"):
        table.add_column(heading)
    console, equal = Console(width=100), 0
    for kill in range(arguments.kills):
        output = arguments.folder / str(kill)
        part = list(PARTS)[kill % len(PARTS)]
        after = draw.uniform(0, lasts[part])
        run = Run(output, arguments.processes)
        run.wait_for(part)
        time.sleep(after)
        run.kill()
        again = Run(output, arguments.processes)
        again.finish()
        found = left(output)
        differing = [key for key in expected if found.get(key) != expected[key]]
        equal += not differing
        reached = max(run.began, key=lambda name: run.began[name], default="start-up")
        verdict = f"no: {', '.join(differing[:3])}" if differing else "yes"
        table.add_row(
            str(kill + 1), reached, f"{after:.2f}", f"{lasts[part]:.2f}", again.continued_from(), verdict
        )
        console.print(
            f"kill {kill + 1}: {reached}, continued from {again.continued_from()}, equal: {verdict}"
        )
    console.print(table)
    console.print(f"{equal} of {arguments.kills} equal")
    sys.exit(equal != arguments.kills)


if __name__ == "__main__":
    main()
