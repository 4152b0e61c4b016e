"""The layouts in which NUS-WIDE is passed on, each read to the same Annotations."""

import ast
import csv
import io
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from lsep_ml.data.annotations import Annotations, checked
from lsep_ml.data.cache import cache_file, file_state, load_arrays, save_arrays
from lsep_ml.data.errors import DataError
from lsep_ml.data.tree import GUIDE, clean_path, find_images, find_tree, read_lines, read_text
from lsep_ml.metrics.indicator import indicator

CONCEPTS = (
    "airport", "animal", "beach", "bear", "birds", "boats", "book", "bridge", "buildings", "cars", "castle",
    "cat", "cityscape", "clouds", "computer", "coral", "cow", "dancing", "dog", "earthquake", "elk", "fire",
    "fish", "flags", "flowers", "food", "fox", "frost", "garden", "glacier", "grass", "harbor", "horses",
    "house", "lake", "leaf", "map", "military", "moon", "mountain", "nighttime", "ocean", "person", "plane",
    "plants", "police", "protest", "railroad", "rainbow", "reflection", "road", "rocks", "running", "sand",
    "sign", "sky", "snow", "soccer", "sports", "statue", "street", "sun", "sunset", "surf", "swimmers",
    "tattoo", "temple", "tiger", "tower", "town", "toy", "train", "tree", "valley", "vehicle", "water",
    "waterfall", "wedding", "whales", "window", "zebra",
)  # fmt: skip
NUMBER_OF = {name: number for number, name in enumerate(CONCEPTS)}

OFFICIAL, TABLE, LISTS = "ImageList/TrainImagelist.txt", "nus_wid_data.csv", ("train.txt", "test.txt")
IMAGE_FOLDERS = ["Flickr", "", "images"]
ANNOTATION_FILES = ["*.txt", "*.csv", "ImageList/*", "ConceptsList/*", "Groundtruth/*/*"]
FORMAT = 1  # of the cached index

Listed = tuple[list[str], NDArray[np.uint8]]  # image paths (n) and targets (n, 81)


def nuswide_annotations(root: str | Path, *, cache: str | Path | None = None) -> Annotations:
    """Read whichever layout `root` (or NUS-WIDE/ in it) has; its splits are the official train and test images.

    - official: ImageList/, Groundtruth/ (TrainTestLabels, or AllLabels with Imagelist.txt), Flickr/
    - table: nus_wid_data.csv with the columns filepath, label, split_name (val means test)
    - lists: train.txt and test.txt with lines "path 0 1 0 ...", 81 columns

    An image is looked for at its listed path in Flickr/, in root, and in images/, then by its base name.
    `cache` is a folder that keeps the parsed lists.
    """
    tree = find_tree("nuswide", root, [OFFICIAL, TABLE, LISTS[0]], ["NUS-WIDE"])
    files = sorted(path for pattern in ANNOTATION_FILES for path in tree.glob(pattern))
    stored_at = cache_file(cache, "nuswide", FORMAT, [file_state(path) for path in files])
    index = load_arrays(stored_at)
    if index is None:
        index = _index(tree)
        save_arrays(stored_at, **index)
    ids = np.array(find_images(tree, index["paths"].tolist(), IMAGE_FOLDERS), np.str_)
    return checked(Annotations("nuswide", tree, CONCEPTS, ids, index["targets"], None, index["parts"]))


def _index(tree: Path) -> dict[str, NDArray]:
    """Listed paths (N,), targets (N, 81) and splits (N,) of whichever layout it is."""
    if (tree / OFFICIAL).exists():
        listed = _read_official(tree)
    elif (tree / TABLE).exists():
        listed = _read_table(tree)
    else:
        listed = {name.removesuffix(".txt"): _read_list(tree / name) for name in LISTS}
    for split, (paths, _) in listed.items():
        if not paths:
            raise DataError(f"data nuswide: no {split} image listed in {tree}")
    return {
        "paths": np.array([path for paths, _ in listed.values() for path in paths], np.str_),
        "targets": np.concatenate([targets for _, targets in listed.values()]),
        "parts": np.repeat(list(listed), [len(paths) for paths, _ in listed.values()]),
    }


