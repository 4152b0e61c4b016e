"""The perceptual hash: the equation as loops, and what it does not see."""

import io
import math

import numpy as np
import pytest
from data_trees import picture
from PIL import Image

from lsep_ml.data.images.decode import decode_image
from lsep_ml.data.twins import perceptual_hash


def planes(image: Image.Image) -> np.ndarray:
    return np.asarray(image.convert("RGB")).transpose(2, 0, 1)


def by_loops(image: Image.Image) -> int:
    """The bits of the DCT-II's lowest 8 x 8 coefficients of the 32 x 32 picture, one after the other."""
    pixels = np.asarray(image.convert("L").resize((32, 32), Image.Resampling.LANCZOS)).tolist()
    wave = [[math.cos(math.pi * k * (2 * n + 1) / 64) for n in range(32)] for k in range(8)]
    coefficients = [
        sum(pixels[y][x] * wave[u][y] * wave[v][x] for y in range(32) for x in range(32))
        for u in range(8)
        for v in range(8)
    ]
    middle = sorted(coefficients)[31:33]
    bits = 0
    for coefficient in coefficients:
        bits = 2 * bits + (coefficient > sum(middle) / 2)
    return bits


@pytest.mark.parametrize("seed", range(8))
def test_it_is_the_sign_of_the_lowest_frequencies(seed):
    image = picture(seed, 60 + seed, 90)
    assert perceptual_hash(planes(image)) == by_loops(image)


def test_the_mean_is_the_highest_bit():
    assert perceptual_hash(planes(picture(0, 64, 64))) >= 2**63


@pytest.mark.parametrize("colour", ["black", "white", "#7f3344"])
def test_one_colour_has_nothing_to_be_told_by(colour):
    assert perceptual_hash(planes(Image.new("RGB", (50, 40), colour))) == 0


@pytest.mark.parametrize("seed", range(10))
def test_a_smaller_and_compressed_copy_is_near_and_another_picture_is_not(seed):
    image = picture(seed, 120, 160)
    stream = io.BytesIO()
    image.resize((100, 75)).save(stream, "JPEG", quality=40)
    first = perceptual_hash(planes(image))
    copy = perceptual_hash(decode_image(stream.getvalue()).numpy())
    other = perceptual_hash(planes(picture(seed + 100, 120, 160)))
    assert (first ^ copy).bit_count() <= 8 < (first ^ other).bit_count()
