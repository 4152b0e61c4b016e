"""What lies around every image: a text file of tags, XML with the objects that are seen, or the folder called as its
label."""

import re
from collections.abc import Sequence
from itertools import islice

from lsep_ml.data.annotations import Reading
from lsep_ml.data.errors import DataError, some
from lsep_ml.data.sources.own.folder import Folder
from lsep_ml.data.sources.own.listed import Candidate, Listed, Options, label_lists
from lsep_ml.data.sources.own.paths import split_of_file, split_of_path, split_word, stem_of
from lsep_ml.data.tree import beginning, read_lines, read_text, read_xml

LISTS = tuple(f"imagesets/main/{split}.txt" for split in ("train", "val", "test"))
A_TREE = re.compile(rb"<annotation[\s>]")
LOOKED_AT = 50  # rows
COMMON = 0.5  # the share of the text files that have an image's name


def find_files_beside_images(folder: Folder, options: Options) -> list[Candidate]:
    """Return text files that have images' names, XML files with annotations."""
    if options.files:
        return []
    found = []
    texts = _of_images(folder, ".txt")
    if (
        texts
        and len(texts) >= COMMON * len(folder.of_suffix(".txt"))
        and not numbers(folder, list(texts.values()))
    ):
        found.append(
            Candidate(
                "text files of tags",
                tuple(texts.values()),
                lambda: read_tags(folder, texts, options),
                weak=True,
            )
        )
    xml = [file for file in folder.of_suffix(".xml") if A_TREE.search(beginning(folder.root / file))][:1]
    if xml:
        found.append(
            Candidate("XML files", tuple(folder.of_suffix(".xml")), lambda: read_objects(folder), weak=True)
        )
    return found


def _of_images(folder: Folder, suffix: str) -> dict[str, str]:
    """Image -> the file beside it."""
    files = {file.lower(): file for file in folder.of_suffix(suffix)}
    beside = {
        image: files.get(stem_of(image).lower() + suffix) or files.get(image.lower() + suffix)
        for image in folder.images
    }
    return {image: file for image, file in beside.items() if file is not None}


def numbers(folder: Folder, files: list[str]) -> bool:
    """Return whether the files hold rows of numbers, as of detected objects, by the first rows that there are."""
    every = (line.split() for file in files for line in read_text(folder.root / file).splitlines())
    lines = list(islice(filter(None, every), LOOKED_AT))
    return bool(lines) and all(len(line) >= 5 and line[0].isdigit() for line in lines)


def read_tags(folder: Folder, files: dict[str, str], options: Options) -> Listed:
    """Return every image below the folder, with the tags in the text file beside it: one separator for all files, the
    comma where
    any has one, else blanks; an image without a file, or with an empty one, has no label.
    """
    texts = {image: read_text(folder.root / file) for image, file in files.items()}
    separator = options.separator
    notes: list[str] = []
    if separator is None:
        separator = next(
            (one for one in (",", ";", "|") if any(one in text for text in texts.values())), None
        )
        lines = separator is None and any(len(text.split("\n")) > 2 for text in texts.values())
        separator = separator or (
            "\n"
            if lines and any(" " in line.strip() for t in texts.values() for line in t.splitlines())
            else " "
        )
        notes.append(Reading(f"tags are separated by {separator!r} in all files (data.separator)"))
    without = [image for image in folder.images if image not in texts]
    if without:
        notes.append(
            f"{len(without):,} images have no text file: they have no label, such as {some(without, 2)}"
        )
    names = []
    for image in folder.images:
        text = texts.get(image, "")
        parts = text.split() if separator == " " else text.replace("\n", separator).split(separator)
        names.append([part.strip() for part in parts if part.strip()])
    return label_lists(
        f"text file of tags beside every image ({len(files):,})", folder.images, names, words=True,
        splits=splits_of(folder.images), notes=tuple(notes), place=lambda row: files.get(folder.images[row],
        folder.images[row]),
    )  # fmt: skip


def splits_of(images: list[str]) -> list[str] | None:
    """Return the splits that the images' folders are called by, where all are."""
    splits = [split_of_path(image) for image in images]
    return splits if all(splits) and len(set(splits)) > 1 else None


