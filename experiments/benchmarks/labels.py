"""CPU seconds, rows a second and peak memory of reading a table of labels with data=own.

    python experiments/benchmarks/labels.py --rows 1000000 --labels 80
    python experiments/benchmarks/labels.py --rows 1000000 --labels 10000 --per-image 30 --forms cell
    python experiments/benchmarks/labels.py --rows 10000000 --labels 10000 --forms cell long

A table is written for each form, of the same labels, about `--per-image` an image: "columns", one column a label with 0
and 1; "cell", a cell of labels; "long", one row a label, so of fewer images. Each is written and read in a process of
its own. There are no images: that a name means none is found out too. "dense" is what the targets alone would take.
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


def write(root: Path, rows: int, labels: int, form: str, per_image: float) -> None:
    """The table labels.csv of `form` "columns", "cell" or "long"."""
    root.mkdir()
    rng = np.random.default_rng(0)
    names = pl.Series([f"label {number}" for number in range(labels)])
    if form == "long":
        of_row = np.sort(rng.integers(0, max(1, round(rows / per_image)), rows))
    else:
        of_row = np.repeat(np.arange(rows), rng.poisson(per_image, rows))
    label = rng.integers(0, labels, len(of_row))
    if form == "columns":
        targets = np.zeros((rows, labels), np.uint8)
        targets[of_row, label] = 1
        columns = [pl.Series(name, column) for name, column in zip(names, targets.T, strict=True)]
        frame = pl.DataFrame([pl.Series("image", np.arange(rows)), *columns])
    else:
        frame = pl.DataFrame({"image": of_row, "labels": names.gather(label)})
    if form == "cell":
        cells = frame.group_by("image", maintain_order=True).agg(pl.col("labels").unique().str.join("|"))
        frame = pl.DataFrame({"image": np.arange(rows)}).join(cells, on="image", how="left")
    path = pl.format("images/{}.jpg", pl.col("image").cast(pl.String).str.zfill(8)).alias("image")
    frame.with_columns(path).write_csv(root / "labels.csv")


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
    parser.add_argument("--per-image", type=float, default=3)
    forms = ("columns", "cell", "long")
    parser.add_argument("--forms", nargs="+", choices=forms, default=("columns", "cell"))
    options = parser.parse_args()
    spawned = multiprocessing.get_context("spawn").Pool
    with tempfile.TemporaryDirectory() as folder:
        for form in options.forms:
            root = Path(folder) / form
            with spawned(1) as pool:
                pool.apply(write, (root, options.rows, options.labels, form, options.per_image))
            with spawned(1) as pool:
                images, positives, spent, passed, peak = pool.apply(read, (str(root),))
            size = (root / "labels.csv").stat().st_size / 2**20
            print(
                f"{form}: {options.rows:,} rows, {images:,} images, {positives:,} positives, {size:.0f} MiB: "
                f"{spent:.1f} CPU s, {passed:.1f} s, {options.rows / spent:,.0f} rows a CPU second, peak "
                f"{peak:.2f} GiB (dense {images * options.labels / 2**30:.2f})",
                flush=True,
            )


if __name__ == "__main__":
    main()
