"""Smooth objectives minimised over all data at once: no learning rate, no order of the data, no chance."""

import logging
import math
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress

import torch
from rich.errors import LiveError
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn
from torch import Tensor

from lsep_ml.terminal import console
from lsep_ml.training.descent import Asked, Solution, descent

log = logging.getLogger(__name__)

_BEFORE = 2.0  # seconds until a minimisation shows a bar on a terminal
_BETWEEN = 10.0  # seconds between two lines of it elsewhere


Evaluate = Callable[[Sequence[Tensor]], tuple[Tensor, Sequence[Tensor]]]
"""Computes of a vector for each function their values (P,), and the gradient of each."""


def minimise(
    parameters: Sequence[Tensor],
    objective: Callable[[], Tensor],
    *,
    tolerance: float,
    max_iterations: int = 1000,
    max_evaluations: int | None = None,
) -> Solution:
    """Minimise a smooth function of `parameters`, in place, by L-BFGS with a line search for the Wolfe conditions.

    The norm of a gradient bounds the distance to the minimum: where the objective is strongly convex with modulus m (a
    convex loss plus a weight decay w |W|^2 has m = 2 w), no parameter is further than norm / m from its optimum. In
    float32 rounding stops the norm at 1e-4 to 1e-3 times the square root of the value, in float64 at 1e-8 times it.

    What takes long shows on a terminal how much of the way the gradient's norm has gone, in powers of ten; elsewhere it
    says every ten seconds where it is.

    Nothing is drawn, so the result is determined by where the parameters start, on the same number of threads.

    Args:
        parameters: floating point tensors of one dtype and device that the objective depends on, such as
            `list(module.parameters())`; their `grad` is left None.
        objective: computes a scalar from them, differentiable. Where a step is so long that it is not finite, a shorter
            one is taken.
        tolerance: above 0; on the Euclidean norm of the gradient.
        max_iterations: the largest number of line searches.
        max_evaluations: of the objective, at whose end it stops; None: as many as that takes. At a kink a line search
            takes dozens and finds nothing.

    Returns:
        The value and gradient norm at what the parameters were left at.

    Raises:
        ValueError: no parameters, or a tolerance that is not a number above 0.
        FloatingPointError: the objective or its gradient is not finite where the parameters start.
    """
    if not parameters:
        raise ValueError("parameters: none to minimise over")
    sizes = [parameter.numel() for parameter in parameters]

    def move(at: Tensor) -> None:
        with torch.no_grad():
            for parameter, part in zip(parameters, at.split(sizes), strict=True):
                parameter.copy_(part.view_as(parameter))

    def evaluate(points: Sequence[Tensor]) -> tuple[Tensor, Sequence[Tensor]]:
        move(points[0])
        with torch.enable_grad():
            loss = objective()
            gradients = torch.autograd.grad(loss, parameters)
        return loss.detach()[None], [torch.cat([part.reshape(-1) for part in gradients])]

    start = torch.cat([parameter.detach().reshape(-1) for parameter in parameters])
    [(found, solution)] = _descend([start], evaluate, tolerance, max_iterations, max_evaluations)
    move(found)
    return solution


def minimise_each(
    starts: Sequence[Tensor],
    evaluate: Evaluate,
    *,
    tolerance: float,
    max_iterations: int = 1000,
) -> list[tuple[Tensor, Solution]]:
    """Minimise several smooth functions by themselves, as `minimise` does, which are cheaper to evaluate together.

    What one of them ends at does not depend on the others: `evaluate` is always given a point of each, where the end is
    known already that end.

    Args:
        starts: of each function a vector (n,), where it starts.
        evaluate: computes of a vector of each function their values, (len(starts),), and the gradient of each, (n,).

    Returns:
        Of each function where it ended, and the solution there.

    Raises:
        FloatingPointError: a function or its gradient is not finite where it starts.
    """
    return _descend(starts, evaluate, tolerance, max_iterations, None)


def _descend(
    starts: Sequence[Tensor],
    evaluate: Evaluate,
    tolerance: float,
    max_iterations: int,
    max_evaluations: int | None,
) -> list[tuple[Tensor, Solution]]:
    """Descend from each start until all have ended."""
    if not 0 < tolerance < math.inf:
        raise ValueError(f"tolerance={tolerance}: expected a number above 0")
    descents = [descent(start, tolerance, max_iterations, max_evaluations or math.inf) for start in starts]
    at = [next(one) for one in descents]
    ends: list[tuple[Tensor, Solution] | None] = [None] * len(starts)
    evaluations = 0
    with _told(tolerance) as tell:
        while None in ends:
            evaluations += 1
            values, gradients = evaluate(at)
            norms = [float(torch.linalg.vector_norm(part, dtype=torch.float64)) for part in gradients]
            tell(evaluations, float(values.sum()), max(norms))
            asked = zip(values.tolist(), gradients, norms, strict=True)
            for number, (one, found) in enumerate(zip(descents, map(Asked._make, asked), strict=True)):
                if ends[number] is None:
                    try:
                        at[number] = one.send(found)
                    except StopIteration as end:
                        ends[number] = end.value
                        at[number] = end.value[0]
    return [end for end in ends if end is not None]


@contextmanager
def _told(tolerance: float) -> Iterator[Callable[[int, float, float], None]]:
    """Give what is told the number of each evaluation, its value and the norm of its gradient."""
    columns = BarColumn(), TextColumn("{task.description}"), TimeElapsedColumn()
    bar = Progress(*columns, console=console, transient=True)
    began = said = time.monotonic()
    first = 0.0
    task = bar.add_task("", total=1.0)

    def tell(evaluation: int, value: float, norm: float) -> None:
        nonlocal said, first
        now, first = time.monotonic(), max(first, norm)
        where = f"evaluation {evaluation}: {value:.6g}, gradient norm {norm:.2g}, to be {tolerance:.2g}"
        if not console.is_terminal and now - said >= _BETWEEN:
            said = now
            log.info("    %s", where)
        elif console.is_terminal and now - began >= _BEFORE:
            with suppress(LiveError):  # a bar of what this is a part of
                bar.start()
            gone = 1.0 if norm <= tolerance else math.log(first / norm) / math.log(first / tolerance)
            bar.update(task, completed=max(gone, bar.tasks[0].completed), description=where)

    try:
        yield tell
    finally:
        if bar.live.is_started:
            bar.stop()
