"""A sweep is killed at random moments and started again: what is trained twice, and is the result the same?

    python experiments/kill_sweep.py --kills 5 --folder outputs/kill_sweep

Five losses under four decisions on a few digit scenes, run once undisturbed, and once with SIGKILL for the whole
process group after a random time, again and again, until the last start may finish. It prints what each start did, and
whether all numbers in the tables of both are the same. The exit code is 0 when no finished training was repeated, every
kill cost the training that was running at most, and the tables are identical.
"""

import argparse
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

from rich.console import Console
from rich.table import Table

from lsep_ml.reports import build_report

ROOT = Path(__file__).parents[1]
SWEEP = (
    "loss=softmax,ranking,bpmll,warp,lsep",
    "decision=topk,threshold,count_est,thresh_est",
    "data.train=300",
    "data.val=100",
    "data.test=200",
    "training.epochs=2",
    "fitting.epochs=3",
    "trainer=cpu",
)
NETWORKS, JOBS = 5, 20
BEGUN = "Training label prediction"
WORK = (BEGUN, "Fitting decision")
console = Console(width=110)


def start(folder: Path, name: str) -> tuple[subprocess.Popen[bytes], Path]:
    """Start the sweep in a process group of its own; its output goes to the file returned."""
    log = folder / f"{name}.log"
    command = [sys.executable, str(ROOT / "run.py"), "-m", f"paths.output={folder}", *SWEEP]
    with log.open("wb") as file:
        process = subprocess.Popen(
            command, cwd=folder, stdout=file, stderr=subprocess.STDOUT, start_new_session=True
        )
    return process, log


def sealed(folder: Path) -> dict[str, int]:
    """The finished trainings in the store, and when each was sealed."""
    return {
        file.parent.name: file.stat().st_mtime_ns for file in folder.glob("store/predictions/*/entry.json")
    }


def finished(folder: Path) -> int:
    """How many jobs have their record."""
    return len(list(folder.glob("runs/*/*/result.json")))


def tables(folder: Path) -> dict[str, str]:
    """Every table of a report on a folder; runs.csv, which has seconds and dates, aside."""
    out = build_report(folder / "runs", folder / "report").page.parent / "tables"
    return {file.name: file.read_text() for file in sorted(out.glob("*.csv")) if file.name != "runs.csv"}


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--kills", type=int, default=5)
    parser.add_argument("--seed", type=int, default=0, help="of the moments")
    parser.add_argument("--folder", type=Path, default=Path("outputs/kill_sweep"), help="emptied first")
    options = parser.parse_args()
    folder = options.folder.resolve()
    shutil.rmtree(folder, ignore_errors=True)
    whole, killed = folder / "undisturbed", folder / "killed"
    whole.mkdir(parents=True)
    killed.mkdir()

    began = time.perf_counter()
    process, log = start(whole, "start")
    if process.wait() != 0:
        sys.exit(f"the undisturbed sweep failed: {log.read_text()[-2000:]}")
    seconds = time.perf_counter() - began
    console.print(
        f"undisturbed: {seconds:.0f} s, {log.read_text().count(BEGUN)} trainings, {finished(whole)} jobs"
    )

    moments = random.Random(options.seed)
    table = Table("start", "killed after", "trainings begun", "trainings finished", "jobs finished")
    begun, repeated, lost = 0, 0, 0
    for number in range(1, options.kills + 2):
        before = sealed(killed)
        began = time.perf_counter()
        process, log = start(killed, f"start{number}")
        end = "not killed"
        if number <= options.kills:
            # From the first new work on, about a kill-th part of the sweep, so that the kills fall all over it.
            while process.poll() is None and not any(word in log.read_text() for word in WORK):
                time.sleep(0.2)
            try:
                process.wait(moments.uniform(0, 2 * seconds / (options.kills + 1)))
            except subprocess.TimeoutExpired:
                os.killpg(process.pid, signal.SIGKILL)
                process.wait()
                end = f"{time.perf_counter() - began:.1f} s"
        elif process.wait() != 0:
            sys.exit(f"the last start failed: {log.read_text()[-2000:]}")
        after = sealed(killed)
        here = log.read_text().count(BEGUN)
        begun += here
        repeated += sum(after.get(name) != when for name, when in before.items())
        lost += here - (len(after) - len(before))
        table.add_row(
            str(number), end, str(here), f"{len(after)} of {NETWORKS}", f"{finished(killed)} of {JOBS}"
        )
    console.print(table)
    same = tables(whole) == tables(killed)
    console.print(
        f"{begun} trainings begun for {NETWORKS} networks: {begun - NETWORKS} by kills that met one running; "
        f"{repeated} finished trainings repeated; tables {'identical' if same else 'DIFFERENT'}"
    )
    sys.exit(not (same and repeated == 0 and begun - NETWORKS == lost <= options.kills))


if __name__ == "__main__":
    main()
