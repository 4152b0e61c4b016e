"""The format of PASCAL VOC's classification task, which all its years share."""

import xml.etree.ElementTree as ElementTree
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from lsep_ml.data.annotations import Annotations, OnBadImage, checked, hold_out, keep_usable, to_data_set
from lsep_ml.data.data_set import DataSet
from lsep_ml.data.errors import DataError
from lsep_ml.data.sources.source import Finding
from lsep_ml.data.tree import clean_path, find_tree, read_lines

CLASSES = (
    "aeroplane", "bicycle", "bird", "boat", "bottle", "bus", "car", "cat", "chair", "cow", "diningtable",
    "dog", "horse", "motorbike", "person", "pottedplant", "sheep", "sofa", "train", "tvmonitor",
)  # fmt: skip

Difficult = Literal["negative", "positive", "ignore"]


def read_voc(
    year: int,
    split_of_list: Mapping[str, str],
    root: str | Path,
    seed: int = 0,
    *,
    difficult: Difficult = "negative",
    holdout: float = 0.05,
    on_bad_image: OnBadImage = "error",
    cache: str | Path | None = None,
) -> DataSet:
    """Train on the lists of training images without the hold-out, validate on the hold-out, test on the others.

    Args:
        year, split_of_list, root, difficult: see `voc_annotations`.
        seed: of the hold-out.
        holdout: share of the training images for validation (the paper: 5%).
        on_bad_image: an image that is missing or cannot be decoded: error | drop (counted).
        cache: folder that remembers which images were opened.

    Raises:
        DataError: another tree, lists that do not fit together, bad images.
    """
    annotations = voc_annotations(year, split_of_list, root, difficult=difficult)
    return to_data_set(hold_out(keep_usable(annotations, on_bad_image, cache), holdout, seed))


def voc_annotations(
    year: int, split_of_list: Mapping[str, str], root: str | Path, *, difficult: Difficult = "negative"
) -> Annotations:
    """Read the lists of ImageSets/Main.

    Args:
        year: of the challenge, which names the data set and its folder.
        split_of_list: list -> the split that its images belong to.
        root: folder with VOCdevkit/VOC<year>/, or VOCdevkit, or VOC<year> itself.
        difficult: what a class is for an image that has only objects of it marked difficult (value 0 in the lists):
            negative | positive | ignore (unknown). The paper does not say; negative is our choice.

    Raises:
        DataError: another tree, lists that do not fit together.
    """
    if difficult not in ("negative", "positive", "ignore"):
        raise DataError(f"data.difficult={difficult}: negative, positive or ignore")
    data, folder = f"voc{year}", f"VOC{year}"
    tree = find_tree(
        data, root, [f"ImageSets/Main/{next(iter(split_of_list))}.txt"], [folder, f"VOCdevkit/{folder}"]
    )
    ids: list[str] = []
    values = []
    split_of: list[str] = []
    for listed, split in split_of_list.items():
        names = _image_names(tree, listed)
        values.append(np.stack([_class_values(tree, name, listed, names) for name in CLASSES], axis=1))
        ids += [f"JPEGImages/{name}.jpg" for name in names]
        split_of += [split] * len(names)
    value = np.concatenate(values)
    targets = (value > 0) | ((value == 0) & (difficult == "positive"))
    mask = value != 0 if difficult == "ignore" else None
    return checked(
        Annotations(
            data, tree, CLASSES, np.array(ids, np.str_), targets.astype(np.uint8), mask, np.array(split_of)
        )
    )


def _image_names(tree: Path, listed: str) -> list[str]:
    path = tree / "ImageSets" / "Main" / f"{listed}.txt"
    names = [clean_path(line, str(path)) for line in read_lines(path)]
    if not names:
        raise DataError(f"{path}: empty")
    return names


def _class_values(tree: Path, class_name: str, listed: str, names: Sequence[str]) -> NDArray[np.int8]:
    """Return -1 (absent), 0 (only difficult objects) or 1 for each of the list's images."""
    path = tree / "ImageSets" / "Main" / f"{class_name}_{listed}.txt"
    value_of: dict[str, int] = {}
    for number, line in enumerate(read_lines(path), start=1):
        name, _, value = line.partition(" ")
        value = value.strip()
        if value not in ("-1", "0", "1"):
            raise DataError(f"{path}, line {number}: {line!r} is not an image id with -1, 0 or 1")
        if name in value_of:
            raise DataError(f"{path}, line {number}: image {name} is listed twice")
        value_of[name] = int(value)
    if len(value_of) != len(names):
        raise DataError(
            f"{path} has {len(value_of)} images, {listed}.txt has {len(names)}; one of them is cut off"
        )
    unknown = next((name for name in names if name not in value_of), None)
    if unknown is not None:
        raise DataError(f"{path}: no line for image {unknown}, which {listed}.txt lists")
    return np.array([value_of[name] for name in names], np.int8)


def object_findings(annotations: Annotations) -> list[Finding]:
    """Return what is to be said of Annotations/*.xml, which training does not read: files that are missing, or that
    name other objects than the lists behind `annotations` (difficult=negative)."""
    found = []
    for image_id, row in zip(annotations.image_ids.tolist(), np.asarray(annotations.targets), strict=True):
        path = annotations.root / "Annotations" / f"{Path(image_id).stem}.xml"
        try:
            tree = ElementTree.parse(path)
        except (OSError, ElementTree.ParseError) as error:
            found.append(f"{path.name}: {error}")
            continue
        present = {
            item.findtext("name")
            for item in tree.iter("object")
            if (item.findtext("difficult") or "0").strip() != "1"
        }
        listed = {name for name, value in zip(annotations.label_names, row, strict=True) if value}
        if present != listed:
            found.append(f"{path.name}: objects {sorted(map(str, present))}, lists {sorted(listed)}")
    message = f"{len(found):,} files in Annotations/ are missing or say otherwise than ImageSets/Main"
    return [Finding("warning", message, tuple(found))] if found else []