def listed_splits(
    folder: Folder, lists: Sequence[str], images: Sequence[str], notes: list[str]
) -> list[str] | None:
    """Return the splits of images by the text files that list them, an image a line; None where there are not two."""
    if len(lists) < 2:
        return None
    split_of: dict[str, str] = {}
    for file in lists:
        names = [line.split()[0] for line in read_lines(folder.root / file)]
        found = folder.find(names, file.rpartition("/")[0])
        split_of |= dict.fromkeys(found.images, split_of_file(file))
    notes.append(Reading(f"the split is that of {some(lists)}"))
    return [split_of.get(image, "") for image in images]


def read_objects(folder: Folder) -> Listed:
    """Return every image below the folder, with the names of the objects in its XML file; their parts do not count."""
    by_stem: dict[str, list[str]] = {}
    for image in folder.images:
        by_stem.setdefault(stem_of(image.rpartition("/")[2]), []).append(image)
    labels: dict[str, list[str]] = {}
    notes: list[str] = []
    lost: list[str] = []
    for file in folder.of_suffix(".xml"):
        path = folder.root / file
        tree = read_xml(path)
        if tree.tag != "annotation":
            continue
        names = []
        for number, item in enumerate(tree.findall("object"), start=1):
            name = (item.findtext("name") or "").strip()
            if not name:
                raise DataError(f"{path}: object {number} has no name; give it one")
            if (item.findtext("deleted") or "").strip() != "1":  # LabelMe keeps what was deleted
                names.append(name)
        found = _image_of(folder, file, tree.findtext("filename"), by_stem)
        image = found or (tree.findtext("filename") or file[:-4] + ".jpg").strip()
        if found is None:
            lost.append(file)
        if image in labels:
            raise DataError(f"{path}: {image} has two XML files; remove one")
        labels[image] = names
    without = [image for image in folder.images if image not in labels]
    if without:
        notes.append(
            f"{len(without):,} images have no XML file: they have no label, such as {some(without, 2)}"
        )
    if lost:
        notes.append(f"{len(lost):,} XML files have no image: {some(lost)}")
    images = [*labels, *without]
    return label_lists(
        f"XML file an image ({len(labels):,})", images, [labels.get(image, []) for image in images],
        splits=splits_of(images) or listed_splits(folder, folder.of_suffix(*LISTS), images, notes), notes=tuple(notes),
        place=lambda row: images[row],
    )  # fmt: skip


def _image_of(folder: Folder, file: str, named: str | None, by_stem: dict[str, list[str]]) -> str | None:
    """Return the image of an XML file: of the same name beside it, of the name in it, or of the same name elsewhere."""
    beside, _, name = file.rpartition("/")
    same = by_stem.get(name[:-4], [])
    here = [image for image in same if image.rpartition("/")[0] == beside]
    if len(here) == 1:
        return here[0]
    found = folder.find([named], beside) if named and named.strip() else None
    if found is not None and not found.missing:
        return str(found.images[0])
    return same[0] if len(same) == 1 else None


def find_label_folders(folder: Folder, options: Options) -> list[Candidate]:
    """Return images in at least two folders that are no splits."""
    if options.files or len({label for label in map(_label_of, folder.images) if label}) < 2:
        return []
    return [Candidate("one folder a label", (), lambda: read_folders(folder), weak=True)]


def _label_of(image: str) -> str:
    """Return the name of the image's folder; "" where it is a split or the root."""
    above = image.split("/")[:-1]
    return "" if not above or split_word(above[-1]) else above[-1]


def read_folders(folder: Folder) -> Listed:
    """Return every image in a folder, each file once however many folders link to it."""
    first: dict[object, str] = {}
    labels: dict[str, list[str]] = {}
    stray = []
    for image in folder.images:
        label = _label_of(image)
        if not label:
            stray.append(image)
            continue
        kept = first.setdefault(folder.file_of(image), image)
        labels.setdefault(kept, []).append(label)
    notes: list[str] = [Reading("each folder is a label")]
    linked = sum(len(found) > 1 for found in labels.values())
    if linked:
        notes.append(Reading(f"{linked:,} images are linked in several folders: they have several labels"))
    if stray:
        notes.append(f"{len(stray):,} images lie in no label's folder and are left out: {some(stray, 2)}")
    images = list(labels)
    return label_lists(
        "one folder a label", images, list(labels.values()), splits=splits_of(images), notes=tuple(notes),
        dropped={"in no label's folder": len(stray)} if stray else {}, place=lambda row: images[row],
    )  # fmt: skip
