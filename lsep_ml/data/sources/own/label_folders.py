"""One folder a label; an image that is linked in several folders has several labels."""

from lsep_ml.data.annotations import Reading
from lsep_ml.data.errors import some
from lsep_ml.data.sources.own.beside_images import splits_of
from lsep_ml.data.sources.own.folder import Folder
from lsep_ml.data.sources.own.listed import Candidate, Listed, Options, label_lists
from lsep_ml.data.sources.own.paths import split_word


def find_label_folders(folder: Folder, options: Options) -> list[Candidate]:
    """Return images in at least two folders that are no splits."""
    if options.files or len({label for label in map(_label_of, folder.images) if label}) < 2:
        return []
    return [Candidate("one folder a label", (), lambda: _read(folder), weak=True)]


def _label_of(image: str) -> str:
    """Return the name of the image's folder; "" where it is a split or the root."""
    above = image.split("/")[:-1]
    return "" if not above or split_word(above[-1]) else above[-1]


def _read(folder: Folder) -> Listed:
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
