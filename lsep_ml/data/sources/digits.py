"""Digit scenes: grey images of several overlapping handwritten digits from scikit-learn's `load_digits`.

The labels are the digits present. Nothing is downloaded: the 1,797 real digits (8 x 8) come with
scikit-learn.
"""

import gzip
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from lsep_ml.data.data_set import SPLITS, DataSet, Split
from lsep_ml.data.errors import DataError

SOURCE_SIDE = 8
SCALES = (1, 2, 3)
CONTRAST = (0.35, 1.0)
SOURCE_DIGITS = {"val": 200, "test": 597}  # training has the other 1,000
NUM_CLASSES = 10
_FILE = Path("datasets", "data", "digits.csv.gz")


@dataclass(frozen=True)
class SceneRecipe:
    """Says how a scene is drawn.

    Args:
        canvas: height and width in pixels.
        density: the number of digits drawn is 1 + Poisson(density), at most `max_digits`.
        max_digits: see density.
        tail: the class of rank r (digit r - 1) is drawn with probability proportional to 1 / r^tail.
        noise: standard deviation of the Gaussian noise, as a share of full brightness.
    """

    canvas: int
    density: float
    max_digits: int
    tail: float
    noise: float

    def __post_init__(self) -> None:
        if self.canvas < SOURCE_SIDE * max(SCALES):
            raise DataError(
                f"data.canvas={self.canvas}: at least {SOURCE_SIDE * max(SCALES)}, the largest digit"
            )
        if self.max_digits < 1:
            raise DataError(f"data.max_digits={self.max_digits}: at least 1")
        for name in ("density", "tail", "noise"):
            if getattr(self, name) < 0:
                raise DataError(f"data.{name}={getattr(self, name)}: at least 0")


def read_digits(
    seed: int = 0,
    *,
    train: int = 6000,
    val: int = 1000,
    test: int = 3000,
    canvas: int = 48,
    density: float = 1.6,
    max_digits: int = 8,
    tail: float = 0.8,
    noise: float = 0.12,
) -> DataSet:
    """Draw the scenes; all of it is a function of the arguments.

    The source digits are split first (stratified by class), so that no two splits show the same handwriting
    sample. Each digit is enlarged 1, 2 or 3 times, given a contrast uniform in 0.35 .. 1, placed uniformly,
    and combined by maximum; noise is added last. Labels are long-tailed, with K = 10.

    Args:
        seed: of the source split and of the scenes; each split's scenes have a stream of their own.
        train, val, test: scenes of each split.
        canvas, density, max_digits, tail, noise: see SceneRecipe.

    Returns:
        Images (1, canvas, canvas), labels "0" .. "9", ids such as "train/000017".
    """
    import torch  # here, so that a data set on disk can be checked without it

    recipe = SceneRecipe(canvas, density, max_digits, tail, noise)
    sources = _split_sources(seed)
    streams = dict(zip(SPLITS, np.random.SeedSequence(seed).spawn(len(SPLITS)), strict=True))
    splits = {}
    for name, scenes in {"train": train, "val": val, "test": test}.items():
        if scenes < 1:
            raise DataError(f"data.{name}={scenes}: at least one scene")
        images, targets = _draw_scenes(*sources[name], scenes, recipe, np.random.default_rng(streams[name]))
        ids = np.array([f"{name}/{row:06d}" for row in range(scenes)])
        splits[name] = Split(torch.from_numpy(images), targets, None, ids)
    label_names = tuple(str(digit) for digit in range(NUM_CLASSES))
    return DataSet("digits", label_names, splits["train"], splits["val"], splits["test"])


def _split_sources(seed: int) -> dict[str, tuple[NDArray[np.float32], NDArray[np.int64]]]:
    """Real digits in [0, 1], (n, 8, 8), and their classes, for each split."""
    digits, classes = _real_digits()
    rest = np.arange(len(digits))
    sources = {}
    for name, size in SOURCE_DIGITS.items():
        kept, chosen = stratified_halves(classes[rest], size, seed)
        rest, chosen = rest[kept], rest[chosen]
        sources[name] = (digits[chosen], classes[chosen])
    return {"train": (digits[rest], classes[rest]), **sources}


