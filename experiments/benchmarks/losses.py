"""Time and memory of every loss and its rivals, forward and backward, for 20 to 1,000,000 labels.

    python experiments/benchmarks/losses.py

Writes losses_cpu.csv and losses_cpu.png beside this file, and losses_cuda.* where there is a GPU: the median time of
interleaved runs, as milliseconds and as a ratio to torch's binary cross entropy in the same runs, and the most memory
held at once beyond scores and targets, as a multiple of the scores' own size. On a CPU one thread runs and its own
time is counted, so that other programs disturb little.
"""

import argparse
import csv
import os
import statistics
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple
from unittest import mock

import losses_plot
import rivals
import torch
from torch import Tensor
from torch.nn import functional as F

from lsep_ml import losses
from lsep_ml.losses.kernels import compiled

SIZES = {
    20: (16_384, 2),
    81: (4096, 3),
    1_000: (320, 10),
    10_000: (32, 20),
    100_000: (8, 30),
    1_000_000: (4, 30),
}
"""Labels K -> rows N, and positives a row in the mean: 300,000 scores or more, so that arithmetic is measured and not
the calls."""
REFERENCE = "BCE (torch)"
FORMULAS = ("lsep", "bpmll", "softmax")
"""The losses that are written with their gradient as well as without."""
HINGES = ("ranking", "warp")
"""The losses that compiled loops compute where numba is installed."""
MOST_DIFFERENCES = 2e7
"""Numbers N K K in an array of a rival that forms every pair: rows are left out until it has no more."""

Step = Callable[[], None]


class Batch(NamedTuple):
    """Random scores, and their targets in the forms that the losses want."""

    scores: Tensor
    targets: Tensor
    as_float: Tensor
    indices: losses.LabelIndices

    def step(self, loss: Callable[..., Tensor], targets: Any) -> Step:
        """Forward and backward."""

        def run() -> None:
            loss(self.scores.detach().requires_grad_(), targets).backward()

        return run


def draw(num_rows: int, num_labels: int, positives: int, device: str) -> Batch:
    generator = torch.Generator().manual_seed(0)
    scores = torch.randn(num_rows, num_labels, generator=generator).to(device)
    targets = torch.rand(num_rows, num_labels, generator=generator) < positives / num_labels
    targets = targets.to(device, torch.uint8)
    return Batch(scores, targets, targets.float(), losses.LabelIndices.of(targets))


def ours(batch: Batch) -> dict[str, Step]:
    """Every loss of the library by its name, and torch's binary cross entropy."""
    counts = losses.ClassCounts.of(batch.targets)
    functions = {
        name.removesuffix("_loss"): losses.with_class_counts(getattr(losses, name), lambda: counts)
        for name in losses.__all__
        if "_loss" in name and name not in losses.label_blocks.__all__  # which forms its own scores
    }
    steps = {REFERENCE: batch.step(F.binary_cross_entropy_with_logits, batch.as_float)}
    for name, loss in functions.items():
        steps[name] = batch.step(loss, batch.targets)
        steps[f"{name}, sparse targets"] = batch.step(loss, batch.indices)
        if name in FORMULAS:
            steps[f"{name}, not fused"] = not_fused(steps[name])
        if name in HINGES:
            steps[f"{name}, not compiled"] = not_compiled(steps[name])
    return steps


def not_fused(step: Step) -> Step:
    def run() -> None:
        with losses.fused(False):
            step()

    return run


def not_compiled(step: Step) -> Step:
    """By operators alone, as where numba is not installed."""

    def run() -> None:
        with mock.patch.object(compiled, "installed", return_value=False):
            step()

    return run


def theirs(batch: Batch) -> dict[str, Step]:
    """The rivals, and torch's binary cross entropy."""
    padded = batch.indices.indices.new_full(batch.scores.shape, -1)
    padded[:, : batch.indices.indices.shape[1]] = batch.indices.indices
    steps = {
        REFERENCE: batch.step(F.binary_cross_entropy_with_logits, batch.as_float),
        "multilabel_margin (torch)": batch.step(F.multilabel_margin_loss, padded),
    }
    if batch.scores.numel() * batch.scores.shape[1] <= MOST_DIFFERENCES:
        steps["lsep, K x K"] = batch.step(rivals.lsep_over_pairs, batch.as_float)
        steps["ranking, K x K"] = batch.step(rivals.ranking_over_pairs, batch.as_float)
    return steps


