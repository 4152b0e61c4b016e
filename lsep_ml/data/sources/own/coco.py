"""COCO-style JSON, as tools write it, and LVIS, whose images say of a few labels only whether they are there; also
Datumaro's, which says the same in other words."""

from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from lsep_ml.data.annotations import Reading
from lsep_ml.data.errors import DataError, some
from lsep_ml.data.sources.own.folder import Folder
from lsep_ml.data.sources.own.listed import (
    ABSENT,
    PRESENT,
    UNKNOWN,
    Candidate,
    Listed,
    Options,
    image_notes,
)
from lsep_ml.data.sources.own.paths import split_of_file
from lsep_ml.data.tree import beginning, parse_json

DEPTH = 3
SECTIONS = ("images", "categories")


def find_coco_files(folder: Folder, options: Options) -> list[Candidate]:
    """Return the JSON objects with images and categories; those of the splits are one."""
    files = [
        file
        for file in folder.of_suffix(".json")
        if options.takes(file, file.count("/") < DEPTH) and _is_coco(folder.root / file)
    ]
    splits = {file: split_of_file(file) for file in files}
    together = len(files) > 1 and (len(options.files) > 1 or len({*splits.values()} - {""}) == len(files))
    groups = [files] if together else [[file] for file in files]
    return [Candidate("COCO-style JSON", tuple(group), partial(_read, folder, group)) for group in groups]


def _is_coco(path: Path) -> bool:
    """Return whether the file is an object with images and categories, from its first and last bytes where it is
    long."""
    ends = beginning(path, 1 << 16, and_end=True)
    if not ends.startswith(b"{"):
        return False
    if b'"items"' in ends and b'"categories"' in ends:
        return True  # Datumaro's
    if b'"caption"' in ends:  # the captions of the same images
        return False
    if path.stat().st_size > 1 << 17:
        return b'"images"' in ends or b'"categories"' in ends or b'"annotations"' in ends
    return b'"images"' in ends and (b'"categories"' in ends or b'"annotations"' in ends)


def _read(folder: Folder, files: Sequence[str]) -> Listed:
    """Return the images of the files; each is a split where there are several."""
    images: list[str] = []
    splits: list[str] = []
    places: list[str] = []
    entries: list[tuple[int, str, int]] = []
    rest: list[int] = []
    names: dict[str, None] = {}
    unused: set[str] = set()
    notes: list[str] = []
    style, lvis = "COCO-style", False
    for file in files:
        content = _content(folder.root / file)
        where = str(folder.root / file)
        style = content.get("style", style)
        category = _categories(where, content["categories"])
        names.update(dict.fromkeys(category.values()))
        kinds = {type(one["id"]).__name__: one["id"] for one in content["categories"]}
        if "str" in kinds and len(kinds) > 1:
            shown = " and ".join(map(repr, kinds.values()))
            notes.append(f"{file}: category ids of different types, such as {shown}, are read as texts")
        above = {
            one.get("supercategory")
            for one in content["categories"]
            if one["name"] != one.get("supercategory")
        }
        unused |= above.intersection(category.values())
        row_of: dict[str, int] = {}
        listed = []
        annotations = content.get("annotations")
        federated = any("neg_category_ids" in image for image in content["images"] if isinstance(image, dict))
        lvis |= federated
        for number, image in enumerate(content["images"]):
            row, at = len(images) + number, f"{where}: image {number + 1}"
            key = _key(image, "id", at)
            if key in row_of:
                raise DataError(f"{where}: the image id {key} is listed twice")
            row_of[key] = row
            listed.append(_file_name(image, at))
            rest.append(UNKNOWN if federated or annotations is None else ABSENT)
            for kind, code in (("neg_category_ids", ABSENT), ("not_exhaustive_category_ids", UNKNOWN)):
                for category_id in image.get(kind) or ():
                    entries.append((row, _named(category, category_id, f"{at}, {kind}"), code))
        found = folder.find(listed, file.rpartition("/")[0])
        notes += image_notes(found, file)
        if federated:
            notes.append(
                Reading(f"{file}: neg_category_ids are known absent, what is not listed is unknown (LVIS)")
            )
        if annotations is None:
            notes.append(f"{file}: no annotations: the labels of its images are unknown")
        _add_annotations(where, annotations or [], row_of, category, entries)
        images += found.images
        splits += [split_of_file(file) if len(files) > 1 else ""] * len(listed)
        places += [f"{file}, image {key}" for key in row_of]
    for name in unused.difference(name for _, name, _ in entries):
        names.pop(name, None)
        notes.append(f"category {name!r} has no annotation, and is what others belong to: left out")
    number_of = {name: number for number, name in enumerate(names)}
    return Listed(
        f"{'LVIS' if lvis else style} JSON ({some(files)})",
        images,
        list(names),
        np.array([row for row, _, _ in entries], np.int64),
        np.array([number_of[name] for _, name, _ in entries], np.int64),
        np.array([code for _, _, code in entries], np.uint8),
        np.array(rest, np.uint8),
        splits=splits if len(files) > 1 else None,
        sorted_names=False,
        notes=tuple(notes),
        place=lambda row: places[row],
    )


