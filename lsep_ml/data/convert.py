"""The labels of any data set that can be read, written as one table or COCO-style file."""

import csv
import json
from collections.abc import Callable
from pathlib import Path
from typing import IO, Any

import numpy as np

from lsep_ml.data.annotations import Annotations
from lsep_ml.data.errors import DataError
from lsep_ml.data.label_names import label_cell, needs_lists
from lsep_ml.files import atomic_write


def convert(annotations: Annotations, to: str, out: Path) -> None:
    """Write the images, labels, what is unknown, splits and groups; `data=own` beside the images reads it back equal.

    Args:
        to: csv (a cell of labels; one column a label where some are unknown) | jsonl | coco_json (known absences as in
            LVIS where some are unknown; without splits and groups).
        out: the file; it must not be there.

    Raises:
        DataError: another `to`, or `out` is there.
    """
    if to not in WRITERS:
        raise DataError(f"--to {to}: {', '.join(WRITERS)}")
    if out.exists():
        raise DataError(f"{out}: exists; name another file")
    with atomic_write(out) as file:
        WRITERS[to](annotations, file)


def _write_csv(annotations: Annotations, file: IO[str]) -> None:
    known = annotations.mask
    labels = ["labels"] if known is None else list(annotations.label_names)
    writer = csv.writer(file, lineterminator="\n")
    more = _more(annotations)
    lists = needs_lists(annotations.label_names)
    writer.writerow(["image", *labels, *more])
    for row, image in enumerate(annotations.image_ids.tolist()):
        if known is None:
            cells: list[Any] = [label_cell(_labels(annotations, row), lists)]
        else:
            pairs = zip(annotations.targets[row].tolist(), known[row].tolist(), strict=True)
            cells = [value if is_known else "" for value, is_known in pairs]
        writer.writerow([image, *cells, *(column[row] for column in more.values())])


def _write_jsonl(annotations: Annotations, file: IO[str]) -> None:
    more = _more(annotations)
    for row, image in enumerate(annotations.image_ids.tolist()):
        record: dict[str, Any] = {"image": image}
        if annotations.mask is None:
            record["labels"] = _labels(annotations, row)
        else:
            values = zip(
                annotations.label_names, annotations.targets[row], annotations.mask[row], strict=True
            )
            record |= {name: int(value) if known else None for name, value, known in values}
        record |= {name: column[row] for name, column in more.items()}
        file.write(json.dumps(record, ensure_ascii=False) + "\n")


def _write_coco_json(annotations: Annotations, file: IO[str]) -> None:
    images: list[dict[str, Any]] = [
        {"id": row, "file_name": image} for row, image in enumerate(annotations.image_ids.tolist(), start=1)
    ]
    if annotations.mask is not None:
        for row, image in enumerate(images):
            absent = annotations.mask[row] & (annotations.targets[row] == 0)
            image["neg_category_ids"] = (np.flatnonzero(absent) + 1).tolist()
    present = [
        {"id": number, "image_id": int(row) + 1, "category_id": int(label) + 1}
        for number, (row, label) in enumerate(zip(*annotations.targets.nonzero(), strict=True), start=1)
    ]
    categories = [
        {"id": number, "name": name} for number, name in enumerate(annotations.label_names, start=1)
    ]
    json.dump({"images": images, "annotations": present, "categories": categories}, file, ensure_ascii=False)


WRITERS: dict[str, Callable[[Annotations, IO[str]], None]] = {
    "csv": _write_csv,
    "jsonl": _write_jsonl,
    "coco_json": _write_coco_json,
}


def _labels(annotations: Annotations, row: int) -> list[str]:
    return [annotations.label_names[label] for label in np.flatnonzero(annotations.targets[row])]


def _more(annotations: Annotations) -> dict[str, list[Any]]:
    """Return the columns of the split and of the groups, as far as there are."""
    more: dict[str, list[Any]] = {}
    if annotations.split_of.any():
        more["split"] = annotations.split_of.tolist()
    if annotations.groups is not None:
        more["group"] = [f"g{number}" for number in annotations.groups.tolist()]
    return more
