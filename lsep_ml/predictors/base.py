"""What every predictor on frozen features shares."""

from abc import ABC, abstractmethod
from typing import Any, ClassVar, NamedTuple, Self

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float32]
Bools = NDArray[np.bool_]
_SMALLEST = 1e-12  # a probability nearer to 0 or 1 counts as this: every score is finite


class Predicted(NamedTuple):
    """Says what a predictor says of N images.

    label_sets: bool (N, K), the predictor's own. scores: float32 (N, K), log-odds of each label, or None.
    """

    label_sets: Bools
    scores: Floats | None


class Predictor(ABC):
    """Maps features f'(x), float (N, D), to label sets and, where the method has probabilities, to scores.

    A label is in the predictor's own set where its method says so; for all that give scores but `LabelPowerset`, that
    is where the score is above 0, the probability above 1/2. Fitting is determined by `seed`; the caller's random
    state is neither read nor changed.

    gives_scores: whether there are scores for a label decision. complete: why it cannot be trained with unknown
    entries, "" where it can. history: one row an epoch, for those that are trained in epochs. entry_bytes: what it
    holds at once, at least, an entry of the training targets, which are dense for it.
    """

    gives_scores: ClassVar[bool] = True
    complete: ClassVar[str] = ""
    entry_bytes: ClassVar[int] = 20  # dense targets and masks, probabilities of both kinds

    def __init__(self) -> None:
        self.history: list[dict[str, float]] = []

    def check(self, targets: Any, mask: Any) -> None:
        """Raise ValueError for `targets` 0/1 and `mask`, (N, K), True = known, dense or sparse, that it cannot learn
        from."""
        unknown = 0 if mask is None else int(mask.size - (mask != 0).sum())
        if unknown and self.complete:
            raise ValueError(
                f"{type(self).__name__}: {unknown} entries of the training targets are unknown, and {self.complete}; "
                "take predictor=br, which leaves them out label by label, or the network's own score_layer"
            )
        if len(targets) == 0:
            raise ValueError(f"{type(self).__name__}: no training images")

    @abstractmethod
    def fit(
        self,
        features: NDArray[Any],
        targets: NDArray[Any],
        mask: NDArray[Any] | None = None,
        *,
        seed: int = 0,
    ) -> Self:
        """Train on `features` (N, D), `targets` 0/1 (N, K) and `mask` (N, K), True = known (None: all are).

        Raises ValueError for what `check` refuses.
        """

    @abstractmethod
    def predict(self, features: NDArray[Any]) -> Predicted:
        """Predict label sets and scores of images that it was not trained on from their `features` (N, D)."""

    def fit_predict(
        self,
        features: NDArray[Any],
        targets: NDArray[Any],
        mask: NDArray[Any] | None = None,
        *,
        seed: int = 0,
    ) -> Predicted:
        """Call `fit`, then predict the training images themselves; a learnt decision is trained on that."""
        return self.fit(features, targets, mask, seed=seed).predict(features)


def log_odds(positive: NDArray[Any], negative: NDArray[Any]) -> Floats:
    """Compute log p - log(1 - p) from p, `positive`, and 1 - p, `negative`, both clipped away from 0."""
    odds = np.log(np.maximum(positive, _SMALLEST)) - np.log(np.maximum(negative, _SMALLEST))
    return odds.astype(np.float32)
