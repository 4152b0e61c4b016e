"""What it costs each loss to look at its targets, forward and backward, for 81, 1,000 and 100,000 labels.

    python experiments/benchmarks/targets.py

Writes targets_cpu.csv beside this file: the least time of interleaved runs on one thread's own time, of float, uint8
and bool targets, each with the look and without it, and the ratio of the two.
"""

import argparse
import csv
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from unittest import mock

import torch
from torch import Tensor

from lsep_ml import losses
from lsep_ml.losses import binary, pairwise_logistic, soft_f1
from lsep_ml.losses.kernels import labels

SIZES = {81: (4096, 3), 1_000: (320, 10), 100_000: (8, 30)}
"""Labels K -> rows N, and positives a row in the mean."""
KINDS = {"float": torch.float32, "uint8": torch.uint8, "bool": torch.bool}


def not_looking() -> ExitStack:
    """Take every target for a 0 or a 1, until it is closed."""
    stack = ExitStack()
    for module in (labels, binary, pairwise_logistic, soft_f1):
        stack.enter_context(mock.patch.object(module, "check_targets", always))
    stack.enter_context(mock.patch.object(labels, "all_ones", always))
    return stack


def always(*given: object, **options: object) -> bool:
    return True


def seconds(loss: Callable[..., Tensor], scores: Tensor, targets: Tensor) -> float:
    start = time.process_time()
    loss(scores.detach().requires_grad_(), targets).backward()
    return time.process_time() - start


def measured(name: str, num_labels: int, rounds: int) -> Iterator[dict[str, object]]:
    """One row of the table for each kind of targets."""
    loss = getattr(losses, name)
    num_rows, positives = SIZES[num_labels]
    generator = torch.Generator().manual_seed(0)
    scores = torch.randn(num_rows, num_labels, generator=generator)
    targets = torch.rand(num_rows, num_labels, generator=generator) < positives / num_labels
    loss = losses.with_class_counts(loss, partial(losses.ClassCounts.of, targets))
    for kind, dtype in KINDS.items():
        given = targets.to(dtype)
        looking: list[float] = []
        blind: list[float] = []
        for _ in range(rounds):
            seconds(loss, scores, given)
            looking.append(seconds(loss, scores, given))
            with not_looking():
                seconds(loss, scores, given)
                blind.append(seconds(loss, scores, given))
        with_look, without = min(looking), min(blind)
        ratio = with_look / without
        print(
            f"{num_labels:9,}  {name.removesuffix('_loss'):20s}{kind:8s}{1e3 * with_look:9.3f} ms{ratio:8.3f}"
        )
        yield {
            "labels": num_labels,
            "rows": num_rows,
            "loss": name.removesuffix("_loss"),
            "targets": kind,
            "milliseconds": f"{1e3 * with_look:.4g}",
            "ratio_to_not_looking": f"{ratio:.4g}",
            "torch": torch.__version__,
        }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--labels", type=int, nargs="*", default=list(SIZES), choices=list(SIZES))
    parser.add_argument("--losses", nargs="*", help="some alone")
    parser.add_argument("--rounds", type=int, default=25)
    parser.add_argument("--folder", type=Path, default=Path(__file__).parent)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    # Freeing one large block keeps the allocator from handing every buffer back, as in a training process.
    torch.empty(31 << 20, dtype=torch.uint8).fill_(1)
    names = sorted(set(losses.__all__) - set(losses.label_blocks.__all__))
    names = [name for name in names if name.endswith("_loss")]
    if arguments.losses:
        names = [f"{name}_loss" for name in arguments.losses]
    rows = [
        row
        for num_labels in arguments.labels
        for name in names
        for row in measured(name, num_labels, arguments.rounds)
    ]
    with (arguments.folder / "targets_cpu.csv").open("w", newline="") as file:
        writer = csv.DictWriter(file, rows[0])
        writer.writeheader()
        writer.writerows(rows)


if __name__ == "__main__":
    main()
