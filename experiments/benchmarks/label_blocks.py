"""What a score layer and its loss by blocks of labels cost beside all scores at once: time and memory of one step.

    python experiments/benchmarks/label_blocks.py --labels 10000 100000 1000000

A step is forward and backward of `--rows` rows of 256 features with 30 positives each. For the time (the median of
`--repeats`) the two ways alternate within one process; for the peak of resident memory, less what the process holds
before the step, each runs in a process of its own.
"""

import argparse
import statistics
import subprocess
import sys
import time
from pathlib import Path

import torch
from rich.console import Console
from rich.table import Table
from torch import Tensor

from lsep_ml import losses
from lsep_ml.losses import BLOCKWISE_LOSSES, LabelIndices, blockwise_loss

FEATURES, POSITIVES = 256, 30


def draw(rows: int, labels: int) -> tuple[Tensor, Tensor, Tensor, LabelIndices]:
    """Features, weight and bias that ask for a gradient, and targets."""
    torch.manual_seed(0)
    indices = torch.randint(labels // POSITIVES, (rows, POSITIVES)) + torch.arange(POSITIVES) * (
        labels // POSITIVES
    )
    weight = (0.05 * torch.randn(labels, FEATURES)).requires_grad_()
    bias = torch.zeros(labels, requires_grad=True)
    return torch.randn(rows, FEATURES, requires_grad=True), weight, bias, LabelIndices(indices, labels)


def step(name: str, way: str, drawn: tuple[Tensor, Tensor, Tensor, LabelIndices]) -> None:
    """One forward and backward pass."""
    features, weight, bias, targets = drawn
    if way == "blocks":
        loss = blockwise_loss(name, features, weight, bias, targets)
    else:
        loss = getattr(losses, f"{name}_loss")(torch.addmm(bias, features, weight.T), targets)
    loss.backward()
    for each in (features, weight, bias):
        each.grad = None


def resident(field: str) -> float:
    """Of this process, MiB: VmRSS now, VmHWM at the highest."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return int(next(line for line in lines if line.startswith(field)).split()[1]) / 1024


def peak(name: str, way: str, rows: int, labels: int) -> float:
    """MiB that one step takes beyond what is there before it, in a process of its own."""
    command = [sys.executable, __file__, "--only", name, way, "--rows", str(rows), "--labels", str(labels)]
    return float(subprocess.run(command, check=True, capture_output=True, text=True).stdout)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--labels", type=int, nargs="+", default=[10_000, 100_000])
    parser.add_argument("--rows", type=int, default=512)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--only", nargs=2, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.only:
        drawn = draw(options.rows, options.labels[0])
        step(*options.only, draw(2, 100))
        before = resident("VmRSS")
        step(*options.only, drawn)
        print(max(0.0, resident("VmHWM") - before))
        return
    table = Table(
        "loss", "labels", "time, blocks / all", "MiB, all", "MiB, blocks", title=f"{options.rows} rows"
    )
    for labels in options.labels:
        drawn = draw(options.rows, labels)
        for name in BLOCKWISE_LOSSES:
            seconds: dict[str, list[float]] = {"all": [], "blocks": []}
            for _ in range(options.repeats + 1):
                for way, taken in seconds.items():
                    started = time.perf_counter()
                    step(name, way, drawn)
                    taken.append(time.perf_counter() - started)
            median = {way: statistics.median(taken[1:]) for way, taken in seconds.items()}
            memory = {way: peak(name, way, options.rows, labels) for way in seconds}
            ratio = f"{median['blocks'] / median['all']:.2f}"
            table.add_row(name, f"{labels:,}", ratio, f"{memory['all']:,.0f}", f"{memory['blocks']:,.0f}")
    Console().print(table)


if __name__ == "__main__":
    main()
