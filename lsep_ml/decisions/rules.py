"""The paper's two rules: top-k and one threshold for the data set."""

from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from lsep_ml.decisions.base import FitOn, Rule
from lsep_ml.decisions.checks import Array
from lsep_ml.decisions.search import exact_threshold, first_best, grid_threshold
from lsep_ml.metrics.functional import count_label_sets, label_set_metrics


def ranks(scores: Tensor) -> Tensor:
    """The place of every label in its image's ranking, (N, K), 0 = the highest score.

    Of equal scores the lower label index comes first.
    """
    order = scores.argsort(dim=1, descending=True, stable=True)
    places = torch.arange(scores.shape[1], device=scores.device).expand_as(order)
    return torch.empty_like(order).scatter_(1, order, places)


class TopK(Rule):
    """The k highest scores of every image, exactly k labels also with ties (the lower label index first).

    k in min_k..min(max_k, K) maximises the criterion; the smaller on a tie. min_k = max_k fixes it.
    """

    k: Tensor

    def __init__(
        self, min_k: int = 1, max_k: int = 10, *, criterion: str = "f1", fit_on: FitOn = "val"
    ) -> None:
        super().__init__(criterion, fit_on)
        if not 1 <= min_k <= max_k:
            raise ValueError(f"min_k={min_k}, max_k={max_k}: expected 1 <= min_k <= max_k")
        self.min_k, self.max_k = min_k, max_k
        self.register_buffer("k", torch.tensor(0))

    def choices(self) -> dict[str, Any]:
        return {"k": int(self.k)}

    def _fit(self, scores: NDArray[np.float32], targets: NDArray[np.bool_], known: NDArray[np.bool_]) -> None:
        if self.min_k > scores.shape[1]:
            raise ValueError(f"min_k={self.min_k}: there are only {scores.shape[1]} labels")
        places = ranks(torch.from_numpy(scores)).numpy()
        candidates = range(self.min_k, min(self.max_k, scores.shape[1]) + 1)
        values = [
            label_set_metrics(count_label_sets(places < k, targets, known))[self.criterion]
            for k in candidates
        ]
        self.k = torch.tensor(candidates[first_best(np.array(values))])

    def _select(self, scores: Tensor, features: Array | None) -> Tensor:
        return ranks(scores) < int(self.k)


class GlobalThreshold(Rule):
    """The labels with f_k(x) > theta, one theta for the data set.

    search: "grid", the paper's `steps` = 50 equally spaced values from the lowest to the highest score, or
    "exact", every distinct cut-off (midway between neighbouring scores). theta maximises the criterion; the
    larger on a tie.
    """

    theta: Tensor

    def __init__(
        self,
        search: Literal["grid", "exact"] = "grid",
        steps: int = 50,
        *,
        criterion: str = "f1",
        fit_on: FitOn = "val",
    ) -> None:
        super().__init__(criterion, fit_on)
        if search not in ("grid", "exact"):
            raise ValueError(f"search={search!r}: expected 'grid' or 'exact'")
        if steps < 2:
            raise ValueError(f"steps={steps}: expected at least 2")
        self.search, self.steps = search, steps
        self.register_buffer("theta", torch.tensor(0.0))

    def choices(self) -> dict[str, Any]:
        return {"theta": float(self.theta)}

    def thresholds(self, features: Array | None, n: int) -> Tensor:
        """theta for each of `n` images and every label, float32 (n, K)."""
        return self.theta.expand(n, int(self.num_labels))

    def _fit(self, scores: NDArray[np.float32], targets: NDArray[np.bool_], known: NDArray[np.bool_]) -> None:
        if self.search == "grid":
            theta = grid_threshold(scores, targets, known, self.criterion, self.steps)
        else:
            theta = exact_threshold(scores, targets, known, self.criterion)
        self.theta = torch.tensor(theta)

    def _select(self, scores: Tensor, features: Array | None) -> Tensor:
        return scores > self.theta.to(scores.device)