def _real_digits() -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """Read the digits of scikit-learn, where its file is in its place without importing it, which takes seconds."""
    found = find_spec("sklearn")
    folders = [] if found is None else found.submodule_search_locations or []
    file = next((path for folder in folders if (path := Path(folder, _FILE)).exists()), None)
    if file is None:
        from sklearn.datasets import load_digits

        rows = np.column_stack(load_digits(return_X_y=True))
    else:
        with gzip.open(file, "rt") as lines:
            rows = np.loadtxt(lines, delimiter=",")
    digits = (rows[:, :-1].reshape(-1, SOURCE_SIDE, SOURCE_SIDE) / 16).astype(np.float32)
    return digits, rows[:, -1].astype(np.int64)


def stratified_halves(
    classes: NDArray[np.int64], size: int, seed: int
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Divide rows of `classes` 0, 1, ... at random into others and `size` chosen ones, each class in proportion.

    The rows are those of scikit-learn's `train_test_split(test_size=size, stratify=classes, random_state=seed)`.
    """
    rng, counts = np.random.RandomState(seed), np.bincount(classes)
    of_others = _shares(counts, len(classes) - size, rng)
    of_chosen = _shares(counts - of_others, size, rng)
    others, chosen = [], []
    for number, (first, second) in enumerate(zip(of_others, of_chosen, strict=True)):
        rows = np.flatnonzero(classes == number)[rng.permutation(counts[number])]
        others.append(rows[:first])
        chosen.append(rows[first : first + second])
    return rng.permutation(np.concatenate(others)), rng.permutation(np.concatenate(chosen))


def _shares(counts: NDArray[np.int64], total: int, rng: np.random.RandomState) -> NDArray[np.int64]:
    """Divide `total` in the proportions of `counts`, what is left to the largest remainders, equal ones by lot."""
    exact = counts / counts.sum() * total
    shares = np.floor(exact).astype(np.int64)
    remainders = exact - np.floor(exact)
    for remainder in np.unique(remainders)[::-1]:
        left = total - int(shares.sum())
        if left == 0:
            break
        equal = np.flatnonzero(remainders == remainder)
        shares[rng.choice(equal, size=min(len(equal), left), replace=False)] += 1
    return shares


def _draw_scenes(
    digits: NDArray[np.float32],
    classes: NDArray[np.int64],
    scenes: int,
    recipe: SceneRecipe,
    rng: np.random.Generator,
) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    """Return images (scenes, 1, canvas, canvas) and targets (scenes, 10)."""
    per_scene = np.minimum(1 + rng.poisson(recipe.density, scenes), recipe.max_digits)
    scene_of = np.repeat(np.arange(scenes), per_scene)
    prior = 1.0 / np.arange(1, NUM_CLASSES + 1) ** recipe.tail
    class_of = rng.choice(NUM_CLASSES, size=len(scene_of), p=prior / prior.sum())
    targets = np.zeros((scenes, NUM_CLASSES), np.uint8)
    targets[scene_of, class_of] = 1

    by_class = np.argsort(classes, kind="stable")
    starts, sizes = np.searchsorted(classes[by_class], np.arange(NUM_CLASSES)), np.bincount(classes)
    source_of = by_class[starts[class_of] + rng.integers(sizes[class_of])]
    scale_of = rng.choice(SCALES, size=len(scene_of))
    contrast_of = rng.uniform(*CONTRAST, len(scene_of)).astype(np.float32)
    places = rng.integers(recipe.canvas - SOURCE_SIDE * scale_of + 1, size=(2, len(scene_of)))

    enlarged = {scale: digits.repeat(scale, axis=1).repeat(scale, axis=2) for scale in SCALES}
    images = np.zeros((scenes, recipe.canvas, recipe.canvas), np.float32)
    for scene, source, scale, contrast, top, left in zip(
        *(values.tolist() for values in (scene_of, source_of, scale_of, contrast_of, *places)), strict=True
    ):
        side = SOURCE_SIDE * scale
        patch = images[scene, top : top + side, left : left + side]
        np.maximum(patch, enlarged[scale][source] * np.float32(contrast), out=patch)
    images += recipe.noise * rng.standard_normal(images.shape, dtype=np.float32)
    np.clip(images, 0, 1, out=images)
    return np.rint(images * 255).astype(np.uint8)[:, np.newaxis], targets
