"""Splits that keep each label's share, for images that come without a split."""

import dataclasses
import hashlib
from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lsep_ml.data.annotations import Annotations, hold_out
from lsep_ml.data.cache import cache_file, load_arrays, save_arrays
from lsep_ml.data.data_set import SPLITS
from lsep_ml.data.errors import DataError
from lsep_ml.data.grouped import grouped_parts
from lsep_ml.metrics.indicator import SparseIndicator, Targets, dense_blocks

FORMAT = 1  # of the cached split


def divided(
    annotations: Annotations,
    seed: int,
    *,
    shares: Sequence[float],
    holdout: float,
    folds: int | None,
    fold: int | None,
    cache: str | Path | None,
) -> Annotations:
    """Divide people's own images, or rows of features, as their options say.

    Args:
        seed: of the split and of the hold-out.
        shares: of train, val and test where no image is listed as a test image: `stratified_split`.
        holdout: share of the training images for validation where some are, and none validates: `hold_out_groups`.
        folds, fold: in place of the split, so many folds, of which this one tests: `fold_split`; without `fold` all
            images train, and all are test images (`DataSet.cross_tested`).
        cache: keeps a split that is drawn.
    """
    if folds is not None or fold is not None:
        return fold_split(annotations, folds, fold, shares, seed)
    if not (annotations.split_of == "test").any():
        return stratified_split(annotations, shares, seed, cache)
    return hold_out_groups(annotations, holdout, seed)


def stratified_split(
    annotations: Annotations, shares: Sequence[float], seed: int, cache: str | Path | None
) -> Annotations:
    """Divide all images into train, val and test so that each label keeps its share in each.

    Iterative stratification (Sechidis, Tsoumakas, Vlahavas: On the stratification of multi-label data, 2011); where
    images have groups, `grouped_parts`, which divides none. An unknown entry counts as absent.

    Args:
        shares: of train, val and test; positive, with sum 1. Sizes come out near them: labels go first.
        seed: the split is a function of the labels and the seed.
        cache: folder that keeps the split; it takes seconds for a hundred thousand images.
    """
    shares = _checked_shares(shares)
    if len(annotations) < 3:
        raise DataError(
            f"data {annotations.data}: {len(annotations)} usable images; three splits need at least 3"
        )
    targets = annotations.targets
    digest = hashlib.sha256()
    for (block,) in dense_blocks(targets):
        digest.update(np.ascontiguousarray(block).data)
    content = digest.hexdigest()
    groups = annotations.groups
    made_from: list[object] = [content, targets.shape, shares, seed]
    if groups is not None:
        _check_groups(annotations, len(SPLITS))
        made_from.append(hashlib.sha256(groups.tobytes()).hexdigest())
    stored_at = cache_file(cache, "split", FORMAT, *made_from)
    stored = load_arrays(stored_at)
    if stored is None:
        if groups is None:
            split_of = _draw(targets, shares, seed)
        else:
            split_of = np.array(SPLITS)[grouped_parts(groups, targets, shares, seed)]
        stored = {"parts": split_of}
        save_arrays(stored_at, **stored)
    return dataclasses.replace(annotations, split_of=stored["parts"])


def fold_split(
    annotations: Annotations, folds: int | None, fold: int | None, shares: Sequence[float], seed: int
) -> Annotations:
    """Divide all images into folds that keep each label's share and part no group: one tests, of the others a share
    validates and the rest trains. A split that the source lists is left aside.

    Args:
        folds: their number, at least 2.
        fold: the one that tests, from 0; None: none does, all images train and validate.
        shares: of train, val and test, of which the first two say how many images validate.
        seed: the folds are a function of labels, groups and the seed; what validates also of the fold.
    """
    shares = _checked_shares(shares)
    name, least = annotations.data, 2 if folds is None else max(folds, 3)
    if folds is None or folds < 2 or not 0 <= (fold or 0) < folds:
        raise DataError(
            f"data.folds={folds} data.fold={fold}: at least 2 folds, and one of them by its number, from 0; without "
            "data.fold all of them are done"
        )
    if len(annotations) < least:
        raise DataError(f"data {name}: {len(annotations)} usable images for data.folds={folds}")
    targets, groups = annotations.targets, annotations.groups
    if groups is not None:
        _check_groups(annotations, least)
        fold_of = grouped_parts(groups, targets, [1 / folds] * folds, seed)
    else:
        fold_of = stratified_folds(targets, folds, seed)
    if len(np.unique(fold_of)) < folds:
        raise DataError(f"data {name}: {len(annotations)} images leave some of data.folds={folds} empty")
    tests = np.zeros(len(annotations), bool) if fold is None else fold_of == fold
    split_of = np.where(tests, "test", "train").astype("U5")
    rest = np.flatnonzero(~tests)
    share = shares[1] / (shares[0] + shares[1])
    if groups is not None:
        held_out = rest[grouped_parts(groups[rest], targets[rest], (1 - share, share), seed) == 1]
    else:
        held_out = _divide(rest, targets, share, seed)[1]
    split_of[held_out] = "val"
    notes = annotations.notes
    if annotations.split_of.any():
        notes = (*notes, f"data.folds={folds} divides all images: the listed split is left aside")
    return dataclasses.replace(annotations, split_of=split_of, notes=notes)


def _checked_shares(shares: Sequence[float]) -> tuple[float, ...]:
    shares = tuple(float(share) for share in shares)
    if len(shares) != 3 or min(shares) <= 0 or abs(sum(shares) - 1) > 1e-6:
        raise DataError(f"data.shares={list(shares)}: three positive shares (train, val, test) with sum 1")
    return shares


