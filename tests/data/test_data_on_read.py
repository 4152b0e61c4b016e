"""Images that are not opened before the first epoch: what is asked of the disk, and what becomes of bad ones."""

import os

import numpy as np
import pytest
import torch
from data_trees import write_image

from lsep_ml.data import DataError
from lsep_ml.data.errors import ImageError
from lsep_ml.data.images import opened
from lsep_ml.data.images.opened import images_checked
from lsep_ml.data.known import without_unread
from lsep_ml.data.loading import BatchedSplit
from lsep_ml.data.mixing import Mixing
from lsep_ml.data.order import FixedOrder, ProcessShare, TrainingOrder
from lsep_ml.data.sources.own import folder, read_own
from lsep_ml.data.transform import Transform
from lsep_ml.metrics.indicator import SparseIndicator

IMAGES = 24
BAD = {5: b"no image", 6: None, 17: b""}
"""Image number -> its content; None: it is missing. Two of them follow each other."""
TRANSFORM = Transform((16, 16), (12, 12), flip=True, mean=[0.5] * 3, std=[0.5] * 3)


@pytest.fixture
def root(tmp_path):
    lines = ["image,cat,dog,split"]
    for number in range(IMAGES):
        write_image(tmp_path / f"images/{number:02d}.jpg", seed=number)
        part = "train" if number < 16 else "val" if number < 20 else "test"
        lines.append(f"images/{number:02d}.jpg,{number % 2},{1 - number % 3 // 2},{part}")
    for number, content in BAD.items():
        path = tmp_path / f"images/{number:02d}.jpg"
        path.unlink() if content is None else path.write_bytes(content)
    (tmp_path / "labels.csv").write_text("\n".join(lines) + "\n")
    return tmp_path


def read(root, check, **options):
    with images_checked(check):
        return read_own(root, **options)


def test_no_image_is_opened_and_no_state_of_one_asked_for(root, monkeypatch):
    asked = []
    stat = os.stat
    monkeypatch.setattr(
        os, "stat", lambda path, **options: (asked.append(str(path)), stat(path, **options))[1]
    )
    data_set = read(root, "on_read", cache=root / ".cache")
    assert not [path for path in asked if path.endswith(".jpg")]
    assert data_set.counts["images"] == {"train": 16, "val": 4, "test": 4}
    assert data_set.images_hash == ""
    with pytest.raises(DataError, match=r"3 of 24 images .* cannot be used"):
        read(root, "full")
    with pytest.raises(DataError, match=r"data.twins=together: .* take data.check=full, not on_read"):
        read(root, "on_read", twins="together")
    with pytest.raises(DataError, match=r"data.check=never: full, sample, on_read"):
        read(root, "never")


def test_a_sample_is_opened_and_the_same_one_each_time(root, monkeypatch):
    monkeypatch.setattr("lsep_ml.data.annotations.SAMPLE", 8)
    looked_at = []
    open_one = opened._open_one
    monkeypatch.setattr(opened, "_open_one", lambda path: (looked_at.append(path.name), open_one(path))[1])
    first = read(root, "sample", on_bad_image="drop")
    seen, again = sorted(looked_at), looked_at.clear()
    assert again is None
    assert read(root, "sample", on_bad_image="drop").counts == first.counts
    assert sorted(looked_at) == seen
    bad = sum(f"{number:02d}.jpg" in seen for number in BAD)
    assert len(seen) <= 8
    assert sum(first.counts["images"].values()) >= IMAGES - bad - 1  # the missing one is no file to open


