"""The paper's random split of NUS-WIDE, which was never published: ours, drawn with a seed, or read from a
file."""

import dataclasses
import hashlib
import json
import logging
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from lsep_ml.data.annotations import Annotations
from lsep_ml.data.errors import DataError
from lsep_ml.data.tree import read_text

log = logging.getLogger(__name__)

PAPER_TRAIN_IMAGES = 150_000
PAPER_TEST_IMAGES = 50_261


def paper_split(annotations: Annotations, train_images: int, seed: int) -> Annotations:
    """Give the images their splits from splits/paper-seed<seed>.json where it exists, else by
    `draw_paper_split`.

    Images that the file does not name are dropped and counted.
    """
    path = split_file(annotations.root, seed)
    if not path.exists():
        return draw_paper_split(annotations, train_images, seed)
    splits = read_split_file(path)
    names = _base_names(annotations)
    split_of = {name: split for split, listed in splits.items() for name in listed}
    chosen = np.array([split_of.get(name, "") for name in names])
    log.info("data nuswide: paper split from %s", path)
    outside = {"not in the split file": int((chosen == "").sum())}
    return dataclasses.replace(annotations, split_of=chosen).select(chosen != "", outside)


def draw_paper_split(annotations: Annotations, train_images: int, seed: int) -> Annotations:
    """Draw `train_images` images at random to train, the rest to test.

    The draw goes by base names in sorted order, so it is the same for all layouts that hold the same images.
    Where no more than `train_images` images remain, 150,000 / 200,261 of them train, and a warning says so.
    """
    total = len(annotations)
    if total <= train_images:
        share = PAPER_TRAIN_IMAGES / (PAPER_TRAIN_IMAGES + PAPER_TEST_IMAGES)
        train_images = round(share * total)
        log.warning(
            "data nuswide: %s usable images instead of %s: not the paper's protocol; %s of them train",
            f"{total:,}", f"{PAPER_TRAIN_IMAGES + PAPER_TEST_IMAGES:,}", f"{train_images:,}",
        )  # fmt: skip
    by_name = np.argsort(_base_names(annotations), kind="stable")
    split_of = np.full(total, "test", "U5")
    split_of[by_name[np.random.default_rng(seed).permutation(total)[:train_images]]] = "train"
    return dataclasses.replace(annotations, split_of=split_of)


def split_file(root: Path, seed: int) -> Path:
    """Return where the drawn split is kept, so that it can be carried to another machine."""
    return root / "splits" / f"paper-seed{seed}.json"


def split_content(annotations: Annotations) -> str:
    """Return the file's text: base names of the train and test images, and the SHA-256 of the two lists."""
    names = _base_names(annotations)
    splits = {split: sorted(names[annotations.split_of == split].tolist()) for split in ("train", "test")}
    return json.dumps({"sha256": _digest(splits), **splits}, indent=0)


def read_split_file(path: Path) -> dict[str, list[str]]:
    """Return the two lists; refused where they do not have the hash that was written with them."""
    try:
        content = json.loads(read_text(path))
        splits = {split: content[split] for split in ("train", "test")}
        digest = content["sha256"]
    except (ValueError, KeyError, TypeError) as error:
        raise DataError(f"{path}: not a split file; remove it to have the split drawn again") from error
    if digest != _digest(splits):
        raise DataError(
            f"{path}: the lists are not those the file was written with; fetch it again or remove it"
        )
    return splits


def _digest(splits: dict[str, list[str]]) -> str:
    return hashlib.sha256(json.dumps(splits, sort_keys=True).encode()).hexdigest()


def _base_names(annotations: Annotations) -> NDArray[np.str_]:
    return np.array([name.rpartition("/")[2] for name in annotations.image_ids.tolist()], np.str_)
