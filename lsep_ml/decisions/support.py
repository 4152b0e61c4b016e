"""The label set as a whole, chosen among those that images have."""

from collections.abc import Iterator
from itertools import product
from typing import Any, ClassVar, Literal, NamedTuple, get_args

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from lsep_ml.decisions.base import Decided, FitOn
from lsep_ml.decisions.calibration import Calibrated
from lsep_ml.decisions.checks import BLOCK, Array, check_features
from lsep_ml.decisions.criteria import check_criterion, criterion_metric
from lsep_ml.decisions.linear import LinearThresholds
from lsep_ml.decisions.log_odds import HonestRows, LogOddsDecision, LogOddsEstimator
from lsep_ml.decisions.search import Bools, Integers, add_counts, criterion_gain, first_best
from lsep_ml.metrics.counts import LabelCounts, count_label_sets, row_slices
from lsep_ml.metrics.functional import as_numpy
from lsep_ml.metrics.indicator import dense_blocks
from lsep_ml.metrics.metric import Floats

LogOdds = Literal["thresh_linear", "platt", "isotonic"]

ALPHAS = (0.0, 0.1, 0.2, 0.3, 0.5, 0.7, 1.0)
BETAS = (0.0, 0.3, 0.6, 1.0, 1.5)
GRID = tuple(product(ALPHAS, BETAS))
"""What alpha and beta are chosen from; the first of the best wins."""

_LEAST_SHARE = 1e-4
_MOST = 1e15  # the log odds that stand for infinite ones, of which sums would be of no size
_CELLS = 2**22  # images times label sets that stand in memory at a time


