"""Augmentation by name: torchvision's own operations, a function of the seed, and no trace in torch's random stream."""

import numpy as np
import pytest
import torch
from torchvision.transforms import InterpolationMode, v2

from lsep_ml.data import DataError, ImageDataModule, Transform
from lsep_ml.data.augment import AUGMENTATIONS, Augmentation
from lsep_ml.data.sources.digits import read_digits


def picture(channels: int = 3) -> torch.Tensor:
    rng = np.random.default_rng(0)
    return torch.from_numpy(rng.integers(0, 256, (channels, 24, 20), dtype=np.uint8))


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("name", AUGMENTATIONS)
def test_every_augmentation_is_a_function_of_its_seed(name: str, channels: int) -> None:
    augment, image = Augmentation(name), picture(channels)
    torch.manual_seed(3)
    before = torch.get_rng_state()
    found = [augment(image, seed) for seed in range(40)]
    assert torch.equal(torch.get_rng_state(), before)
    torch.rand(7)
    again = [augment(image, seed) for seed in range(40)]
    assert all(torch.equal(one, other) for one, other in zip(found, again, strict=True))
    assert len({one.numpy().tobytes() for one in found}) > 1
    assert all(one.shape == image.shape and one.dtype == torch.uint8 for one in found)
    assert torch.equal(image, picture(channels))


def test_it_is_torchvisions_operation_drawing_from_that_seed() -> None:
    image = picture()
    for name, operation in (
        ("trivial", v2.TrivialAugmentWide(interpolation=InterpolationMode.BILINEAR)),
        ("randaugment", v2.RandAugment(interpolation=InterpolationMode.BILINEAR)),
        ("color", v2.ColorJitter(0.4, 0.4, 0.4)),
    ):
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(11)
            expected = v2.RandomVerticalFlip()(operation(image))
        assert torch.equal(Augmentation([name, "vertical_flip"])(image, 11), expected)
    assert torch.equal(Augmentation(v2.RandomInvert(p=1.0))(image, 0), 255 - image)


def test_evaluation_is_not_augmented() -> None:
    transform, image = Transform(augment="trivial"), picture()
    assert transform.is_random
    assert torch.equal(transform(image), image)
    assert any(not torch.equal(transform(image, [0.5, 0.5, 0.5], seed), image) for seed in range(9))
    assert torch.equal(Transform()(image, [0.5, 0.5, 0.5], 3), image)


def module(training_seed: int = 5, num_workers: int = 0, augment: object = "trivial") -> ImageDataModule:
    return ImageDataModule(
        read_digits,
        transform=Transform(channels=1, crop=28, augment=augment),
        batch_size=6,
        eval_batch_size=4,
        training_seed=training_seed,
        num_workers=num_workers,
        train=30,
        val=8,
        test=8,
        canvas=32,
    )


def by_row(data: ImageDataModule, epoch: int) -> torch.Tensor:
    loader = data.train_dataloader()
    loader.sampler.set_epoch(epoch)
    batches = list(loader)
    rows = torch.cat([batch.rows for batch in batches]).argsort()
    return torch.cat([batch.images for batch in batches])[rows]


def test_what_a_row_gets_is_of_seed_epoch_and_row_and_crops_stay_as_they_were() -> None:
    found = by_row(module(), 1)
    assert torch.equal(found, by_row(module(num_workers=1), 1))
    for other in (by_row(module(), 0), by_row(module(training_seed=6), 1)):
        assert not torch.equal(found, other)
    plain = by_row(module(augment=None), 1)
    seeds = np.random.default_rng([5, 1, 2]).integers(2**63, size=30)
    for row in range(30):
        assert torch.equal(found[row], Augmentation("trivial")(plain[row], int(seeds[row])))


@pytest.mark.parametrize("name", ["trivial augment", 3, [["trivial"]]])
def test_what_is_no_augmentation_is_refused(name: object) -> None:
    with pytest.raises((DataError, TypeError), match=r"transform\.augment=|not iterable"):
        Transform(augment=name)


def test_an_operation_that_changes_the_size_is_refused() -> None:
    transform = Transform(augment=v2.Resize(10))
    with pytest.raises(
        DataError, match=r"transform\.augment: Resize.*\(3, 12, 10\) of torch\.uint8 \(3, 24, 20\)"
    ):
        transform(picture(), [0.5, 0.5, 0.5])
