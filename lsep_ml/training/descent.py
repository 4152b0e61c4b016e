"""L-BFGS as a descent that asks for its objective, so that several can be answered together."""

import math
from collections import deque
from collections.abc import Callable, Generator
from dataclasses import dataclass
from typing import NamedTuple, TypeVar

import torch
from torch import Tensor

_T = TypeVar("_T")

_HISTORY = 30  # steps that are known
_SEARCH = 25  # evaluations of a line search
_LOWER = 1e-4  # the share of a slope by which, the Wolfe conditions ask, the value falls
_FLATTER = 0.9  # and the share of it that may be left
_ROUNDINGS = 10  # of a value: changes that say nothing
_ROUND = 60  # evaluations after which it is seen whether there is progress
_PROGRESS, _PROGRESS_OF_NORM = 1e-6, 0.9  # a lower value by this share, or a norm by this factor, is some


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


class Asked(NamedTuple):
    """Says what an objective is where a descent asked for it."""

    value: float
    gradient: Tensor
    norm: float


Descent = Generator[Tensor, Asked, _T]
"""Yields where it asks for the objective, and is sent what it is there."""


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


def descent(
    start: Tensor, tolerance: float, max_iterations: int, max_evaluations: float
) -> Descent[tuple[Tensor, Solution]]:
    """Descend from `start` (n,) and return where that ends; see `lsep_ml.training.solver.minimise`."""
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
