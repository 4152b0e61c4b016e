"""What people call the columns of their tables, as `plain` gives the names; the likelier come first."""

import re

# fmt: off
IMAGE_NAMES = (
    "image", "images", "filename", "filenames", "imagepath", "imagename", "imagefile", "path", "filepath", "file",
    "img", "imgpath", "imgname", "picture", "photo", "imageindex", "imageid", "imgid", "id", "name", "uri", "url",
    "imageurl", "cocourl", "relativepath",
)
LABEL_NAMES = (
    "labels", "label", "tags", "tag", "classes", "class", "categories", "category", "labelname", "labelnames",
    "classname", "classnames", "findinglabels", "findings", "finding", "choices", "choice", "objects", "targets",
    "target", "annotations", "annotation", "keywords", "genres", "genre", "diagnoses", "diagnosis", "attributes",
    "groundtruth",
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
# fmt: on

BEFORE_ID = IMAGE_NAMES.index("id")
"""Of the names of images, those that mean nothing else."""


def plain(name: str) -> str:
    """Return a column's name as the lists above have it."""
    return re.sub(r"[^0-9a-z]", "", name.casefold())
