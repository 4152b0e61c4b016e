"""Digit scenes: the recipe's statistics, determinism, and that splits share no handwriting."""

import time

import numpy as np
import pytest
import torch
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split

from lsep_ml.data import DataError
from lsep_ml.data.sources import digits
from lsep_ml.data.sources.digits import SceneRecipe, _draw_scenes, _split_sources, read_digits

SMALL = {"train": 300, "val": 50, "test": 120}


def test_default_scenes_follow_the_recipe():
    data_set = read_digits()
    assert data_set.counts["images"] == {"train": 6000, "val": 1000, "test": 3000}
    assert data_set.label_names == tuple("0123456789")
    targets = data_set.train.targets
    per_image = targets.sum(axis=1)
    assert per_image.min() == 1
    assert abs(per_image.mean() - 2.2) < 0.1
    assert abs((per_image <= 4).mean() - 0.98) < 0.01
    frequency = targets.mean(axis=0)
    assert (np.diff(frequency) < 0).all()
    expected = expected_frequency(density=1.6, max_digits=8, tail=0.8)
    np.testing.assert_allclose(frequency, expected, atol=4 * np.sqrt(0.25 / 6000))


def expected_frequency(density: float, max_digits: int, tail: float) -> np.ndarray:
    """P(class k in the scene) = 1 - E[(1 - p_k)^n], n = min(1 + Poisson(density), max_digits)."""
    prior = np.array([1 / rank**tail for rank in range(1, 11)])
    prior /= prior.sum()
    poisson = [np.exp(-density)]
    for n in range(1, 60):
        poisson.append(poisson[-1] * density / n)
    absent = sum(p * (1 - prior) ** min(1 + n, max_digits) for n, p in enumerate(poisson))
    return 1 - absent


def test_shapes_and_ids():
    split = read_digits(**SMALL, canvas=40).val
    assert split.images.shape == (50, 1, 40, 40)
    assert split.images.dtype == torch.uint8
    assert split.mask is None
    assert split.image_ids[17] == "val/000017"


def test_a_function_of_the_seed():
    first, again, other = read_digits(3, **SMALL), read_digits(3, **SMALL), read_digits(4, **SMALL)
    assert torch.equal(first.train.images, again.train.images)
    assert first.split_hash == again.split_hash
    assert first.split_hash != other.split_hash
    assert not torch.equal(first.train.images, other.train.images)


def test_a_split_does_not_depend_on_the_others_sizes():
    large = read_digits(3, **{**SMALL, "train": 400})
    assert torch.equal(large.test.images, read_digits(3, **SMALL).test.images)


def test_source_digits_are_shared_by_no_two_splits():
    sources = _split_sources(seed=0)
    assert {name: len(digits) for name, (digits, _) in sources.items()} == {
        "train": 1000,
        "val": 200,
        "test": 597,
    }
    seen = [{digit.tobytes() for digit in digits} for digits, _ in sources.values()]
    assert sum(len(digits) for digits in seen) == len(set.union(*seen))
    assert all(set(classes) == set(range(10)) for _, classes in sources.values())


@pytest.mark.parametrize("seed", range(5))
def test_source_digits_are_divided_as_scikit_learn_divides_them(seed):
    classes = load_digits().target[: 1500 + 3 * seed]
    for size in (17, 200, 597):
        rows = np.arange(len(classes))
        expected = train_test_split(rows, test_size=size, stratify=classes, random_state=seed)
        found = digits.stratified_halves(classes, size, seed)
        assert all(np.array_equal(*pair) for pair in zip(found, expected, strict=True))


def test_source_digits_are_those_of_scikit_learn_wherever_its_file_is(monkeypatch):
    images, classes = digits._real_digits()
    expected = load_digits()
    assert np.array_equal(images, (expected.images / 16).astype(np.float32))
    assert np.array_equal(classes, expected.target)
    monkeypatch.setattr(digits, "_FILE", "elsewhere.csv.gz")
    assert all(np.array_equal(*pair) for pair in zip(digits._real_digits(), (images, classes), strict=True))


def test_a_scene_is_its_digits_enlarged_and_combined_by_maximum():
    digits, classes = _split_sources(seed=0)["val"]
    recipe = SceneRecipe(canvas=24, density=3.0, max_digits=5, tail=0.0, noise=0.0)
    images, targets = _draw_scenes(digits, classes, 200, recipe, np.random.default_rng(0))
    pasted = {(d * 255).round().max() for d in digits}
    assert images.max() <= max(pasted)
    one_label = images[targets.sum(axis=1) == 1, 0]
    many_labels = images[targets.sum(axis=1) >= 3, 0]
    assert (many_labels > 0).mean() > (one_label > 0).mean()


def test_no_digit_but_the_noise_where_none_was_placed():
    digits, classes = _split_sources(seed=0)["val"]
    recipe = SceneRecipe(canvas=200, density=0.0, max_digits=1, tail=0.0, noise=0.0)
    images, targets = _draw_scenes(digits, classes, 50, recipe, np.random.default_rng(0))
    assert (targets.sum(axis=1) == 1).all()
    rows, columns = (images[:, 0] > 0).any(axis=2).sum(axis=1), (images[:, 0] > 0).any(axis=1).sum(axis=1)
    assert rows.max() <= 24
    assert columns.max() <= 24
    enlarged = {scale: digits.repeat(scale, 1).repeat(scale, 2) for scale in (1, 2, 3)}
    for image, target in zip(images[:10, 0], targets[:10], strict=True):
        assert target.argmax() in matching_classes(image / 255.0, enlarged, classes)


def matching_classes(image: np.ndarray, enlarged: dict[int, np.ndarray], classes: np.ndarray) -> set[int]:
    """Classes of the source digits that are this image's bright part, up to scale, place and contrast."""
    ys, xs = np.nonzero(image)
    cut = image[ys.min() : ys.max() + 1, xs.min() : xs.max() + 1]
    found = set()
    for pictures in enlarged.values():
        for picture, label in zip(pictures, classes, strict=True):
            ys, xs = np.nonzero(picture)
            part = picture[ys.min() : ys.max() + 1, xs.min() : xs.max() + 1]
            if part.shape == cut.shape and np.allclose(cut / cut.max(), part / part.max(), atol=0.02):
                found.add(int(label))
    return found


def test_drawn_in_seconds():
    start = time.perf_counter()
    read_digits(1)
    assert time.perf_counter() - start < 10


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"val": 0}, "data.val=0"),
        ({"canvas": 16}, "data.canvas=16: at least 24"),
        ({"noise": -0.1}, "data.noise=-0.1"),
        ({"max_digits": 0}, "data.max_digits=0"),
    ],
)
def test_refused(options, message):
    with pytest.raises(DataError, match=message):
        read_digits(**options)
