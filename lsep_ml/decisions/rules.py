"""The paper's two rules: top-k and one threshold for the data set."""

from typing import Any, ClassVar, Literal

import torch
from torch import Tensor

from lsep_ml.decisions.base import Decided, FitOn, Rule
from lsep_ml.decisions.checks import Array, MatrixBlocks
from lsep_ml.decisions.constraints import ranks
from lsep_ml.decisions.search import best_k, exact_threshold, grid_threshold, rank_entries


def highest(scores: Tensor, counts: Tensor) -> Tensor:
    """Return the `counts` (N,) highest scores (N, K) of each image, bool (N, K); of equal ones the lower label
    index."""
    return ranks(scores) < counts[:, None]


class TopK(Rule):
    """Names the labels of the k highest scores of every image, exactly k labels also with ties (the lower label index
    first).

    k in min_k..min(max_k, K) is the best by the criterion; the smaller on a tie. min_k = max_k fixes it.
    """

    decides_by: ClassVar[tuple[str, ...]] = ("counts",)
    fits_by_rows = True
    k: Tensor

    def __init__(
        self,
        min_k: int = 1,
        max_k: int = 10,
        *,
        criterion: str = "f1",
        beta: float = 1.0,
        miss_cost: float = 1.0,
        fit_on: FitOn = "val",
    ) -> None:
        super().__init__(criterion, fit_on, beta, miss_cost)
        if not 1 <= min_k <= max_k:
            raise ValueError(f"min_k={min_k}, max_k={max_k}: expected 1 <= min_k <= max_k")
        self.min_k, self.max_k = min_k, max_k
        self.register_buffer("k", torch.tensor(0))

    def choices(self) -> dict[str, Any]:
        return {"k": int(self.k)}

    def _fit(self, matrix: MatrixBlocks) -> None:
        labels = matrix.scores.shape[1]
        if self.min_k > labels:
            raise ValueError(f"min_k={self.min_k}: there are only {labels} labels")
        self.k = torch.tensor(best_k(matrix, self.metric, self.min_k, min(self.max_k, labels)))

    def forward(self, scores: Tensor, features: Tensor | None = None) -> Decided:
        counts = self.k.expand(scores.shape[0])
        return Decided(highest(scores, counts), counts=counts)


class ThresholdRule(Rule):
    """Names the labels with f_k(x) > theta_k; theta, one number or one a label, is the same for every image."""

    decides_by: ClassVar[tuple[str, ...]] = ("thresholds",)
    theta: Tensor

    def __init__(self, criterion: str, fit_on: FitOn, beta: float = 1.0, miss_cost: float = 1.0) -> None:
        super().__init__(criterion, fit_on, beta, miss_cost)
        self.register_buffer("theta", torch.tensor(0.0))

    def choices(self) -> dict[str, Any]:
        return {"theta": self.theta.tolist()}

    def thresholds(self, features: Array | None, n: int) -> Tensor:
        """Return theta for each of `n` images and every label, float32 (n, K)."""
        return self.theta.expand(n, int(self.num_labels))

    def forward(self, scores: Tensor, features: Tensor | None = None) -> Decided:
        thresholds = self.theta.expand_as(scores)
        return Decided(scores > thresholds, thresholds)


class GlobalThreshold(ThresholdRule):
    """Names the labels with f_k(x) > theta, one theta for the data set.

    search: "grid", the paper's `steps` = 50 equally spaced values from the lowest to the highest score, or
    "exact", every distinct cut-off (midway between neighbouring scores), for criteria that compare whole label sets in
    one ranking of all known scores, in at least 60 bytes an entry. theta is the best by the criterion; the larger on a
    tie.
    """

    def __init__(
        self,
        search: Literal["grid", "exact"] = "grid",
        steps: int = 50,
        *,
        criterion: str = "f1",
        beta: float = 1.0,
        miss_cost: float = 1.0,
        fit_on: FitOn = "val",
    ) -> None:
        super().__init__(criterion, fit_on, beta, miss_cost)
        check_search(search, steps)
        self.search, self.steps = search, steps
        self.fits_by_rows = search == "grid"

    def _fit(self, matrix: MatrixBlocks) -> None:
        if self.search == "grid":
            theta = grid_threshold(matrix, self.metric, self.steps)
        else:
            theta = exact_threshold(rank_entries(*matrix.whole()), self.metric)
        self.theta = torch.tensor(theta)


def check_search(search: str, steps: int) -> None:
    """Raise ValueError for a search other than "grid" and "exact", and for a grid of fewer than 2 steps."""
    if search not in ("grid", "exact"):
        raise ValueError(f"search={search!r}: expected 'grid' or 'exact'")
    if steps < 2:
        raise ValueError(f"steps={steps}: expected at least 2")


class ZeroThreshold(ThresholdRule):
    """Names the labels with f_k(x) > 0, for losses that fix the zero of the scores, such as BCE and ZLPR.

    loss: the name of what trained the scores, for the message. shift_invariant: whether that loss only compares the
    scores of one image, as the paper's five and the pairwise logistic loss do. Those are refused: adding a constant
    to all scores of an image changes nothing for them, so that zero has no meaning. Nothing is chosen; `fit` only
    checks the data.
    """

    fits_by_rows = True

    def __init__(
        self, loss: str | None = None, *, shift_invariant: bool = False, fit_on: FitOn = "val"
    ) -> None:
        super().__init__("f1", fit_on)
        if shift_invariant:
            raise ValueError(
                f"loss={loss!r}: its scores are only defined up to a constant for each image, so a threshold at "
                "zero means nothing; use decision=threshold or thresh_est, or a loss that fixes the zero (bce, zlpr)"
            )
        self.loss, self.shift_invariant = loss, shift_invariant

    def _fit(self, matrix: MatrixBlocks) -> None:
        self.theta = torch.tensor(0.0)
