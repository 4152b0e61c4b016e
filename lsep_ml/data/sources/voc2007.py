"""PASCAL VOC 2007 classification: 20 classes, 5,011 images to train, 4,952 to test."""

from functools import partial

from lsep_ml.data.sources.source import Archive, Published, Source, place_from
from lsep_ml.data.sources.voc import CLASSES, object_findings, read_voc, voc_annotations

SPLIT_OF = {"trainval": "train", "test": "test"}
POSITIVES = (
    238, 243, 330, 181, 244, 186, 713, 337, 445, 141, 200, 421, 287, 245, 2008, 245, 96, 229, 261, 256,
)  # fmt: skip


read_voc2007 = partial(read_voc, 2007, SPLIT_OF)
"""Reads the data set; see `read_voc`."""

voc2007_annotations = partial(voc_annotations, 2007, SPLIT_OF)
"""Reads the lists of ImageSets/Main below a root: trainval as train, and test."""

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
