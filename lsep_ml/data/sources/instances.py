"""COCO-style annotation files: which categories have an instance in which image."""

import contextlib
import io
import json
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pycocotools.coco import COCO

from lsep_ml.data.cache import cache_file, file_state, load_arrays, save_arrays
from lsep_ml.data.errors import DataError
from lsep_ml.data.tree import clean_path
from lsep_ml.metrics.indicator import Targets, from_places, places

FORMAT = 3  # of the cached arrays


@dataclass(frozen=True)
class Instances:
    """One annotation file.

    Attributes:
        file_names: unicode (N,), the images' paths as the file has them, in its order.
        category_names: unicode (K,), in the order of the category ids.
        rows, columns: int64 (E,), the images and categories of instances, crowds included, each pair once.
    """

    file_names: NDArray[np.str_]
    category_names: NDArray[np.str_]
    rows: NDArray[np.int64]
    columns: NDArray[np.int64]

    @property
    def targets(self) -> Targets:
        """Return 0/1 (N, K), 1 where the image has at least one instance."""
        return from_places(self.rows, self.columns, (len(self.file_names), len(self.category_names)))


def read_instances(path: Path, root: Path, cache: str | Path | None) -> Instances:
    """Read the file with pycocotools, or what an earlier call kept of this very file (COCO's own take a
    minute).

    Args:
        path: the file.
        root: the folder of the images, which absolute file names may be in.
        cache: where arrays are kept.

    Raises:
        DataError: no such file, not JSON, a part missing, an image or category listed twice, an annotation
            for an unknown image or category.
    """
    stored_at = cache_file(cache, "instances", FORMAT, *file_state(path))
    stored = load_arrays(stored_at)
    if stored is None:
        instances = _parse(path, root)
        save_arrays(stored_at, **vars(instances))
        return instances
    return Instances(**stored)


def _parse(path: Path, root: Path) -> Instances:
    coco = COCO()
    try:
        coco.dataset = json.loads(path.read_bytes().decode("utf-8-sig"))
    except OSError as error:
        raise DataError(f"{path}: {error.strerror}") from error
    except (ValueError, RecursionError) as error:
        raise DataError(f"{path}: not a COCO-style JSON file: {error}") from error
    for section in ("images", "annotations", "categories"):
        if not isinstance(coco.dataset, dict) or not isinstance(coco.dataset.get(section), list):
            raise DataError(
                f"{path}: no list of {section}; a COCO-style file has images, annotations and categories"
            )
    try:
        with contextlib.redirect_stdout(io.StringIO()):
            coco.createIndex()
        return _gather(path, root, coco.dataset)
    except KeyError as error:
        raise DataError(f"{path}: an entry without its {error} field") from error
    except (TypeError, AttributeError) as error:
        raise DataError(f"{path}: not a COCO-style JSON file: {error}") from error


def _gather(path: Path, root: Path, content: dict[str, list[dict[str, Any]]]) -> Instances:
    _refuse_mixed_ids(path, content["categories"])
    categories = sorted(content["categories"], key=lambda category: category["id"])
    names = [_text(path, "category", category, "name").strip() for category in categories]
    column_of = {category["id"]: column for column, category in enumerate(categories)}
    row_of = {image["id"]: row for row, image in enumerate(content["images"])}
    listed = [_text(path, "image", image, "file_name") for image in content["images"]]
    file_names = [clean_path(name, str(path), root) for name in listed]
    _refuse_repeated(path, "category id", (category["id"] for category in categories))
    _refuse_repeated(path, "category name", names)
    _refuse_repeated(path, "image id", (image["id"] for image in content["images"]))
    _refuse_repeated(path, "image file", file_names)

    labels_of_image: list[set[int]] = [set() for _ in file_names]
    for annotation in content["annotations"]:
        row, column = row_of.get(annotation["image_id"]), column_of.get(annotation["category_id"])
        if row is None or column is None:
            kind = "image_id" if row is None else "category_id"
            raise DataError(
                f"{path}: annotation {annotation.get('id')} is for the unknown {kind} {annotation[kind]!r}"
            )
        labels_of_image[row].add(column)
    rows, columns = places([sorted(labels) for labels in labels_of_image])
    return Instances(np.array(file_names, np.str_), np.array(names, np.str_), rows, columns)


def _text(path: Path, kind: str, entry: dict[str, Any], key: str) -> str:
    """Return the entry's text under `key`."""
    value = entry[key]
    if not isinstance(value, str) or not value.strip():
        raise DataError(f"{path}: the {kind} with id {entry['id']!r} has the {key} {value!r}; give it a text")
    return value


def _refuse_mixed_ids(path: Path, categories: Sequence[dict[str, Any]]) -> None:
    """Labels are in the order of the category ids, which numbers and texts do not have together."""
    first_of: dict[str, object] = {}
    for category in categories:
        kind = "number" if isinstance(category["id"], int | float) else type(category["id"]).__name__
        first_of.setdefault(kind, category["id"])
    if len(first_of) > 1:
        shown = ", ".join(f"{value!r} is a {kind}" for kind, value in first_of.items())
        raise DataError(f"{path}: category ids of different types ({shown}); make all of them numbers")


def _refuse_repeated(path: Path, kind: str, values: Iterable[object]) -> None:
    repeated = [value for value, count in Counter(values).items() if count > 1]
    if repeated:
        raise DataError(f"{path}: the {kind} {repeated[0]!r} is listed twice")
