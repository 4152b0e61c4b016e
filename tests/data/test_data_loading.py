"""The loaders: what they feed, in which order, under Lightning and by hand, and the balanced sampler."""

import dataclasses
import subprocess
import sys
import warnings
from functools import partial

import numpy as np
import pytest
import pytorch_lightning as pl
import torch

from lsep_ml.data import Batch, DataError, ImageDataModule, Transform
from lsep_ml.data.order import FixedOrder, ProcessShare, TrainingOrder, repeat_factors
from lsep_ml.data.sources.digits import read_digits

SMALL = {"train": 50, "val": 9, "test": 21}
AUGMENTED = Transform(crop=40, flip=True, channels=1)


def make(transform: Transform = AUGMENTED, **options) -> ImageDataModule:
    arguments = {"batch_size": 8, "eval_batch_size": 4, "training_seed": 5, "seed": 0, **SMALL, **options}
    return ImageDataModule(read_digits, transform=transform, **arguments)


def epoch_of(module: ImageDataModule, epoch: int) -> list[Batch]:
    loader = module.train_dataloader()
    loader.sampler.set_epoch(epoch)
    return list(loader)


def by_row(batches: list[Batch]) -> dict[int, torch.Tensor]:
    return {int(row): image for batch in batches for row, image in zip(batch.rows, batch.images, strict=True)}


def test_a_batch():
    module = make(Transform(channels=1))
    batch = next(iter(module.train_dataloader()))
    train = module.data_set.train
    assert isinstance(batch, Batch)
    assert batch.images.shape == (8, 1, 48, 48)
    assert (batch.images.dtype, batch.targets.dtype, batch.rows.dtype) == (
        torch.uint8,
        torch.uint8,
        torch.int64,
    )
    assert batch.mask is None
    assert torch.equal(batch.images, train.images[batch.rows])
    assert np.array_equal(batch.targets.numpy(), train.targets[batch.rows.numpy()])


def test_each_row_once_an_epoch_in_another_order():
    module = make()
    orders = [torch.cat([batch.rows for batch in epoch_of(module, epoch)]).tolist() for epoch in (0, 1)]
    assert sorted(orders[0]) == sorted(orders[1]) == list(range(50))
    assert orders[0] != orders[1]


def test_augmentation_is_a_function_of_seed_epoch_and_row():
    first, again = by_row(epoch_of(make(), 3)), by_row(epoch_of(make(), 3))
    other_batches = by_row(epoch_of(make(batch_size=13, sampler="balanced", repeat_threshold=1.0), 3))
    assert all(torch.equal(first[row], again[row]) for row in range(50))
    assert all(torch.equal(first[row], other_batches[row]) for row in range(50))
    for changed in (by_row(epoch_of(make(), 4)), by_row(epoch_of(make(training_seed=6), 3))):
        assert sum(torch.equal(first[row], changed[row]) for row in range(50)) < 5


@pytest.mark.parametrize("transform", [AUGMENTED, Transform(channels=1)], ids=["augmented", "native"])
@pytest.mark.filterwarnings("ignore:.*multi-threaded:DeprecationWarning")  # Python 3.12 on, of any fork
def test_workers_change_nothing(transform):
    for epoch in (0, 1):
        alone, shared = epoch_of(make(transform), epoch), epoch_of(make(transform, num_workers=1), epoch)
        for one, other in zip(alone, shared, strict=True):
            assert torch.equal(one.images, other.images)
            assert torch.equal(one.targets, other.targets)
            assert torch.equal(one.rows, other.rows)


def test_loading_leaves_the_global_random_states_alone():
    torch.manual_seed(0)
    states = torch.get_rng_state(), np.random.get_state()[1].copy()  # noqa: NPY002
    epoch_of(make(), 0)
    list(make().val_dataloader())
    assert torch.equal(states[0], torch.get_rng_state())
    assert np.array_equal(states[1], np.random.get_state()[1])  # noqa: NPY002


