"""How long a report of many large runs takes, and how large its page is.

    PYTHONPATH=tests python experiments/benchmarks/report.py --seeds 5 --images 40000 --labels 80

The runs are simulated (tests/report_runs.py): five losses under four decisions, with the files that a sweep on a data
set of the size of COCO leaves. Every further seed has the arrays of the first under a record of its own. They are kept
for a second call, since writing them takes minutes.
"""

import argparse
import json
import os
import shutil
import time
from pathlib import Path

from report_runs import write_sweep

from lsep_ml.reports import build_report


def write_runs(folder: Path, seeds: int, images: int, labels: int) -> None:
    """Twenty runs, and copies of them under other seeds."""
    size = {"images": images, "labels": labels}
    for run in write_sweep(
        folder, seeds=[0], data="coco", model="vgg16", colour=True, intervals=False, **size
    ):
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
    parser.add_argument("--folder", type=Path, default=Path("outputs/report_benchmark"))
    options = parser.parse_args()
    runs = options.folder / f"{options.seeds}x{options.images}x{options.labels}"
    if not (runs / "complete").exists():
        write_runs(runs, options.seeds, options.images, options.labels)
        (runs / "complete").touch()
    wall, cpu = time.perf_counter(), time.process_time()
    report = build_report(runs, options.folder / "report")
    wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
    megabytes = report.page.stat().st_size / 1e6
    print(
        f"{len(report.runs)} runs of {options.images:,} x {options.labels}: {wall:.1f} s ({cpu:.1f} s of CPU), "
        f"report.html {megabytes:.1f} MB, {len(report.problems)} remarks"
    )


if __name__ == "__main__":
    main()
