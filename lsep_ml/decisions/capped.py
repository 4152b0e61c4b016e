"""One threshold for the data set, with at least and at most so many labels an image."""

from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor

from lsep_ml.decisions.base import Decided, FitOn, Rule
from lsep_ml.decisions.checks import MatrixBlocks, float_tensor
from lsep_ml.decisions.constraints import ranks
from lsep_ml.decisions.rules import highest
from lsep_ml.decisions.search import Ranking, Totals, check_ranked, descending, exact_threshold


class CappedThreshold(Rule):
    """Names the labels with f_k(x) > theta, but at least the m highest scores of an image and at most the k highest.

    m = min_labels, k = max_labels (K where there are fewer); of equal scores the lower label index comes first. theta
    is the best of every distinct cut-off by the criterion of the label sets so capped (midway between neighbouring
    scores that the caps leave free), the larger on a tie.
    """

    decides_by: ClassVar[tuple[str, ...]] = ("counts",)
    fits_by_rows = True
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

    def _fit(self, matrix: MatrixBlocks) -> None:
        if self.min_labels > matrix.scores.shape[1]:
            raise ValueError(f"min_labels={self.min_labels}: there are only {matrix.scores.shape[1]} labels")
        ranking = self._ranking(matrix)
        if np.isfinite(ranking.scores).any():
            theta = exact_threshold(ranking, self.metric)
        else:  # nothing is left to choose
            theta = float(max(scores[known].max(initial=-np.inf) for scores, _, known in matrix.rows()))
        self.theta = torch.tensor(theta)

    def _ranking(self, matrix: MatrixBlocks) -> Ranking:
        """Rank what can be predicted, an image's k highest scores at most; inf stands for those that always are."""
        labels = matrix.scores.shape[1]
        found: list[tuple[Any, ...]] = []
        of_labels, of_images, first = np.zeros((2, labels), np.int64), list[Any](), 0
        for scores, targets, known in matrix.rows():
            places = ranks(float_tensor(scores)).numpy()
            capped = np.where(places < self.min_labels, np.float32(np.inf), scores)
            chosen = (places < self.max_labels) & known
            found.append((capped[chosen], np.flatnonzero(chosen) + first * labels, targets[chosen]))
            first += len(scores)
            sets = np.stack([targets & known, known])
            of_labels += sets.sum(1)
            of_images.append(sets.sum(2))
        values, numbers, positive = (np.concatenate(of) for of in zip(*found, strict=True))
        check_ranked(len(values))
        ranked, order = descending(values, np.arange(len(values)))
        totals = Totals(of_labels, np.concatenate(of_images, axis=1))
        return Ranking(ranked, numbers[order], positive[order], labels, totals)
