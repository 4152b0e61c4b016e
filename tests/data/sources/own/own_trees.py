"""One truth about thirty images, and what the tests read back of it."""

from collections.abc import Mapping
from pathlib import Path

import numpy as np
from PIL import Image

from lsep_ml.data.annotations import Annotations

NAMES = ("cat", "dog", "potted plant", "sofa")
IMAGES = 30
TRUTH = {row: {name for bit, name in enumerate(NAMES) if (row * 7 + 3) >> bit & 1} for row in range(IMAGES)}
"""Image number -> its labels; some images have none."""

SPLITS = {row: ("train", "train", "train", "val", "test")[row % 5] for row in range(IMAGES)}


def write_images(root: Path, name: str = "images/{}.png", rows: range = range(IMAGES)) -> Path:
    """Small pictures, all different, by their numbers."""
    for row in rows:
        path = root / name.format(row)
        path.parent.mkdir(parents=True, exist_ok=True)
        pixels = np.random.default_rng(row).integers(0, 256, (8, 9, 3), np.uint8)
        Image.fromarray(pixels).save(
            path, format={".jpg": "JPEG", ".jpeg": "JPEG"}.get(path.suffix.lower(), "PNG")
        )
    return root


def number_of(image: str) -> int:
    """The number in an image's name."""
    return int("".join(letter for letter in Path(image).stem if letter.isdigit()))


def labels_of(annotations: Annotations) -> dict[int, set[str]]:
    """Image number -> the labels that it has."""
    names = np.array(annotations.label_names)
    ids = map(number_of, annotations.image_ids.tolist())
    return {
        row: set(names[targets == 1].tolist()) for row, targets in zip(ids, annotations.targets, strict=True)
    }


def unknown_of(annotations: Annotations) -> dict[int, set[str]]:
    """Image number -> the labels of which nothing is known, images with some alone."""
    if annotations.mask is None:
        return {}
    names = np.array(annotations.label_names)
    ids = map(number_of, annotations.image_ids.tolist())
    found = {row: set(names[~mask].tolist()) for row, mask in zip(ids, annotations.mask, strict=True)}
    return {row: labels for row, labels in found.items() if labels}


def splits_of(annotations: Annotations) -> dict[int, str]:
    """Image number -> its split."""
    return dict(
        zip(map(number_of, annotations.image_ids.tolist()), annotations.split_of.tolist(), strict=True)
    )


def positives(truth: Mapping[int, set[str]]) -> dict[str, int]:
    """Label -> images that have it."""
    return {name: sum(name in labels for labels in truth.values()) for name in NAMES}
