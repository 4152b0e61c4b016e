"""What the thresholds of very many labels cost, by blocks of labels: seconds a label, and of all of them.

    python experiments/benchmarks/label_thresholds.py --images 100000 --labels 70000 --measured 512

Scores of a layer on 256 made-up features are computed block by block as they are read, targets are sparse (30 labels an
image, Zipf's law). The search takes the same steps for every block, so that `--measured` labels, drawn from all, are
fitted and the time of all is said as what it is: extrapolated.
"""

import argparse
import time
from resource import RUSAGE_SELF, getrusage
from typing import Any

import numpy as np
import torch
from scipy.sparse import csc_array

from lsep_ml.decisions import GlobalThreshold, PerClassThreshold
from lsep_ml.decisions.label_blocks import fit_by_label_blocks
from lsep_ml.metrics.indicator import SparseIndicator
from lsep_ml.metrics.label_blocks import LinearScores

FEATURES, POSITIVES = 256, 30


def draw(images: int, labels: int, measured: int, rng: np.random.Generator) -> LinearScores:
    """Scores and targets of `measured` of the labels: positives score higher by two standard deviations."""
    share = 1 / (np.arange(labels) + 10)
    share = POSITIVES * share / share.sum()
    counts = rng.binomial(images, share[rng.permutation(labels)[:measured]]).clip(2)
    rows = np.concatenate([rng.choice(images, count, replace=False) for count in counts])
    columns = np.repeat(np.arange(measured), counts)
    targets = csc_array((np.ones(len(rows), np.uint8), (rows, columns)), (images, measured))
    weight = rng.normal(size=(measured, FEATURES)).astype(np.float32) / FEATURES**0.5
    features = rng.normal(size=(images, FEATURES)).astype(np.float32)
    features += 2 * (targets.astype(np.float32) @ weight) / (weight**2).sum(1).mean()
    held = SparseIndicator.of(rows, columns, targets.shape)
    return LinearScores(features, weight, np.zeros(measured, np.float32), held)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--images", type=int, default=100_000)
    parser.add_argument("--labels", type=int, default=70_000)
    parser.add_argument("--measured", type=int, default=512, help="labels that are fitted")
    parser.add_argument("--only", nargs="*", help="some of the rules, by the names that are printed")
    parser.add_argument("--threads", type=int, help="of torch; up to four share out the blocks")
    options = parser.parse_args()
    if options.threads:
        torch.set_num_threads(options.threads)
    scores = draw(options.images, options.labels, options.measured, np.random.default_rng(0))
    rules: tuple[tuple[str, Any], ...] = (
        ("threshold", GlobalThreshold()),
        ("threshold, exact", GlobalThreshold("exact")),
        ("per_class, no guard, grid", PerClassThreshold(search="grid", guard=False)),
        ("per_class, grid", PerClassThreshold(search="grid")),
        ("per_class, exact", PerClassThreshold()),
    )
    for name, rule in rules:
        if options.only and name not in options.only:
            continue
        started, used = time.perf_counter(), time.process_time()
        fit_by_label_blocks(rule, scores)
        seconds, cpu = time.perf_counter() - started, time.process_time() - used
        print(
            f"{name}: {options.measured:,} labels x {options.images:,} images: {seconds:.1f} s, {cpu:.1f} CPU s; "
            f"extrapolated to {options.labels:,} labels: {cpu * options.labels / options.measured:,.0f} CPU s; "
            f"peak {getrusage(RUSAGE_SELF).ru_maxrss / 2**20:.1f} GiB",
            flush=True,
        )


if __name__ == "__main__":
    main()
