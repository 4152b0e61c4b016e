"""Any table with the same content reads alike: separators, quoting, the order of columns and rows, blanks
around cells."""

import csv
import json
import tempfile
from pathlib import Path

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from own_trees import NAMES, write_images

from lsep_ml.data.sources.own import cells, own_annotations
from lsep_ml.data.sources.own.cells import by_columns, one_by_one, read_cells
from lsep_ml.data.sources.own.folder import Folder

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


WORDS = st.text("ab é[,", max_size=3)
TEXTS = st.lists(st.text("ab ,|[]é", min_size=1, max_size=7).filter(str.strip).map(str.strip), max_size=8)
LISTS = st.lists(st.lists(WORDS), max_size=8)


@pytest.fixture(scope="module")
def few_at_a_time():
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(cells, "AT_A_TIME", 3)
        yield


def as_lists(apart):
    return apart.names, apart.numbers.tolist(), apart.lengths.tolist()


@settings(max_examples=60, deadline=None)
@given(TEXTS, st.sampled_from([",", "|", " ", ", ", None]))
def test_cells_taken_apart_by_columns_and_one_by_one(few_at_a_time, texts, separator):
    plain = pl.Series([text for text in texts if text[0] != "[" or text[-1] != "]"], dtype=pl.String)
    assert as_lists(by_columns(plain, separator)) == as_lists(one_by_one(plain, separator, str))


@settings(max_examples=60, deadline=None)
@given(LISTS, st.booleans(), st.booleans())
def test_lists_taken_apart_by_columns_and_one_by_one(few_at_a_time, lists, python, plain):
    write = repr if python else json.dumps
    texts = pl.Series([write(names) for names in lists if names] + ["one, two"] * plain, dtype=pl.String)
    found = read_cells(texts, "labels", None, str)
    names = [{name.strip() for name in one} - {""} for one in lists if one] + [{"one, two"}] * plain
    read = [set() for _ in names]
    for row, number in zip(found.rows.tolist(), found.numbers.tolist(), strict=True):
        read[row].add(found.names[number])
    assert read == (names if any(map(len, lists)) else [{"one", "two"}] * plain)
    columnar = texts.filter(texts.str.contains(cells.PLAIN_LIST))
    assert as_lists(by_columns(columnar, None)) == as_lists(one_by_one(columnar, None, str))


@settings(max_examples=60, deadline=None)
@given(st.lists(st.sampled_from(["images/1.png", "1.png", "1", "b/1.png", "c/2.PNG", "./c/2.PNG", "x.png", "c\\2.PNG",
    "00000000-1.png", "images/9.png", "é/3.png", "e\u0301/3.png", "2", "http://a/c/2.PNG", "", "c/2.png"])),
    st.sampled_from(["", "c", "images"]))  # fmt: skip
def test_images_found_by_columns_and_one_by_one(names, beside):
    with tempfile.TemporaryDirectory() as root:
        folder = Folder(root)
        folder.images = ["b/1.png", "c/2.PNG", "c/images/1.png", "images/1.png", "é/3.png", "odd\udcff.png"]
        many, one = folder.find_column(pl.Series(names, dtype=pl.String), beside), folder.find(names, beside)
    assert list(many.images) == list(one.images)
    assert (many.exact, many.guessed, many.missing) == (one.exact, one.guessed, one.missing)
    assert many.guess == one.guess
