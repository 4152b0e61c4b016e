"""What is withheld on purpose: how many labels and images are left, a whole test split, and the identity."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from jobs import compose_here, run_job_here

from lsep_ml.data import DataError, DataSet, Split
from lsep_ml.data import withheld as withheld_module
from lsep_ml.data.withheld import Withheld, long_tailed_rows
from lsep_ml.metrics.indicator import SparseIndicator
from lsep_ml.stages.job_data import build_data
from lsep_ml.store.sections import config_sections

SIZES = {"train": 4000, "val": 1000, "test": 500}
SMALL = (
    "data.train=60",
    "data.val=20",
    "data.test=20",
    "training.epochs=1",
    "fitting.epochs=1",
    "trainer=cpu",
)


def data_set(masked: bool = False, labels: int = 10) -> DataSet:
    generator = np.random.default_rng(5)
    shares = 0.5 / np.arange(1, labels + 1)
    splits = {}
    for name, size in SIZES.items():
        targets = (generator.random((size, labels)) < shares).astype(np.uint8)
        mask = generator.random((size, labels)) < 0.8 if masked else None
        ids = np.array([f"{name}/{row}" for row in range(size)])
        images = torch.arange(size, dtype=torch.float32)[:, None].repeat(1, 3)
        splits[name] = Split(images, targets if mask is None else targets * mask, mask, ids, np.arange(size))
    return DataSet("drawn", tuple(f"label {k}" for k in range(labels)), **splits)


def left_of(whole: DataSet, withheld: Withheld, sparse: bool) -> DataSet:
    """What is left of a data set, its matrices dense, whether or not it was held sparse."""
    if not sparse:
        return withheld.of(whole, 3)

    def held(split: Split) -> Split:
        mask = None if split.mask is None else SparseIndicator.from_dense(split.mask)
        return replace(split, targets=SparseIndicator.from_dense(split.targets), mask=mask)

    def dense(split: Split) -> Split:
        assert isinstance(split.targets, SparseIndicator)
        mask = None if split.mask is None else np.asarray(split.mask)
        return replace(split, targets=np.asarray(split.targets), mask=mask)

    left = withheld.of(replace(whole, **{name: held(whole.split(name)) for name in SIZES}), 3)
    return replace(left, **{name: dense(left.split(name)) for name in SIZES})


def same(one: Split, other: Split) -> bool:
    return one.images is other.images and np.array_equal(one.targets, other.targets)


@pytest.mark.parametrize("sparse", [False, True])
@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.parametrize("share", [0.1, 0.5, 0.9])
def test_a_share_of_the_known_labels_becomes_unknown(
    masked: bool, share: float, sparse: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(withheld_module, "_CELLS", 7770)  # several blocks of rows, and of draws
    whole = data_set(masked)
    left = left_of(whole, Withheld(share), sparse)
    for name in ("train", "val"):
        before, after = whole.split(name), left.split(name)
        known = np.ones(before.targets.shape, bool) if before.mask is None else before.mask
        assert after.mask is not None
        assert not (after.mask & ~known).any()
        hidden = known & ~after.mask
        assert not after.targets[~after.mask].any()
        assert np.array_equal(after.targets[after.mask], before.targets[after.mask])
        for entries in (known, known & (before.targets != 0)):  # of all labels, and of the positives
            number = entries.sum()
            assert abs(hidden[entries].sum() - share * number) < 5 * np.sqrt(share * (1 - share) * number)
        per_image = hidden.sum(1) / known.sum(1).clip(1)
        assert per_image.std() > 0.05  # each entry is drawn on its own
    assert np.array_equal(left.test.targets, whole.test.targets)
    assert left.test.mask is not None
    assert np.array_equal(
        left.test.mask, np.ones_like(left.test.mask) if whole.test.mask is None else whole.test.mask
    )


@pytest.mark.parametrize("sparse", [False, True])
def test_hidden_labels_can_stand_among_the_negatives(sparse: bool) -> None:
    whole = data_set()
    left = left_of(whole, Withheld(0.5, "negative"), sparse)
    unknown = Withheld(0.5).of(whole, 3)
    for name in ("train", "val"):
        assert left.split(name).mask is None
        assert not (left.split(name).targets > whole.split(name).targets).any()
        if not sparse:
            assert np.array_equal(left.split(name).targets, unknown.split(name).targets)
    positives = whole.train.targets.sum()
    assert 0.45 < left.train.targets.sum() / positives < 0.55
    assert same(left.test, whole.test)


@pytest.mark.parametrize("sparse", [False, True])
def test_a_single_positive_of_each_image_is_left(sparse: bool) -> None:
    whole = data_set()
    left = left_of(whole, Withheld("single_positive", "negative"), sparse)
    for name in ("train", "val"):
        before, after = whole.split(name).targets, left.split(name).targets
        assert np.array_equal(after.sum(1), np.minimum(before.sum(1), 1))
        assert not (after > before).any()
    pairs = (whole.train.targets[:, :2] == 1).all(1) & (whole.train.targets.sum(1) == 2)
    assert abs(left.train.targets[pairs, 0].mean() - 0.5) < 5 * np.sqrt(
        0.25 / pairs.sum()
    )  # either, at random
    assert same(left.test, whole.test)


def test_too_many_unknown_entries_to_write_down_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(withheld_module, "_MOST", 10_000)
    left_of(data_set(), Withheld(0.2), sparse=True)
    with pytest.raises(DataError, match=r"drop_labels=0.3: of 4000 images x 10.*12000.*dropped_as=negative"):
        left_of(data_set(), Withheld(0.3), sparse=True)


@pytest.mark.parametrize("rarest", [0.01, 0.03])
def test_a_long_tail_is_cut_from_training_alone(rarest: float) -> None:
    whole = data_set()
    whole = replace(whole, train=replace(whole.train, targets=whole.train.targets[:, ::-1].copy()))
    left = Withheld(long_tail=rarest).of(whole, 3)
    counts = left.train.targets.sum(0)[::-1]
    first = whole.train.targets.sum(0).max()
    allowed = first * rarest ** (np.arange(10) / 9)
    assert (counts <= np.maximum(np.floor(allowed), 1)).all()
    assert counts.min() >= 1
    assert counts[0] > 0.3 * first
    rows = left.train.images[:, 0].long().numpy()
    assert np.array_equal(rows, np.sort(rows))
    assert np.array_equal(left.train.targets, whole.train.targets[rows])
    assert np.array_equal(left.train.image_ids, whole.train.image_ids[rows])
    assert np.array_equal(left.train.groups, rows)
    assert left.dropped == {"long tail": len(whole.train) - len(rows)}
    # no image that is left out would fit in
    out = np.setdiff1d(np.arange(len(whole.train)), rows)
    total = left.train.targets.sum(0)
    room = total < np.maximum(np.floor(allowed), 1)[::-1]
    assert not any(room[whole.train.targets[row] > 0].all() for row in out)
    assert left.val is whole.val
    assert left.test is whole.test


def test_what_is_withheld_is_a_function_of_the_seed() -> None:
    whole = data_set()
    for withheld in (Withheld(0.5), Withheld(long_tail=0.02), Withheld(0.2, "negative", 0.02)):
        hashes = [withheld.of(whole, seed).split_hash for seed in (0, 0, 1)]
        assert hashes[0] == hashes[1] != hashes[2]
    nothing = Withheld().of(whole, 0)
    assert nothing.split_hash == whole.split_hash
    rows = long_tailed_rows(whole.train.targets, 0.02, 0)
    assert np.array_equal(rows, long_tailed_rows(whole.train.targets, 0.02, 0))


def test_images_that_are_read_one_by_one_are_the_rows_that_are_left() -> None:
    whole = data_set()
    listed = [torch.full((3, 2, 2), row % 256, dtype=torch.uint8) for row in range(SIZES["train"])]
    left = Withheld(long_tail=0.02).of(replace(whole, train=replace(whole.train, images=listed)), 0)
    rows = left.train.groups
    assert len(left.train.images) == len(rows)
    assert all(int(left.train.images[i][0, 0, 0]) == rows[i] % 256 for i in range(len(rows)))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"drop_labels": 1.0}, "data.drop_labels=1.0: a share in"),
        ({"drop_labels": -0.1}, "data.drop_labels=-0.1"),
        ({"drop_labels": float("nan")}, "data.drop_labels=nan"),
        ({"drop_labels": "half"}, "data.drop_labels=half"),
        ({"drop_labels": "single_positive"}, "leaves no negative known.*data.dropped_as=negative"),
        ({"dropped_as": "positive"}, "data.dropped_as=positive: unknown or negative"),
        ({"long_tail": 0.0}, "data.long_tail=0.0"),
        ({"long_tail": 1.0}, "data.long_tail=1.0"),
    ],
)
def test_what_cannot_be_withheld_is_refused(options: dict, message: str) -> None:
    with pytest.raises(DataError, match=message):
        Withheld(**options)


@pytest.mark.parametrize(
    "override", ["data.drop_labels=1", "data.drop_labels=half", "data.long_tail=0", "data.dropped_as=no"]
)
def test_a_configuration_is_refused_before_anything_is_read(override: str, tmp_path: Path) -> None:
    from lsep_ml.stages.ranges import check_ranges

    with pytest.raises(ValueError, match=f"{override}: expected"):
        check_ranges(compose_here(tmp_path, override)[0])


def test_identities_without_it_are_those_of_before(tmp_path: Path) -> None:
    config, folder = compose_here(tmp_path, *SMALL)
    assert not {"drop_labels", "dropped_as", "long_tail"} & set(config_sections(config, ["data"])["data"])
    other, elsewhere = compose_here(tmp_path, *SMALL, "data.drop_labels=0.5")
    assert config_sections(other, ["data"])["data"]["drop_labels"] == 0.5
    assert folder.name != elsewhere.name


def test_a_run_with_half_of_the_labels_hidden(tmp_path: Path) -> None:
    options = (*SMALL, "data.drop_labels=0.5", "decision=per_class", "data.long_tail=0.02")
    record, folder = run_job_here(tmp_path / "outputs", *options)
    data = build_data(compose_here(tmp_path / "outputs", *options)[0]).data_set
    assert record["counts"]["images"]["train"] == len(data.train) < 60
    assert record["split_hash"] == data.split_hash
    with np.load(folder / "validation.npz", allow_pickle=False) as arrays:
        assert 0.3 < arrays["mask"].mean() < 0.7
        assert np.array_equal(arrays["mask"] != 0, data.val.mask)
    with np.load(folder / "predictions.npz", allow_pickle=False) as arrays:
        assert arrays["mask"].all()
    assert json.loads((folder / "result.json").read_text())["config"]["data"]["drop_labels"] == 0.5
