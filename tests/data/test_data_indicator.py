"""Sparse 0/1 matrices say what the dense ones do, wherever a data set asks them."""

import json
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from lsep_ml.data import DataError, DataSet, Split
from lsep_ml.data.annotations import Annotations
from lsep_ml.data.check.statistics import label_statistics
from lsep_ml.data.grouped import grouped_parts
from lsep_ml.data.known import lacking
from lsep_ml.data.loading import BatchedSplit
from lsep_ml.data.order import BatchKey, repeat_factors
from lsep_ml.data.sources.coco_json import read_coco_json
from lsep_ml.data.sources.csv_labels import read_csv
from lsep_ml.data.sources.features import read_features
from lsep_ml.data.sources.own import read_own
from lsep_ml.data.stratified import stratified_folds, stratified_split
from lsep_ml.data.withheld import Withheld, long_tailed_rows
from lsep_ml.metrics import indicator
from lsep_ml.metrics.indicator import SparseIndicator, dense_blocks, stacked

N, K = 40, 7
RNG = np.random.default_rng(0)
TARGETS = (RNG.random((N, K)) < [0.5, 0.3, 0.2, 0.1, 0.05, 0.05, 0]).astype(np.uint8)
TARGETS[3] = 0
REST = RNG.random(N) < 0.5
KNOWN = np.where(RNG.random((N, K)) < 0.2, ~REST[:, None], REST[:, None]) | (TARGETS == 1)


def sparse(matrix: np.ndarray, rest: np.ndarray | None = None) -> SparseIndicator:
    other = matrix != (0 if rest is None else rest[:, None])
    kind = np.bool_ if matrix.dtype == bool else np.uint8
    return SparseIndicator.of(*np.nonzero(other), matrix.shape, kind, rest)


MATRICES = [(TARGETS, sparse(TARGETS)), (KNOWN, sparse(KNOWN, REST)), (KNOWN, sparse(KNOWN))]