@pytest.mark.parametrize(("split", "length"), [("train", 50), ("val", 9), ("test", 21)])
def test_evaluation_is_fixed_and_not_augmented(split, length):
    module = make()
    batches = list(module.evaluation_dataloader(split))
    assert torch.cat([batch.rows for batch in batches]).tolist() == list(range(length))
    assert [len(batch.rows) for batch in batches] == [4] * (length // 4) + [length % 4]
    assert len(module.evaluation_dataloader(split)) == len(batches)
    images = module.data_set.split(split).images
    assert torch.equal(torch.cat([batch.images for batch in batches]), images[:, :, 4:44, 4:44])


ENDS = """
import os, signal
from functools import partial
from lsep_ml.data import ImageDataModule, Transform
from lsep_ml.data.sources.digits import read_digits
reader = partial(read_digits, train=8, val=40, test=4, canvas=32)
data = ImageDataModule(reader, transform=Transform(), batch_size=2, eval_batch_size=2, training_seed=0, num_workers=1)
batches = iter(data.val_dataloader())
next(batches)
[worker] = batches._workers
os.system(f"kill -TERM {worker.pid}")  # not sent by its parent
for _ in range(9):
    next(batches)
print("read on")
"""


def test_workers_outlive_a_schedulers_sigterm_but_not_the_main_process():
    ended = subprocess.run([sys.executable, "-c", ENDS], capture_output=True, text=True, timeout=60)
    assert (ended.returncode, ended.stdout) == (0, "read on\n"), ended.stderr


def test_mask_reaches_the_batch():
    def masked_digits(**options):
        data_set = read_digits(**options)
        rng = np.random.default_rng(0)
        splits = {}
        for name in ("train", "val", "test"):
            split = data_set.split(name)
            mask = (rng.random(split.targets.shape) < 0.8) | (split.targets > 0)
            splits[name] = dataclasses.replace(split, mask=mask)
        return dataclasses.replace(data_set, **splits)

    module = ImageDataModule(
        masked_digits, transform=AUGMENTED, batch_size=8, eval_batch_size=4, training_seed=5, **SMALL
    )
    for batch in epoch_of(module, 0):
        assert batch.mask.dtype == torch.bool
        assert np.array_equal(batch.mask.numpy(), module.data_set.train.mask[batch.rows.numpy()])


class RowRecorder(pl.LightningModule):
    """Trains nothing; remembers each epoch's rows and images."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = torch.nn.Parameter(torch.zeros(()))
        self.epochs: list[list[Batch]] = []

    def on_train_epoch_start(self) -> None:
        self.epochs.append([])

    def training_step(self, batch: Batch, _: int) -> torch.Tensor:
        self.epochs[-1].append(batch)
        return self.weight * batch.images.float().mean()

    def validation_step(self, batch: Batch, _: int) -> None:
        assert isinstance(batch, Batch)

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.SGD(self.parameters(), lr=0.1)


def test_lightning_reshuffles_each_epoch():
    recorder, module = RowRecorder(), make()
    trainer = pl.Trainer(
        max_epochs=3, accelerator="cpu", logger=False, enable_checkpointing=False, enable_progress_bar=False,
        enable_model_summary=False,
    )  # fmt: skip
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=".*does not have many workers")
        warnings.filterwarnings("ignore", message=".*LeafSpec.*")  # Lightning 2.6 on torch 2.15
        trainer.fit(recorder, datamodule=module)
    for epoch, batches in enumerate(recorder.epochs):
        expected = epoch_of(make(), epoch)
        assert [batch.rows.tolist() for batch in batches] == [batch.rows.tolist() for batch in expected]
        assert all(torch.equal(x.images, y.images) for x, y in zip(batches, expected, strict=True))


@pytest.mark.parametrize(
    ("rows", "size", "lengths"),
    [(10, 4, [4, 4, 2]), (9, 4, [4, 5]), (8, 4, [4, 4]), (1, 4, [1]), (3, 1, [1, 1, 1]), (4, 9, [4])],
)
def test_no_training_batch_of_one_image_is_left_over(rows, size, lengths):
    order = TrainingOrder(rows, size, seed=0)
    batches = [key.rows for key in order]
    assert [len(chosen) for chosen in batches] == lengths
    assert len(order) == len(lengths)
    assert sorted(np.concatenate(batches)) == list(range(rows))


def test_repeat_factors_against_loops():
    targets = (np.random.default_rng(0).random((200, 6)) < [0.5, 0.2, 0.08, 0.02, 0.005, 0.0]).astype(
        np.uint8
    )
    factors = repeat_factors(targets, threshold=0.1)
    for row, factor in zip(targets, factors, strict=True):
        expected = 1.0
        for label in np.nonzero(row)[0]:
            expected = max(expected, (0.1 / (targets[:, label].sum() / 200)) ** 0.5)
        assert factor == pytest.approx(expected, abs=1e-12)


def test_balanced_order_repeats_as_the_factors_say():
    repeats = np.array([1.0, 1.0, 2.5, 1.3, 4.0, 1.0, 1.15])
    order = TrainingOrder(7, 4, seed=0, repeats=repeats)
    counts = []
    for epoch in range(2000):
        order.set_epoch(epoch)
        batches = list(order)
        assert len(batches) == len(order)
        counts.append(np.bincount(np.concatenate([key.rows for key in batches]), minlength=7))
    counts = np.array(counts)
    assert (counts.sum(axis=1) == 12).all()
    scaled = repeats * 12 / repeats.sum()
    assert (counts >= np.floor(scaled)).all()
    assert (counts <= np.ceil(scaled)).all()
    np.testing.assert_allclose(counts.mean(axis=0), scaled, atol=4 * 0.5 / np.sqrt(2000))


def test_balanced_order_with_nothing_rare_is_each_row_once():
    order = TrainingOrder(101, 8, seed=0, repeats=np.ones(101))
    assert sorted(order.rows()) == list(range(101))


def test_balanced_sampler_shows_rare_labels_more_often():
    module = make(train=600, sampler="balanced", repeat_threshold=0.5)
    shown = np.concatenate([batch.targets.numpy() for batch in epoch_of(module, 0)])
    assert len(shown) > 600
    assert shown[:, 9].mean() > module.data_set.train.targets[:, 9].mean()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"sampler": "weighted"}, "data.sampler=weighted: plain or balanced"),
        ({"sampler": "balanced", "repeat_threshold": 0.0}, "data.repeat_threshold=0.0"),
        ({"batch_size": 0}, "batch_size=0"),
        ({"eval_batch_size": 0}, "batch_size=0"),
    ],
)
def test_refused(options, message):
    with pytest.raises(DataError, match=message):
        make(**options)


def test_fixed_order_is_in_order():
    assert [key.rows.tolist() for key in FixedOrder(5, 2)] == [[0, 1], [2, 3], [4]]


@pytest.mark.parametrize("processes", [1, 2, 3])
@pytest.mark.parametrize("rows", [97, 9, 8])
def test_processes_share_the_rows_of_every_training_batch(rows, processes):
    whole = TrainingOrder(rows, 4, seed=0)
    parts = [
        TrainingOrder(rows, 4, seed=0, process=ProcessShare(rank, processes)) for rank in range(processes)
    ]
    for order in (whole, *parts):
        order.set_epoch(3)
    assert {len(order) for order in parts} == {len(whole)}
    for batch, *shares in zip(whole, *parts, strict=True):
        assert np.array_equal(np.concatenate([share.rows for share in shares]), batch.rows)
        values = np.random.default_rng(0).normal(size=rows)
        of_shares = [share.weight * values[share.rows].mean() for share in shares]
        assert np.mean(of_shares) == pytest.approx(values[batch.rows].mean(), abs=1e-12)


def test_a_batch_too_small_for_the_processes_is_refused():
    with pytest.raises(
        DataError, match=r"training\.batch_size=4: a batch of 2 images is left for 3 processes"
    ):
        make(batch_size=4, train=50, process=ProcessShare(0, 3))
    make(batch_size=4, train=50, process=ProcessShare(0, 2))


@pytest.mark.parametrize(("rows", "processes"), [(97, 2), (97, 3), (2, 3)])
def test_processes_share_out_whole_evaluation_batches(rows, processes):
    whole = [key.rows.tolist() for key in FixedOrder(rows, 8)]
    parts = [list(FixedOrder(rows, 8, ProcessShare(rank, processes))) for rank in range(processes)]
    assert all(key.rows.tolist() in whole for part in parts for key in part)
    assert min(len(part) for part in parts) >= 1
    computed = np.concatenate([key.rows for part in parts for key in part])
    assert np.unique(computed).tolist() == list(range(rows))
    assert rows == 2 or len(computed) == rows


def test_reader_may_be_partial():
    module = make()
    other = ImageDataModule(
        partial(read_digits, **SMALL), transform=AUGMENTED, batch_size=8, eval_batch_size=4, training_seed=5
    )
    assert other.data_set.split_hash == module.data_set.split_hash


@pytest.mark.parametrize("processes", [1, 2, 3])
@pytest.mark.parametrize("first", [0, 1, 3])
def test_a_fixed_order_begins_later_with_the_same_batches(first: int, processes: int) -> None:
    whole = [key.rows.tolist() for key in FixedOrder(27, 8)]
    parts = [
        [key.rows.tolist() for key in FixedOrder(27, 8, ProcessShare(rank, processes), first)]
        for rank in range(processes)
    ]
    seen = {tuple(rows) for batches in parts for rows in batches}
    assert seen == {tuple(rows) for rows in whole[first:]}
    rounds = max(map(len, parts))
    in_order = [batches[n] for n in range(rounds) for batches in parts if n < len(batches)]
    assert in_order[: len(whole) - first] == whole[first:]
