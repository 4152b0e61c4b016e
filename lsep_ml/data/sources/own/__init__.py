"""People's own images: one command reads the labels in whatever form they come."""

import dataclasses
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Literal

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
from lsep_ml.data.errors import DataError, some
from lsep_ml.data.sources.own.beside_images import find_files_beside_images, find_label_folders
from lsep_ml.data.sources.own.builder import build
from lsep_ml.data.sources.own.coco import find_coco_files
from lsep_ml.data.sources.own.cvat import find_cvat_files
from lsep_ml.data.sources.own.detection import find_detections
from lsep_ml.data.sources.own.folder import Folder
from lsep_ml.data.sources.own.json_objects import find_json_objects
from lsep_ml.data.sources.own.listed import Candidate, Options
from lsep_ml.data.sources.own.tables import find_tables, table_reasons
from lsep_ml.data.sources.own.tasks import find_tasks, with_configured
from lsep_ml.data.sources.source import Source
from lsep_ml.data.stratified import divided

FORMATS: Sequence[Callable[[Folder, Options], list[Candidate]]] = (
    find_tables,
    find_coco_files,
    find_tasks,
    find_cvat_files,
    find_json_objects,
    find_detections,
    find_files_beside_images,
    find_label_folders,
)
"""What each format finds in a folder."""


NAMED = 20
"""Files that a message says something of."""


def read_own(
    root: str | Path,
    seed: int = 0,
    *,
    file: str | Sequence[str] | None = None,
    label_names: Sequence[str] | None = None,
    image: str | None = None,
    labels: str | None = None,
    label_columns: Sequence[str] | None = None,
    split: str | None = None,
    separator: str | None = None,
    group: str | None = None,
    none_label: Sequence[str] | None = None,
    uncertain: Literal["unknown", "negative", "positive"] = "unknown",
    merge_labels: bool = False,
    min_images: int = 1,
    annotators: Literal["union", "majority", "refuse"] = "union",
    unlabelled: Unlabelled = "keep",
    holdout: float = 0.05,
    shares: Sequence[float] = (0.8, 0.1, 0.1),
    folds: int | None = None,
    fold: int | None = None,
    on_bad_image: OnBadImage = "error",
    twins: TwinsAre = "report",
    cache: str | Path | None = None,
) -> DataSet:
    """Find out what the folder holds, and read it.

    Args:
        root: the folder with images and labels.
        seed: of the split and of the hold-out.
        file, label_names, image, labels, label_columns, split, separator, group, none_label, uncertain, merge_labels,
            min_images, annotators: how to read it, see `Options`; what is None is found out, and said.
        unlabelled, on_bad_image, twins: see `usable`.
        shares, holdout, folds, fold: see `divided`.
        cache: folder that keeps the split and the listing, and remembers which images were opened.

    Raises:
        DataError: nothing that could hold labels, or several; labels that cannot be understood (with the place and the
            option to write); bad images.
    """
    annotations = own_annotations(
        root, cache=cache, file=file, label_names=label_names, image=image, labels=labels,
        label_columns=label_columns, split=split, separator=separator, group=group, none_label=none_label,
        uncertain=uncertain, merge_labels=merge_labels, min_images=min_images, annotators=annotators,
    )  # fmt: skip
    annotations = usable(annotations, unlabelled, on_bad_image, twins, cache)
    in_folds = folds is not None or fold is not None
    annotations = annotations if in_folds else _with_test(annotations)
    annotations = divided(
        annotations, seed, shares=shares, holdout=holdout, folds=folds, fold=fold, cache=cache
    )
    return to_data_set(annotations, cross_tested=in_folds and fold is None)


def _with_test(annotations: Annotations) -> Annotations:
    """Return the listed split where it can be used: without test images the val images test, and without those none
    is listed."""
    named = set(annotations.split_of.tolist()) - {""}
    if not named or "test" in named:
        return annotations
    if "val" in named:
        renamed = np.where(annotations.split_of == "val", "test", annotations.split_of)
        note = "the split has no test images: its val images test, and validation is held out of train (data.holdout)"
    else:
        renamed = np.full(len(annotations), "", "U5")
        note = "the split has train images alone: it is drawn here (data.shares)"
    return dataclasses.replace(annotations, split_of=renamed.astype("U5"), notes=(*annotations.notes, note))


def own_annotations(root: str | Path, *, cache: str | Path | None = None, **options: object) -> Annotations:
    """Return the images below `root` with their labels, in whatever form these are; without a split they belong to no
    split yet.

    Args:
        root: the folder.
        cache: keeps what is listed below the root, see `Folder`.
        options: of `Options`.
    """
    wanted = Options(**options)  # type: ignore[arg-type]
    folder = Folder(root, cache)
    candidate = _candidate(folder, wanted)
    try:
        found = candidate.read()
    except (AttributeError, KeyError, TypeError) as error:  # a text where an object is expected, and the like
        raise DataError(
            f"{folder.root / candidate.files[0]}: begins as {candidate.name}, and goes on otherwise ({error}); export "
            "it again, or set data.file to another file"
        ) from error
    annotations = build(with_configured(found, folder, wanted), folder, wanted)
    listed = set(annotations.image_ids.tolist() if folder.images else ())
    others = [image for image in folder.images if image not in listed]
    notes = annotations.notes
    if others and not candidate.weak:
        notes = (
            *notes,
            f"{len(others):,} images below the folder have no labels listed and are left out: {some(others, 2)}",
        )
    return checked(dataclasses.replace(annotations, notes=notes), separator=None)


def _candidate(folder: Folder, options: Options) -> Candidate:
    """Return the one thing in the folder that holds labels."""
    for file in options.files:
        if file not in folder.files:
            raise DataError(
                f"data.file={file}: not in {folder.root}, which holds {some(folder.files) or 'nothing'}"
            )
    found = [candidate for find in FORMATS for candidate in find(folder, options)]
    strong = [candidate for candidate in found if not candidate.weak]
    chosen = strong or found[:1]
    if not chosen:
        images = set(folder.images)
        shown = [file for file in folder.files if file not in images] or folder.files
        why = "".join(f"; {reason}" for reason in table_reasons(folder, shown[:NAMED]))
        raise DataError(
            f"data.root={folder.root}: nothing that could hold labels among its {len(folder.files):,} files "
            f"({some(shown) or 'none'}), {len(folder.images):,} of them images{why}; docs/data.md shows what is read"
        )
    if len(chosen) > 1:
        names = "; ".join(f"{candidate.files[0]} ({candidate.name})" for candidate in chosen)
        raise DataError(
            f"data.root={folder.root}: several files could hold the labels: {names}; set data.file=FILE to one, or "
            "data.file=[FILES] to those that hold them together"
        )
    return chosen[0]


SOURCE = Source(
    "own", own_annotations, options=frozenset(field.name for field in dataclasses.fields(Options))
)
