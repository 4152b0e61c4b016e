"""PASCAL VOC 2007 classification: 20 classes, 5,011 images to train, 4,952 to test."""

from pathlib import Path

from lsep_ml.data.annotations import Annotations, OnBadImage, hold_out, keep_usable, to_data_set
from lsep_ml.data.data_set import DataSet
from lsep_ml.data.sources.source import Archive, Published, Source, place_from
from lsep_ml.data.sources.voc import CLASSES, Difficult, object_findings, voc_annotations

SPLIT_OF = {"trainval": "train", "test": "test"}
POSITIVES = (
    238, 243, 330, 181, 244, 186, 713, 337, 445, 141, 200, 421, 287, 245, 2008, 245, 96, 229, 261, 256,
)  # fmt: skip


def read_voc2007(
    root: str | Path,
    seed: int = 0,
    *,
    difficult: Difficult = "negative",
    holdout: float = 0.05,
    on_bad_image: OnBadImage = "error",
    cache: str | Path | None = None,
) -> DataSet:
    """Train on trainval without the hold-out, validate on the hold-out, test on test.

    Args:
        root: folder with VOCdevkit/VOC2007/, or VOCdevkit, or VOC2007 itself.
        seed: of the hold-out.
        difficult: what a class is for an image that has only objects of it marked difficult (value 0 in the
            lists): negative | positive | ignore (unknown). The paper does not say; negative is our choice.
        holdout: share of trainval for validation (the paper: 5%).
        on_bad_image: an image that is missing or cannot be decoded: error | drop (counted).
        cache: folder that remembers which images were opened.

    Raises:
        DataError: another tree, lists that do not fit together, bad images.
    """
    annotations = keep_usable(voc2007_annotations(root, difficult=difficult), on_bad_image, cache)
    return to_data_set(hold_out(annotations, holdout, seed))


def voc2007_annotations(root: str | Path, *, difficult: Difficult = "negative") -> Annotations:
    """Read the lists of ImageSets/Main below `root`: trainval as train, and test."""
    return voc_annotations(2007, root, SPLIT_OF, difficult)


SOURCE = Source(
    name="voc2007",
    annotations=voc2007_annotations,
    published=Published(
        images={"train": 5011, "test": 4952},
        positives=dict(zip(CLASSES, POSITIVES, strict=True)),
        archives=(
            Archive("VOCtrainval_06-Nov-2007.tar", 460_032_000, "c52e279531787c972589f7e41ab4ae64"),
            Archive("VOCtest_06-Nov-2007.tar", 451_020_800, "b6e924de25625d8de591ea690078ad9f"),
        ),
    ),
    compare=lambda root: object_findings(voc2007_annotations(root)),
    place=place_from(["VOC2007"], under="VOCdevkit/"),
)
