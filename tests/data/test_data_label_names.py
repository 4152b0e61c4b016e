"""What a label may be called: each kind of name that cannot be told apart, shown or written is refused by its number,
its code points, or its twin."""

import unicodedata

import pytest
from data_trees import OWN_CLASSES, coco_content, random_labels, write_csv, write_image, write_json

from lsep_ml.data import DataError
from lsep_ml.data.label_names import check_label_names
from lsep_ml.data.sources.coco_json import read_coco_json
from lsep_ml.data.sources.csv_labels import read_csv

COMPOSED, APART = (unicodedata.normalize(form, "caf\u00e9") for form in ("NFC", "NFD"))

REFUSED = {
    "empty": (["cat", ""], "label 2 of 2 has no name"),
    "blank": ([" \t", "dog"], "label 1 of 2 has no name"),
    "no-break space": (["cat", "dog", "\u00a0"], "label 3 of 3 has no name"),
    "twice": (["cat", "dog", "cat"], "labels named twice: cat"),
    "case": (["Cat", "dog", "cat"], "differ only in case, blanks or Unicode form: 'Cat', 'cat'"),
    "capital sharp s": (["STRASSE", "straße"], "differ only in case"),
    "blanks": (["fire truck", "fire  truck"], "differ only in case, blanks"),
    "Unicode form": ([COMPOSED, "b", APART], r"caf\\xe9.*cafe\\u0301"),
    "ANSI": (["cat", "\x1b[31mdog"], r"label '\\x1b\[31mdog' holds a control character"),
    "line break": (["cat", "d\nog"], "holds a control character"),
    "NUL": (["cat", "d\0og"], "holds a control character"),
    "right to left": (["cat", "\u202egod"], r"label '\\u202egod' holds a control character"),
    "invisible": (["cat", "cat\u200b"], "holds a control character"),
    "half of a character": (["cat", "\ud800"], "holds a control character"),
    "the separator": (["cat", "cat|dog"], r"label 'cat\|dog' holds '\|'.*data\.separator"),
    "one": (["cat"], "1 label .*at least 2"),
}


@pytest.mark.parametrize(("names", "message"), REFUSED.values(), ids=REFUSED)
def test_refused(names, message):
    with pytest.raises(DataError, match=message):
        check_label_names("own", tuple(names))


def test_names_of_all_kinds_are_kept():
    check_label_names(
        "own", ("potted plant", "äpple, röd", "猫", "a;b", "0", "-1", "می\u200cخواهم", "C++", "None", "🐈")
    )
    check_label_names("own", ("a;b", "c"), separator="|")
    with pytest.raises(DataError, match=r"label 'a;b' holds ';'"):
        check_label_names("own", ("a;b", "c"), separator=";")


NO_COLUMNS = {"empty", "blank", "no-break space", "twice", "NUL", "half of a character"}
"""What cannot be the name of a column, or is refused as a column."""
COLUMNS = {kind: case for kind, case in REFUSED.items() if kind not in NO_COLUMNS}


@pytest.mark.parametrize(("names", "message"), COLUMNS.values(), ids=COLUMNS)
def test_refused_where_they_enter_as_columns(tmp_path, names, message):
    for row in range(3):
        write_image(tmp_path / f"{row}.png", seed=row)
    quoted = [f'"{name}"' for name in names]
    rows = [f"{row}.png," + ",".join("01"[(row + k) % 2] for k in range(len(names))) for row in range(3)]
    text = "\n".join([",".join(["image", *quoted]), *rows])
    (tmp_path / "labels.csv").write_text(text, encoding="utf-8", newline="")
    with pytest.raises(DataError, match=message):
        read_csv(tmp_path)


@pytest.mark.parametrize(("names", "message"), REFUSED.values(), ids=REFUSED)
def test_refused_where_they_enter_as_categories(tmp_path, names, message):
    for row in range(4):
        write_image(tmp_path / f"{row}.jpg", seed=row)
    targets = random_labels(4, len(names), seed=1)
    content = coco_content([f"{row}.jpg" for row in range(4)], targets, dict(enumerate(names, start=1)))
    write_json(tmp_path / "annotations.json", content)
    with pytest.raises(DataError, match=f"{message}|has the name|listed twice"):
        read_coco_json(tmp_path)


def test_a_label_of_a_list_is_refused_too(tmp_path):
    root = write_csv(tmp_path, images=12)
    text = (root / "labels.csv").read_text()
    (root / "labels.csv").write_text(text.replace("apple", "Bread", 1))
    with pytest.raises(DataError, match="'Bread', 'bread'"):
        read_csv(root)
    with pytest.raises(DataError, match="'bread', 'BREAD'"):
        read_csv(write_csv(tmp_path / "plain", images=12), classes=[*OWN_CLASSES, "BREAD"])


def test_labels_of_every_source_hold_no_separator_of_their_own(tmp_path):
    """data.separator=; takes names with | apart from those that hold it, but predict's tables are separated by |."""
    root = write_csv(tmp_path, images=12, columns=True)
    text = (root / "labels.csv").read_text()
    for name in ("a;b", "a|b"):
        (root / "labels.csv").write_text(text.replace("apple", name, 1))
        with pytest.raises(DataError, match=r"data\.separator"):
            read_csv(root, separator=";")
