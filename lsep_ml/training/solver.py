"""Smooth objectives minimised over all data at once: no learning rate, no order of the data, no chance."""

import logging
import math
import time
from collections import deque
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import NamedTuple, TypeVar

import torch
from rich.errors import LiveError
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn
from torch import Tensor

from lsep_ml.terminal import console

_T = TypeVar("_T")

log = logging.getLogger(__name__)

_HISTORY = 30  # steps that are known
_SEARCH = 25  # evaluations of a line search
_LOWER = 1e-4  # the share of a slope by which, the Wolfe conditions ask, the value falls
_FLATTER = 0.9  # and the share of it that may be left
_ROUNDINGS = 10  # of a value: changes that say nothing
_ROUND = 60  # evaluations after which it is seen whether there is progress
_PROGRESS, _PROGRESS_OF_NORM = 1e-6, 0.9  # a lower value by this share, or a norm by this factor, is some
_BEFORE = 2.0  # seconds until a minimisation shows a bar on a terminal
_BETWEEN = 10.0  # seconds between two lines of it elsewhere


@dataclass(frozen=True)
class Solution:
    """Says where a minimisation ended.

    value: of the objective there. gradient_norm: the Euclidean norm of its gradient there, over all parameters.
    iterations: line searches. converged: whether the norm is at most the tolerance that was asked for; a caller says so
    in its warnings where it is not.
    """

    value: float
    gradient_norm: float
    iterations: int
    converged: bool


class _Curvature:
    """Holds what a minimisation has seen of the curvature: steps, and by how much the gradient changed along them."""

    def __init__(self) -> None:
        self._seen: deque[tuple[Tensor, Tensor, float]] = deque(maxlen=_HISTORY)

    def __bool__(self) -> bool:
        return bool(self._seen)

    def see(self, step: Tensor, change: Tensor) -> None:
        """Learn from a step, unless the function is not convex along it, or rounding hides whether it is."""
        product = float(step.dot(change))
        if product > torch.finfo(step.dtype).eps * float(step.norm() * change.norm()):
            self._seen.append((step, change, product))

    def forget(self) -> None:
        """Begin anew."""
        self._seen.clear()

    def direction(self, gradient: Tensor) -> Tensor:
        """Return the step to where the gradient would be zero (Nocedal and Wright, algorithm 7.4)."""
        direction, lengths = gradient.neg(), []
        for step, change, product in reversed(self._seen):
            lengths.append(float(step.dot(direction)) / product)
            direction.add_(change, alpha=-lengths[-1])
        if self._seen:
            _, change, product = self._seen[-1]
            direction.mul_(product / float(change.square().sum()))
        for (step, change, product), length in zip(self._seen, reversed(lengths), strict=True):
            direction.add_(step, alpha=length - float(change.dot(direction)) / product)
        return direction


class _Point(NamedTuple):
    """Says what an objective is somewhere, and at which length of a line search; gradient: flat; norm: of it; slope:
    along the search."""

    at: Tensor
    value: float
    gradient: Tensor
    norm: float
    length: float = 0.0
    slope: float = 0.0

    @property
    def finite(self) -> bool:
        return math.isfinite(self.value) and (
            math.isfinite(self.norm) or bool(torch.isfinite(self.gradient).all())
        )


Evaluate = Callable[[Sequence[Tensor]], tuple[Tensor, Sequence[Tensor]]]
"""Computes of a vector for each function their values (P,), and the gradient of each."""


class _Asked(NamedTuple):
    """Says what an objective is where a descent asked for it."""

    value: float
    gradient: Tensor
    norm: float


Descent = Generator[Tensor, _Asked, _T]
"""Yields where it asks for the objective, and is sent what it is there."""


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
    descents = [_descent(start, tolerance, max_iterations, max_evaluations or math.inf) for start in starts]
    at = [next(descent) for descent in descents]
    ends: list[tuple[Tensor, Solution] | None] = [None] * len(starts)
    evaluations = 0
    with _told(tolerance) as tell:
        while None in ends:
            evaluations += 1
            values, gradients = evaluate(at)
            norms = [float(torch.linalg.vector_norm(part, dtype=torch.float64)) for part in gradients]
            tell(evaluations, float(values.sum()), max(norms))
            asked = zip(values.tolist(), gradients, norms, strict=True)
            for number, (descent, found) in enumerate(zip(descents, map(_Asked._make, asked), strict=True)):
                if ends[number] is None:
                    try:
                        at[number] = descent.send(found)
                    except StopIteration as end:
                        ends[number] = end.value
                        at[number] = end.value[0]
    return [end for end in ends if end is not None]


