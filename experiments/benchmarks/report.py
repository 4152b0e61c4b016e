"""How long a report of many large runs takes, how much memory, and how large its page is.

    PYTHONPATH=tests python experiments/benchmarks/report.py --seeds 5 --images 40000 --labels 80
    PYTHONPATH=tests python experiments/benchmarks/report.py --seeds 1 --images 1500 --labels 70000 \\
        --losses lsep --decisions threshold thresh_est

The runs are simulated (tests/report_runs.py): by default five losses under four decisions, with the files that a sweep
on a data set of the size of COCO leaves. Every further seed has the arrays of the first under a record of its own. They
are kept for a second call, since writing them takes minutes.
"""

import argparse
import json
import os
import resource
import shutil
import time
from collections.abc import Sequence
from multiprocessing import get_context
from pathlib import Path

from report_runs import DECISIONS, LOSSES, write_sweep

from lsep_ml.reports import build_report


def write_runs(
    folder: Path, seeds: int, images: int, labels: int, losses: Sequence[str], decisions: Sequence[str]
) -> None:
    """A run of each loss and decision, and copies of them under other seeds."""
    options = {"data": "coco", "model": "vgg16", "images": images, "labels": labels}
    for run in write_sweep(folder, losses, decisions, [0], colour=True, intervals=False, **options):
        record = json.loads((run / "result.json").read_text())
        for seed in range(1, seeds):
            copy = run.with_name(f"{run.name}-{seed}")
            shutil.copytree(run, copy, copy_function=os.link)
            (copy / "result.json").unlink()
            own = {"seed": seed, "identity": f"{record['identity']}-{seed}"}
            (copy / "result.json").write_text(json.dumps(record | own))


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--images", type=int, default=40_000)
    parser.add_argument("--labels", type=int, default=80)
    parser.add_argument("--losses", nargs="+", default=LOSSES)
    parser.add_argument("--decisions", nargs="+", default=DECISIONS)
    parser.add_argument("--folder", type=Path, default=Path("outputs/report_benchmark"))
    options = parser.parse_args()
    size = options.seeds, options.images, options.labels
    kinds = options.losses, options.decisions
    runs = options.folder / "-".join(["x".join(map(str, size)), *(str(len(kind)) for kind in kinds)])
    if not (runs / "complete").exists():
        writer = get_context("spawn").Process(
            target=write_runs, args=(runs, *size, *kinds)
        )  # its memory is not ours
        writer.start()
        writer.join()
        if writer.exitcode:
            raise SystemExit(f"{runs}: the runs were not written")
        (runs / "complete").touch()
    wall, cpu = time.perf_counter(), time.process_time()
    report = build_report(runs, options.folder / "report")
    wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
    megabytes = report.page.stat().st_size / 1e6
    gib = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    print(
        f"{len(report.runs)} runs of {options.images:,} x {options.labels:,}: {wall:.1f} s ({cpu:.1f} s of CPU), "
        f"peak {gib:.2f} GiB, report.html {megabytes:.2f} MB, {len(report.problems)} remarks"
    )


if __name__ == "__main__":
    main()
