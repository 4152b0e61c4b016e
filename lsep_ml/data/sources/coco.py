"""MS-COCO 2014: 80 classes; train2014 to train, val2014 to test."""

from pathlib import Path
from typing import Literal

import numpy as np

from lsep_ml.data.annotations import (
    Annotations,
    OnBadImage,
    Unlabelled,
    checked,
    hold_out,
    keep_labelled,
    keep_usable,
    to_data_set,
)
from lsep_ml.data.data_set import DataSet
from lsep_ml.data.errors import DataError
from lsep_ml.data.sources.instances import read_instances
from lsep_ml.data.sources.source import Archive, Published, Source, place_from
from lsep_ml.data.tree import find_tree

SPLIT_OF = {"train2014": "train", "val2014": "test"}

LabelOrder = Literal["id", "alphabetical"]


def read_coco(
    root: str | Path,
    seed: int = 0,
    *,
    unlabelled: Unlabelled = "drop",
    label_order: LabelOrder = "id",
    holdout: float = 0.05,
    on_bad_image: OnBadImage = "error",
    cache: str | Path | None = None,
) -> DataSet:
    """Train on train2014 without the hold-out, validate on the hold-out, test on val2014.

    Args:
        root: folder with train2014/, val2014/ and annotations/.
        seed: of the hold-out.
        unlabelled: images without an instance: drop (the paper: 82,081 and 40,137 remain) | keep.
        label_order: of the 80 classes: by category id (person first) | alphabetical. Both are in use
            elsewhere.
        holdout: share of train2014 for validation (the paper: 5%).
        on_bad_image: an image that is missing or cannot be decoded: error | drop (counted).
        cache: folder that keeps the parsed annotations and remembers which images were opened.

    Raises:
        DataError: another tree, damaged annotation files, bad images.
    """
    annotations = keep_labelled(coco_annotations(root, label_order=label_order, cache=cache), unlabelled)
    return to_data_set(hold_out(keep_usable(annotations, on_bad_image, cache), holdout, seed))


def coco_annotations(
    root: str | Path, *, label_order: LabelOrder = "id", cache: str | Path | None = None
) -> Annotations:
    """Return the two instances files: train2014 as train, val2014 as test."""
    if label_order not in ("id", "alphabetical"):
        raise DataError(f"data.label_order={label_order}: id or alphabetical")
    tree = find_tree("coco", root, ["annotations/instances_train2014.json"], [])
    files = {
        listed: read_instances(tree / "annotations" / f"instances_{listed}.json", tree, cache)
        for listed in SPLIT_OF
    }
    names = [tuple(instances.category_names.tolist()) for instances in files.values()]
    if names[0] != names[1]:
        raise DataError(f"{tree / 'annotations'}: the two instances files have different categories")
    order = np.argsort(names[0], kind="stable") if label_order == "alphabetical" else np.arange(len(names[0]))
    return checked(
        Annotations(
            "coco",
            tree,
            tuple(names[0][column] for column in order),
            np.concatenate(
                [[f"{folder}/{name}" for name in files[folder].file_names] for folder in SPLIT_OF]
            ),
            np.concatenate([np.asarray(instances.targets) for instances in files.values()])[:, order],
            None,
            np.repeat(list(SPLIT_OF.values()), [len(instances.targets) for instances in files.values()]),
        )
    )


SOURCE = Source(
    name="coco",
    annotations=coco_annotations,
    keeps_index=True,
    published=Published(
        images={"train": 82_783, "test": 40_504},
        labelled={"train": 82_081, "test": 40_137},
        kept=82_081 + 40_137,
        archives=(
            Archive("train2014.zip", 13_510_573_713, "0da8c0bd3d6becc4dcb32757491aca88"),
            Archive("val2014.zip", 6_645_013_297, "a3d79f5ed8d289b7a7554ce06a5782b3"),
            Archive("annotations_trainval2014.zip", 252_872_794, "0a379cfc70b0e71301e0f377548639bd"),
        ),
    ),
    place=place_from(["train2014", "val2014", "annotations"]),
)
