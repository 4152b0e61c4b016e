"""PASCAL VOC 2012 classification: 20 classes; train (5,717 images) to train, val (5,823) to test."""

from functools import partial

from lsep_ml.data.sources.source import Archive, Published, Source, place_from
from lsep_ml.data.sources.voc import CLASSES, object_findings, read_voc, voc_annotations

SPLIT_OF = {"train": "train", "val": "test"}
POSITIVES = (
    327, 268, 395, 260, 365, 213, 590, 539, 566, 151, 269, 632, 237, 265, 1994, 269, 171, 257, 273, 290,
)  # fmt: skip


read_voc2012 = partial(read_voc, 2012, SPLIT_OF)
"""Reads the data set; see `read_voc`."""

voc2012_annotations = partial(voc_annotations, 2012, SPLIT_OF)
"""Reads the lists of ImageSets/Main below a root: train, and val as test."""

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
