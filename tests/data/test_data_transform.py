"""Transform against Pillow and numpy, and its randomness against its definition."""

import json

import numpy as np
import pytest
import torch
from PIL import Image
from timm.data.transforms_factory import transforms_imagenet_eval
from torchvision.transforms import v2

from lsep_ml.data import DataError, Transform
from lsep_ml.data.images.resize import pillow_resize


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
        ({"geometry": "stretch", "crop": 8}, "transform.geometry=stretch: squash, center, pad"),
        ({"geometry": "pad"}, "needs transform.crop"),
        ({"geometry": "pad", "crop": 8, "resize": 9}, "transform.resize=.9.: .*the size is transform.crop"),
        ({"geometry": "pad", "crop": 8, "crop_pct": 0}, "transform.crop_pct=0"),
        ({"geometry": "pad", "crop": 8, "crop_pct": "model"}, "transform.crop_pct=model"),
        ({"interpolation": "lanczos"}, "transform.interpolation=lanczos"),
        ({"resize": 8, "decode": "half"}, "transform.decode=half: full, scaled"),
        ({"crop": 8, "decode": "scaled"}, "transform.decode=scaled: nothing is resized"),
    ],
)
def test_refused(options, message):
    with pytest.raises(DataError, match=message):
        Transform(**options)


def timm_reference(
    image: torch.Tensor, size: tuple[int, int], crop_pct: float, interpolation: str, mode: str
):
    """What timm's own evaluation transform makes of an image, uint8 (3, H, W), on Pillow."""
    steps = transforms_imagenet_eval(
        size, crop_pct, mode, interpolation=interpolation, normalize=False, mean=(0.5, 0.4, 0.3)
    )
    return steps(Image.fromarray(image.permute(1, 2, 0).numpy()))


@pytest.mark.parametrize("interpolation", ["bilinear", "bicubic"])
@pytest.mark.parametrize("crop_pct", [0.875, 0.95, 1.0, 1.15])
@pytest.mark.parametrize("size", [(64, 64), (64, 48)])
def test_center_is_timms_own_transform(interpolation, crop_pct, size):
    for height, width in ((150, 200), (201, 99), (120, 120), (40, 31)):
        image = picture(height, width)
        ours = Transform(crop=size, geometry="center", crop_pct=crop_pct, interpolation=interpolation)(image)
        timms = timm_reference(image, size, crop_pct, interpolation, "center")
        assert ours.shape == timms.shape == (3, *size)
        assert torch.equal(ours, timms)


@pytest.mark.parametrize("interpolation", ["bilinear", "bicubic"])
@pytest.mark.parametrize(("geometry", "mode"), [("squash", "squash"), ("pad", "border")])
def test_squash_and_pad_are_timms_with_all_of_the_image(interpolation, geometry, mode):
    for height, width in ((150, 200), (201, 99), (120, 120), (40, 31)):
        image, size = picture(height, width), (64, 64)
        ours = Transform(
            crop=size, geometry=geometry, crop_pct=0.8, interpolation=interpolation, mean=[0.5, 0.4, 0.3]
        )(image)
        timms = timm_reference(image, size, 1.0, interpolation, mode)
        # torchvision puts an odd bar on the other side
        shifts = [ours.roll(shift, axis) for axis in (1, 2) for shift in (0, -1, 1)]
        assert any(torch.equal(moved, timms) for moved in shifts)


def test_padding_has_the_means_colour_and_the_images_proportions():
    image = torch.full((3, 10, 30), 9, dtype=torch.uint8)
    padded = Transform(crop=30, geometry="pad", mean=[0.5, 0.25, 1.0])(image)
    assert (padded[:, 10:20] == 9).all()
    for bars in (padded[:, :10], padded[:, 20:]):
        assert torch.equal(bars, torch.tensor([128, 64, 255]).byte().view(3, 1, 1).expand(3, 10, 30))


@pytest.mark.parametrize("geometry", ["squash", "center", "pad"])
def test_training_crops_from_the_enlarged_image(geometry):
    image = picture(100, 140)
    transform = Transform(crop=32, geometry=geometry, crop_pct=0.8, interpolation="bicubic", flip=True)
    large = Transform(crop=40, geometry=geometry, interpolation="bicubic")(image)
    if geometry == "center":
        large = pillow_resize(image, [40, 56], "bicubic")
    height, width = large.shape[1:]
    assert torch.equal(transform(image, [0.0, 0.0, 0.7]), large[:, :32, :32])
    assert torch.equal(transform(image, [0.99, 0.99, 0.2]), large[:, height - 32 :, width - 32 :].flip(-1))


@pytest.mark.parametrize(
    "options",
    [
        {"crop": (32, 24), "geometry": "squash", "crop_pct": 0.8},
        {"crop": 32, "geometry": "center", "crop_pct": 0.8},
        {"crop": (32, 24), "geometry": "center", "crop_pct": 0.9},
        {"crop": (32, 24), "geometry": "pad", "crop_pct": 0.8},
        {"resize": 40, "crop": 32},
        {"resize": (30, 50)},
        {"crop": 90},
        {},
    ],
)
def test_what_is_seen_of_an_image_is_where_it_comes_out(options):
    transform = Transform(**options)
    for height, width in ((100, 140), (141, 80)):
        top, left, tall, wide = transform.seen(height, width)
        for y, x in ((0.5, 0.5), (0.4, 0.62), (0.66, 0.35)):
            image = torch.zeros(3, height, width, dtype=torch.uint8)
            image[:, int(y * height) - 6 : int(y * height) + 6, int(x * width) - 6 : int(x * width) + 6] = 255
            out = transform(image)[0].double()
            centre = [
                float((out.sum(1 - axis) * (torch.arange(out.shape[axis]) + 0.5)).sum() / out.sum())
                / out.shape[axis]
                for axis in (0, 1)
            ]
            assert top + tall * centre[0] == pytest.approx(y, abs=0.02)
            assert left + wide * centre[1] == pytest.approx(x, abs=0.02)


def test_a_thin_strip_stays_small():
    for geometry in ("squash", "center", "pad"):
        for size in ((32, 32), (32, 24)):
            transform = Transform(crop=size, geometry=geometry, crop_pct=0.9)
            for strip in (picture(1, 3000), picture(3000, 1)):
                assert transform(strip).shape == transform(strip, [0.1, 0.9, 0.9]).shape == (3, *size)


def test_scaled_decoding_keeps_all_that_training_and_evaluation_resize_to():
    def least(**options):
        return Transform(decode="scaled", **options).least_side

    assert least(resize=[64, 48]) == least(resize=64, crop=32) == 64
    assert least(crop=20, geometry="squash", crop_pct=0.8) == 25
    assert least(crop=[20, 30], geometry="pad") == 30
    assert Transform(resize=64).least_side is None
    transform = Transform(resize=64, decode="scaled")
    assert Transform(**transform.settings).least_side == 64
    assert "decode" not in Transform(resize=64).settings


def test_settings_make_the_evaluation_again():
    transform = Transform(
        crop=20, geometry="pad", crop_pct=0.9, interpolation="bicubic", mean=[0.1, 0.2, 0.3]
    )
    image = picture(33, 50)
    assert torch.equal(Transform(**transform.settings)(image), transform(image))
    assert json.loads(json.dumps(transform.settings)) == transform.settings
