"""One threshold for the data set, with at least and at most so many labels an image."""

from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor

from lsep_ml.decisions.base import Decided, FitOn, Rule
from lsep_ml.decisions.constraints import ranks
from lsep_ml.decisions.rules import highest
from lsep_ml.decisions.search import Bools, Scores, exact_threshold, rank_entries


class CappedThreshold(Rule):
    """Names the labels with f_k(x) > theta, but at least the m highest scores of an image and at most the k highest.

    m = min_labels, k = max_labels (K where there are fewer); of equal scores the lower label index comes first. theta
    is the best of every distinct cut-off by the criterion of the label sets so capped (midway between neighbouring
    scores that the caps leave free), the larger on a tie.
    """

    decides_by: ClassVar[tuple[str, ...]] = ("counts",)
    theta: Tensor

    def __init__(
        self,
        min_labels: int = 1,
        max_labels: int = 10,
        *,
        criterion: str = "f1",
        beta: float = 1.0,
        miss_cost: float = 1.0,
        fit_on: FitOn = "val",
    ) -> None:
        super().__init__(criterion, fit_on, beta, miss_cost)
        whole = all(isinstance(caps, int) for caps in (min_labels, max_labels))
        if not whole or not 0 <= min_labels <= max_labels or max_labels == 0:
            raise ValueError(
                f"min_labels={min_labels!r}, max_labels={max_labels!r}: expected whole numbers, "
                "0 <= min_labels <= max_labels and max_labels at least 1"
            )
        self.min_labels, self.max_labels = min_labels, max_labels
        self.register_buffer("theta", torch.tensor(0.0))

    def choices(self) -> dict[str, Any]:
        return {"theta": self.theta.item()}

    def forward(self, scores: Tensor, features: Tensor | None = None) -> Decided:
        counts = (scores > self.theta).sum(1).clamp(self.min_labels, self.max_labels)
        return Decided(highest(scores, counts), counts=counts)

    def _fit(self, scores: Scores, targets: Bools, known: Bools) -> None:
        if self.min_labels > scores.shape[1]:
            raise ValueError(f"min_labels={self.min_labels}: there are only {scores.shape[1]} labels")
        places = ranks(torch.from_numpy(scores)).numpy()
        capped = np.where(places < self.max_labels, scores, np.float32(-np.inf))  # never predicted
        capped = np.where(places < self.min_labels, np.float32(np.inf), capped)  # always predicted
        if (np.isfinite(capped) & known).any():
            theta = exact_threshold(rank_entries(capped, targets, known), self.metric)
        else:  # nothing is left to choose
            theta = float(scores[known].max())
        self.theta = torch.tensor(theta)
