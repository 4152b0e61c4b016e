"""CVAT's XML for images: one file, with an element an image that holds tags and shapes with a label each."""

from functools import partial

from lsep_ml.data.errors import DataError
from lsep_ml.data.sources.own.beside_images import splits_of
from lsep_ml.data.sources.own.folder import Folder
from lsep_ml.data.sources.own.listed import Candidate, Listed, Options, image_notes, label_lists
from lsep_ml.data.sources.own.paths import split_word
from lsep_ml.data.tree import beginning, read_xml

DEPTH = 3


def find_cvat_files(folder: Folder, options: Options) -> list[Candidate]:
    """Return the XML files that begin with `<annotations>` and hold images."""
    files = [
        file
        for file in folder.of_suffix(".xml")
        if options.takes(file, file.count("/") < DEPTH) and b"<annotations>" in beginning(folder.root / file)
    ]
    return [Candidate("CVAT's XML", (file,), partial(_read, folder, file)) for file in files]


def _read(folder: Folder, file: str) -> Listed:
    """Return the images with the labels of their tags and shapes, in the order of the labels of the job where it has
    them."""
    path = folder.root / file
    tree = read_xml(path)
    if tree.find("track") is not None:
        raise DataError(f"{path}: tracks of a video; export it as CVAT for images")
    names, images, subsets = [], [], []
    for number, image in enumerate(tree.findall("image"), start=1):
        name = image.get("name")
        if not name:
            raise DataError(f"{path}: image {number} has no name")
        images.append(name)
        subsets.append(split_word(image.get("subset", "")))
        names.append([label for one in image if (label := (one.get("label") or "").strip())])
    known = dict.fromkeys(
        label.text.strip() for label in tree.iterfind("meta//labels/label/name") if label.text
    )
    found = folder.find(images, file.rpartition("/")[0])
    return label_lists(
        f"CVAT's XML ({file})",
        found.images,
        names,
        label_names=list(known),
        sorted_names=not known,
        splits=subsets if all(subsets) and len(set(subsets)) > 1 else splits_of(found.images),
        notes=tuple(image_notes(found, file)),
        place=lambda row: f"{path}, image {images[row]!r}",
    )
