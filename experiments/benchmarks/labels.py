"""CPU seconds, rows a second and peak memory of reading a table of labels with data=own.

    python experiments/benchmarks/labels.py --rows 1000000 --labels 80
    python experiments/benchmarks/labels.py --rows 200000 --labels 10000 --forms cell

Two tables are written for the run, of the same labels, about three an image: one column a label with 0 and 1,
and a cell of labels. Each is read in a process of its own. There are no images: that a name means none is found
out too.
"dense" is what the targets alone take.
"""

import argparse
import multiprocessing
import resource
import tempfile
import time
from pathlib import Path

import numpy as np
import polars as pl

from lsep_ml.data.sources.own import own_annotations


def write(root: Path, rows: int, labels: int, form: str) -> None:
    """The table labels.csv of `form` "columns" or "cell"."""
    root.mkdir()
    rng = np.random.default_rng(0)
    counts = rng.poisson(3, rows)
    of_row, label = np.repeat(np.arange(rows), counts), rng.integers(0, labels, counts.sum())
    names = [f"label {number}" for number in range(labels)]
    images = pl.Series("image", [f"images/{row:08d}.jpg" for row in range(rows)])
    if form == "columns":
        targets = np.zeros((rows, labels), np.uint8)
        targets[of_row, label] = 1
        columns = [pl.Series(name, column) for name, column in zip(names, targets.T, strict=True)]
        frame = pl.DataFrame([images, *columns])
    else:
        ends = np.cumsum(counts)
        cells = [
            "|".join({names[one]: None for one in label[end - count : end].tolist()})
            for count, end in zip(counts.tolist(), ends.tolist(), strict=True)
        ]
        frame = pl.DataFrame([images, pl.Series("labels", cells)])
    frame.write_csv(root / "labels.csv")


def read(root: str) -> tuple[int, int, float, float, float]:
    """Images, positives, CPU seconds, seconds and peak GiB of reading the folder."""
    before, started = time.process_time(), time.perf_counter()
    annotations = own_annotations(root)
    spent, passed = time.process_time() - before, time.perf_counter() - started
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    return len(annotations), int(annotations.targets.sum()), spent, passed, peak


def main() -> None:
    """Print a line a form."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--labels", type=int, default=80)
    parser.add_argument("--forms", nargs="+", choices=("columns", "cell"), default=("columns", "cell"))
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        for form in options.forms:
            root = Path(folder) / form
            write(root, options.rows, options.labels, form)
            with multiprocessing.get_context("spawn").Pool(1) as pool:
                images, positives, spent, passed, peak = pool.apply(read, (str(root),))
            size = (root / "labels.csv").stat().st_size / 2**20
            print(
                f"{form}: {images:,} images, {positives:,} positives, {size:.0f} MiB: {spent:.1f} CPU "
                f"s, {passed:.1f} s, {images / spent:,.0f} rows a CPU second, peak {peak:.2f} GiB "
                f"(dense {options.rows * options.labels / 2**30:.2f})"
            )


if __name__ == "__main__":
    main()
