"""Any table with the same content reads alike: separators, quoting, the order of columns and rows, blanks
around cells."""

import csv
import tempfile
from pathlib import Path

from hypothesis import given, settings
from hypothesis import strategies as st
from own_trees import NAMES, write_images

from lsep_ml.data.sources.own import own_annotations

IMAGES = 6
LABELS = st.lists(st.sets(st.sampled_from(NAMES)), min_size=IMAGES, max_size=IMAGES)
BLANKS = st.sampled_from(["", " ", "  "])
DELIMITERS = st.sampled_from([",", ";", "\t"])
QUOTING = st.sampled_from([csv.QUOTE_MINIMAL, csv.QUOTE_ALL, csv.QUOTE_NONNUMERIC])
ENDS = st.sampled_from(["\n", "\r\n"])


def read(rows, delimiter, quoting, end):
    """Image number -> its labels, of the table of these rows."""
    with tempfile.TemporaryDirectory() as folder:
        root = write_images(Path(folder), rows=range(IMAGES))
        with (root / "labels.csv").open("w", newline="", encoding="utf-8") as file:
            csv.writer(file, delimiter=delimiter, quoting=quoting, lineterminator=end).writerows(rows)
        annotations = own_annotations(root)
        names = annotations.label_names
        return {
            int(image.split("/")[1][0]): {name for name, value in zip(names, row, strict=True) if value}
            for image, row in zip(annotations.image_ids.tolist(), annotations.targets, strict=True)
        }


@settings(max_examples=25, deadline=None)
@given(
    LABELS,
    BLANKS,
    DELIMITERS,
    QUOTING,
    ENDS,
    st.permutations(range(3)),
    st.permutations(range(IMAGES)),
    st.data(),
)
def test_cells(labels, blank, delimiter, quoting, end, columns, order, data):
    inner = data.draw(st.sampled_from([one for one in ("|", ";", ",") if one != delimiter]))
    several = any(len(names) > 1 for names in labels)
    known = {row: names if several else set(sorted(names)[:1]) for row, names in enumerate(labels)}
    if len(set().union(*known.values())) < 2 or not several:
        known |= {
            0: {"cat", "dog"},
            1: {"sofa"},
        }  # labels need at least two names, and a cell to tell the separator by
    rows = [["image", "labels", "note"]]
    for row in order:
        cell = (blank + inner + blank).join(sorted(known[row]))
        rows.append([f"{blank}images/{row}.png", f"{cell}{blank}", f"seen on day {row}"])
    assert read([[row[at] for at in columns] for row in rows], delimiter, quoting, end) == known


@settings(max_examples=25, deadline=None)
@given(
    LABELS,
    BLANKS,
    DELIMITERS,
    QUOTING,
    ENDS,
    st.permutations(range(len(NAMES) + 2)),
    st.permutations(range(IMAGES)),
)
def test_columns(labels, blank, delimiter, quoting, end, columns, order):
    labels = [set(NAMES), set(), *labels[2:]]  # every column has a 1 and a 0
    rows = [["file_name", *NAMES, "age"]]
    for row in order:
        values = [f"{blank}{int(name in labels[row])}" for name in NAMES]
        rows.append([f"images/{row}.png{blank}", *values, f"{30 + row}"])
    assert read([[row[at] for at in columns] for row in rows], delimiter, quoting, end) == dict(
        enumerate(labels)
    )
