"""NUS-WIDE: 81 concepts, 269,648 images of which the paper keeps 150,000 to train and 50,261 to test."""

from pathlib import Path
from typing import Literal

from lsep_ml.data.annotations import (
    OnBadImage,
    Unlabelled,
    hold_out,
    keep_labelled,
    keep_usable,
    to_data_set,
)
from lsep_ml.data.data_set import DataSet
from lsep_ml.data.errors import DataError
from lsep_ml.data.sources.nuswide.layouts import nuswide_annotations
from lsep_ml.data.sources.nuswide.paper_split import (
    PAPER_TEST_IMAGES,
    PAPER_TRAIN_IMAGES,
    draw_paper_split,
    paper_split,
    split_content,
    split_file,
)
from lsep_ml.data.sources.source import Published, Source, place_from
from lsep_ml.files import atomic_write


def read_nuswide(
    root: str | Path,
    seed: int = 0,
    *,
    split: Literal["paper", "official"] = "paper",
    train_images: int = PAPER_TRAIN_IMAGES,
    unlabelled: Unlabelled = "drop",
    holdout: float = 0.05,
    on_bad_image: OnBadImage = "drop",
    cache: str | Path | None = None,
) -> DataSet:
    """Drop unusable and unlabelled images, then split, then hold out validation images.

    Args:
        root: folder of one of the layouts of `nuswide_annotations`.
        seed: of the paper split and of the hold-out.
        split: paper (`train_images` drawn at random to train, the rest to test; the paper's own list was
            never published) | official (the authors' train and test lists).
        train_images: of the paper split; where too few images remain, the same share of them trains.
        unlabelled: images with none of the 81 concepts: drop (the paper) | keep.
        holdout: share of the training images for validation (the paper: 5%).
        on_bad_image: an image that is missing or cannot be decoded: drop (counted) | error. Many are no
            longer to be had, so drop is the default.
        cache: folder that keeps the parsed lists and remembers which images were opened.

    Raises:
        DataError: another tree, lists that do not fit together, bad images where on_bad_image=error.
    """
    if split not in ("paper", "official"):
        raise DataError(f"data.split={split}: paper or official")
    annotations = keep_usable(
        keep_labelled(nuswide_annotations(root, cache=cache), unlabelled), on_bad_image, cache
    )
    if split == "paper":
        annotations = paper_split(annotations, train_images, seed)
    return to_data_set(hold_out(annotations, holdout, seed))


def write_paper_split(
    root: str | Path,
    *,
    seed: int = 0,
    train_images: int = PAPER_TRAIN_IMAGES,
    cache: str | Path | None = None,
) -> Path:
    """Draw the paper split over the usable, labelled images below `root` and write it, unless it is there.

    Args:
        root: folder of one of the layouts of `nuswide_annotations`.
        seed, train_images: of the split, as in `read_nuswide`.
        cache: folder of the parsed lists and of what is known of the images.

    Returns:
        The split's file, splits/paper-seed<seed>.json.

    Raises:
        DataError: the lists are not in place.
    """
    annotations = keep_usable(keep_labelled(nuswide_annotations(root, cache=cache), "drop"), "drop", cache)
    path = split_file(annotations.root, seed)
    if not path.exists():
        content = split_content(draw_paper_split(annotations, train_images, seed))
        with atomic_write(path) as file:
            file.write(content)
    return path


_from_flickr = place_from(["Flickr"])
_from_labels = place_from(["TrainTestLabels", "AllLabels"], under="Groundtruth/")


def _place(name: str) -> str | None:
    """The archives differ in how much of the tree they hold; the folder names tell where a file belongs."""
    last = name.rpartition("/")[2]
    if last == "Concepts81.txt":
        return last
    if last.lower().endswith("imagelist.txt"):
        return f"ImageList/{last}"
    return _from_flickr(name) or _from_labels(name)


SOURCE = Source(
    name="nuswide",
    annotations=nuswide_annotations,
    keeps_index=True,
    published=Published(
        images={"train": 161_789, "test": 107_859},
        labelled={"train": 125_449, "test": 83_898},
        kept=PAPER_TRAIN_IMAGES + PAPER_TEST_IMAGES,
        missing_expected=True,
    ),
    place=_place,
    draw_split=write_paper_split,
)
