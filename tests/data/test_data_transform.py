"""Transform against Pillow and numpy, and its randomness against its definition."""

import numpy as np
import pytest
import torch
from PIL import Image
from torchvision.transforms import v2

from lsep_ml.data import DataError, Transform


def picture(height: int, width: int, channels: int = 3, seed: int = 0) -> torch.Tensor:
    coarse = np.random.default_rng(seed).integers(
        0, 256, (height // 8 + 1, width // 8 + 1, channels), dtype=np.uint8
    )
    fine = coarse.repeat(8, axis=0).repeat(8, axis=1)[:height, :width]
    return torch.from_numpy(fine.transpose(2, 0, 1).copy())


@pytest.mark.parametrize(("height", "width"), [(48, 80), (80, 48), (20, 31), (1, 1), (400, 2)])
def test_resize_agrees_with_pillow(height, width):
    image = picture(height, width)
    ours = Transform(resize=[32, 40])(image)
    pillow = Image.fromarray(image.permute(1, 2, 0).numpy()).resize((40, 32), Image.Resampling.BILINEAR)
    assert ours.shape == (3, 32, 40)
    assert ours.dtype == torch.uint8
    difference = ours.permute(1, 2, 0).int() - torch.from_numpy(np.array(pillow)).int()
    assert difference.abs().max() <= 1


def test_one_int_resizes_the_shorter_side():
    for height, width in ((48, 96), (97, 31), (33, 33)):
        image = picture(height, width)
        assert torch.equal(Transform(resize=16)(image), v2.functional.resize(image, [16], antialias=True))
    assert Transform(resize=16)(picture(1, 2000)).shape == (3, 16, 256)
    assert Transform(resize=16, crop=12)(picture(2000, 1)).shape == (3, 12, 12)


def test_evaluation_takes_the_centre():
    image = picture(20, 30)
    assert torch.equal(Transform(crop=[10, 12])(image), image[:, 5:15, 9:21])


def test_training_crops_where_the_draws_say():
    image = picture(20, 30)
    transform = Transform(crop=10, flip=True)
    assert torch.equal(transform(image, [0.0, 0.999, 0.7]), image[:, :10, 20:])
    assert torch.equal(transform(image, [0.999, 0.0, 0.2]), image[:, 10:, :10].flip(-1))
    assert torch.equal(transform(image, [0.5, 0.5, 0.5]), image[:, 5:15, 10:20])


def test_every_place_of_the_crop_is_reached():
    image = torch.arange(5 * 4, dtype=torch.uint8).reshape(1, 5, 4)
    transform = Transform(crop=3, channels=1)
    draws = np.random.default_rng(0).random((500, 3))
    corners, counts = np.unique([transform(image, d)[0, 0, 0].item() for d in draws], return_counts=True)
    assert corners.tolist() == [0, 1, 4, 5, 8, 9]
    assert counts.min() > 50


@pytest.mark.parametrize("draws", [None, [0.3, 0.9, 0.9]])
def test_an_image_smaller_than_the_crop_is_padded(draws):
    image = picture(3, 20) // 2 + 1
    cropped = Transform(crop=[8, 8])(image, draws)
    assert cropped.shape == (3, 8, 8)
    assert not cropped[:, :2].any()
    assert cropped[:, 2:5].all()
    assert not cropped[:, 5:].any()


def test_channels():
    grey, colour = picture(8, 8, channels=1), picture(8, 8)
    assert torch.equal(Transform(channels=3)(grey), grey.expand(3, -1, -1))
    luma = 0.299 * colour[0] + 0.587 * colour[1] + 0.114 * colour[2]
    assert (Transform(channels=1)(colour)[0].float() - luma).abs().max() <= 1


def test_a_batch_equals_its_images():
    images = torch.stack([picture(24, 24, seed=seed) for seed in range(4)])
    transform = Transform(resize=[16, 20], crop=12, channels=1)
    assert torch.equal(transform(images), torch.stack([transform(image) for image in images]))


def test_what_fits_in_one_batch():
    assert Transform(resize=[8, 8]).fixed_size
    assert Transform(crop=8).fixed_size
    assert not Transform(resize=8).fixed_size
    assert not Transform().fixed_size


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"resize": 0}, "transform.resize=0"),
        ({"resize": [1, 2, 3]}, "transform.resize"),
        ({"crop": [8, -8]}, "transform.crop"),
        ({"resize": [0.5, 8]}, "transform.resize"),
        ({"channels": 4}, "transform.channels=4"),
        ({"mean": [0.5]}, "transform.mean=.*3 channels"),
        ({"std": [0.2, 0.0, 0.2]}, "transform.std.*positive"),
    ],
)
def test_refused(options, message):
    with pytest.raises(DataError, match=message):
        Transform(**options)
