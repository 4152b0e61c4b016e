"""What several processes save where a probe is solved some rows at a time: an evaluation of the loss and its gradient.

    python experiments/benchmarks/solver_processes.py --rows 40000 --labels 2000

Made-up features (256 wide) and targets; the least wall time of --rounds evaluations on one process, and on --processes
that share the rows, each with one thread; the worlds take turns. Prints both and their ratio, and fails where value or
gradient are not equal to the last bit.
"""

import argparse
import time
from typing import Any

import torch
from process_worlds import world
from torch import Tensor, distributed

from lsep_ml.losses import bce_loss
from lsep_ml.processes.group import Processes
from lsep_ml.training.linear_scores import StandardisedFeatures
from lsep_ml.training.standardisation import ScoreLayer

WIDTH = 256


def evaluations(rank: int, count: int, rows: int, labels: int, rounds: int) -> dict[str, Any]:
    """Evaluate in this process of `count`; returns the least seconds, the value and the gradient."""
    generator = torch.Generator().manual_seed(0)
    blocks = StandardisedFeatures(torch.randn(rows, WIDTH, generator=generator)).blocks()
    targets = (torch.rand(rows, labels, generator=generator) < 0.01).to(torch.uint8)
    weight = (0.01 * torch.randn(labels, WIDTH, generator=generator)).requires_grad_()
    layer, processes = ScoreLayer(weight, torch.zeros(labels)), Processes(rank, count)

    def of_rows(some: slice) -> tuple[Tensor, None]:
        return targets[some], None

    least = float("inf")
    for _ in range(rounds + 1):  # the first warms up
        weight.grad = None
        if count > 1:
            distributed.barrier()
        started = time.perf_counter()
        value = blocks.loss(bce_loss, layer, of_rows, processes)
        value.backward()
        least = min(least, time.perf_counter() - started)
    return {"seconds": least, "value": value.detach(), "gradient": weight.grad}


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rows", type=int, default=40_000)
    parser.add_argument("--labels", type=int, default=2_000)
    parser.add_argument("--processes", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--turns", type=int, default=2, help="how often each world is made")
    asked = parser.parse_args()
    seconds: dict[int, float] = {}
    first = None
    for _ in range(asked.turns):
        for count in (1, asked.processes):
            found = world(evaluations, count, asked.rows, asked.labels, asked.rounds)
            seconds[count] = min(seconds.get(count, float("inf")), float(found["seconds"]))
            first = first or found
            if not all(torch.equal(found[name], first[name]) for name in ("value", "gradient")):
                raise SystemExit(f"{count} processes: other bits than one")
    one, many = seconds[1], seconds[asked.processes]
    print(
        f"{asked.rows:,} x {asked.labels:,}: one process {one:.2f} s, {asked.processes} processes {many:.2f} s, "
        f"{many / one:.2f} of it; the same bits"
    )


if __name__ == "__main__":
    main()
