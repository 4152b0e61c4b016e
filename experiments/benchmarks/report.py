"""How long a report of many large runs takes, and how large its page is.

    PYTHONPATH=tests python experiments/benchmarks/report.py --runs 100 --images 40000 --labels 80

The runs are simulated (tests/report_runs.py): five losses under four decisions and five seeds, with the files that a
sweep on a data set of the size of COCO leaves. They are kept for a second call, since writing them takes minutes.
"""

import argparse
import time
from itertools import product
from pathlib import Path

from report_runs import DECISIONS, LOSSES, write_run

from lsep_ml.reports import build_report


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--runs", type=int, default=100)
    parser.add_argument("--images", type=int, default=40_000)
    parser.add_argument("--labels", type=int, default=80)
    parser.add_argument("--folder", type=Path, default=Path("outputs/report_benchmark"))
    options = parser.parse_args()
    runs = options.folder / f"{options.runs}x{options.images}x{options.labels}"
    if not (runs / "complete").exists():
        methods = list(product(range(-(-options.runs // 20)), LOSSES, DECISIONS))
        for seed, loss, decision in methods[: options.runs]:
            size = {"images": options.images, "labels": options.labels}
            write_run(
                runs,
                data="coco",
                model="vgg16",
                loss=loss,
                decision=decision,
                seed=seed,
                colour=True,
                intervals=False,
                **size,
            )
        (runs / "complete").touch()
    wall, cpu = time.perf_counter(), time.process_time()
    report = build_report(runs, options.folder / "report")
    wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
    megabytes = report.page.stat().st_size / 1e6
    print(
        f"{len(report.runs)} runs of {options.images:,} x {options.labels}: {wall:.1f} s ({cpu:.1f} s of CPU), "
        f"report.html {megabytes:.1f} MB"
    )


if __name__ == "__main__":
    main()