def _content(path: Path) -> dict[str, Any]:
    content = parse_json(path)
    if isinstance(content.get("items"), list) and isinstance(content.get("categories"), dict):
        content = _of_datumaro(path, content)
    for section in SECTIONS:
        found = content.get(section)
        if not isinstance(found, list) or not all(isinstance(entry, dict) for entry in found):
            raise DataError(
                f"{path}: no list of {section}; a COCO-style file has images, annotations and categories"
            )
    return dict(content)


def _of_datumaro(path: Path, content: dict[str, Any]) -> dict[str, Any]:
    """Return Datumaro's items as COCO-style sections: a label is its number in a list, and an image lies in
    images/SUBSET, where SUBSET.json is the file."""
    labels = (content["categories"].get("label") or {}).get("labels")
    if not isinstance(labels, list) or not all(isinstance(label, dict) for label in labels):
        raise DataError(f"{path}: no list of names in categories.label.labels, as Datumaro's JSON has it")
    images, annotations = [], []
    for number, item in enumerate(content["items"], start=1):
        if not isinstance(item, dict):
            raise DataError(f"{path}: item {number} is not an object")
        name = (item.get("image") or item.get("media") or {}).get("path") or item.get("id")
        images.append({"id": number, "file_name": name and f"images/{path.stem}/{name}"})
        ids = [one.get("label_id") for one in item.get("annotations") or ()]
        annotations += [{"image_id": number, "category_id": one} for one in ids if one is not None]
    names = [{"id": number, "name": label.get("name")} for number, label in enumerate(labels)]
    return {"style": "Datumaro's", "images": images, "annotations": annotations, "categories": names}


def _categories(where: str, entries: Sequence[dict[str, Any]]) -> dict[str, str]:
    """Category id -> name, in the order of the ids."""
    found: dict[str, str] = {}
    ids: list[Any] = []
    for number, entry in enumerate(entries, start=1):
        key = _key(entry, "id", f"{where}: category {number}")
        name = entry.get("name")
        if not isinstance(name, str) or not name.strip():
            raise DataError(f"{where}: the category with id {key} has the name {name!r}; give it a text")
        if key in found:
            raise DataError(f"{where}: the category id {key} is listed twice")
        found[key] = name.strip()
        ids.append(entry["id"])
    twice = sorted({name for name in found.values() if list(found.values()).count(name) > 1})
    if twice:
        raise DataError(f"{where}: the category name {twice[0]!r} is listed twice")
    try:
        return {str(key).strip(): found[str(key).strip()] for key in sorted(ids, key=int)}
    except (ValueError, TypeError):
        return {key: found[key] for key in sorted(found)}


def _key(entry: dict[str, Any], field: str, where: str) -> str:
    """Return an id as text: tools write numbers and texts."""
    value = entry.get(field)
    if value is None or isinstance(value, bool | list | dict) or not str(value).strip():
        raise DataError(f"{where}: {field} is {value!r}; give it a number or a text")
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    return str(value).strip()


def _named(category: dict[str, str], category_id: Any, where: str) -> str:
    name = category.get(_key({"category_id": category_id}, "category_id", where))
    if name is None:
        raise DataError(f"{where}: unknown category_id {category_id!r}; list it under categories")
    return name


def _file_name(image: dict[str, Any], where: str) -> str:
    for field in ("file_name", "filename", "path", "coco_url", "flickr_url", "url"):
        if isinstance(image.get(field), str) and image[field].strip():
            return str(image[field])
    raise DataError(
        f"{where}, id {image.get('id')!r}: no file_name (it has {some(list(image))}); give it one"
    )


def _add_annotations(
    where: str,
    annotations: Sequence[Any],
    row_of: dict[str, int],
    category: dict[str, str],
    entries: list[tuple[int, str, int]],
) -> None:
    for number, annotation in enumerate(annotations, start=1):
        at = f"{where}: annotation {number}"
        if not isinstance(annotation, dict):
            raise DataError(f"{at}: {str(annotation)[:40]!r} is not an object")
        image = row_of.get(_key(annotation, "image_id", at))
        if image is None:
            raise DataError(f"{at}: unknown image_id {annotation['image_id']!r}; list it under images")
        entries.append((image, _named(category, annotation.get("category_id"), at), PRESENT))