def _read_official(tree: Path) -> dict[str, Listed]:
    _check_concepts(tree)
    lists = {split: _image_list(tree, f"{split.capitalize()}Imagelist.txt") for split in ("train", "test")}
    labels = tree / "Groundtruth" / "TrainTestLabels"
    if labels.is_dir():
        return {
            split: (paths, _label_files(labels, f"_{split.capitalize()}", len(paths)))
            for split, paths in lists.items()
        }
    everything = _image_list(tree, "Imagelist.txt")
    targets = _label_files(tree / "Groundtruth" / "AllLabels", "", len(everything))
    row_of = {path: row for row, path in enumerate(everything)}
    for split, paths in lists.items():
        unknown = next((path for path in paths if path not in row_of), None)
        if unknown is not None:
            raise DataError(
                f"{tree}/ImageList: {split} image {unknown} is not in Imagelist.txt, which AllLabels follow"
            )
    return {split: (paths, targets[[row_of[path] for path in paths]]) for split, paths in lists.items()}


def _image_list(tree: Path, name: str) -> list[str]:
    path = tree / "ImageList" / name
    return [clean_path(line, str(path)) for line in read_lines(path)]


def _label_files(folder: Path, ending: str, num_images: int) -> NDArray[np.uint8]:
    """Targets (num_images, 81) from one file a concept, with 0 or 1 a line."""
    targets = np.empty((num_images, len(CONCEPTS)), np.uint8)
    for column, concept in enumerate(CONCEPTS):
        path = folder / f"Labels_{concept}{ending}.txt"
        try:
            characters = np.frombuffer(path.read_bytes(), np.uint8)
        except OSError as error:
            raise DataError(f"{path}: {error.strerror}; {GUIDE}") from error
        values = characters[characters > ord(" ")] - ord("0")  # blanks and line ends are below
        if (values > 1).any():
            raise DataError(f"{path}: holds something else than 0 and 1")
        if len(values) != num_images:
            raise DataError(
                f"{path} has {len(values):,} lines, its image list has {num_images:,}; "
                "Train and Test label files belong to the Train and Test lists, AllLabels to Imagelist.txt"
            )
        targets[:, column] = values
    return targets


def _check_concepts(tree: Path) -> None:
    for path in (tree / "Concepts81.txt", tree / "ConceptsList" / "Concepts81.txt"):
        if path.exists() and set(read_lines(path)) != set(CONCEPTS):
            differing = sorted(set(read_lines(path)) ^ set(CONCEPTS))
            raise DataError(f"{path}: not the 81 concepts of NUS-WIDE; differing: {', '.join(differing[:5])}")


def _read_table(tree: Path) -> dict[str, Listed]:
    path = tree / TABLE
    rows = csv.DictReader(io.StringIO(read_text(path), newline=""))
    missing = {"filepath", "label", "split_name"} - set(rows.fieldnames or ())
    if missing:
        raise DataError(f"{path}: no column {', '.join(sorted(missing))}")
    split_of = {"train": "train", "val": "test"}
    paths: dict[str, list[str]] = {"train": [], "test": []}
    labels: dict[str, list[list[int]]] = {"train": [], "test": []}
    for row in rows:
        where = f"{path}, line {rows.line_num}"
        split = split_of.get(row["split_name"] or "")
        if split is None:
            raise DataError(f"{where}: split_name {row['split_name']!r}; train or val")
        paths[split].append(clean_path(row["filepath"] or "", where))
        labels[split].append(_concept_numbers(row["label"] or "", where))
    return {split: (paths[split], np.asarray(indicator(labels[split], len(CONCEPTS)))) for split in paths}


def _concept_numbers(written: str, where: str) -> list[int]:
    """From "['clouds', 'sky']"; an empty list is an image without a label."""
    try:
        names = ast.literal_eval(written)
        return [NUMBER_OF[name] for name in names]
    except (ValueError, SyntaxError, TypeError) as error:
        raise DataError(f"{where}: label {written!r} is not a list of concepts") from error
    except KeyError as error:
        raise DataError(f"{where}: {error} is none of the 81 concepts") from error


def _read_list(path: Path) -> Listed:
    paths: list[str] = []
    rows: list[Sequence[str]] = []
    for number, line in enumerate(read_lines(path), start=1):
        name, *values = line.rsplit(maxsplit=len(CONCEPTS))
        if len(values) != len(CONCEPTS) or not set(values) <= {"0", "1"}:
            raise DataError(f"{path}, line {number}: not a path with 81 columns of 0 and 1")
        paths.append(clean_path(name, f"{path}, line {number}"))
        rows.append(values)
    targets = np.array(rows, dtype="U1").reshape(len(rows), len(CONCEPTS)) == "1"
    return paths, targets.astype(np.uint8)
