"""Every loss on the device: against float64 loops, in half precision, compiled, and its time and memory against BCE's.

The loops are those of the tests (tests/losses/loss_cases.py).
"""

import contextlib
import csv
import io
import json
import os
import statistics
import subprocess
import sys
from collections.abc import Iterator
from functools import cache, partial
from pathlib import Path
from typing import Any

import torch
from gpu_parts.parts import Group, Judged, Setting, Skipped
from torch import Tensor

from lsep_ml import losses

ROOT = Path(__file__).parents[2]
sys.path[:0] = [str(ROOT / "tests" / "losses"), str(ROOT / "experiments" / "benchmarks")]

import loss_cases  # noqa: E402
import test_losses_soft_f1  # noqa: E402
from benchmarks import losses as benchmark  # noqa: E402

NAMES = [
    name.removesuffix("_loss")
    for name in losses.__all__
    if name.endswith("_loss") and name not in losses.label_blocks.__all__  # which forms its own scores
]
Found = tuple[Tensor, Tensor]
"""Values, and gradients (N, K)."""

SLOWER = {"lsep": 1.0, "bpmll": 1.0, "softmax": 1.0, "ranking": 2.5, "warp": 2.5}
"""The most time that a loss may take on a GPU, as a multiple of BCE's; the others' is shown and not judged."""
MEMORY = 24.0
"""The most memory beyond scores and targets, as a multiple of the scores' own size: none that grows with K."""
OF_IMAGES = {
    "two_way": lambda *given: sum(loss_cases.two_way(*given, 4.0)),
    "soft_f1": lambda *given: test_losses_soft_f1.oracle(*given, 1.0, 0.0),
}
"""The equations of losses that compare images, over whole matrices: scores, targets, mask -> the sum."""
GPU_ROWS = 32  # times those of a CPU, which a GPU would not notice


def groups(setting: Setting) -> Iterator[tuple[str, Group]]:
    """The four groups, a part a loss."""
    in_triton = {"compile": triton_exact, "memory": triton_cost}
    for kind, part in {"loss": exact, "half": half, "compile": compiled, "memory": cost}.items():
        parts = {f"{kind}-{name}": partial(part, setting, name) for name in NAMES}
        if kind in in_triton:
            parts[f"{kind}-triton"] = partial(in_triton[kind], setting)
        yield kind, parts


def exact(setting: Setting, name: str) -> Judged:
    """Values and gradients in float32, with and without a mask, against the equation as loops in float64."""
    worst = 0.0
    for mask in (None, loss_cases.draw_mask(*batch()[0].shape)):
        scores, targets = batch()
        for found, wanted in found_and_wanted(name, scores.float(), targets, mask, setting.device):
            worst = max(worst, *map(difference, found, wanted))
    return Judged(f"{worst:.1e}", "<=1e-4", worst <= 1e-4)


def half(setting: Setting, name: str) -> Judged:
    """The same from float16 and bfloat16 scores, whose gradients are rounded to these types."""
    of_values, of_gradients = 0.0, 0.0
    for dtype in (torch.float16, torch.bfloat16):
        scores, targets = batch()
        for found, wanted in found_and_wanted(name, scores.to(dtype), targets, None, setting.device):
            if found[0].dtype != torch.float32 or found[1].dtype != dtype:
                return Judged(f"{found[0].dtype}/{found[1].dtype}", f"torch.float32/{dtype}", False)
            of_values = max(of_values, difference(found[0], wanted[0]))
            of_gradients = max(of_gradients, difference(found[1], wanted[1]) / torch.finfo(dtype).eps)
    value = f"values:{of_values:.1e},gradients:{of_gradients:.2g}eps"
    return Judged(value, "values<=1e-4,gradients<=1eps", of_values <= 1e-4 and of_gradients <= 1)


def compiled(setting: Setting, name: str) -> Judged:
    """The same compiled whole: by inductor on a GPU, on a CPU traced alone."""
    scores, targets = batch()
    backend = "aot_eager" if setting.small else "inductor"
    torch.compiler.reset()
    counts = loss_cases.class_counts(targets.shape[1])
    loss = losses.with_class_counts(getattr(losses, f"{name}_loss"), lambda: counts)
    as_one = torch.compile(loss, backend=backend, fullgraph=True)
    f = scores.float().to(setting.device)
    found, wanted = (value_and_gradient(way, f, targets.to(setting.device)) for way in (as_one, loss))
    worst = max(map(difference, found, wanted))
    return Judged(f"{worst:.1e}", "<=1e-4", worst <= 1e-4)


def triton_exact(setting: Setting) -> Judged:
    """The candidates in Triton against the library's losses; on a CPU by Triton's interpreter, in a process."""
    program = [sys.executable, str(ROOT / "experiments" / "benchmarks" / "triton_losses.py")]
    environment = (
        os.environ | {"PYTHONPATH": str(ROOT)} | ({"TRITON_INTERPRET": "1"} if setting.small else {})
    )
    done = subprocess.run(
        [*program, "--device", setting.device], env=environment, stdout=subprocess.PIPE, check=True, text=True
    )
    worst = max(json.loads(done.stdout).values())
    return Judged(f"{worst:.1e}", "<=1e-4", worst <= 1e-4)