def in_triton(batch: Batch) -> dict[str, Step]:
    """The candidates in Triton, the losses they would stand for, these compiled, and torch's binary cross entropy."""
    import triton_losses

    steps = {REFERENCE: batch.step(F.binary_cross_entropy_with_logits, batch.as_float)}
    for name, (candidate, library) in triton_losses.candidates(batch.targets, batch.indices).items():
        ways = {"": library, ", compiled": torch.compile(library, dynamic=False), ", Triton": candidate}
        for way, loss in ways.items():
            steps[name + way] = batch.step(lambda f, _, loss=loss: loss(f), None)
    return steps


def seconds(step: Step, device: str) -> float:
    clock = time.process_time if device == "cpu" else time.perf_counter
    start = clock()
    step()
    if device == "cuda":
        torch.cuda.synchronize()
    return clock() - start


def medians(steps: dict[str, Step], device: str, budget: float) -> dict[str, float]:
    """The median seconds of each, run in turn: 3 rounds or more, for about `budget` seconds."""
    times: dict[str, list[float]] = {name: [] for name in steps}
    end = time.perf_counter() + budget
    while len(times[REFERENCE]) < 3 or (time.perf_counter() < end and len(times[REFERENCE]) < 200):
        for name, step in steps.items():
            step()  # takes over caches and allocator from the one before
            times[name].append(seconds(step, device))
    return {name: statistics.median(taken) for name, taken in times.items()}


def peak_bytes(step: Step, device: str) -> int:
    """The most that one run holds at once, beyond what was held before."""
    if device == "cuda":
        torch.cuda.reset_peak_memory_stats()
        before = torch.cuda.memory_allocated()
        step()
        return torch.cuda.max_memory_allocated() - before
    with torch.profiler.profile(
        activities=[torch.profiler.ProfilerActivity.CPU], profile_memory=True
    ) as profile:
        step()
    held = peak = 0
    for event in profile.profiler.kineto_results.events():
        if event.name() == "[memory]":
            held += event.nbytes()
            peak = max(peak, held)
    return peak


def measured(
    group: str, steps: dict[str, Step], batch: Batch, device: str, budget: float
) -> Iterator[dict[str, Any]]:
    """One row of the table for each step of a group, which ran in turn."""
    times = medians(steps, device, budget)
    num_rows, num_labels = batch.scores.shape
    for name, step in steps.items():
        row = {
            "group": group,
            "labels": num_labels,
            "rows": num_rows,
            "most_positives": batch.indices.indices.shape[1],
            "loss": name,
            "milliseconds": f"{1e3 * times[name]:.4g}",
            "ratio_to_bce": f"{times[name] / times[REFERENCE]:.4g}",
            "peak_to_scores": f"{peak_bytes(step, device) / batch.scores.nbytes:.4g}",
            "torch": torch.__version__,
        }
        print(
            f"{num_labels:9,} x {num_rows:<5}{name:32s}{row['ratio_to_bce']:>10s}{row['peak_to_scores']:>10s}"
        )
        yield row


def table(device: str, sizes: list[int], budget: float) -> list[dict[str, Any]]:
    # Freeing one large block keeps the allocator from handing every buffer back, as in a training process.
    torch.empty(31 << 20, dtype=torch.uint8).fill_(1)
    rows = []
    for num_labels in sizes:
        num_rows, positives = SIZES[num_labels]
        few_rows = max(4, min(num_rows, int(MOST_DIFFERENCES / num_labels**2)))
        batch = draw(num_rows, num_labels, positives, device)
        rows += measured("ours", ours(batch), batch, device, budget)
        if device == "cuda":
            rows += measured("triton", in_triton(batch), batch, device, budget / 2)
        batch = draw(few_rows, num_labels, positives, device)
        rows += measured("rivals", theirs(batch), batch, device, budget / 2)
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--labels", type=int, nargs="*", default=list(SIZES), choices=list(SIZES))
    parser.add_argument("--seconds", type=float, default=12.0, help="of measuring at each number of labels")
    parser.add_argument("--folder", type=Path, default=Path(__file__).parent)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    for device in ("cpu", "cuda") if torch.cuda.is_available() else ("cpu",):
        rows = table(device, arguments.labels, arguments.seconds)
        target = arguments.folder / f"losses_{device}.csv"
        temporary = target.with_suffix(".csv.part")
        with temporary.open("w", newline="") as file:
            writer = csv.DictWriter(file, rows[0])
            writer.writeheader()
            writer.writerows(rows)
        os.replace(temporary, target)
        losses_plot.draw(target)


if __name__ == "__main__":
    main()
