"""What a training step costs with the scores of its batch by blocks of labels beside all of them at once.

    python experiments/benchmarks/label_blocks.py --labels 10000 100000 1000000

A step is that of `LabelPrediction` on `--rows` rows of `--features` features with 30 positives each, by SGD: loss,
gradient, new weights. For the CPU time (the median of `--repeats`) the two ways alternate within one process; the peak
of resident memory, all of the process, is that of three steps in a process of their own.
"""

import argparse
import statistics
import subprocess
import sys
import time
from functools import partial
from pathlib import Path
from typing import Any

import torch
from rich.console import Console
from rich.table import Table
from torch import nn

from lsep_ml.data import Batch
from lsep_ml.losses import BLOCKWISE_LOSSES, LabelIndices
from lsep_ml.models import Network, Probe
from lsep_ml.training import label_prediction
from lsep_ml.training.label_prediction import LabelPrediction
from lsep_ml.training.recipe import Objective, Optimisation
from lsep_ml.training.schedules import cosine

POSITIVES = 30
WAYS = {"all": sys.maxsize, "blocks": 0}
"""The scores from which on they are computed by blocks."""


class Steps:
    """Trains a score layer of zeros by a loss on one batch, again and again."""

    def __init__(self, loss: str, options: argparse.Namespace, labels: int) -> None:
        torch.manual_seed(0)
        backbone: Any = nn.Identity()
        backbone.num_features = options.features
        with torch.device("meta"):
            network = Network(backbone, labels, [0.0], [1.0])
        network.to_empty(device="cpu")
        for parameter in network.parameters():
            nn.init.zeros_(parameter)
        sgd = partial(torch.optim.SGD, lr=0.1, momentum=options.momentum)
        self.module = LabelPrediction(
            Probe(network), Objective(BLOCKWISE_LOSSES[loss], loss), Optimisation(sgd, cosine)
        )
        self.optimizer = sgd(self.module.parameters())
        width = labels // POSITIVES
        indices = torch.randint(width, (options.rows, POSITIVES)) + torch.arange(POSITIVES) * width
        features, targets = torch.randn(options.rows, options.features), LabelIndices(indices, labels)
        self.batch = Batch(features, targets, None, torch.arange(options.rows))  # type: ignore[arg-type]

    def step(self, way: str) -> float:
        """Do one, and return the CPU seconds that it took."""
        label_prediction.LARGE = WAYS[way]
        started = time.process_time()
        self.module.training_step(self.batch, 0).backward()
        self.optimizer.step()
        self.optimizer.zero_grad()
        return time.process_time() - started


def peak(loss: str, way: str, labels: int) -> float:
    """GiB that a process takes in which three steps are done."""
    command = [sys.executable, *sys.argv, "--labels", str(labels), "--only", loss, way]
    return float(subprocess.run(command, check=True, capture_output=True, text=True).stdout)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--labels", type=int, nargs="+", default=[10_000, 100_000])
    parser.add_argument("--losses", nargs="+", default=list(BLOCKWISE_LOSSES), choices=BLOCKWISE_LOSSES)
    parser.add_argument("--rows", type=int, default=128)
    parser.add_argument("--features", type=int, default=256)
    parser.add_argument("--momentum", type=float, default=0.9)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--only", nargs=2, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.only:
        loss, way = options.only
        steps = Steps(loss, options, options.labels[0])
        for _ in range(3):
            steps.step(way)
        lines = Path("/proc/self/status").read_text().splitlines()
        print(int(next(line for line in lines if line.startswith("VmHWM")).split()[1]) / 2**20)
        return
    table = Table(
        *("loss", "labels", "CPU seconds, all", "blocks", "GiB, all", "blocks"),
        title=f"a step on {options.rows} rows of {options.features} features",
    )
    for labels in options.labels:
        for loss in options.losses:
            steps, seconds = Steps(loss, options, labels), {way: list[float]() for way in WAYS}
            for _ in range(options.repeats + 1):
                for way, taken in seconds.items():
                    taken.append(steps.step(way))
            del steps
            median = [f"{statistics.median(taken[1:]):.3f}" for taken in seconds.values()]
            table.add_row(loss, f"{labels:,}", *median, *(f"{peak(loss, way, labels):.2f}" for way in WAYS))
    Console(width=100).print(table)


if __name__ == "__main__":
    main()
