"""PASCAL VOC 2012 classification: 20 classes; train (5,717 images) to train, val (5,823) to test."""

from pathlib import Path

from lsep_ml.data.annotations import Annotations, OnBadImage, hold_out, keep_usable, to_data_set
from lsep_ml.data.data_set import DataSet
from lsep_ml.data.sources.source import Archive, Published, Source, place_from
from lsep_ml.data.sources.voc import CLASSES, Difficult, object_findings, voc_annotations

SPLIT_OF = {"train": "train", "val": "test"}
POSITIVES = (
    327, 268, 395, 260, 365, 213, 590, 539, 566, 151, 269, 632, 237, 265, 1994, 269, 171, 257, 273, 290,
)  # fmt: skip


def read_voc2012(
    root: str | Path,
    seed: int = 0,
    *,
    difficult: Difficult = "negative",
    holdout: float = 0.05,
    on_bad_image: OnBadImage = "error",
    cache: str | Path | None = None,
) -> DataSet:
    """Train on the list train without the hold-out, validate on the hold-out, test on the list val.

    Args:
        root: folder with VOCdevkit/VOC2012/, or VOCdevkit, or VOC2012 itself.
        seed: of the hold-out.
        difficult: what a class is for an image that has only objects of it marked difficult (value 0 in the
            lists): negative | positive | ignore (unknown).
        holdout: share of train for validation.
        on_bad_image: an image that is missing or cannot be decoded: error | drop (counted).
        cache: folder that remembers which images were opened.

    Raises:
        DataError: another tree, lists that do not fit together, bad images.
    """
    annotations = keep_usable(voc2012_annotations(root, difficult=difficult), on_bad_image, cache)
    return to_data_set(hold_out(annotations, holdout, seed))


def voc2012_annotations(root: str | Path, *, difficult: Difficult = "negative") -> Annotations:
    """Read the lists of ImageSets/Main below `root`: train, and val as test."""
    return voc_annotations(2012, root, SPLIT_OF, difficult)


SOURCE = Source(
    name="voc2012",
    annotations=voc2012_annotations,
    published=Published(
        images={"train": 5717, "test": 5823},
        positives=dict(zip(CLASSES, POSITIVES, strict=True)),
        archives=(Archive("VOCtrainval_11-May-2012.tar", 1_999_639_040, "6cd6e144f989b92b3379bac3b3de84fd"),),
        protocol="the whole data set",
    ),
    compare=lambda root: object_findings(voc2012_annotations(root)),
    place=place_from(["VOC2012"], under="VOCdevkit/"),
)
