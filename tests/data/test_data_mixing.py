"""Mixup and cutmix: every pixel and share by loops, draws of (seed, epoch, batch) whatever the number of processes."""

import math
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from lsep_ml.data import DataError, ImageDataModule, Transform
from lsep_ml.data.mixing import Mix, Mixing, mixed
from lsep_ml.data.order import ProcessShare, TrainingOrder
from lsep_ml.data.sources.digits import read_digits

EITHER = Mixing(mixup=0.4, cutmix=1.0)


def images(seed: int, height: int = 7, width: int = 10) -> Tensor:
    rng = np.random.default_rng(seed)
    return torch.from_numpy(rng.integers(0, 256, (3, 2, height, width), dtype=np.uint8))


@pytest.mark.parametrize("share", [0.0, 0.25, 0.6134, 1.0])
def test_mixup_blends_every_pixel(share: float) -> None:
    one, other = images(0), images(1)
    found, left = mixed(one, other, Mix(np.arange(3), share))
    assert left == share
    assert found.dtype == torch.uint8
    for a, b, c in zip(
        one.flatten().tolist(), other.flatten().tolist(), found.flatten().tolist(), strict=True
    ):
        assert abs(share * a + (1 - share) * b - c) <= 0.5 + 1e-4


@pytest.mark.parametrize("share", [0.0, 0.3, 0.9, 1.0])
@pytest.mark.parametrize("place", [(0.5, 0.5), (0.0, 0.99), (0.9, 0.1)])
def test_cutmix_counts_what_is_left(share: float, place: tuple[float, float]) -> None:
    one, other = images(0), images(1)
    found, left = mixed(one, other, Mix(np.arange(3), share, place))
    ratio, kept = math.sqrt(1 - share), 0
    for i in range(7):
        for j in range(10):
            inside = all(
                int(at * side) - int(side * ratio) // 2 <= n < int(at * side) + int(side * ratio) // 2
                for n, at, side in ((i, place[0], 7), (j, place[1], 10))
            )
            kept += not inside
            assert torch.equal(found[:, :, i, j], (other if inside else one)[:, :, i, j])
    assert left == pytest.approx(kept / 70)
    assert not torch.equal(found, one) or left == 1


def test_what_is_drawn_is_of_seed_epoch_and_batch() -> None:
    rows = np.arange(40)
    draws = [EITHER.draw(*words, rows) for words in ((0, 0, 0), (1, 0, 0), (0, 1, 0), (0, 0, 1))]
    assert len({draw.share for draw in draws}) == 4
    again = EITHER.draw(0, 1, 0, rows)
    assert (again.share, again.place) == (draws[2].share, draws[2].place)
    assert np.array_equal(again.partners, draws[2].partners)
    assert sorted(again.partners) == rows.tolist()


def test_shares_are_beta_and_a_coin_says_which() -> None:
    rows = np.arange(2)
    draws = [EITHER.draw(0, 0, batch, rows) for batch in range(3000)]
    cut = [draw.share for draw in draws if draw.place is not None]
    blended = [draw.share for draw in draws if draw.place is None]
    assert 0.46 < len(cut) / 3000 < 0.54
    assert np.var(cut) == pytest.approx(1 / 12, abs=0.006)  # Beta(1, 1)
    assert np.var(blended) == pytest.approx(1 / (4 * (2 * 0.4 + 1)), abs=0.008)  # Beta(0.4, 0.4)
    assert all(Mixing(mixup=1).draw(0, 0, batch, rows).place is None for batch in range(50))
    assert all(Mixing(cutmix=1).draw(0, 0, batch, rows).place is not None for batch in range(50))


@pytest.mark.parametrize("processes", [2, 3])
def test_processes_mix_as_one_does(processes: int) -> None:
    whole = TrainingOrder(30, 8, seed=2, mixing=EITHER)
    parts = [
        TrainingOrder(30, 8, seed=2, process=ProcessShare(rank, processes), mixing=EITHER)
        for rank in range(processes)
    ]
    for batch, *shares in zip(whole, *parts, strict=True):
        assert np.array_equal(np.concatenate([share.mix.partners for share in shares]), batch.mix.partners)
        assert {(share.mix.share, share.mix.place) for share in shares} == {
            (batch.mix.share, batch.mix.place)
        }
    whole.start = 2  # continued
    later = [key.mix.share for key in whole]
    whole.start = 0
    assert later == [key.mix.share for key in whole][2:]


def module(mixing: Mixing, **options: Any) -> ImageDataModule:
    return ImageDataModule(
        read_digits,
        transform=Transform(crop=24, flip=True, channels=1),
        batch_size=7,
        eval_batch_size=4,
        training_seed=5,
        mixing=mixing,
        train=30,
        val=8,
        test=8,
        canvas=32,
        **options,
    )


def test_images_are_mixed_as_they_are_augmented_and_labels_stay_whole() -> None:
    plain, blended = module(Mixing()), module(Mixing(mixup=1.0))
    by_row: dict[int, Tensor] = {}
    for batch in plain.train_dataloader():
        assert batch.others is None
        by_row |= dict(zip(batch.rows.tolist(), batch.images, strict=True))
    targets = torch.from_numpy(plain.data_set.train.targets)
    order = blended.train_dataloader().sampler
    batches = list(blended.train_dataloader())
    for key, batch in zip(order, batches, strict=True):
        own = torch.stack([by_row[row] for row in key.rows])
        partners = torch.stack([by_row[row] for row in key.mix.partners])
        assert torch.equal(batch.images, mixed(own, partners, key.mix)[0])
        assert torch.equal(batch.targets, targets[key.rows])
        assert torch.equal(batch.others.targets, targets[key.mix.partners])
        assert batch.others.share == key.mix.share
    for batch in blended.val_dataloader():
        assert batch.others is None
    by_workers = list(module(Mixing(mixup=1.0), num_workers=1).train_dataloader())
    assert all(torch.equal(a.images, b.images) for a, b in zip(batches, by_workers, strict=True))


@pytest.mark.parametrize(("option", "value"), [("mixup", -0.1), ("cutmix", math.nan), ("mixup", math.inf)])
def test_refused(option: str, value: float) -> None:
    with pytest.raises(DataError, match=rf"training\.{option}={value}: at least 0"):
        Mixing(**{option: value})