class LabelSetSupport(LogOddsDecision):
    """Names the label set Y of highest z . Y + alpha (log share(Y) - sum_k log P_ind(Y_k)) + beta |Y|.

    In the literature, support inference: the candidates are the label sets that the images have whose labels are all
    known. z are log odds of the labels. share(Y) is the share of these images that have exactly Y; P_ind(Y_k) is the
    share of those that have label k where Y has it, and of those that have not where it has not (clipped at 1e-4).
    alpha and beta are the best by the criterion of `GRID` on images that gave neither their log odds nor their label
    sets. On a tie the more frequent set, and the smaller alpha, then beta.

    log_odds: what gives z, "thresh_linear" (`LinearThresholds`), or a calibration of each label's scores, "platt" or
    "isotonic" (`Calibrated`). criterion, beta, miss_cost: as of rules. max_sets: only so many of the most
    frequent sets are candidates.
    """

    decides_by: ClassVar[tuple[str, ...]] = ("probabilities",)
    needs_features = True  # but for calibrations
    counts_label_sets = True
    num_labels: int
    sets: Tensor
    bonus: Tensor
    chosen: Tensor
    left_out: Tensor

    def __init__(
        self,
        num_features: int,
        num_labels: int,
        *,
        log_odds: LogOdds = "thresh_linear",
        criterion: str = "exact_match",
        beta: float = 1.0,
        miss_cost: float = 1.0,
        max_sets: int = 10_000,
        fit_on: FitOn = "crossfit",
    ) -> None:
        super().__init__(fit_on)
        if log_odds not in get_args(LogOdds):
            raise ValueError(f"log_odds={log_odds!r}: expected one of {', '.join(get_args(LogOdds))}")
        check_criterion(criterion, beta, miss_cost)
        if max_sets < 1:
            raise ValueError(f"max_sets={max_sets}: expected at least 1")
        self.num_features, self.num_labels = num_features, num_labels
        self.criterion, self.beta, self.miss_cost = criterion, beta, miss_cost
        self.log_odds, self.max_sets = log_odds, max_sets
        self.of_labels: LogOddsEstimator = (
            LinearThresholds(num_features, num_labels, offset="none", fit_on=fit_on)
            if log_odds == "thresh_linear"
            else Calibrated(log_odds, fit_on=fit_on)
        )
        self.needs_features, self.fits_by_rows = self.of_labels.needs_features, self.of_labels.fits_by_rows
        # (S, K), the most frequent first; (S,), what is added to z . Y; alpha and beta; how many sets are too many
        self.register_buffer("sets", torch.zeros(0, num_labels, dtype=torch.bool))
        self.register_buffer("bonus", torch.zeros(0, dtype=torch.float64))
        self.register_buffer("chosen", torch.zeros(2, dtype=torch.float64))
        self.register_buffer("left_out", torch.tensor(0))

    @property
    def estimator(self) -> LogOddsEstimator:
        return self.of_labels

    @property
    def linear_thresholds(self) -> LinearThresholds | None:
        return self.of_labels if isinstance(self.of_labels, LinearThresholds) else None

    def choices(self) -> dict[str, Any]:
        alpha, beta = self.chosen.tolist()
        of_labels = {name: value for name, value in self.of_labels.choices().items() if name != "offset"}
        return {"alpha": alpha, "beta": beta, "sets": len(self.sets), **of_labels}

    def forward(self, scores: Tensor, features: Tensor | None = None) -> Decided:
        log_odds = self.of_labels.log_odds_of(scores, features)
        totals = log_odds.double().clamp(-_MOST, _MOST) @ self.sets.double().T + self.bonus
        return Decided(self.sets[totals.argmax(1)], probabilities=torch.sigmoid(log_odds).float())

    def choose(self, rows: HonestRows) -> None:
        """Choose alpha and beta, then take the candidates and their shares from all images.

        Raises ValueError where no image has all its labels known.
        """
        table = _SetTable.of(rows)
        metric = criterion_metric(self.criterion, self.beta, self.miss_cost, by_label=False)
        totals: list[LabelCounts] = []
        for fold in np.unique(rows.folds):
            inside = np.flatnonzero(rows.folds == fold)
            candidates = table.without(fold).candidates(self.max_sets)
            for block in _blocks(inside, len(candidates.sets)):
                given = (np.asarray(matrix[block]) for matrix in (rows.log_odds, rows.targets, rows.known))
                counts = candidates.judge(*given)
                totals = (
                    [add_counts(*pair) for pair in zip(totals, counts, strict=True)] if totals else counts
                )
        alpha, beta = GRID[first_best(np.array([float(criterion_gain(metric, total)) for total in totals]))]
        candidates = table.candidates(self.max_sets)
        self.sets = torch.from_numpy(candidates.sets).to(self.sets.device)
        self.bonus = torch.from_numpy(candidates.bonus(alpha, beta)).to(self.bonus)
        self.chosen = torch.tensor([alpha, beta], dtype=torch.float64).to(self.chosen.device)
        self.left_out = torch.tensor(int((table.counts > 0).sum()) - len(candidates.sets))

    def seen(self, targets: Array) -> Bools:
        """Return which images have one of the candidates as their label set, bool (N,); no other can be decided
        rightly."""
        ours = {row.tobytes() for row in np.packbits(as_numpy(self.sets), axis=1)}
        blocks = (np.packbits(as_numpy(targets[rows]) != 0, axis=1) for rows in row_slices(*targets.shape))
        return np.array([row.tobytes() in ours for block in blocks for row in block], bool)

    def unseen(self, targets: Array) -> int:
        return int((~self.seen(targets)).sum())

    def problems(self, scores: Array, features: Array | None = None) -> list[str]:
        found = []
        if self.left_out:
            found.append(
                f"{int(self.left_out)} rarer label sets are no candidates (max_sets={self.max_sets})"
            )
        never = np.flatnonzero(~as_numpy(self.sets).any(0))
        if len(never):
            names = [str(label) if self.label_names is None else self.label_names[label] for label in never]
            found.append(
                f"never named, since no image whose labels are all known has them: {', '.join(names)}"
            )
        return found

    def _checked_features(self, features: Array | None, rows: int) -> Array | None:
        if not self.needs_features:
            return None
        return check_features(features, rows, self.num_features, type(self).__name__)

    def _rows_at_once(self) -> int:
        if len(self.sets) == 0:
            raise ValueError(f"{type(self).__name__} is not fitted; call fit_decision or load it")
        return _rows_at_once(len(self.sets))

    def _load_from_state_dict(
        self, state_dict: dict[str, Any], prefix: str, *args: Any, **kwargs: Any
    ) -> None:
        self._resize_buffers(state_dict, prefix)  # how many label sets there are depends on the data
        super()._load_from_state_dict(state_dict, prefix, *args, **kwargs)


