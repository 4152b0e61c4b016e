"""What is known about the public data sets: counts, archives. Data for the check and for prepare."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from lsep_ml.data.sources.voc2007 import CLASSES


@dataclass(frozen=True)
class Archive:
    """A file as the authors publish it."""

    name: str
    num_bytes: int
    md5: str


@dataclass(frozen=True)
class Published:
    """Published facts, by part ("train", "test"); what is not known is left out.

    Args:
        images: images listed.
        labelled: images with at least one label.
        positives: label -> training images that have it.
        kept: usable images with a label that the paper trains and tests on, both parts together.
        archives: as they are fetched.
        missing_expected: whether images are known to be no longer available.
    """

    images: Mapping[str, int] = field(default_factory=dict)
    labelled: Mapping[str, int] = field(default_factory=dict)
    positives: Mapping[str, int] = field(default_factory=dict)
    kept: int | None = None
    archives: tuple[Archive, ...] = ()
    missing_expected: bool = False


_VOC_POSITIVES = (
    238,
    243,
    330,
    181,
    244,
    186,
    713,
    337,
    445,
    141,
    200,
    421,
    287,
    245,
    2008,
    245,
    96,
    229,
    261,
    256,
)

PUBLISHED: Mapping[str, Published] = {
    "voc2007": Published(
        images={"train": 5011, "test": 4952},
        positives=dict(zip(CLASSES, _VOC_POSITIVES, strict=True)),
        archives=(
            Archive("VOCtrainval_06-Nov-2007.tar", 460_032_000, "c52e279531787c972589f7e41ab4ae64"),
            Archive("VOCtest_06-Nov-2007.tar", 451_020_800, "b6e924de25625d8de591ea690078ad9f"),
        ),
    ),
    "coco": Published(
        images={"train": 82_783, "test": 40_504},
        labelled={"train": 82_081, "test": 40_137},
        kept=82_081 + 40_137,
        archives=(
            Archive("train2014.zip", 13_510_573_713, "0da8c0bd3d6becc4dcb32757491aca88"),
            Archive("val2014.zip", 6_645_013_297, "a3d79f5ed8d289b7a7554ce06a5782b3"),
            Archive("annotations_trainval2014.zip", 252_872_794, "0a379cfc70b0e71301e0f377548639bd"),
        ),
    ),
    "nuswide": Published(
        images={"train": 161_789, "test": 107_859},
        labelled={"train": 125_449, "test": 83_898},
        kept=150_000 + 50_261,
        missing_expected=True,
    ),
}
