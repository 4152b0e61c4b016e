"""Smooth objectives minimised over all data at once: no learning rate, no order of the data, no chance."""

import logging
import math
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import NamedTuple

import torch
from rich.errors import LiveError
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn
from torch import Tensor

from lsep_ml.terminal import console

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
    """Says what an objective is somewhere, and at which length of a line search; gradient: flat; slope: along it."""

    length: float
    at: Tensor
    value: float
    gradient: Tensor
    slope: float

    @property
    def norm(self) -> float:
        return math.sqrt(float(self.gradient.double().square().sum()))


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
        objective: computes a scalar from them, differentiable.
        tolerance: above 0; on the Euclidean norm of the gradient.
        max_iterations: the largest number of line searches.
        max_evaluations: of the objective, at whose end it stops; None: as many as that takes. At a kink a line search
            takes dozens and finds nothing.

    Returns:
        The value and gradient norm at what the parameters were left at.

    Raises:
        ValueError: no parameters, or a tolerance that is not a number above 0.
        FloatingPointError: the objective or its gradient is not finite.
    """
    if not parameters:
        raise ValueError("parameters: none to minimise over")
    if not 0 < tolerance < math.inf:
        raise ValueError(f"tolerance={tolerance}: expected a number above 0")
    evaluations, most = 0, max_evaluations or math.inf
    sizes = [parameter.numel() for parameter in parameters]

    def move(at: Tensor) -> None:
        with torch.no_grad():
            for parameter, part in zip(parameters, at.split(sizes), strict=True):
                parameter.copy_(part.view_as(parameter))

    def evaluate(at: Tensor, direction: Tensor | None = None, length: float = 0.0) -> _Point:
        nonlocal evaluations
        evaluations += 1
        move(at)
        with torch.enable_grad():
            loss = objective()
            gradients = torch.autograd.grad(loss, parameters)
        value, gradient = float(loss.detach()), torch.cat([part.reshape(-1) for part in gradients])
        if not (math.isfinite(value) and bool(torch.isfinite(gradient).all())):
            what = "its gradient is not finite" if math.isfinite(value) else f"it is {value}"
            raise FloatingPointError(f"the objective cannot be minimised: {what} at evaluation {evaluations}")
        slope = 0.0 if direction is None else float(gradient.dot(direction))
        point = _Point(length, at, value, gradient, slope)
        tell(evaluations, value, point.norm)
        return point

    with _told(tolerance) as tell:
        here = evaluate(torch.cat([parameter.detach().reshape(-1) for parameter in parameters]))
        curvature, iterations, before, looked = _Curvature(), 0, here, evaluations
        while here.norm > tolerance and iterations < max_iterations and evaluations < most:
            known = bool(curvature)
            direction = curvature.direction(here.gradient)
            here = here._replace(length=0.0, slope=float(here.gradient.dot(direction)))
            first = 1.0 if known else min(1.0, 1 / here.norm)
            found = (
                _line_search(here, direction, first, evaluate, lambda: evaluations >= most)
                if here.slope < 0
                else here
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
        move(here.at)
    return Solution(here.value, here.norm, iterations, here.norm <= tolerance)


def _line_search(
    start: _Point,
    direction: Tensor,
    length: float,
    evaluate: Callable[[Tensor, Tensor, float], _Point],
    spent: Callable[[], bool],
) -> _Point:
    """Return a point along the direction where the Wolfe conditions hold; else the lowest found, `start` at worst.

    Where rounding hides what the value does, the slopes say it (Hager and Zhang, 2005, the approximate conditions).
    """
    rounding = _ROUNDINGS * torch.finfo(direction.dtype).eps * abs(start.value)
    low, high, lowest = start, None, start
    for _ in range(_SEARCH):
        point = evaluate(start.at + length * direction, direction, length)
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
    """Return where between two points, from 0 to 1, the cubic by their values and slopes is lowest; 0.5: nowhere."""
    width = high.length - low.length
    mean = low.slope + high.slope - 3 * (high.value - low.value) / width
    square = mean**2 - low.slope * high.slope
    root = math.sqrt(max(square, 0.0))
    divisor = high.slope - low.slope + 2 * root
    return 1 - (high.slope + root - mean) / divisor if square >= 0 and divisor else 0.5


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
