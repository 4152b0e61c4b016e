"""ML-kNN: the labels of the nearest training images, weighed by Bayes' rule."""

from typing import Any, ClassVar, Self

import numpy as np
from numpy.typing import NDArray
from sklearn.neighbors import NearestNeighbors

from lsep_ml.predictors.base import Bools, Predicted, Predictor, log_odds


class MLkNN(Predictor):
    """Predicts by ML-kNN (Zhang and Zhou, Pattern Recognition 40, 2007), exact.

    With C(x) the number of the `neighbours` nearest training images (Euclidean, in the features) that have a label,
    and H the event that x has it, P(H | C(x) = j) is proportional to P(H) P(C = j | H). Both are counted on the
    training images, whose neighbours leave out the image itself, and smoothed:
    P(H) = (s + n) / (2 s + N),  P(C = j | H) = (s + c_j) / (s (neighbours + 1) + sum_i c_i),  s = `smoothing`.
    For training images too, the prediction leaves the image itself out of its neighbours.
    """

    entry_bytes: ClassVar[int] = 30  # of each number of neighbours whether it is theirs
    complete: ClassVar[str] = "it counts how many neighbours of an image have a label, and how many have not"

    def __init__(self, neighbours: int = 10, smoothing: float = 1.0) -> None:
        super().__init__()
        if neighbours < 1 or smoothing <= 0:
            raise ValueError(
                f"neighbours={neighbours}, smoothing={smoothing}: expected neighbours >= 1 and smoothing > 0"
            )
        self.neighbours, self.smoothing = neighbours, smoothing

    def fit(
        self,
        features: NDArray[Any],
        targets: NDArray[Any],
        mask: NDArray[Any] | None = None,
        *,
        seed: int = 0,
    ) -> Self:
        self._fit(features, targets, mask)
        return self

    def fit_predict(
        self,
        features: NDArray[Any],
        targets: NDArray[Any],
        mask: NDArray[Any] | None = None,
        *,
        seed: int = 0,
    ) -> Predicted:
        return self._posterior(self._fit(features, targets, mask))

    def predict(self, features: NDArray[Any]) -> Predicted:
        return self._posterior(self._count(np.asarray(features, dtype=np.float32)))

    def _fit(
        self, features: NDArray[Any], targets: NDArray[Any], mask: NDArray[Any] | None
    ) -> NDArray[np.intp]:
        """Count all that the equations need on the training images, and return their own C, (N, K)."""
        self.check(targets, mask)
        if len(targets) <= self.neighbours:
            raise ValueError(
                f"neighbours={self.neighbours}: an image of {len(targets)} has at most {len(targets) - 1}"
            )
        self._targets: Bools = np.asarray(targets) != 0
        self._index = NearestNeighbors(n_neighbors=self.neighbours).fit(
            np.asarray(features, dtype=np.float32)
        )
        counts = self._count(None)
        places = np.arange(self.neighbours + 1)[:, None, None]
        found = counts == places  # (neighbours + 1, N, K)
        s = self.smoothing
        prior = (s + self._targets.sum(0)) / (2 * s + len(targets))
        self._joint = []  # P(H) P(C = j | H), (neighbours + 1, K): without the label, with it
        for members, weight in ((~self._targets, 1 - prior), (self._targets, prior)):
            c = (found & members).sum(1)
            self._joint.append(weight * (s + c) / (s * (self.neighbours + 1) + c.sum(0)))
        return counts

    def _count(self, features: NDArray[np.float32] | None) -> NDArray[np.intp]:
        """Count C of the images of `features`, (N, K); None: of the training images, each without itself."""
        nearest = self._index.kneighbors(features, return_distance=False)
        return self._targets[nearest].sum(1)

    def _posterior(self, counts: NDArray[np.intp]) -> Predicted:
        without, with_it = (np.take_along_axis(joint, counts, 0) for joint in self._joint)
        scores = log_odds(with_it / (with_it + without), without / (with_it + without))
        return Predicted(scores > 0, scores)