def triton_cost(setting: Setting) -> Judged:
    """Time of the candidates in Triton against torch.compile's, the median over K; all rows go to the table.

    No goal: what is below 1 is worth taking over into the library.
    """
    if setting.small:
        raise Skipped("cpu", "a-GPU")
    ratios: dict[str, list[float]] = {}
    for num_labels in tuple(benchmark.SIZES)[1:]:
        torch.compiler.reset()
        drawn = drawn_batch(setting, num_labels)
        with contextlib.redirect_stdout(io.StringIO()):
            rows = list(benchmark.measured("triton", benchmark.in_triton(drawn), drawn, setting.device, 0.5))
        append(table(setting), rows)
        times = {row["loss"]: float(row["ratio_to_bce"]) for row in rows}
        for name in ("lsep", "ranking", "warp"):
            ratios.setdefault(name, []).append(times[f"{name}, Triton"] / times[f"{name}, compiled"])
    value = ",".join(f"{name}:{statistics.median(found):.2f}" for name, found in ratios.items())
    return Judged(value, "of-torch.compile,none-set", True)


def cost(setting: Setting, name: str) -> Judged:
    """Time against torch's BCE, forward and backward, and peak memory against the scores', the worst over K.

    All rows go to the table.
    """
    slowest = most = 0.0
    for num_labels in (81,) if setting.small else tuple(benchmark.SIZES)[1:]:
        drawn = drawn_batch(setting, num_labels)
        steps = benchmark.ours(drawn)
        steps = {key: steps[key] for key in (benchmark.REFERENCE, name)}
        with contextlib.redirect_stdout(io.StringIO()):
            rows = list(benchmark.measured("ours", steps, drawn, setting.device, 0 if setting.small else 0.5))
        append(table(setting), rows)
        slowest = max(slowest, float(rows[1]["ratio_to_bce"]))
        most = max(most, float(rows[1]["peak_to_scores"]))
    limit = None if setting.small else SLOWER.get(name)
    goal = f"memory<={MEMORY:g}" + (f",time<={limit:g}" if limit else "")
    good = most <= MEMORY and (limit is None or slowest <= limit)
    return Judged(f"memory:{most:.2f},time:{slowest:.2f}", goal, good)


def found_and_wanted(
    name: str, scores: Tensor, targets: Tensor, mask: Tensor | None, device: str
) -> Iterator[tuple[Found, Found]]:
    """The loss on the device and its equation on the CPU, under each set of options that the tests know."""
    given = scores.to(device), targets.to(device)
    known = None if mask is None else mask.to(device)
    if name in OF_IMAGES:
        loss = partial(getattr(losses, f"{name}_loss"), reduction="sum", mask=known)
        f = scores.double().requires_grad_()
        everything = torch.ones_like(targets, dtype=torch.bool)
        value = OF_IMAGES[name](f, targets, everything if mask is None else mask)
        yield value_and_gradient(loss, *given), (value.detach(), *torch.autograd.grad(value, f))
        return
    cases = [case for case in loss_cases.CASES if case.name == name]
    if not cases:
        raise LookupError(f"{name}: no equation in tests/losses/loss_cases.py")
    for case in cases:
        yield case.computed(*given, mask=known), case.expected(scores, targets, mask)


def value_and_gradient(loss: Any, scores: Tensor, targets: Tensor) -> Found:
    f = scores.detach().clone().requires_grad_()
    value = loss(f, targets)
    return value.detach(), *torch.autograd.grad(value, f)


def difference(found: Tensor, wanted: Tensor) -> float:
    """The largest difference, relative where the number is above 1; infinite where one is not a number."""
    relative = (found.cpu().double() - wanted.cpu().double()).abs() / (1 + wanted.cpu().double().abs())
    return float(relative.nan_to_num(nan=torch.inf).max())


@cache
def batch() -> tuple[Tensor, Tensor]:
    """Scores float64 and targets, rows without and with nothing but positives and tied scores among them."""
    scores, targets = loss_cases.draw(8, 40, 0.2)
    targets[0], targets[1] = 0, 1
    scores[2] = scores[2].round()
    return scores / 2, targets


@cache
def drawn_batch(setting: Setting, num_labels: int) -> Any:
    rows, positives = benchmark.SIZES[num_labels]
    return benchmark.draw(
        rows // 16 if setting.small else rows * GPU_ROWS, num_labels, positives, setting.device
    )


def table(setting: Setting) -> Path:
    """The CSV file of all that was timed."""
    return setting.folder / f"losses_{setting.device}.csv"


def append(path: Path, rows: list[dict[str, Any]]) -> None:
    new = not path.exists()
    with path.open("a", newline="") as file:
        writer = csv.DictWriter(file, rows[0])
        if new:
            writer.writeheader()
        writer.writerows(rows)