@pytest.mark.parametrize("mixing", [Mixing(), Mixing(mixup=1.0)])
def test_bad_images_are_left_out_by_their_row_alone(root, mixing):
    """On one process, on two, and from any place in the epoch: the same pixels and labels of every row."""
    train = read(root, "on_read").train
    batches = BatchedSplit(train, TRANSFORM, seed=3)
    orders = [
        TrainingOrder(len(train), 8, 3, process=process, mixing=mixing)
        for process in (ProcessShare(), ProcessShare(0, 2), ProcessShare(1, 2))
    ]
    for order in orders:
        order.set_epoch(1)
    whole, first, second = ([batches[key] for key in order] for order in orders)
    for one, *parts in zip(whole, first, second, strict=True):
        for field in ("images", "targets", "rows"):
            assert torch.equal(getattr(one, field), torch.cat([getattr(part, field) for part in parts]))
        known = [
            torch.ones_like(part.targets, dtype=bool) if part.mask is None else part.mask
            for part in (one, *parts)
        ]
        assert torch.equal(known[0], torch.cat(known[1:]))
        for row, targets, mask in zip(one.rows.tolist(), one.targets, known[0], strict=True):
            assert mask.tolist() == [row not in BAD] * 2
            assert targets.tolist() == (train.targets[row].tolist() if row not in BAD else [0, 0])
        assert {row for row, _ in one.unread} >= set(one.rows.tolist()) & BAD.keys()
        assert {row for row, _ in one.unread} <= BAD.keys()
    orders[0].start = 1
    later = [batches[key] for key in orders[0]]
    assert all(torch.equal(one.images, other.images) for one, other in zip(whole[1:], later, strict=True))


def test_the_next_image_that_can_be_read_stands_in_its_place(root, monkeypatch):
    train = read(root, "on_read").train
    (batch,) = (BatchedSplit(train, TRANSFORM)[key] for key in FixedOrder(len(train), len(train)))
    assert torch.equal(batch.images[5], batch.images[7])
    assert torch.equal(batch.images[6], batch.images[7])
    assert not torch.equal(batch.images[4], batch.images[7])
    assert [row for row, _ in batch.unread] == [5, 6]
    assert "images/05.jpg: not an image" in batch.unread[0][1]
    monkeypatch.setattr("lsep_ml.data.loading.MOST_UNREAD", 2)
    with pytest.raises(ImageError, match="and 2 images after it cannot be read either"):
        BatchedSplit(train, TRANSFORM)[next(iter(FixedOrder(len(train), len(train))))]


@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.parametrize("sparse", [False, True])
def test_labels_of_unread_images_are_unknown(root, masked, sparse):
    from dataclasses import replace

    data_set = read(root, "on_read")
    assert without_unread(data_set, ()) is data_set
    splits, expected = {}, {}
    for name in ("train", "val", "test"):
        split = data_set.split(name)
        mask = np.random.default_rng(1).random(split.targets.shape) < 0.7 if masked else None
        targets = split.targets * (1 if mask is None else mask).astype(np.uint8) if masked else split.targets
        read_rows = ~np.isin(split.image_ids, ["images/05.jpg", "images/17.jpg"])[:, None]
        expected[name] = (
            targets * read_rows,
            (np.ones(targets.shape, bool) if mask is None else mask) & read_rows,
        )
        if sparse:
            targets = SparseIndicator.of(*targets.nonzero(), targets.shape)
            mask = None if mask is None else SparseIndicator.of(
                *(~mask).nonzero(), mask.shape, np.bool_, np.ones(len(mask), bool)
            )  # fmt: skip
        splits[name] = replace(split, targets=targets, mask=mask)
    found = without_unread(replace(data_set, **splits), {"images/05.jpg": "why", "images/17.jpg": "why"})
    for name, (targets, mask) in expected.items():
        assert np.array_equal(np.asarray(found.split(name).targets), targets)
        assert np.array_equal(np.asarray(found.split(name).mask), mask)


def test_the_listing_is_remembered_until_a_folder_changes(root, tmp_path_factory, monkeypatch):
    monkeypatch.setattr(folder, "RECENT", -(10**12))
    cache = tmp_path_factory.mktemp("cache")
    first = folder.Folder(root, cache)
    monkeypatch.setattr(folder.Folder, "_walk", lambda *args: pytest.fail("listed again"))
    again = folder.Folder(root, cache)
    assert (again.files, again.images) == (first.files, first.images)
    monkeypatch.undo()
    write_image(root / "images/é new.jpg", seed=99)
    assert len(folder.Folder(root, cache).images) == len(first.images) + 1
