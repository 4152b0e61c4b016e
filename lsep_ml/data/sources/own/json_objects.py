"""JSON objects of tools: one for every image (labelme, Supervisely) or for all (VIA, FiftyOne, OpenMMLab, plain)."""

import re
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

from lsep_ml.data.errors import DataError, some
from lsep_ml.data.sources.own.beside_images import splits_of
from lsep_ml.data.sources.own.cells import names_in
from lsep_ml.data.sources.own.folder import Folder
from lsep_ml.data.sources.own.listed import Candidate, Listed, Options, image_notes, label_lists
from lsep_ml.data.sources.own.paths import stem_of
from lsep_ml.data.tree import SUFFIXES, beginning, parse_json

DEPTH = 3
BY_IMAGE = re.compile(
    rf'\{{\s*"[^"]+({"|".join(map(re.escape, sorted(SUFFIXES)))})"\s*:\s*[\[{{"n]', re.IGNORECASE
)
"""How an object of labels by image begins."""

Named = Iterator[tuple[str, list[str] | None]]
"""Images with their labels; None where these are unknown."""


def find_json_objects(folder: Folder, options: Options) -> list[Candidate]:
    """Return the objects of all images, and those beside images."""
    found = []
    files = folder.of_suffix(".json")
    named = {f"{stem_of(image)}.json": image for image in folder.images}
    shapes = {named[file]: file for file in files if file in named}
    for file in files:
        if options.takes(file, file.count("/") < DEPTH and file not in named):
            kind = _kind(folder.root / file, options)
            if kind is not None:
                name, read = kind
                found.append(Candidate(name, (file,), partial(_read, folder, file, name, read)))
    first = next(iter(shapes.values()), None) if not options.files and not found else None
    if first is not None and _starts_with(folder.root / first, b'"shapes"', b'"imagePath"'):
        every = partial(
            _read_each, folder, folder.images, shapes, "labelme's JSON beside every image", _of_shapes
        )
        found.append(Candidate("labelme's JSON", tuple(shapes.values()), every, weak=True))
    images = [image for image in folder.images if image.rpartition("/")[0].rpartition("/")[2] == "img"]
    there = set(files)
    of_image = {image: found_at for image in images if (found_at := _beside_img(image, there))}
    first = next(iter(of_image.values()), None) if not options.files else None
    if first is not None and _starts_with(folder.root / first, b'"objects"', b'"size"'):
        every = partial(_read_each, folder, images, of_image, "Supervisely's JSON", _of_objects)
        found.append(Candidate("Supervisely's JSON", tuple(of_image.values()), every))
    return found


def _beside_img(image: str, files: set[str]) -> str | None:
    """Return the file of img/NAME in the folder ann beside it: NAME.json, with the image's suffix or without."""
    above, _, name = image.rpartition("/")
    paths = [f"{above.removesuffix('img')}ann/{one}.json" for one in (name, stem_of(name))]
    return next((path for path in paths if path in files), None)


def _starts_with(path: Path, *words: bytes) -> bool:
    """Return whether the file is an object that names all `words` near its beginning or end."""
    ends = beginning(path, and_end=True)
    return ends.startswith(b"{") and all(word in ends for word in words)


def _kind(path: Path, options: Options) -> tuple[str, Callable[[dict[str, Any], str], Named]] | None:
    """Return what an object of all images is, and what reads it."""
    if _starts_with(path, b'"regions"', b'"filename"'):
        return "VIA's JSON", partial(_via, wanted=options.labels)
    if _starts_with(path, b'"classes"', b'"labels"') and not _starts_with(path, b'"categories"'):
        return "FiftyOne's labels.json", _fiftyone
    if _starts_with(path, b'"metainfo"', b'"data_list"'):
        return "OpenMMLab's JSON", _openmmlab
    start = beginning(path).decode("utf-8", "replace")
    return ("JSON of labels by image", _plain) if BY_IMAGE.match(start) else None


def _read(folder: Folder, file: str, name: str, read: Callable[[dict[str, Any], str], Named]) -> Listed:
    path = folder.root / file
    listed = list(read(_content(path), str(path)))
    found = folder.find([image for image, _ in listed], file.rpartition("/")[0])
    unknown = [row for row, (_, names) in enumerate(listed) if names is None]
    notes = image_notes(found, file)
    if unknown:
        notes.append(f"{len(unknown):,} images have no entry for labels: they are unknown")
    return label_lists(
        f"{name} ({file})",
        found.images,
        [names or [] for _, names in listed],
        unknown=unknown,
        splits=splits_of(found.images),
        notes=tuple(notes),
        place=lambda row: f"{path}, {listed[row][0]!r}",
    )


def _content(path: Path) -> dict[str, Any]:
    content = parse_json(path)
    if not isinstance(content, dict):
        raise DataError(f"{path}: a JSON {type(content).__name__}, not an object")
    return content


def _plain(content: dict[str, Any], where: str) -> Named:
    """{"a.jpg": ["cat", "dog"], "b.jpg": null}: null is unknown."""
    for image, value in content.items():
        yield image, None if value is None else names_in(value, lambda image=image: f"{where}, {image!r}")  # type: ignore[misc]