@pytest.fixture(params=[1, 2**25], ids=["a row at a time", "all rows"])
def block(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(indicator, "_BLOCK", request.param)


@pytest.mark.parametrize(("dense", "held"), MATRICES, ids=["targets", "known, by rows", "known"])
def test_it_answers_as_the_dense_matrix(dense: np.ndarray, held: SparseIndicator) -> None:
    for name in ("shape", "ndim", "size", "dtype"):
        assert getattr(held, name) == getattr(dense, name)
    assert len(held) == len(dense)
    np.testing.assert_array_equal(np.asarray(held), dense, strict=True)
    for axis in (None, 0, 1):
        for name in ("sum", "mean", "any", "all"):
            found, expected = getattr(held, name)(axis=axis), getattr(dense, name)(axis=axis)
            np.testing.assert_array_equal(found, expected)
            assert found.dtype == expected.dtype
    assert held.max() == dense.max()
    np.testing.assert_array_equal(held.nonzero(), dense.nonzero())
    np.testing.assert_array_equal(held[5], dense[5], strict=True)
    for rows in (slice(3, 9), RNG.permutation(N), np.array([4, 4, 0]), REST, np.zeros(0, int)):
        np.testing.assert_array_equal(np.asarray(held[rows]), dense[rows], strict=True)
        for labels in (slice(None), slice(2, 5), slice(6, 99), slice(3, 3), 6, np.int64(0)):
            np.testing.assert_array_equal(held[rows, labels], dense[rows, labels], strict=True)
    np.testing.assert_array_equal(np.asarray(held != 0), dense != 0, strict=True)
    np.testing.assert_array_equal(np.asarray(held.astype(bool)), dense.astype(bool), strict=True)
    np.testing.assert_array_equal(np.asarray(SparseIndicator.from_dense(dense)), dense, strict=True)
    for known in (KNOWN, sparse(KNOWN, REST)):
        np.testing.assert_array_equal(np.asarray(held.within(known)), (dense != 0) & KNOWN, strict=True)
    assert held[:0].within(KNOWN[:0]).shape == (0, K)
    with pytest.raises(TypeError, match="compared with 0"):
        held == 1  # noqa: B015
    with pytest.raises(TypeError, match="compared with 0"):
        held != dense  # noqa: B015


def test_places_may_come_twice_and_in_any_order() -> None:
    rows, columns = (np.concatenate([of, of])[::-1] for of in np.nonzero(TARGETS))
    np.testing.assert_array_equal(np.asarray(SparseIndicator.of(rows, columns, (N, K))), TARGETS)
    below = stacked([sparse(TARGETS), TARGETS[:5]])
    np.testing.assert_array_equal(np.asarray(below), np.concatenate([TARGETS, TARGETS[:5]]))
    known = stacked([sparse(KNOWN), KNOWN[:9], sparse(KNOWN, REST), SparseIndicator.all_known((2, K))])
    expected = np.concatenate([KNOWN, KNOWN[:9], KNOWN, np.ones((2, K), bool)])
    np.testing.assert_array_equal(np.asarray(known), expected, strict=True)


@pytest.mark.usefixtures("block")
def test_blocks_of_rows_are_all_rows() -> None:
    blocks = list(dense_blocks(sparse(TARGETS), None, sparse(KNOWN, REST)))
    targets, nothing, known = zip(*blocks, strict=True)
    np.testing.assert_array_equal(np.concatenate(targets), TARGETS)
    np.testing.assert_array_equal(np.concatenate(known), KNOWN)
    assert set(nothing) == {None}


def data_set(targets: np.ndarray | SparseIndicator, known: np.ndarray | SparseIndicator | None) -> DataSet:
    images, ids = torch.arange(N * 3.0).reshape(N, 3), np.array([f"{row}" for row in range(N)])
    groups = np.arange(N) // 2
    splits = [
        Split(images[rows], targets[rows], None if known is None else known[rows], ids[rows], groups[rows])
        for rows in (slice(0, 20), slice(20, 30), slice(30, N))
    ]
    return DataSet("drawn", tuple("abcdefg"), *splits)


@pytest.mark.usefixtures("block")
@pytest.mark.parametrize("masked", [False, True])
def test_a_data_set_is_the_same(masked: bool) -> None:
    dense = data_set(TARGETS, KNOWN if masked else None)
    held = data_set(sparse(TARGETS), sparse(KNOWN, REST) if masked else None)
    assert held.split_hash == dense.split_hash
    assert held.counts == dense.counts
    rows = np.array([7, 2, 2, 11])
    for theirs, ours in zip(
        BatchedSplit(held.train, None)[BatchKey(0, rows)],
        BatchedSplit(dense.train, None)[BatchKey(0, rows)],
        strict=True,
    ):
        assert torch.equal(theirs, ours) if isinstance(ours, torch.Tensor) else theirs == ours
    tail = Withheld(long_tail=0.2)  # labels are hidden by other draws (test_data_withheld.py)
    assert tail.of(held, 0).split_hash == tail.of(dense, 0).split_hash


@pytest.mark.usefixtures("block")
def test_what_goes_by_targets_is_the_same() -> None:
    held = sparse(TARGETS)
    np.testing.assert_array_equal(repeat_factors(held, 0.3), repeat_factors(TARGETS, 0.3))
    np.testing.assert_array_equal(long_tailed_rows(held, 0.2, 0), long_tailed_rows(TARGETS, 0.2, 0))
    groups = np.arange(N) // 3
    for of in (None, groups):
        np.testing.assert_array_equal(stratified_folds(held, 4, 0, of), stratified_folds(TARGETS, 4, 0, of))
    np.testing.assert_array_equal(
        grouped_parts(groups, held, (0.8, 0.1, 0.1), 0), grouped_parts(groups, TARGETS, (0.8, 0.1, 0.1), 0)
    )
    ids, parts = np.array([f"{row}.jpg" for row in range(N)]), np.full(N, "")
    ours, theirs = (
        Annotations("own", Path(), tuple("abcdefg"), ids, *of, parts)
        for of in ((TARGETS, KNOWN), (held, sparse(KNOWN, REST)))
    )
    shares = 0.8, 0.1, 0.1
    found = stratified_split(theirs, shares, 0, None)
    np.testing.assert_array_equal(found.split_of, stratified_split(ours, shares, 0, None).split_of)
    counted, expected = label_statistics(theirs), label_statistics(ours)
    assert (counted.unknown, counted.most_together(3)) == (expected.unknown, expected.most_together(3))
    np.testing.assert_array_equal(counted.labels_per_image, expected.labels_per_image)


@pytest.mark.usefixtures("block")
@pytest.mark.parametrize(
    ("targets", "known", "lack"),
    [
        (TARGETS, None, ""),
        (TARGETS, KNOWN, ""),
        (TARGETS, np.zeros_like(KNOWN), "known label"),
        (TARGETS, TARGETS == 0, "positive"),
        (np.ones_like(TARGETS), None, "negative"),
        (TARGETS, TARGETS == 1, "negative"),
    ],
)
def test_what_is_lacking_is_the_same(targets: np.ndarray, known: np.ndarray | None, lack: str) -> None:
    assert lacking(targets, known) == lack
    assert lacking(sparse(targets), None if known is None else sparse(known)) == lack


@pytest.mark.usefixtures("block")
def test_a_positive_that_is_masked_is_refused() -> None:
    known = KNOWN.copy()
    known[tuple(np.argwhere(TARGETS)[0])] = False
    with pytest.raises(DataError, match="positive and masked"):
        data_set(sparse(TARGETS), sparse(known, REST))


TABLES = {
    "labels.csv": "feature_0,feature_1,labels,split\n"
    + "".join(f"{i},{i % 3},{'|'.join(sorted({f'l{i % 4}', f'l{i % 5}'}))},\n" for i in range(20)),
    "unknown.csv": "feature_0,feature_1,a,b,c\n"
    + "".join(f"{i},{i % 3},{i % 2},{'' if i % 3 else 1},{-1 if i % 4 == 2 else 0}\n" for i in range(20)),
    "train.txt": "8 3 5\n" + "".join(f"{i % 5},{i % 3} 0:{i} 2:1\n" for i in range(8)),
}


def both_ways(monkeypatch: pytest.MonkeyPatch, read: object) -> Iterator[DataSet]:
    for least in (2**28, 0):
        monkeypatch.setattr(indicator, "LARGE", least)
        yield read()  # type: ignore[operator]


@pytest.mark.parametrize("name", TABLES)
def test_features_are_read_the_same(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / name).write_text(TABLES[name])
    if name == "train.txt":
        (tmp_path / "test.txt").write_text("2 3 5\n0,4 1:2\n 0:1\n")
    dense, held = both_ways(monkeypatch, lambda: read_features(tmp_path))
    assert isinstance(held.train.targets, SparseIndicator)
    assert (held.split_hash, held.counts) == (dense.split_hash, dense.counts)


@pytest.mark.parametrize("read", [read_own, read_csv, read_coco_json], ids=lambda read: read.__name__)
@pytest.mark.parametrize("form", ["cells", "columns"])
def test_images_are_read_the_same(
    read: Callable[..., DataSet], form: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cells, columns, boxes = ["image,labels"], ["image,cat,dog"], []
    for row in range(12):
        Image.new("RGB", (8, 8), (20 * row, 0, 0)).save(tmp_path / f"{row}.png")
        cells.append(f"{row}.png,{'cat' if row % 2 else 'cat|dog'}")
        columns.append(f"{row}.png,1,{'' if row % 5 == 2 else row % 2}")
        boxes += [{"id": 2 * row + n, "image_id": row, "category_id": n} for n in range(1 + row % 2)]
    if read is read_coco_json:
        images = [{"id": row, "file_name": f"{row}.png"} for row in range(12)]
        categories = [{"id": 0, "name": "cat"}, {"id": 1, "name": "dog"}]
        content = {"images": images, "annotations": boxes, "categories": categories}
        (tmp_path / "annotations.json").write_text(json.dumps(content))
    else:
        table = cells if form == "cells" else columns
        (tmp_path / "labels.csv").write_text("\n".join([*table, ""]))
    dense, held = both_ways(monkeypatch, lambda: read(tmp_path))
    again = read(tmp_path, cache=tmp_path / "cache"), read(tmp_path, cache=tmp_path / "cache")
    assert {found.split_hash for found in again} == {dense.split_hash}
    assert isinstance(held.train.targets, SparseIndicator)
    assert (held.split_hash, held.counts) == (dense.split_hash, dense.counts)
    assert (
        (held.train.mask is None) == (dense.train.mask is None) == (form == "cells" or read is read_coco_json)
    )
