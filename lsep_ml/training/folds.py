"""Rows that decisions are fitted on, and the folds by which they are asked about rows they were not fitted on."""

from collections.abc import Collection, Iterator
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lsep_ml.decisions.checks import Array, check_scores
from lsep_ml.decisions.label_blocks import take_rows
from lsep_ml.decisions.log_odds import LogOddsDecision
from lsep_ml.metrics.counts import as_held, held_known, true_entries
from lsep_ml.metrics.functional import as_numpy
from lsep_ml.metrics.indicator import dense_blocks

FOLDS = 5

Bools = NDArray[np.bool_]


def draw_folds(rows: int, seed: int, groups: Array | None = None) -> NDArray[np.int64]:
    """Return the fold, 0..FOLDS - 1, of each row, (N,), of about equal size, drawn from `seed`; a group stays together.

    With fewer rows (or groups) than folds, each is a fold of its own.
    """
    _, members = np.unique(np.arange(rows) if groups is None else as_numpy(groups), return_inverse=True)
    units = int(members.max(initial=-1)) + 1
    folds = np.arange(units) % max(min(FOLDS, units), 1)
    drawn: NDArray[np.int64] = np.random.default_rng(seed).permutation(folds)[members]
    return drawn


def fold_pairs(folds: NDArray[np.int64], targets: Bools, known: Bools) -> Iterator[tuple[Bools, Bools]]:
    """Give of each fold, bool (N,), the rows that a decision is fitted on to be asked about it, and the fold's rows.

    They are those outside, but all where those outside lack known entries of both kinds, on which nothing is fitted.
    """
    for fold in np.unique(folds):
        inside: Bools = folds == fold
        outside = ~inside
        yield (outside if _of_both_kinds(targets[outside], known[outside]) else np.ones_like(inside)), inside


def _of_both_kinds(targets: Bools, known: Bools) -> bool:
    positive = negative = False
    for true, of_known in dense_blocks(targets, known):
        entries = true[of_known]
        positive, negative = positive or entries.any(), negative or not entries.all()
    return bool(positive and negative)


@dataclass(frozen=True)
class Rows:
    """Says what a decision is fitted on.

    scores float32 (N, K), an array or what gives rows as one; targets and known bool (N, K), dense or sparse; features
    (N, D) or None. folds: (N,), which rows are left out together
    where the decision is asked about rows that it was not fitted on. judges: bool (N,), the rows that a weight decay is
    chosen by, fitted on the others; None: by the folds in turn. further: targets and known entries of images without
    honest scores, which count where label sets are counted.
    """

    scores: Any
    targets: Any
    known: Any
    features: NDArray[np.float32] | None
    folds: NDArray[np.int64]
    judges: Bools | None = None
    further: tuple[Any, Any] | None = None

    def __len__(self) -> int:
        return len(self.scores)

    def take(self, chosen: Bools) -> "Rows":
        """Take some of the rows; nothing is copied where all are taken."""
        if chosen.all():
            return self
        return replace(
            self,
            scores=take_rows(self.scores, chosen),
            targets=self.targets[chosen],
            known=self.known[chosen],
            features=None if self.features is None else self.features[chosen],
            folds=self.folds[chosen],
            judges=None if self.judges is None else self.judges[chosen],
        )

    def splits(self) -> Iterator[tuple[Bools, Bools]]:
        """Return `fold_pairs` of these rows."""
        return fold_pairs(self.folds, self.targets, self.known)

    def out_of_fold(self, without: frozenset[int] = frozenset()) -> Iterator[tuple[frozenset[int], Bools]]:
        """Return, for each fold that is not in `without`, the folds that the fit for its rows leaves out, and its rows.

        The rows are a mask of those outside `without`. See `fold_pairs` for a fold without which nothing is left.
        """
        given = self.take(self.outside(without))
        for outside, inside in given.splits():
            fold = int(given.folds[inside][0])
            yield (without if outside.all() else without | {fold}), inside

    def left_out(self, *, twice: bool) -> list[frozenset[int]]:
        """Return the folds that a cross-fit leaves out: none, and each; `twice`, each two of them too."""
        rows = replace(self, features=None)
        once = [without for without, _ in rows.out_of_fold()]
        nested = [pair for without in once if twice for pair, _ in rows.out_of_fold(without)]
        return list(dict.fromkeys([frozenset(), *once, *nested]))

    def outside(self, folds: Collection[int]) -> Bools:
        """Return which rows are in none of the folds, bool (N,)."""
        return ~np.isin(self.folds, list(folds))


def checked_rows(
    decision: LogOddsDecision,
    scores: Array,
    targets: Array,
    features: Array | None,
    mask: Array | None,
    *,
    folds: Array,
    validation: Array | None,
    further: tuple[Array, Array | None] | None,
) -> Rows:
    """Return the rows that a decision is fitted on, from arrays or tensors.

    Raises ValueError for another number of labels or rows, for features that are missing or of another shape, and for
    known targets of `further` that are not 0 or 1; those of the rows themselves are checked.
    """
    check_scores(scores, int(decision.num_labels))
    of_features = decision._checked_features(features, len(scores))
    held, given = as_held(targets), as_held(scores)
    return Rows(
        scores=given if given.dtype == np.float32 else np.asarray(given, np.float32),
        targets=held != 0,
        known=held_known(held, mask),
        features=None if of_features is None else as_numpy(of_features).astype(np.float32, copy=False),
        folds=_of_rows("folds", folds, len(scores)).astype(np.int64),
        judges=None if validation is None else _of_rows("validation", validation, len(scores)).astype(bool),
        further=None if further is None else _known_targets(*further),
    )


def _known_targets(targets: Array, mask: Array | None) -> tuple[Any, Any]:
    known = held_known(as_held(targets), mask)
    return true_entries("further", targets, known), known


def _of_rows(name: str, values: Array, rows: int) -> NDArray[Any]:
    checked: NDArray[Any] = as_numpy(values)
    if checked.shape != (rows,):
        raise ValueError(f"{name}: shape {checked.shape}, expected ({rows},)")
    return checked
