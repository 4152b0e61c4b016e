"""What two processes save where threshold estimation is trained: its folds, or each step's rows or labels.

    python experiments/benchmarks/head_processes.py --rows 2000 --labels 10000
    python experiments/benchmarks/head_processes.py --rows 20000 --labels 100 --only folds

Made-up features (256 wide), scores and targets; one thread a process. `folds` is a whole fit that chooses offsets, by
`fit_decision`, and fails where its bits are others than those of one process. `rows` and `labels` are steps of a head
alone, the batches read included, which no training takes so: each process has half of a batch's rows, and the
gradients are summed, or half of the labels, and what is summed are the slopes of the hidden layer. The least wall time
of --rounds rounds of 4 steps, as a share of that of one process; the worlds take turns. docs/many-labels.md has what
was found.
"""

import argparse
import time
from typing import Any

import numpy as np
import torch
from process_worlds import world
from torch import Tensor, distributed, nn
from torch.nn import functional as F

from lsep_ml import fit_decision
from lsep_ml.decisions import ThresholdEstimation
from lsep_ml.processes.group import Processes
from lsep_ml.processes.start import keep_freed_memory
from lsep_ml.training.label_decision import CachedRows, DecisionBatch, take_step

WIDTH, BATCH, STEPS = 256, 64, 4
WAYS = ("folds", "rows", "labels")


def made_up(rows: int, labels: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Scores, targets and features."""
    rng = np.random.default_rng(0)
    features = rng.standard_normal((rows, WIDTH), np.float32)
    weight = rng.standard_normal((WIDTH, labels), np.float32) / WIDTH**0.5
    targets = (rng.random((rows, labels), np.float32) < 0.05).astype(np.uint8)
    return features @ weight, targets, features


def measured(rank: int, count: int, way: str, rows: int, labels: int, rounds: int) -> dict[str, Any]:
    """Work in this process of `count`; returns the least seconds, and the weights of a fit."""
    keep_freed_memory()
    arrays = made_up(rows, labels)
    found: dict[str, Any] = {}
    if way == "folds":
        head = ThresholdEstimation(WIDTH, labels, offset="class")
        started = time.perf_counter()
        fit_decision(head, *arrays, epochs=2, processes=Processes(rank, count))
        seconds, found = time.perf_counter() - started, head.state_dict()
    else:
        seconds = least_of_steps(arrays, way, rank, count, rounds)
    return {"seconds": seconds, **found}


def least_of_steps(arrays: tuple[np.ndarray, ...], way: str, rank: int, count: int, rounds: int) -> float:
    """The least seconds of a step."""
    scores, targets, features = arrays
    part = slice(None)
    if way == "labels":
        part = slice(targets.shape[1] * rank // count, targets.shape[1] * (rank + 1) // count)
    scores, targets = (np.ascontiguousarray(matrix[:, part]) for matrix in (scores, targets))
    head = ThresholdEstimation(WIDTH, targets.shape[1])
    read = CachedRows(scores, targets, features, None)
    weights = list(head.parameters())
    optimizer = torch.optim.SGD(weights, lr=1e-3, momentum=0.9, weight_decay=5e-5)
    for weight in weights:
        weight.grad = torch.zeros_like(weight)
    optimizer.step()  # which makes the momentum
    order, least = np.random.default_rng(1), float("inf")
    gradients = by_labels if way == "labels" and count > 1 else by_rows
    for _ in range(rounds + 1):  # the first warms up
        batches = [order.choice(len(features), BATCH, replace=False) for _ in range(STEPS)]
        if way == "rows":
            batches = [np.array_split(batch, count)[rank] for batch in batches]
        if count > 1:
            distributed.barrier()
        started = time.perf_counter()
        for batch in read[batches]:
            take_step(optimizer, weights, gradients(head, batch, count))
        least = min(least, time.perf_counter() - started)
    return least / STEPS


def by_rows(head: ThresholdEstimation, batch: DecisionBatch, count: int) -> list[Tensor]:
    """The gradients of all rows, summed over the processes."""
    _, gradients = head.gradients(*batch)
    if count == 1:
        return gradients
    flat = torch.cat([gradient.flatten() for gradient in gradients])
    distributed.all_reduce(flat)
    parts = flat.div_(count).split([gradient.numel() for gradient in gradients])
    return [part.view_as(gradient) for part, gradient in zip(parts, gradients, strict=True)]


@torch.no_grad()
def by_labels(head: ThresholdEstimation, batch: DecisionBatch, count: int) -> list[Tensor]:
    """The gradients of this process's labels, and of the layers below, whose slopes are summed over the processes."""
    layers = [layer for layer in head.head if isinstance(layer, nn.Linear)]
    inputs = [head.standardised(batch.features)]
    for layer in layers[:-1]:
        inputs.append(F.relu(layer(inputs[-1])))
    _, slopes = head.slopes(layers[-1](inputs[-1]), batch.scores, batch.targets)
    found = []
    for place, given in reversed(list(enumerate(inputs))):
        found += [slopes.sum(0), slopes.T @ given]
        if place:
            slopes = slopes @ layers[place].weight
            if layers[place] is layers[-1]:
                distributed.all_reduce(slopes)
            slopes.masked_fill_(given <= 0, 0)
    return found[::-1]


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rows", type=int, default=2_000)
    parser.add_argument("--labels", type=int, default=10_000)
    parser.add_argument("--only", choices=WAYS, nargs="+", default=WAYS)
    parser.add_argument("--rounds", type=int, default=40)
    parser.add_argument("--turns", type=int, default=2, help="how often each world is made")
    asked = parser.parse_args()
    for way in asked.only:
        worlds: dict[int, list[dict[str, Tensor]]] = {1: [], 2: []}
        for _ in range(asked.turns):
            for count, found in worlds.items():
                found.append(world(measured, count, way, asked.rows, asked.labels, asked.rounds))
        if any(not torch.equal(found[name], worlds[1][0][name])
               for found in worlds[2] for name in found.keys() - {"seconds"}):  # fmt: skip
            raise SystemExit(f"{way}: two processes have other bits than one")
        one, two = (min(float(found["seconds"]) for found in worlds[count]) for count in worlds)
        print(
            f"{way}, {asked.rows:,} x {asked.labels:,}: one process {1000 * one:.1f} ms, two {1000 * two:.1f} ms, "
            f"{two / one:.2f} of it"
        )


if __name__ == "__main__":
    main()
