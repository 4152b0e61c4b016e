"""Linear thresholds fitted on rows without some of their folds, and the weight decay they are fitted with.

A cross-fit whose choices are cross-fitted too asks for many such fits: on all rows, without each fold, without each
two. They share the features, which are put on their principal axes once.
"""

import copy
from collections.abc import Callable, Collection, Sequence
from functools import cached_property, partial
from typing import Any, NamedTuple, TypeVar

from lsep_ml.decisions.linear import LinearThresholds
from lsep_ml.processes.group import ALONE, Processes
from lsep_ml.training.folds import Rows
from lsep_ml.training.linear_problem import LinearFit, LinearProblem, Share

_T = TypeVar("_T")

_STEPS, _WIDEST = (0, -1, -2), 12
"""Weight decays are 10^(step / 2): the steps tried first, and how far from 0 they may go."""

_COLUMNS = 256  # labels of the fits that are solved together; products with more of them are no faster
_IN_MEMORY = 2  # of what is solved together

Keep = Callable[[str, Callable[[], dict[str, Any]]], dict[str, Any]]
"""keep(name, make): what `make` made before under this name, tensors and plain data, or makes now."""


def newest_kept(keep: Keep) -> Keep:
    """Return what keeps the newest of what `keep` gives in memory too: a cross-fit asks for fits again and again, now
    without one fold, now without two."""
    newest: dict[str, dict[str, Any]] = {}

    def kept(name: str, make: Callable[[], dict[str, Any]]) -> dict[str, Any]:
        if name not in newest:
            made = keep(name, make)
            while len(newest) >= _IN_MEMORY:
                del newest[next(iter(newest))]
            newest[name] = made
        return newest[name]

    return kept


class Fitted(NamedTuple):
    """Says whether every minimisation ended at its tolerance, and the largest gradient norm."""

    converged: bool
    gradient_norm: float


class LinearFits:
    """Fits of linear thresholds like `decision`, fitted or not, on `rows` without some folds.

    Features are standardised on all rows. keep: where fits are found again by later calls; the newest are in memory
    too, and by default nowhere else. share: where the features on their axes are, for fits on other scores; by default
    nowhere. processes: they choose the weight decay together.
    """

    def __init__(
        self,
        decision: LinearThresholds,
        rows: Rows,
        keep: Keep = lambda name, make: make(),
        share: Share = lambda make: make(),
        processes: Processes = ALONE,
    ) -> None:
        self.rows, self.share, self.processes = rows, share, processes
        self.keep = newest_kept(keep)
        self._decision = copy.deepcopy(decision)

    @cached_property
    def weight_decay(self) -> float:
        """Return the weight decay of the decision; where it has none, the best by `choose_weight_decay`."""
        given = self._decision.weight_decay
        if given is not None:
            return given
        made = self.keep(
            "weight_decay", lambda: {"weight_decay": choose_weight_decay(self._problem, self.processes)}
        )
        return float(made["weight_decay"])

    def load(self, decision: LinearThresholds, without: Collection[int] = ()) -> Fitted:
        """Give `decision` the weights, bias, scale and weight decay of the fit on the rows outside some folds."""
        folds = frozenset(without)
        together = next((group for group in self._groups if folds in group), [folds])
        made = self.keep(*self._make(together))[_name(without)]
        decision.load_state_dict(made["state"], strict=False)  # the offsets are chosen
        return Fitted(made["converged"], made["gradient_norm"])

    def makes(self, *, twice: bool) -> dict[str, Callable[[], dict[str, Any]]]:
        """Return what makes the fits on all rows and without each fold, `twice`: without each two folds too, by the
        name that those which are made together are kept under."""
        return dict(self._make(group) for group in self._groups if twice or len(group[0]) < 2)

    @cached_property
    def _groups(self) -> list[Sequence[frozenset[int]]]:
        """Return the folds that fits leave out, in one list where the fits are made together."""
        every, once = self.rows.left_out(twice=True), self.rows.left_out(twice=False)
        labels = self.rows.scores.shape[1]
        in_turn = [*once[1:], once[0]]  # as a cross-fit asks for them
        return _together(in_turn, labels) + _together([one for one in every if one not in once], labels)

    def _make(self, group: Sequence[frozenset[int]]) -> tuple[str, Callable[[], dict[str, Any]]]:
        return _name(group[0]), partial(self._fit, group)

    @cached_property
    def _problem(self) -> LinearProblem:
        return LinearProblem(self._decision, self.rows, self.share)

    def _fit(self, group: Sequence[frozenset[int]]) -> dict[str, Any]:
        fits = self._problem.solve([self.rows.outside(without) for without in group], self.weight_decay)
        made: dict[str, Any] = {}
        for without, (_, _, _, solution), fitted in zip(
            group, fits, self._problem.decisions(fits, self.weight_decay), strict=True
        ):
            made[_name(without)] = {
                "state": {name: value for name, value in fitted.state_dict().items() if name != "offsets"},
                "converged": solution.converged,
                "gradient_norm": solution.gradient_norm,
            }
        return made


def _name(without: Collection[int]) -> str:
    return "-".join(["without", *map(str, sorted(without))]) if without else "all"


def _together(problems: Sequence[_T], labels: int) -> list[Sequence[_T]]:
    """Part problems of so many labels into those that are solved together."""
    size = max(1, _COLUMNS // labels)
    return [problems[start : start + size] for start in range(0, len(problems), size)]


def choose_weight_decay(problem: LinearProblem, processes: Processes = ALONE) -> float:
    """Return the weight decay of lowest log loss on rows that were not fitted on; the larger on a tie.

    The path, of powers of sqrt(10), is widened at the end where the best lies. Several processes fit other folds.
    """
    rows = problem.rows
    pairs = list(rows.splits()) if rows.judges is None or rows.judges.all() else [(~rows.judges, rows.judges)]
    groups = _together(range(len(pairs)), rows.scores.shape[1])
    losses: dict[int, float] = {}
    starts: dict[int, LinearFit] = {}

    def log_loss(weight_decay: float) -> float:
        own = {}
        for group in groups[processes.rank :: processes.count]:
            begin = [starts[number] for number in group] if group[0] in starts else None
            found = problem.solve([pairs[number][0] for number in group], weight_decay, begin)
            for number, fit in zip(group, found, strict=True):
                starts[number], own[number] = fit, problem.log_loss(fit, pairs[number][1])
        of_pairs = {number: value for part in processes.gather(own) for number, value in part.items()}
        total = 0.0
        for number in range(len(pairs)):  # in their order, on which the sum's last bit depends
            total += of_pairs[number]
        return total

    ahead = list(_STEPS)
    while ahead:
        for step in ahead:
            losses[step] = log_loss(10 ** (step / 2))
        best = min(sorted(losses, reverse=True), key=lambda step: losses[step])
        ahead = [step for step in (best + 1, best - 1) if step not in losses and abs(step) <= _WIDEST]
    return float(10 ** (best / 2))