class _Candidates(NamedTuple):
    """Label sets, bool (S, K), by descending frequency; lift (S,): log share(Y) - sum_k log P_ind(Y_k)."""

    sets: Bools
    lift: Floats

    def bonus(self, alpha: float, beta: float) -> Floats:
        """Return what is added to z . Y, (S,)."""
        return alpha * self.lift + beta * self.sets.sum(1)

    def judge(self, log_odds: NDArray[np.float32], targets: Bools, known: Bools) -> list[LabelCounts]:
        """Return the counts of the label sets that each pair of `GRID` gives for some images."""
        totals = log_odds.astype(np.float64) @ self.sets.T.astype(np.float64)
        return [
            count_label_sets(self.sets[(totals + self.bonus(*pair)).argmax(1)], targets, known)
            for pair in GRID
        ]


class _SetTable(NamedTuple):
    """Says how often each label set occurs. packed: (S, K / 8), eight labels a byte; counts (S,); by_fold: fold ->
    counts of its rows (S,); labels: K."""

    packed: NDArray[np.uint8]
    counts: Integers
    by_fold: dict[int, Integers]
    labels: int

    @classmethod
    def of(cls, rows: HonestRows) -> "_SetTable":
        """Make it from the rows, and the further images, whose labels are all known."""
        complete = rows.known.all(1)
        given, folds = [_packed(rows.targets[complete])], rows.folds[complete]
        if rows.further is not None:
            given.append(_packed(rows.further[0][rows.further[1].all(1)]))
            folds = np.concatenate([folds, np.full(len(given[1]), -1)])
        if len(folds) == 0:
            raise ValueError(
                "mask: no image has all its labels known, so there are no label sets to choose among; "
                "LinearThresholds goes by the labels that are known"
            )
        packed, inverse = np.unique(np.concatenate(given), axis=0, return_inverse=True)
        size, place = len(packed), inverse.ravel()
        by_fold = {int(fold): np.bincount(place[folds == fold], minlength=size) for fold in np.unique(folds)}
        return cls(packed, np.bincount(place, minlength=size), by_fold, rows.targets.shape[1])

    def without(self, fold: int) -> "_SetTable":
        """Return the table of the images outside a fold; of all, where there are none outside."""
        counts = self.counts - self.by_fold.get(int(fold), 0)
        return self._replace(counts=counts) if counts.any() else self

    def candidates(self, max_sets: int) -> _Candidates:
        """Return the most frequent sets, the smaller by label order first among equals."""
        order = np.argsort(-self.counts, kind="stable")[:max_sets]
        order = order[self.counts[order] > 0]
        sets, images = self.sets(order), self.counts.sum()
        of_labels = sum(
            self.counts[some] @ self.sets(some) for some in row_slices(len(self.counts), self.labels)
        )
        shares = (of_labels / images).clip(_LEAST_SHARE, 1 - _LEAST_SHARE)
        independent = sets @ np.log(shares) + ~sets @ np.log1p(-shares)
        return _Candidates(sets, np.log(self.counts[order] / images) - independent)

    def sets(self, numbers: Any) -> Bools:
        """Return label sets of the table, bool (..., K)."""
        return np.unpackbits(self.packed[numbers], axis=1, count=self.labels).astype(bool)


def _packed(targets: Any) -> NDArray[np.uint8]:
    """Return label sets, dense or sparse (N, K), with eight labels a byte, (N, K / 8)."""
    empty = np.zeros((0, -(-targets.shape[1] // 8)), np.uint8)
    return np.concatenate([empty, *(np.packbits(block != 0, axis=1) for (block,) in dense_blocks(targets))])


def _rows_at_once(sets: int) -> int:
    return min(BLOCK, max(1, _CELLS // sets))


def _blocks(rows: Integers, sets: int) -> Iterator[Integers]:
    size = _rows_at_once(sets)
    for start in range(0, len(rows), size):
        yield rows[start : start + size]
