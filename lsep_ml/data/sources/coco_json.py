"""Any COCO-style annotation file, or one for each split."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from lsep_ml.data.annotations import (
    Annotations,
    OnBadImage,
    TwinsAre,
    Unlabelled,
    checked,
    to_data_set,
    usable,
)
from lsep_ml.data.data_set import DataSet
from lsep_ml.data.errors import DataError
from lsep_ml.data.sources.instances import read_instances
from lsep_ml.data.sources.source import Source
from lsep_ml.data.stratified import divided
from lsep_ml.data.tree import GUIDE, find_images
from lsep_ml.metrics.indicator import stacked


def read_coco_json(
    root: str | Path,
    seed: int = 0,
    *,
    train: str = "annotations.json",
    val: str | None = None,
    test: str | None = None,
    unlabelled: Unlabelled = "keep",
    holdout: float = 0.05,
    shares: Sequence[float] = (0.8, 0.1, 0.1),
    folds: int | None = None,
    fold: int | None = None,
    on_bad_image: OnBadImage = "error",
    twins: TwinsAre = "report",
    cache: str | Path | None = None,
) -> DataSet:
    """Read `train`, and `val` and `test` where they are given.

    Without `test`, the images of `train` are divided by label-stratified shares; with `test` and without
    `val`, a share of them is held out. Labels are in the order of their category ids; all files must have the
    same ones.

    Args:
        root: the folder that everything is relative to.
        seed: of the split and of the hold-out.
        train, val, test: annotation files. An image is looked for at its file_name from root, from
            root/images and from the annotation file's folder, then by its base name.
        unlabelled, on_bad_image, twins: see `usable`.
        shares, holdout, folds, fold: see `divided`.
        cache: folder that keeps the parsed annotations and the split, and remembers which images were opened.

    Raises:
        DataError: damaged annotation files, categories that differ, an image in two of them, bad images.
    """
    if val is not None and test is None:
        raise DataError(
            f"data.val={val} without data.test; give a test file too, or only data.train for a random split"
        )
    annotations = coco_json_annotations(root, train=train, val=val, test=test, cache=cache)
    annotations = usable(annotations, unlabelled, on_bad_image, twins, cache)
    annotations = divided(
        annotations, seed, shares=shares, holdout=holdout, folds=folds, fold=fold, cache=cache
    )
    return to_data_set(annotations, cross_tested=folds is not None and fold is None)


def coco_json_annotations(
    root: str | Path,
    *,
    train: str = "annotations.json",
    val: str | None = None,
    test: str | None = None,
    cache: str | Path | None = None,
) -> Annotations:
    """Return the files' images; with `train` alone they belong to no split yet."""
    root = Path(root)
    if not root.is_dir():
        raise DataError(f"data.root={root}: no such folder; {GUIDE} for data=coco_json")
    listed = {"train": train, "val": val, "test": test}
    files = {
        split: read_instances(root / name, root, cache) for split, name in listed.items() if name is not None
    }
    names = {split: tuple(instances.category_names.tolist()) for split, instances in files.items()}
    for split in files:
        if names[split] != names["train"]:
            differing = sorted(set(names[split]) ^ set(names["train"])) or "their order by id"
            raise DataError(
                f"data coco_json: {listed[split]} and {train} have different categories: {differing}"
            )
    places = []
    for split, instances in files.items():
        beside = Path(str(listed[split])).parent.as_posix()
        folders = ["" if beside == "." else beside, "", "images"]
        places += find_images(root, instances.file_names.tolist(), folders)
    split_of = [
        split if test is not None else "" for split, instances in files.items() for _ in instances.file_names
    ]
    targets = stacked([instances.targets for instances in files.values()])
    return checked(
        Annotations(
            "coco_json",
            root,
            names["train"],
            np.array(places, np.str_),
            targets,
            None,
            np.array(split_of, "U5"),
        )
    )


SOURCE = Source("coco_json", coco_json_annotations, keeps_index=True)
