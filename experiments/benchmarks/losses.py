"""Time and memory of every loss and its rivals, forward and backward, for 20 to 1,000,000 labels.

    python experiments/benchmarks/losses.py

Writes losses.csv and losses.png beside this file: the median time of interleaved runs, as milliseconds and as a ratio
to torch's binary cross entropy in the same runs, and the most memory held at once, as a multiple of the scores' own
size (the gradient included, scores and targets not). One thread on a CPU; on CUDA where there is a device.
"""

import argparse
import csv
import os
import statistics
import sys
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import NamedTuple

import rivals
import torch
from torch import Tensor

from lsep_ml import losses

SIZES = {20: (1024, 2), 81: (1024, 3), 1_000: (256, 10), 10_000: (32, 20), 100_000: (8, 30), 1_000_000: (4, 30)}
"""Labels K -> rows N and mean positives a row: about the memory of a training step's scores, and of a data set's."""
REFERENCE = "bce (torch)"
MOST_PAIRS = 3e8  # numbers in a rival's (N, K, K) arrays; beyond, it is not run


class Problem(NamedTuple):
    """Random scores of one size, and the same targets in the form each loss wants them."""

    scores: Tensor
    targets: Tensor
    as_float: Tensor
    sparse: losses.LabelIndices
    padded: Tensor


Step = Callable[[], None]


def problem(num_rows: int, num_labels: int, positives: int, device: str) -> Problem:
    generator = torch.Generator().manual_seed(0)
    scores = torch.randn(num_rows, num_labels, generator=generator)
    targets = (torch.rand(num_rows, num_labels, generator=generator) < positives / num_labels).to(torch.uint8)
    targets[:, 0] = 1
    sparse = losses.LabelIndices.of(targets)
    padded = torch.full_like(targets, -1, dtype=torch.int64)
    padded[:, : sparse.indices.shape[1]] = sparse.indices
    tensors = [tensor.to(device) for tensor in (scores, targets, targets.float(), padded)]
    return Problem(*tensors[:3], losses.LabelIndices(sparse.indices.to(device), num_labels), tensors[3])


def steps(given: Problem, compiled: bool) -> dict[str, Step]:
    """Name -> forward and backward."""
    ours = {
        "lsep": losses.lsep_loss,
        "bpmll": losses.bpmll_loss,
        "softmax": losses.softmax_loss,
        "ranking": losses.ranking_loss,
        "warp": losses.warp_loss,
    }

    def step(loss: Callable[..., Tensor], targets: Tensor | losses.LabelIndices) -> Step:
        def run() -> None:
            loss(given.scores.detach().requires_grad_(), targets).backward()

        return run

    def plain(run: Step) -> Step:
        def inside() -> None:
            with losses.fused(False):
                run()

        return inside

    found = {REFERENCE: step(rivals.bce, given.as_float)}
    for name, loss in ours.items():
        found[name] = step(loss, given.targets)
        found[f"{name}, sparse targets"] = step(loss, given.sparse)
        if name in ("lsep", "bpmll", "softmax"):
            found[f"{name}, not fused"] = plain(found[name])
        if compiled:
            found[f"{name}, torch.compile"] = step(torch.compile(loss, dynamic=False), given.targets)
    return found


def rival_steps(given,step):
    found={}
    found["multilabel_margin (torch)"] = step(rivals.multilabel_margin, given.padded)
    if given.scores.numel() * given.scores.shape[1] <= MOST_PAIRS:
        found["lsep, K x K"] = step(rivals.lsep_over_pairs, given.as_float)
        found["ranking, K x K"] = step(rivals.ranking_over_pairs, given.as_float)
    return found


def seconds(run: Step, device: str) -> float:
    clock = time.process_time
    start = clock()
    run()
    return clock() - start


def medians(runs: dict[str, Step], device: str, budget: float) -> dict[str, float]:
    """The median seconds of each, all run in turn, for about `budget` seconds and at least 3 rounds."""
    for run in runs.values():
        seconds(run, device)
    times = {name: [seconds(run, device)] for name, run in runs.items()}
    end = time.perf_counter() + budget
    while len(times[REFERENCE]) < 3 or (time.perf_counter() < end and len(times[REFERENCE]) < 100):
        for name, run in runs.items():
            times[name].append(seconds(run, device))
    return {name: statistics.median(values) for name, values in times.items()}


def peak_bytes(run: Step, device: str) -> int:
    """The most that one run holds at once beyond what was there before."""
    if device == "cuda":
        torch.cuda.reset_peak_memory_stats()
        before = torch.cuda.memory_allocated()
        run()
        return torch.cuda.max_memory_allocated() - before
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU], profile_memory=True) as profile:
        run()
    held = peak = 0
    for event in profile.profiler.kineto_results.events():
        if event.name() == "[memory]":
            held += event.nbytes()
            peak = max(peak, held)
    return peak


if __name__ == "__main__":
    torch.set_num_threads(1); torch.empty(31 << 20, dtype=torch.uint8).fill_(1)
    names=sys.argv[2].split(',') if len(sys.argv)>2 and sys.argv[2] else None
    budget=float(sys.argv[3]) if len(sys.argv)>3 else 3
    for K in map(int,sys.argv[1].split(',')):
        N,P=SIZES[K]
        pr=problem(N,K,P,'cpu')
        st=steps(pr,False)
        if names: st={k:v for k,v in st.items() if k==REFERENCE or any(k.startswith(n) for n in names)}
        md=medians(st,'cpu',budget)
        print(K,N,f"{md[REFERENCE]*1e6:.0f}us {md[REFERENCE]/N/K*1e9:.2f}ns/el")
        for k,v in md.items(): print(f"   {k:28s} {v/md[REFERENCE]:8.2f}  mem {peak_bytes(st[k],'cpu')/pr.scores.nbytes:.2f}",flush=True)