def hold_out_groups(annotations: Annotations, share: float, seed: int) -> Annotations:
    """Make about a share of the training images the validation images, whole groups of them, where there are none."""
    if annotations.groups is None or (annotations.split_of == "val").any():
        return hold_out(annotations, share, seed)
    train = np.flatnonzero(annotations.split_of == "train")
    of_train = annotations.select(train)
    _check_groups(of_train, 2)
    held = grouped_parts(annotations.groups[train], annotations.targets[train], (1 - share, share), seed) == 1
    split_of = annotations.split_of.astype("U5")
    split_of[train[held]] = "val"
    return dataclasses.replace(annotations, split_of=split_of)


def _check_groups(annotations: Annotations, least: int) -> None:
    assert annotations.groups is not None
    number = len(np.unique(annotations.groups))
    if number < least:
        raise DataError(
            f"data {annotations.data}: {number} groups (data.group) for {least} splits, and none is divided; "
            "give a finer data.group, or data.group=none; with data.twins=together, near-duplicates are one group"
        )


def _draw(targets: Targets, shares: Sequence[float], seed: int) -> NDArray[np.str_]:
    rest, test = _divide(np.arange(len(targets)), targets, shares[2], seed)
    train, val = _divide(rest, targets, shares[1] / (shares[0] + shares[1]), seed)
    split_of = np.empty(len(targets), "U5")
    for name, rows in (("train", train), ("val", val), ("test", test)):
        split_of[rows] = name
    return split_of


def _divide(
    rows: NDArray[np.int64], targets: Targets, share: float, seed: int
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return the rows in two, neither empty, the second with about this share of them."""
    size = min(max(round(share * len(rows)), 1), len(rows) - 1)
    parts = iterative_stratification(targets[rows], np.array([len(rows) - size, size]) / len(rows), seed)
    first, second = np.flatnonzero(parts == 0), np.flatnonzero(parts)
    if len(second) == 0:  # with a handful of images, every label asks for the larger part
        first, second = np.split(np.random.default_rng(seed).permutation(len(rows)), [len(rows) - size])
    return rows[np.sort(first)], rows[np.sort(second)]


def iterative_stratification(targets: Targets, shares: NDArray[np.float64], seed: int) -> NDArray[np.int64]:
    """Draw the part of each image so that each label keeps its share in each part (Sechidis et al., algorithm 1).

    The label with the fewest images that have no part yet goes first, each of its images to the part that lacks most
    of the label, then to that which lacks most images, then by chance; images without a label come last.

    Args:
        targets: 0/1 (N, K). Time and memory go by the labels that images have, not by N K.
        shares: of the parts, with sum 1.
        seed: of the chances, and of the order in which a label's images come.

    Returns:
        int64 (N,), the number of each image's part.
    """
    chance = np.random.RandomState(seed)
    order = np.arange(len(targets))
    chance.shuffle(order)
    rows, labels = targets[order].nonzero()
    starts = np.searchsorted(rows, np.arange(len(order) + 1))
    left = np.bincount(labels, minlength=targets.shape[1])  # images of each label without a part
    of_label = np.split(rows[np.argsort(labels, kind="stable")], np.cumsum(left)[:-1])
    wanted, wanted_of = shares * len(order), np.outer(shares, left)  # what each part lacks, of each label too
    parts = np.full(len(order), -1, np.int64)

    def put(image: int, among: NDArray[np.int64]) -> int:
        best = among[wanted[among] == wanted[among].max()]
        part = int(best[0] if len(best) == 1 else best[chance.choice(len(best))])
        parts[image] = part
        wanted[part] -= 1
        return part

    while left.any():
        fewest = np.flatnonzero(left == left[left > 0].min())
        label = int(fewest[0] if len(fewest) == 1 else fewest[chance.choice(len(fewest))])
        for image in of_label[label][parts[of_label[label]] < 0].tolist():
            lacked = wanted_of[:, label]
            part = put(image, np.flatnonzero(lacked == lacked.max()))
            own = labels[starts[image] : starts[image + 1]]
            wanted_of[part, own] -= 1
            left[own] -= 1
    for image in np.flatnonzero(parts < 0).tolist():
        put(image, np.arange(len(shares)))
    found = np.empty_like(parts)
    found[order] = parts
    return found


def stratified_folds(
    targets: Targets, count: int, seed: int, groups: NDArray[Any] | None = None
) -> NDArray[np.int64]:
    """Divide N images into folds in which each label keeps its share, and which part no group: the fold of each (N,).

    Args:
        targets: 0/1 (N, K); an unknown entry counts as absent.
        count: of folds, at least 2; fewer where there are fewer images or groups.
        seed: the folds are a function of the labels, the groups and the seed.
        groups: (N,), equal for images that stay together; a group has the labels that any of its images has.

    Raises:
        ValueError: fewer than 2 images or groups, or folds.
    """
    places = (
        np.arange(len(targets)) if groups is None else np.unique(groups, return_inverse=True)[1].reshape(-1)
    )
    number = int(places.max()) + 1 if len(places) else 0
    if min(count, number) < 2:
        raise ValueError(f"{count} folds of {number} images or groups: at least 2 of each")
    rows, labels = targets.nonzero()
    together = SparseIndicator.of(places[rows], labels, (number, targets.shape[1]))
    of = together.indptr.tobytes(), together.indices.tobytes(), together.width
    return _folds(*of, min(count, number), seed)[places]


@lru_cache(maxsize=2)  # seconds, and the jobs of a sweep ask for the same
def _folds(indptr: bytes, indices: bytes, width: int, count: int, seed: int) -> NDArray[np.int64]:
    """Return the fold of each row of a `SparseIndicator`, (N,)."""
    targets = SparseIndicator(np.frombuffer(indptr, np.int64), np.frombuffer(indices, np.int32), width)
    return iterative_stratification(targets, np.full(count, 1 / count), seed)
