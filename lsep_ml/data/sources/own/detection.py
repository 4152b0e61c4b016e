"""Detected objects as text: `data.yaml` with the names, and a text file an image with a class number a line."""

from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

import yaml

from lsep_ml.data.errors import DataError, some
from lsep_ml.data.sources.own.beside_images import listed_splits, numbers, splits_of
from lsep_ml.data.sources.own.folder import Folder
from lsep_ml.data.sources.own.listed import Candidate, Listed, Options, label_lists
from lsep_ml.data.sources.own.paths import stem_of
from lsep_ml.data.tree import read_text

NAMES = ("data.yaml", "data.yml", "dataset.yaml", "dataset.yml")
LISTS = ("classes.txt", "obj.names", "_darknet.labels")  # a name a line


def find_detections(folder: Folder, options: Options) -> list[Candidate]:
    """Return the YAML file with names of the classes."""
    found = [
        file
        for file in folder.of_suffix(".yaml", ".yml")
        if options.takes(file, file.count("/") < 2) and _names_in(folder.root / file)
    ]
    preferred = [file for file in found if file.rpartition("/")[2].lower() in NAMES] or found
    if not found and not options.files:
        lists = [file for file in folder.files if file.rpartition("/")[2].lower() in LISTS]
        stems = {stem_of(image.rpartition("/")[2]) for image in folder.images}
        beside = [text for text in _texts(folder).values() if text.rpartition("/")[2][:-4] in stems]
        preferred = lists[:1] if numbers(folder, sorted(beside)) else []
    return [Candidate("detection text files", (file,), partial(_read, folder, file)) for file in preferred]


def _texts(folder: Folder) -> dict[str, str]:
    """Return the text files that may hold objects, in small letters, as they are."""
    return {text.lower(): text for text in folder.of_suffix(".txt")}


def _yaml(path: Path) -> Any:
    """Read YAML all of whose values are texts: no, off and 1.0 are names."""
    return yaml.BaseLoader(read_text(path)).get_single_data()


def _names_in(path: Path) -> Any:
    if path.suffix.lower() not in (".yaml", ".yml"):
        return [line.strip() for line in read_text(path).splitlines() if line.strip()]
    try:
        content = _yaml(path)
    except (yaml.YAMLError, DataError):
        return None
    return content.get("names") if isinstance(content, dict) else None


def _read(folder: Folder, file: str) -> Listed:
    """Return every image below the folder, with the classes in its text file: beside it, or in `labels/` for an image
    in `images/`; an image without a text file has no label.
    """
    path = folder.root / file
    names = _class_names(path, _names_in(path))
    texts = _texts(folder)
    labels: list[list[str]] = []
    without, used = [], set()
    for image in folder.images:
        text = texts.get(_text_of(image).lower()) or texts.get(stem_of(image).lower() + ".txt")
        if text is None:
            without.append(image)
            labels.append([])
            continue
        used.add(text)
        labels.append(_labels(folder.root / text, names, file))
    notes = []
    if without:
        notes.append(
            f"{len(without):,} images have no text file: they have no label, such as {some(without, 2)}"
        )
    lost = [
        text for text in texts.values() if text not in used and "/" in text and "labels" in text.split("/")
    ]
    if lost:
        notes.append(f"{len(lost):,} text files have no image: {some(lost)}")
    return label_lists(
        f"detection text files with {file}",
        folder.images,
        labels,
        label_names=list(names.values()),
        sorted_names=False,
        splits=splits_of(folder.images) or listed_splits(folder, _lists(folder, path), folder.images, notes),
        notes=tuple(notes),
        place=lambda row: folder.images[row],
        dropped={"text files without an image": len(lost)} if lost else {},
    )


def _lists(folder: Folder, path: Path) -> list[str]:
    """Return the text files with the images of the splits that the YAML file names."""
    content = _yaml(path) if path.suffix.lower() in (".yaml", ".yml") else {}
    named = {str(content.get(split) or "").rpartition("/")[2] for split in ("train", "val", "test")}
    return [text for text in folder.of_suffix(".txt") if text.rpartition("/")[2] in named]


def _text_of(image: str) -> str:
    """Return the text file of an image: the last folder called images becomes labels."""
    parts = stem_of(image).split("/")
    for at in range(len(parts) - 2, -1, -1):
        if parts[at].lower() == "images":
            parts[at] = "labels"
            break
    return "/".join(parts) + ".txt"


def _class_names(path: Path, names: Any) -> dict[float, str]:
    if isinstance(names, list):
        names = dict(enumerate(names))
    if not isinstance(names, dict) or not names:
        raise DataError(f"{path}: names is {str(names)[:40]!r}; expected a list of class names")
    try:
        found: dict[float, str] = {int(number): str(name).strip() for number, name in names.items()}
    except (TypeError, ValueError) as error:
        raise DataError(f"{path}: names: {error}; expected numbers with names") from error
    twice = sorted({name for name in found.values() if list(found.values()).count(name) > 1})
    if twice:
        raise DataError(f"{path}: the class {twice[0]!r} is there twice")
    return dict(sorted(found.items()))


def _labels(path: Path, names: Mapping[float, str], file: str) -> list[str]:
    found = []
    for number, line in enumerate(read_text(path).splitlines(), start=1):
        if not line.strip():
            continue
        first = line.split()[0]
        try:
            number_of_class = float(first)  # of which 1.0 is the key 1
            found.append(names[number_of_class])
        except (ValueError, KeyError):
            raise DataError(
                f"{path}, line {number}: class {first!r} is not one of the {len(names)} in {file}; "
                "mend the line or the names"
            ) from None
    return found
