"""Small data sets on disk in the formats of the real ones, with real JPEG files, for every test that needs
one.

Each writer takes a folder and returns it. Images are random pictures of different sizes; the same call always
writes the same tree.
"""

import csv
import json
import xml.etree.ElementTree as ElementTree
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from PIL import Image

from lsep_ml.data.sources.nuswide.layouts import CONCEPTS
from lsep_ml.data.sources.voc import CLASSES

COCO_CATEGORIES = {
    1: "person",
    2: "bicycle",
    3: "car",
    17: "cat",
    18: "dog",
    44: "bottle",
    62: "chair",
    90: "toothbrush",
}


def picture(seed: int, height: int, width: int) -> Image.Image:
    """A colour picture with large patches and some noise, so that it is no trivial JPEG."""
    rng = np.random.default_rng(seed)
    patches = rng.integers(0, 256, (height // 8 + 1, width // 8 + 1, 3))
    pixels = patches.repeat(8, axis=0).repeat(8, axis=1)[:height, :width] + rng.normal(
        0, 8, (height, width, 3)
    )
    return Image.fromarray(np.clip(pixels, 0, 255).astype(np.uint8))


def write_image(path: Path, seed: int, **options: object) -> Path:
    """A picture of a size of its own, 40 to 79 pixels a side, in the format of the path's ending."""
    path.parent.mkdir(parents=True, exist_ok=True)
    height, width = np.random.default_rng([seed, 1]).integers(40, 80, 2)
    picture(seed, int(height), int(width)).save(path, **options)
    return path


def random_labels(num_images: int, num_labels: int, seed: int) -> np.ndarray:
    """0/1 (num_images, num_labels): 1 to 4 labels an image, every label at least once if there are enough
    images."""
    rng = np.random.default_rng(seed)
    targets = np.zeros((num_images, num_labels), np.uint8)
    for row in range(num_images):
        targets[row, rng.choice(num_labels, rng.integers(1, min(4, num_labels) + 1), replace=False)] = 1
        targets[row, row % num_labels] = 1
    return targets


def write_lines(path: Path, lines: Sequence[object], end: str = "\n") -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes("".join(f"{line}{end}" for line in lines).encode())
    return path


def write_voc(
    root: Path,
    trainval: int = 44,
    test: int = 22,
    inside: str = "VOCdevkit/VOC2007",
    lists: Sequence[str] = ("trainval", "test"),
) -> Path:
    """VOC2007: value 1 where an object is not difficult, 0 where all are, -1 where there is none.

    Every fifth image has one class with difficult objects only, and one object marked difficult of another
    class that also has a plain one. `lists` are the names of the lists of images to train and to test.
    """
    tree = root / inside
    for listed, numbers in zip(lists, (range(1, 2 * trainval, 2), range(2, 2 * test + 1, 2)), strict=True):
        names = [f"{number:06d}" for number in numbers]
        values = random_labels(len(names), len(CLASSES), seed=len(names)).astype(int) * 2 - 1
        for row in range(0, len(names), 5):
            values[row, np.flatnonzero(values[row] < 0)[row % 7]] = 0
        write_lines(tree / "ImageSets" / "Main" / f"{listed}.txt", names)
        for column, class_name in enumerate(CLASSES):
            lines = [f"{name} {value:2d}" for name, value in zip(names, values[:, column], strict=True)]
            write_lines(tree / "ImageSets" / "Main" / f"{class_name}_{listed}.txt", lines)
        for number, name, row in zip(numbers, names, values, strict=True):
            write_image(tree / "JPEGImages" / f"{name}.jpg", seed=number)
            write_voc_xml(tree / "Annotations" / f"{name}.xml", dict(zip(CLASSES, row.tolist(), strict=True)))
    return root


def write_voc_xml(path: Path, values: Mapping[str, int]) -> None:
    annotation = ElementTree.Element("annotation")
    ElementTree.SubElement(annotation, "filename").text = f"{path.stem}.jpg"
    for class_name, value in values.items():
        for difficult in {1: [0, 1], 0: [1], -1: []}[value]:
            item = ElementTree.SubElement(annotation, "object")
            ElementTree.SubElement(item, "name").text = class_name
            ElementTree.SubElement(item, "difficult").text = str(difficult)
            box = ElementTree.SubElement(item, "bndbox")
            for side, at in {"xmin": 1, "ymin": 1, "xmax": 9, "ymax": 9}.items():
                ElementTree.SubElement(box, side).text = str(at)
    path.parent.mkdir(parents=True, exist_ok=True)
    ElementTree.ElementTree(annotation).write(path)


def coco_content(
    file_names: Sequence[str],
    targets: np.ndarray,
    categories: Mapping[int, str] = COCO_CATEGORIES,
    first_id: int = 1,
) -> dict[str, list[dict[str, object]]]:
    """The content of an instances file: one or two annotations for each label, every seventh a crowd."""
    ids = list(categories)
    images = [
        {"id": first_id + 3 * row, "file_name": name, "height": 60, "width": 60}
        for row, name in enumerate(file_names)
    ]
    annotations: list[dict[str, object]] = []
    for row, column in np.argwhere(targets).tolist():
        for _ in range(1 + row % 2):
            number = len(annotations) + 1
            annotations.append(
                {
                    "id": number, "image_id": images[row]["id"], "category_id": ids[column], "area": 4.0,
                    "iscrowd": int(number % 7 == 0), "bbox": [0, 0, 2, 2],
                }
            )  # fmt: skip
    listed = [{"id": number, "name": name, "supercategory": "thing"} for number, name in categories.items()]
    return {"images": images, "annotations": annotations, "categories": listed[::-1]}


def write_json(path: Path, content: object) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(content))
    return path


def write_coco(root: Path, train: int = 40, test: int = 20, unlabelled: int = 3) -> Path:
    """MS-COCO 2014 with 8 of the categories; the first `unlabelled` images of each part have no instance."""
    for part, size in (("train2014", train), ("val2014", test)):
        names = [f"COCO_{part}_{9 + 2 * row:012d}.jpg" for row in range(size)]
        targets = random_labels(size, len(COCO_CATEGORIES), seed=size)
        targets[:unlabelled] = 0
        for row, name in enumerate(names):
            write_image(root / part / name, seed=(1000 if part == "train2014" else 2000) + row)
        write_json(root / "annotations" / f"instances_{part}.json", coco_content(names, targets, first_id=9))
    return root


def nuswide_labels(num_images: int, seed: int, unlabelled: int) -> np.ndarray:
    """Labels for NUS-WIDE; images with 2 to 6 of the 81 concepts, the first `unlabelled` with none."""
    targets = np.concatenate([random_labels(num_images, 27, seed + shift) for shift in range(3)], axis=1)
    targets[:unlabelled] = 0
    return targets


def nuswide_paths(num_images: int, part: str) -> list[str]:
    folders = ("actor", "zebra", "sea_side")
    first = 1 if part == "train" else 5001
    return [
        f"{folders[row % 3]}/{first + row:04d}_{2124494179 + first * 7 + row}.jpg"
        for row in range(num_images)
    ]


def write_nuswide(
    root: Path, train: int = 50, test: int = 30, unlabelled: int = 2, labels: str = "both"
) -> Path:
    """The official tree, with backslashes and trailing blanks; labels = both | TrainTestLabels |
    AllLabels."""
    parts = {"Train": (train, 0), "Test": (test, 1)}
    paths = {part: nuswide_paths(size, part.lower()) for part, (size, _) in parts.items()}
    targets = {part: nuswide_labels(size, seed, unlabelled) for part, (size, seed) in parts.items()}
    for part, (_, seed) in parts.items():
        for row, path in enumerate(paths[part]):
            write_image(root / "Flickr" / path, seed=3000 + 500 * seed + row)
        lines = [path.replace("/", "\\") + " " for path in paths[part]]
        write_lines(root / "ImageList" / f"{part}Imagelist.txt", lines)
        if labels != "AllLabels":
            write_label_files(root / "Groundtruth" / "TrainTestLabels", f"_{part}", targets[part])
    everything = [
        *zip(paths["Test"], targets["Test"], strict=True),
        *zip(paths["Train"], targets["Train"], strict=True),
    ]
    write_lines(
        root / "ImageList" / "Imagelist.txt", [path.replace("/", "\\") for path, _ in everything], end="\r\n"
    )
    if labels != "TrainTestLabels":
        write_label_files(root / "Groundtruth" / "AllLabels", "", np.stack([row for _, row in everything]))
    write_lines(root / "Concepts81.txt", CONCEPTS, end=" \n")
    return root


def write_label_files(folder: Path, ending: str, targets: np.ndarray) -> None:
    for column, concept in enumerate(CONCEPTS):
        write_lines(folder / f"Labels_{concept}{ending}.txt", targets[:, column].tolist())


def write_nuswide_table(root: Path, train: int = 50, test: int = 30, unlabelled: int = 2) -> Path:
    """The CSV repackaging, images in one folder."""
    lines = []
    for part, size, seed in (("train", train, 0), ("test", test, 1)):
        targets = nuswide_labels(size, seed, unlabelled)
        for row, path in enumerate(nuswide_paths(size, part)):
            name = path.rpartition("/")[2]
            write_image(root / "images" / name, seed=3000 + 500 * seed + row)
            labels = [CONCEPTS[column] for column in np.flatnonzero(targets[row])]
            lines.append([f"images/{name}", str(labels), "train" if part == "train" else "val"])
    write_table(root / "nus_wid_data.csv", [["filepath", "label", "split_name"], *lines])
    return root


def write_nuswide_lists(root: Path, train: int = 50, test: int = 30, unlabelled: int = 2) -> Path:
    """The list repackaging: a path and 81 columns a line."""
    for part, size, seed in (("train", train, 0), ("test", test, 1)):
        targets = nuswide_labels(size, seed, unlabelled)
        lines = []
        for row, path in enumerate(nuswide_paths(size, part)):
            write_image(root / "images" / path, seed=3000 + 500 * seed + row)
            lines.append(" ".join([f"images/{path}", *map(str, targets[row])]))
        write_lines(root / f"{part}.txt", lines)
    return root


def write_table(path: Path, rows: Sequence[Sequence[object]]) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows(rows)
    return path


OWN_CLASSES = ("apple", "bread", "cheese", "dates", "eggs")


def write_csv(root: Path, images: int = 60, split: bool = True, columns: bool = False) -> Path:
    """labels.csv with `image,labels[,split]`, or one column a class with some entries unknown (empty or
    -1)."""
    targets = random_labels(images, len(OWN_CLASSES), seed=5)
    unknown = (np.random.default_rng(6).random(targets.shape) < 0.1) & (targets == 0)
    header = ["image", *(OWN_CLASSES if columns else ["labels"]), *(["split"] if split else [])]
    rows: list[list[object]] = [header]
    for row in range(images):
        name = f"photos/{row:03d}.jpg"
        write_image(root / name, seed=7000 + row)
        cells: list[object] = [" | ".join(OWN_CLASSES[column] for column in np.flatnonzero(targets[row]))]
        if columns:
            cells = [
                (("", -1)[row % 2] if unknown[row, k] else int(targets[row, k]))
                for k in range(len(OWN_CLASSES))
            ]
        part = "test" if row % 5 == 4 else "val" if row % 10 == 3 else "train"
        rows.append([name, *cells, *([part] if split else [])])
    write_table(root / "labels.csv", rows)
    return root


def write_coco_json(root: Path, images: int = 40, test: int = 0) -> Path:
    """annotations.json for images in images/, and test.json where `test` images are asked for."""
    for name, size, first in (("annotations", images, 0), ("test", test, images)):
        if not size:
            continue
        names = [f"{first + row:03d}.jpg" for row in range(size)]
        for row, image in enumerate(names):
            write_image(root / "images" / image, seed=9000 + first + row)
        targets = random_labels(size, len(COCO_CATEGORIES), seed=size)
        write_json(root / f"{name}.json", coco_content(names, targets))
    return root
