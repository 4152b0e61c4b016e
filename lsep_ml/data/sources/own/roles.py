"""What the columns of a table are for, and what people call them, as `bare_name` gives the names; the likelier come
first."""

import re
from collections.abc import Sequence
from dataclasses import dataclass, field

from lsep_ml.data.errors import DataError, some
from lsep_ml.data.sources.own.frames import Frame
from lsep_ml.data.sources.own.values import Values

# fmt: off
IMAGE_NAMES = (
    "image", "images", "filename", "filenames", "imagepath", "imagename", "imagefile", "path", "filepath", "file",
    "img", "imgpath", "imgname", "picture", "photo", "imageindex", "imageid", "imgid", "id", "name", "uri", "url",
    "imageurl", "cocourl", "relativepath",
)
FOLDER_NAMES = ("relativepath", "folder", "foldername", "folderpath", "subfolder", "directory", "dir")
LABEL_NAMES = (
    "labels", "label", "tags", "tag", "classes", "class", "categories", "category", "labelname", "labelnames",
    "classname", "classnames", "findinglabels", "findings", "finding", "choices", "choice", "objects", "targets",
    "target", "annotations", "annotation", "keywords", "genres", "genre", "diagnoses", "diagnosis", "attributes",
    "groundtruth", "species",
)
LABEL_ID_NAMES = (
    "classid", "classids", "labelid", "labelids", "categoryid", "categoryids", "attributeid", "attributeids", "tagid",
    "tagids",
)
SPLIT_NAMES = (
    "split", "splits", "splitname", "subset", "partition", "set", "dataset", "datasplit", "phase", "fold", "usage",
)
VALIDATION_NAMES = ("isvalid", "isval", "isvalidation")
GROUP_NAMES = (
    "group", "groupid", "groups", "groupname", "patient", "patientid", "patientno", "patientname", "subject",
    "subjectid", "burst", "burstid", "individual", "individualid", "sequence", "sequenceid", "seqid", "session",
    "sessionid", "video", "videoid", "caseid", "case", "scene", "sceneid",
)
MAYBE_GROUPS = (
    "camera", "cameraid", "site", "siteid", "location", "locationid", "hospital", "device", "series", "study",
    "studyid",
)
VERDICT_NAMES = ("confidence", "present", "presence", "verdict", "value", "verified")
SCORE_NAMES = ("confidence", "conf", "score", "probability", "prob")
# fmt: on

BEFORE_ID = IMAGE_NAMES.index("id")
"""Of the names of images, those that mean nothing else."""


@dataclass
class Roles:
    """Holds the numbers of a table's columns by what they are for, and what is to be said of it.

    image: of the images. cell: of a cell with labels. labels: of one column a label, with their codes in `values`.
    split, validation, group, verdict: of the split, of a mark on validation images, of the group, and of
    whether a label
    of the cell is present (1) or absent (0). names: the labels of a table that predict or apply wrote, in their order.
    further: of the label beside `cell` where each has one, as label_1, label_2, ...
    """

    image: int
    cell: int | None = None
    labels: list[int] = field(default_factory=list)
    split: int | None = None
    validation: int | None = None
    group: int | None = None
    verdict: int | None = None
    names: tuple[str, ...] = ()
    further: list[int] = field(default_factory=list)
    values: dict[int, Values] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)


def named(frame: Frame, name: str, option: str) -> int:
    """Return the column of this name, or a DataError that says that `option` names none."""
    if name not in frame.names:
        raise DataError(
            f"{option}={name}: {frame.path} has no such column; there are {shown_names(frame, range(len(frame.names)))}"
        )
    return frame.names.index(name)


def shown_names(frame: Frame, columns: Sequence[int]) -> str:
    """Return the first names of these columns, for messages."""
    return some([repr(frame.names[at]) for at in columns], 12)


def bare_name(name: str) -> str:
    """Return a column's name as the lists above have it."""
    return re.sub(r"[^0-9a-z]", "", name.casefold())
