"""What decisions share that go by log odds of the labels: an estimate of them, and a choice made on honest ones."""

from abc import abstractmethod
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from lsep_ml.decisions.base import Decision
from lsep_ml.decisions.checks import Array

if TYPE_CHECKING:
    from lsep_ml.decisions.linear import LinearThresholds


class LogOddsEstimator(Decision):
    """A decision that gives log odds: of each label of an image, log P / (1 - P) of its being there."""

    @abstractmethod
    def log_odds_of(self, scores: Tensor, features: Tensor | None = None) -> Tensor:
        """Return the log odds (N, K) by float32 scores (N, K) and features (N, D) on the decision's device."""

    def log_odds(self, scores: Array, features: Array | None = None) -> Tensor:
        """Return the log odds (N, K), where the scores are; read and checked as in `decide`."""
        return torch.cat(self._in_blocks(self.log_odds_of, scores, features))


class HonestRows(NamedTuple):
    """Rows with log odds from fits that did not see them, which is what a choice is made on.

    log_odds: float32 (N, K). targets, known: bool (N, K), dense or sparse. folds: (N,), the fold of each row; the fit
    that gave a row its log odds saw no row of its fold. further: targets and known entries, bool (M, K), of images
    without such log odds, which count where label sets are counted.
    """

    log_odds: NDArray[np.float32]
    targets: Any
    known: Any
    folds: NDArray[np.int64]
    further: tuple[Any, Any] | None = None


class LogOddsDecision(Decision):
    """A decision made in two steps: an estimator of log odds is fitted, then the decision's own numbers are chosen."""

    @property
    @abstractmethod
    def estimator(self) -> LogOddsEstimator:
        """Return what gives the log odds; the decision itself, where it does."""

    @property
    @abstractmethod
    def linear_thresholds(self) -> "LinearThresholds | None":
        """Return the estimator where it is linear thresholds, whose fits decisions can share; None: it is another."""

    @abstractmethod
    def choose(self, rows: HonestRows) -> None:
        """Set the decision's own numbers by its criterion on honest rows."""