def _descent(
    start: Tensor, tolerance: float, max_iterations: int, max_evaluations: float
) -> Descent[tuple[Tensor, Solution]]:
    evaluations = 0

    def evaluate(at: Tensor, direction: Tensor | None = None, length: float = 0.0) -> Descent[_Point]:
        nonlocal evaluations
        evaluations += 1
        found = yield at
        slope = 0.0 if direction is None else float(found.gradient.dot(direction))
        return _Point(at, *found, length, slope)

    here = yield from evaluate(start)
    if not here.finite:
        what = "its gradient is not finite" if math.isfinite(here.value) else f"it is {here.value}"
        raise FloatingPointError(f"the objective cannot be minimised: {what} where it starts")
    curvature, iterations, before, looked = _Curvature(), 0, here, evaluations
    while here.norm > tolerance and iterations < max_iterations and evaluations < max_evaluations:
        known = bool(curvature)
        direction = curvature.direction(here.gradient)
        here = here._replace(length=0.0, slope=float(here.gradient.dot(direction)))
        first = 1.0 if known else min(1.0, 1 / here.norm)
        found = here
        if here.slope < 0:
            found = yield from _line_search(
                here, direction, first, evaluate, lambda: evaluations >= max_evaluations
            )
        if found is here:
            if not known:
                break
            curvature.forget()
            continue
        iterations += 1
        curvature.see(found.at - here.at, found.gradient - here.gradient)
        here = found
        if evaluations - looked >= _ROUND:
            stands = before.value - here.value <= _PROGRESS * abs(here.value)
            if stands and here.norm > _PROGRESS_OF_NORM * before.norm:
                break
            before, looked = here, evaluations
    return here.at, Solution(here.value, here.norm, iterations, here.norm <= tolerance)


def _line_search(
    start: _Point,
    direction: Tensor,
    length: float,
    evaluate: Callable[[Tensor, Tensor, float], Descent[_Point]],
    spent: Callable[[], bool],
) -> Descent[_Point]:
    """Return a point along the direction where the Wolfe conditions hold; else the lowest found, `start` at worst.

    Where rounding hides what the value does, the slopes say it (Hager and Zhang, 2005, the approximate conditions). A
    point that is not finite is too far.
    """
    rounding = _ROUNDINGS * torch.finfo(direction.dtype).eps * abs(start.value)
    low, high, lowest = start, None, start
    for _ in range(_SEARCH):
        point = yield from evaluate(start.at + length * direction, direction, length)
        if not point.finite:
            if spent():
                break
            high = point
            length = (low.length + high.length) / 2
            continue
        lower = point.value <= start.value + _LOWER * length * start.slope
        near = point.value <= start.value + rounding
        if (lower and point.slope >= _FLATTER * start.slope) or (
            near and _FLATTER * start.slope <= point.slope <= (2 * _LOWER - 1) * start.slope
        ):
            return point
        lowest = min(lowest, point, key=lambda point: point.value)
        if spent():
            break
        if point.slope < 0 and (lower or near):
            low = point
        else:
            high = point
        if high is None:
            length *= 2
            continue
        width = high.length - low.length
        length = low.length + min(max(_lowest_of_cubic(low, high), 0.1), 0.9) * width
        if length in (low.length, high.length):
            break
    return lowest


def _lowest_of_cubic(low: _Point, high: _Point) -> float:
    """Return where between two points, from 0 to 1, the cubic by their values and slopes is lowest; 0.5: nowhere, or
    out of the range of numbers."""
    width = high.length - low.length
    mean = low.slope + high.slope - 3 * (high.value - low.value) / width
    square = mean * mean - low.slope * high.slope
    if not 0 <= square < math.inf:
        return 0.5
    root = math.sqrt(square)
    divisor = high.slope - low.slope + 2 * root
    return 1 - (high.slope + root - mean) / divisor if divisor else 0.5


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
