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
from torch.optim import LBFGS

from lsep_ml.terminal import console

log = logging.getLogger(__name__)

_HISTORY = 30
_ROUND = 50  # iterations after which it is seen whether there is progress
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


class _Point(NamedTuple):
    """Says what an objective is somewhere: a line search ends where it was before, and the next one begins there."""

    at: list[Tensor]
    value: float
    gradients: tuple[Tensor, ...]

    def is_at(self, parameters: Sequence[Tensor]) -> bool:
        return all(torch.equal(here, parameter) for here, parameter in zip(self.at, parameters, strict=True))


def minimise(
    parameters: Sequence[Tensor],
    objective: Callable[[], Tensor],
    *,
    tolerance: float,
    max_iterations: int = 1000,
    max_evaluations: int | None = None,
) -> Solution:
    """Minimise a smooth function of `parameters`, in place, by L-BFGS with a strong Wolfe line search.

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
        max_evaluations: of the objective, at whose end or soon after it stops; None: as many as that takes. At a kink a
            line search takes dozens and finds nothing.

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
    evaluations = 0
    looked_at: deque[_Point] = deque(maxlen=2)

    def evaluate() -> float:
        """Compute the value, and leave the gradient in the parameters."""
        nonlocal evaluations
        evaluations += 1
        point = next((point for point in looked_at if point.is_at(parameters)), None)
        if point is None:
            with torch.enable_grad():
                value = objective()
                gradients = torch.autograd.grad(value, parameters)
            point = _Point([p.detach().clone() for p in parameters], float(value.detach()), gradients)
            finite = math.isfinite(point.value)
            if not (finite and all(bool(torch.isfinite(g).all()) for g in gradients)):
                what = "its gradient is not finite" if finite else f"it is {point.value}"
                raise FloatingPointError(
                    f"the objective cannot be minimised: {what} at evaluation {evaluations}"
                )
            looked_at.append(point)
        for parameter, gradient in zip(parameters, point.gradients, strict=True):
            parameter.grad = gradient.clone()
        tell(evaluations, point.value, _norm(parameters))
        return point.value

    def handed_over() -> float:
        # In units of the tolerance: torch learns nothing from a step whose change is below 1e-10 in the objective.
        value = evaluate()
        for parameter in parameters:
            assert parameter.grad is not None
            parameter.grad.div_(tolerance)
        return value / tolerance

    optimizer = LBFGS(
        parameters,
        max_eval=2 * _ROUND
        if max_evaluations is None
        else max_evaluations,  # where there are kinks, a line search of torch would not end by itself
        tolerance_grad=1.0,
        tolerance_change=0.0,
        history_size=_HISTORY,
        line_search_fn="strong_wolfe",
    )
    options, state = optimizer.param_groups[0], optimizer.state[parameters[0]]
    state["n_iter"] = 0
    before = (math.inf, math.inf)
    with _told(tolerance) as tell:
        try:
            while True:
                options["max_iter"] = min(_ROUND, max_iterations - state["n_iter"])
                optimizer.step(handed_over)
                value, norm, largest = evaluate(), _norm(parameters), _largest(parameters)
                reached = largest / tolerance <= options["tolerance_grad"]
                stands = before[0] - value <= _PROGRESS * abs(value) and norm > _PROGRESS_OF_NORM * before[1]
                spent = state["n_iter"] >= max_iterations or evaluations >= (max_evaluations or math.inf)
                if norm <= tolerance or (stands and not reached) or spent:
                    break
                before = (value, norm)
                # torch stops by the largest entry of the gradient, which is lowered until the norm is small enough.
                options["tolerance_grad"] = min(options["tolerance_grad"], 0.9 * largest / norm)
        finally:
            for parameter in parameters:
                parameter.grad = None
    return Solution(value, norm, int(state["n_iter"]), norm <= tolerance)


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


def _norm(parameters: Sequence[Tensor]) -> float:
    return math.sqrt(
        math.fsum(float(p.grad.double().square().sum()) for p in parameters if p.grad is not None)
    )


def _largest(parameters: Sequence[Tensor]) -> float:
    return max(float(p.grad.abs().max()) for p in parameters if p.grad is not None and p.grad.numel())