def _fiftyone(content: dict[str, Any], where: str) -> Named:
    """Classes and labels of images: a label or a list of them, each a name, its number, or an object with `label`."""
    classes, labels = content["classes"], content["labels"]
    if not isinstance(labels, dict):
        raise DataError(f"{where}: labels is a JSON {type(labels).__name__}, not an object of images")
    for image, value in labels.items():
        if value is None:
            yield image, None
            continue
        names = []
        for one in value if isinstance(value, list) else [value]:
            target = one.get("label") if isinstance(one, dict) else one
            if isinstance(target, int) and not isinstance(target, bool):
                if not 0 <= target < len(classes or ()):
                    raise DataError(
                        f"{where}, {image!r}: class {target} is not one of the {len(classes or ())}"
                    )
                target = classes[target]
            names += names_in(target, lambda image=image: f"{where}, {image!r}")  # type: ignore[misc]
        yield image, names


def _openmmlab(content: dict[str, Any], where: str) -> Named:
    """Images with `gt_label`, the numbers of their classes."""
    classes = content["metainfo"].get("classes") or content["metainfo"].get("CLASSES") or []
    for number, image in enumerate(content["data_list"], start=1):
        given = image.get("gt_label")
        labels = [given] if isinstance(given, int) else given
        wrong = next(
            (one for one in labels or () if not isinstance(one, int) or not 0 <= one < len(classes)), None
        )
        if "img_path" not in image or wrong is not None:
            raise DataError(
                f"{where}, image {number}: no img_path, or class {wrong} is not one of the {len(classes)}"
            )
        yield image["img_path"], None if labels is None else [classes[one] for one in labels]


def _via(content: dict[str, Any], where: str, wanted: str | None) -> Named:
    """Images with regions and attributes; the values of one attribute, `wanted` or the only one that has any, are
    labels, or objects of labels that are set."""
    found: dict[str, list[tuple[str, str]]] = {}
    for key, image in content.get("_via_img_metadata", content).items():
        if not isinstance(image, dict) or not isinstance(image.get("filename"), str):
            raise DataError(f"{where}, {key!r}: no filename; export the annotations as JSON")
        regions = image.get("regions") or []
        regions = list(regions.values()) if isinstance(regions, dict) else regions
        attributes = [
            image.get("file_attributes") or {},
            *(one.get("region_attributes") or {} for one in regions),
        ]
        said = [(attribute, name) for one in attributes for attribute in one for name in _set(one[attribute])]
        found.setdefault(image["filename"], []).extend(said)
    there = sorted({attribute for said in found.values() for attribute, _ in said})
    if wanted is None and len(there) > 1:
        raise DataError(
            f"{where}: several attributes have values: {some(there)}; set data.labels=NAME to one"
        )
    if wanted not in (None, *there):
        raise DataError(f"data.labels={wanted}: no attribute of {where}; there are {some(there)}")
    for image, said in found.items():
        yield image, [name for attribute, name in said if wanted in (None, attribute)]


def _set(value: Any) -> list[str]:
    """Return the labels that an attribute of VIA says: of a text itself, of check boxes those that are set."""
    if isinstance(value, dict):
        return [str(name) for name, given in value.items() if given]
    return [str(value).strip()] if str(value).strip() else []


def _read_each(
    folder: Folder,
    images: list[str],
    files: dict[str, str],
    what: str,
    names_of: Callable[[dict[str, Any], Path], list[str]],
) -> Listed:
    """Return the images, each with what `names_of` finds in its JSON."""
    names: list[list[str]] = []
    without: list[str] = []
    for image in images:
        if image not in files:
            without.append(image)
            names.append([])
            continue
        path = folder.root / files[image]
        names.append(names_of(_content(path), path))
    notes = []
    if without:
        notes.append(f"{len(without):,} images have no JSON: they have no label, such as {some(without, 2)}")
    return label_lists(
        f"{what} ({len(files):,})",
        images,
        names,
        splits=splits_of(images),
        notes=tuple(notes),
        place=lambda row: files.get(images[row], images[row]),
    )


def _of_shapes(content: dict[str, Any], path: Path) -> list[str]:
    """Return the labels of labelme's shapes, and the flags that are set."""
    shapes = [shape.get("label") for shape in content.get("shapes") or []]
    if not all(isinstance(name, str) and name.strip() for name in shapes):
        raise DataError(f"{path}: a shape has no label; give it one")
    return [
        *map(str.strip, shapes),
        *(name for name, given in (content.get("flags") or {}).items() if given),
    ]


def _of_objects(content: dict[str, Any], path: Path) -> list[str]:
    """Return the classes of Supervisely's objects, whose own tags do not count, and the tags of the image; one that has
    a text as its value is `tag: text`."""
    found = [one.get("classTitle") for one in content.get("objects") or []]
    for tag in content.get("tags") or []:
        name, value = (tag, None) if isinstance(tag, str) else (tag.get("name"), tag.get("value"))
        found.append(f"{name}: {value}" if name and isinstance(value, str) and value.strip() else name)
    if not all(isinstance(name, str) and name.strip() for name in found):
        raise DataError(f"{path}: an object has no classTitle, or a tag no name; give it one")
    return list(map(str.strip, found))
