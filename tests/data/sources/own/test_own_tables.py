"""Tables of people's own images: each as a tool writes it, against the truth it was written from."""

import csv
import json
from pathlib import Path

import openpyxl
import polars as pl
import pytest
from own_trees import IMAGES, NAMES, SPLITS, TRUTH, labels_of, splits_of, unknown_of, write_images

from lsep_ml.data import DataError
from lsep_ml.data.sources.own import own_annotations

ROWS = range(IMAGES)


def table(root: Path, rows, name="labels.csv", **options) -> Path:
    with (root / name).open("w", newline="", encoding=options.pop("encoding", "utf-8")) as file:
        csv.writer(file, **options).writerows(rows)
    return root


def has(row, name, yes="1", no="0"):
    return yes if name in TRUTH[row] else no


def cell(row, separator="|"):
    return separator.join(sorted(TRUTH[row]))


# ---- a cell of labels

CELLS = {
    "bars": lambda row: cell(row),
    "commas with blanks": lambda row: cell(row, ", "),
    "semicolons": lambda row: cell(row, " ; "),
    "a JSON list": lambda row: json.dumps(sorted(TRUTH[row])),
    "a Python list": lambda row: str(sorted(TRUTH[row])),
    "a tuple": lambda row: str(tuple(sorted(TRUTH[row]))),
    "an array": lambda row: f"[{' '.join(map(repr, sorted(TRUTH[row])))}]",
    "an unquoted list": lambda row: f"[{cell(row, ', ')}]",
    "an object": lambda row: json.dumps({"choices": sorted(TRUTH[row])}) if TRUTH[row] else "",
    "an annotation tool": lambda row: (
        json.dumps({"choices": sorted(TRUTH[row])}) if len(TRUTH[row]) > 1 else cell(row)
    ),
    "nan for none": lambda row: cell(row) or "nan",
    "No Finding": lambda row: cell(row) or "No Finding",
    "none": lambda row: cell(row) or "none",
    "background": lambda row: cell(row, ";") or "background",
    "names and flags": lambda row: json.dumps({name: int(name in TRUTH[row]) for name in NAMES}),
}


@pytest.mark.parametrize("written", CELLS.values(), ids=CELLS)
@pytest.mark.parametrize("header", ["labels", "Finding Labels", "tags"])
def test_cells(tmp_path, written, header):
    table(write_images(tmp_path), [["image", header], *([f"images/{r}.png", written(r)] for r in ROWS)])
    annotations = own_annotations(tmp_path)
    assert annotations.label_names == NAMES
    assert labels_of(annotations) == TRUTH
    assert unknown_of(annotations) == {}


def test_a_word_for_none_is_said_and_can_be_kept(tmp_path):
    rows = [["image", "labels"], *([f"images/{r}.png", cell(r) or "No Finding"] for r in ROWS)]
    table(write_images(tmp_path), rows)
    empty = sum(not labels for labels in TRUTH.values())
    assert any(f"{empty} images have 'No Finding'" in note for note in own_annotations(tmp_path).notes)
    assert "No Finding" in own_annotations(tmp_path, none_label=[]).label_names
    kept = own_annotations(tmp_path, none_label=["No Finding", "sofa"])
    assert kept.label_names == ("cat", "dog", "potted plant")
    with pytest.raises(DataError, match=r"data.none_label: no label 'nothing'; there are No Finding, cat"):
        own_annotations(tmp_path, none_label=["nothing"])


def test_blanks_separate_where_the_column_shows_it(tmp_path):
    names = ["haze", "road", "water"]
    rows = [
        [f"images/{r}.png", " ".join(n for b, n in enumerate(names) if (r % 7 + 1) >> b & 1)] for r in ROWS
    ]
    table(write_images(tmp_path), [["image_name", "tags"], *rows])
    annotations = own_annotations(tmp_path)
    assert annotations.label_names == tuple(names)
    assert labels_of(annotations) == {r: set(rows[r][1].split()) for r in ROWS}
    assert any("separated by blanks" in note and "data.separator" in note for note in annotations.notes)
    whole = own_annotations(tmp_path, separator="|")
    assert "haze road" in whole.label_names


def test_names_with_blanks_are_one_label_each(tmp_path):
    names = ["traffic light", "stop sign", "parking meter"]
    table(write_images(tmp_path), [["image", "label"], *([f"images/{r}.png", names[r % 3]] for r in ROWS)])
    annotations = own_annotations(tmp_path)
    assert annotations.label_names == tuple(sorted(names))
    assert any("one label each" in note for note in annotations.notes)


def test_blanks_that_can_mean_either_are_refused(tmp_path):
    cells = ["cat dog", "cat", "sofa"]
    table(write_images(tmp_path), [["image", "label"], *([f"images/{r}.png", cells[r % 3]] for r in ROWS)])
    with pytest.raises(
        DataError, match=r"labels.csv, line 2: 'cat dog' .* set \"data.separator=' '\" for several"
    ):
        own_annotations(tmp_path)
    assert own_annotations(tmp_path, separator=" ").label_names == ("cat", "dog", "sofa")


def test_two_separators_in_one_column_are_refused(tmp_path):
    cells = ["cat|dog", "cat;dog", "dog"]
    table(write_images(tmp_path), [["image", "label"], *([f"images/{r}.png", cells[r % 3]] for r in ROWS)])
    with pytest.raises(DataError, match=r"line 3: 'cat;dog' in column 'label' .*line 2"):
        own_annotations(tmp_path)


# ---- one column a label

VALUES = {
    "whole": ("1", "0", ""),
    "pandas floats": ("1.0", "0.0", "nan"),
    "booleans": ("True", "False", ""),
    "capitals": ("TRUE", "FALSE", "NaN"),
    "words": ("yes", "no", "<NA>"),
    "letters": ("Y", "N", " "),
    "more digits": ("1.00", "0.00", "N/A"),
    "chest X-rays": ("1.0", "0.0", "-1.0"),
}


@pytest.mark.parametrize(("yes", "no", "nothing"), VALUES.values(), ids=VALUES)
def test_columns_of_values(tmp_path, yes, no, nothing):
    unknown = {3: {"cat"}, 4: {"sofa"}, 8: {"dog"}}
    rows = [["filename", *NAMES]]
    for r in ROWS:
        values = [nothing if name in unknown.get(r, ()) else has(r, name, yes, no) for name in NAMES]
        rows.append([f"images/{r}.png", *values])
    table(write_images(tmp_path), rows)
    annotations = own_annotations(tmp_path)
    assert annotations.label_names == NAMES
    assert labels_of(annotations) == {r: TRUTH[r] - unknown.get(r, set()) for r in ROWS}
    assert unknown_of(annotations) == unknown


@pytest.mark.parametrize(
    ("policy", "positive", "unknown"),
    [("unknown", False, True), ("negative", False, False), ("positive", True, False)],
)
def test_minus_one_is_what_the_option_says(tmp_path, policy, positive, unknown):
    rows = [
        ["Path", *NAMES],
        *([f"images/{r}.png", *("-1" if r == 5 else has(r, n) for n in NAMES)] for r in ROWS),
    ]
    table(write_images(tmp_path), rows)
    annotations = own_annotations(tmp_path, uncertain=policy)
    assert labels_of(annotations)[5] == (set(NAMES) if positive else set())
    assert unknown_of(annotations) == ({5: set(NAMES)} if unknown else {})
    assert any("4 entries are -1" in note and policy in note for note in annotations.notes)


def test_a_column_called_none_stays_a_label(tmp_path):
    rows = [["image", "No Finding", *NAMES]]
    rows += [[f"images/{r}.png", "0" if TRUTH[r] else "1", *(has(r, n) for n in NAMES)] for r in ROWS]
    table(write_images(tmp_path), rows)
    assert own_annotations(tmp_path).label_names == ("No Finding", *NAMES)
    annotations = own_annotations(tmp_path, none_label=["No Finding"])
    assert annotations.label_names == NAMES
    assert labels_of(annotations) == TRUTH


def test_further_columns_are_no_labels_and_said(tmp_path):
    rows = [["", "image", "age", *NAMES, "patient", "camera", "weight"]]
    for r in ROWS:
        more = [f"p{r // 3}", f"camera {r % 2}", f"{r / 4}"]
        rows.append([str(r), f"images/{r}.png", str(20 + r), *(has(r, n) for n in NAMES), *more])
    table(write_images(tmp_path), rows)
    annotations = own_annotations(tmp_path)
    assert annotations.label_names == NAMES
    assert labels_of(annotations) == TRUTH
    said = "\n".join(annotations.notes)
    assert "'age' (numbers that are not 0 and 1)" in said
    assert "'camera' (words)" in said
    assert "index; left out" in said
    assert "groups: column 'patient'" in said
    groups = annotations.groups
    assert (groups[:, None] == groups).tolist() == [[a // 3 == b // 3 for b in ROWS] for a in ROWS]


def test_beside_a_cell_no_other_column_is_a_label(tmp_path):
    rows = [["image", "labels", "blurred"], *([f"images/{r}.png", cell(r), r % 2] for r in ROWS)]
    table(write_images(tmp_path), rows)
    annotations = own_annotations(tmp_path)
    assert annotations.label_names == NAMES
    assert any("'blurred' (0 and 1, beside a cell with labels)" in note for note in annotations.notes)


# ---- one row a label


def test_one_row_a_label(tmp_path):
    rows = [["file", "label"], *([f"images/{r}.png", n] for r in ROWS for n in sorted(TRUTH[r]) or [""])]
    table(write_images(tmp_path), rows)
    annotations = own_annotations(tmp_path)
    assert labels_of(annotations) == TRUTH
    assert annotations.format == "table with one row a label (labels.csv)"


@pytest.mark.parametrize("written", [("1", "0"), ("1.0", "0.0"), ("True", "False")])
def test_one_row_a_verdict(tmp_path, written):
    asked = {r: {NAMES[r % 4], NAMES[(r + 1) % 4]} for r in ROWS}
    rows = [["ImageID", "Source", "LabelName", "Confidence"]]
    rows += [[str(r), "verification", n, has(r, n, *written)] for r in ROWS for n in sorted(asked[r])]
    table(write_images(tmp_path), rows)
    annotations = own_annotations(tmp_path)
    assert labels_of(annotations) == {r: TRUTH[r] & asked[r] for r in ROWS}
    assert unknown_of(annotations) == {r: set(NAMES) - asked[r] for r in ROWS}


def test_verdicts_that_contradict_each_other_are_refused(tmp_path):
    rows = [
        ["image", "label", "present"],
        ["images/0.png", "cat", 1],
        ["images/1.png", "dog", 1],
        ["images/0.png", "cat", 0],
    ]
    table(write_images(tmp_path), rows)
    with pytest.raises(DataError, match=r"line 2 and .*line 4: images/0.png has and has not 'cat'"):
        own_annotations(tmp_path)


# ---- files

FILES = {
    "tabs": ("labels.tsv", {"delimiter": "\t"}),
    "tabs in a csv": ("labels.csv", {"delimiter": "\t"}),
    "semicolons": ("list.csv", {"delimiter": ";"}),
    "all quoted": ("labels.csv", {"quoting": csv.QUOTE_ALL}),
    "a byte order mark": ("labels.csv", {"encoding": "utf-8-sig"}),
    "lines of Windows": ("labels.csv", {"lineterminator": "\r\n"}),
    "capitals": ("LABELS.CSV", {}),
}


@pytest.mark.parametrize(("name", "options"), FILES.values(), ids=FILES)
def test_delimited_files(tmp_path, name, options):
    rows = [["image", "labels", "split"], *([f"images/{r}.png", cell(r, ","), SPLITS[r]] for r in ROWS)]
    table(write_images(tmp_path), rows, name, **options)
    annotations = own_annotations(tmp_path)
    assert labels_of(annotations) == TRUTH
    assert splits_of(annotations) == SPLITS


def test_parquet_jsonl_and_workbooks(tmp_path):
    records = [
        {"file_name": f"images/{r}.png", "labels": sorted(TRUTH[r]), "split": SPLITS[r], "age": r}
        for r in ROWS
    ]
    flags = [{"path": f"images/{r}.png", **{n: n in TRUTH[r] for n in NAMES}} for r in ROWS]
    floats = [
        {"path": f"images/{r}.png", **{n: None if r == 2 else float(n in TRUTH[r]) for n in NAMES}}
        for r in ROWS
    ]

    def jsonl(name, rows):
        return lambda root: (root / name).write_text("\n".join(map(json.dumps, rows)) + "\n")

    def workbook(root):
        book = openpyxl.Workbook()
        book.active.append(["image", *NAMES])
        for r in ROWS:
            book.active.append([f"images/{r}.png", *(int(n in TRUTH[r]) for n in NAMES)])
        book.save(root / "labels.xlsx")

    def workbook_of_rows_that_end_early(root):
        book = openpyxl.Workbook(write_only=True)
        sheet = book.create_sheet()
        for row in [
            ["image", "labels", "note"],
            *([f"images/{r}.png", *([cell(r)] * bool(TRUTH[r]))] for r in ROWS),
        ]:
            sheet.append(row)
        book.save(root / "labels.xlsx")

    writers = {
        "lists in Parquet": lambda root: pl.DataFrame(records).write_parquet(root / "labels.parquet"),
        "booleans in Parquet": lambda root: pl.DataFrame(flags).write_parquet(root / "l.parquet"),
        "floats in Parquet": lambda root: pl.DataFrame(floats).write_parquet(root / "l.parquet"),
        "lists in JSONL": jsonl("metadata.jsonl", records),
        "booleans in JSONL": jsonl("x.jsonl", flags),
        "nulls in JSONL": jsonl("x.ndjson", floats),
        "a JSON list": lambda root: (root / "export.json").write_text(json.dumps(records)),
        "a workbook": workbook,
        "a workbook of rows that end early": workbook_of_rows_that_end_early,
    }
    for name, write in writers.items():
        root = write_images(tmp_path / name)
        write(root)
        annotations = own_annotations(root)
        unknown = unknown_of(annotations)
        assert unknown == ({2: set(NAMES)} if name.startswith(("floats", "nulls")) else {}), name
        assert labels_of(annotations) == {r: TRUTH[r] - unknown.get(r, set()) for r in ROWS}, name
        if "lists" in name or name == "a JSON list":
            assert splits_of(annotations) == SPLITS, name


PATHS = {
    "without a folder": (lambda r: f"{r}.png", "image"),
    "without a suffix": (lambda r: f"images/{r}", "image_id"),
    "the number alone": (lambda r: f"{r}", "id"),
    "backslashes": (lambda r: f".\\images\\{r}.png", "path"),
    "absolute": (lambda r: f"/home/someone/data/images/{r}.png", "filepath"),
    "a drive": (lambda r: f"C:\\data\\images\\{r}.png", "file"),
    "a tool's address": (lambda r: f"/data/local-files/?d=images/{r}.png", "image"),
    "an upload": (lambda r: f"/data/upload/1/0a1b2c3d-{r}.png", "image"),
    "an address": (lambda r: f"http://images.example.org/set/images/{r}.png", "url"),
    "other capitals": (lambda r: f"images/{r}.PNG", "image"),
    "an unknown header": (lambda r: f"images/{r}.png", "what I saw"),
    "an address with %2F": (lambda r: f"/data/upload/1/images%2F{r}.png", "image"),
}


@pytest.mark.parametrize(("path", "header"), PATHS.values(), ids=PATHS)
def test_names_of_images(tmp_path, path, header):
    table(write_images(tmp_path), [[header, "labels"], *([path(r), cell(r)] for r in ROWS)])
    annotations = own_annotations(tmp_path)
    assert annotations.image_ids.tolist() == [f"images/{r}.png" for r in ROWS]
    assert labels_of(annotations) == TRUTH
    guessed = path(0).replace("\\", "/").split("?d=")[-1].removeprefix("./") != "images/0.png"
    assert any("found by the end of their path" in note for note in annotations.notes) == guessed


def test_names_of_images_may_begin_with_a_bracket(tmp_path):
    table(
        write_images(tmp_path, "[{}] x.png"),
        [["image", "labels"], *([f"[{r}] x.png", cell(r)] for r in ROWS)],
    )
    assert labels_of(own_annotations(tmp_path)) == TRUTH


def test_quotes_may_follow_a_blank(tmp_path):
    rows = [f'images/{r}.png, "{cell(r, ", ")}"\n' for r in ROWS]
    (write_images(tmp_path) / "labels.csv").write_text("\n" + "".join(['image, "labels"\n', *rows]))
    assert labels_of(own_annotations(tmp_path)) == TRUTH
    (tmp_path / "labels.csv").write_text("".join(['image, "labels"\n', *rows, 'images/0.png, "a", "b"\n']))
    with pytest.raises(DataError, match=r"labels.csv, line 32: 3 cells under 2 columns"):
        own_annotations(tmp_path)


def test_a_name_in_parentheses_is_no_list(tmp_path):
    cells = ["(unclear)", "cat|(unclear)", "cat"]
    table(write_images(tmp_path), [["image", "labels"], *([f"images/{r}.png", cells[r % 3]] for r in ROWS)])
    assert labels_of(own_annotations(tmp_path)) == {r: set(cells[r % 3].split("|")) for r in ROWS}


def test_a_name_in_two_folders_means_none(tmp_path):
    write_images(write_images(tmp_path, "a/{}.png"), "b/{}.png")
    table(tmp_path, [["image", "labels"], *([f"{'a/' if r else ''}{r}.png", cell(r)] for r in ROWS)])
    annotations = own_annotations(tmp_path)
    assert annotations.image_ids.tolist() == ["0.png", *(f"a/{r}.png" for r in ROWS[1:])]
    assert any("such as '0.png' of a/0.png, b/0.png: list them" in note for note in annotations.notes)


@pytest.mark.parametrize(
    "words", [("training", "validation", "testing"), ("train", "valid", "test"), ("TRAIN", "dev", "Test")]
)
@pytest.mark.parametrize("header", ["split", "Subset", "which"])
def test_splits_by_any_word(tmp_path, words, header):
    word = dict(zip(("train", "val", "test"), words, strict=True))
    rows = [["image", "labels", header], *([f"images/{r}.png", cell(r), word[SPLITS[r]]] for r in ROWS)]
    table(write_images(tmp_path), rows)
    assert splits_of(own_annotations(tmp_path)) == SPLITS
    assert set(splits_of(own_annotations(tmp_path, split="none")).values()) == {""}


def test_a_table_a_split(tmp_path):
    write_images(tmp_path)
    for name, split in (("train", "train"), ("valid", "val"), ("test", "test")):
        rows = [[f"images/{r}.png", cell(r)] for r in ROWS if SPLITS[r] == split]
        table(tmp_path, [["image", "labels"], *rows], f"{name}.csv")
    annotations = own_annotations(tmp_path)
    assert labels_of(annotations) == TRUTH
    assert splits_of(annotations) == SPLITS


@pytest.mark.parametrize("quirks", [False, True])
def test_classes_csv_in_the_folder_of_each_split(tmp_path, quirks):
    blank = " " if quirks else ""
    for folder, split in (("train", "train"), ("valid", "val"), ("test", "test")):
        rows = [r for r in ROWS if SPLITS[r] == split]
        for r in rows:
            write_images(tmp_path, folder + "/{}_png.rf.0123.jpg", range(r, r + 1))
        lines = [[f"{r}_png.rf.0123.jpg", *(blank + has(r, n) for n in NAMES)] for r in rows]
        table(tmp_path, [["filename", *(blank + n for n in NAMES)], *lines], f"{folder}/_classes.csv")
    if quirks:
        (tmp_path / "README.dataset.txt").write_text("exported")
    annotations = own_annotations(tmp_path)
    assert annotations.label_names == NAMES
    assert {int(k / 10000): v for k, v in labels_of(annotations).items()} == TRUTH
    assert {int(k / 10000): v for k, v in splits_of(annotations).items()} == SPLITS


@pytest.mark.parametrize("name", ["metadata.jsonl", "metadata.csv"])
@pytest.mark.parametrize("folders", [False, True])
def test_metadata_beside_images(tmp_path, name, folders):
    for split in ("train", "validation", "test") if folders else ("",):
        rows = [r for r in ROWS if not folders or SPLITS[r] == ("val" if split == "validation" else split)]
        for r in rows:
            write_images(tmp_path / split, "{}.png", range(r, r + 1))
        if name.endswith("csv"):
            lines = [[f"{r}.png", *(has(r, n) for n in NAMES)] for r in rows]
            table(tmp_path / split, [["file_name", *NAMES], *lines], name)
        else:
            lines = [json.dumps({"file_name": f"{r}.png", "labels": sorted(TRUTH[r])}) for r in rows]
            (tmp_path / split / name).write_text("\n".join(lines))
    annotations = own_annotations(tmp_path)
    assert labels_of(annotations) == TRUTH
    assert splits_of(annotations) == (SPLITS if folders else dict.fromkeys(ROWS, ""))


# ---- options, and what is refused


def test_names_that_differ_in_case_are_refused_or_merged(tmp_path):
    rows = [
        ["image", "labels"],
        *([f"images/{r}.png", cell(r).replace("cat", "Cat " if r % 5 == 0 else "cat")] for r in ROWS),
    ]
    table(write_images(tmp_path), rows)
    with pytest.raises(DataError, match=r"'Cat' \(\d\) and 'cat' \(\d+\).*data.merge_labels=true"):
        own_annotations(tmp_path)
    annotations = own_annotations(tmp_path, merge_labels=True)
    assert annotations.label_names == NAMES
    assert labels_of(annotations) == TRUTH


def test_rare_labels_are_left_out_and_counted(tmp_path):
    rows = [["image", "labels"], *([f"images/{r}.png", cell(r) + ("|rare" if r < 2 else "")] for r in ROWS)]
    table(write_images(tmp_path), rows)
    annotations = own_annotations(tmp_path, min_images=3)
    assert annotations.label_names == NAMES
    assert annotations.dropped == {"labels of fewer than 3 images": 1}


def refuse(tmp_path, rows, message, **options):
    table(write_images(tmp_path), rows)
    with pytest.raises(DataError, match=message):
        own_annotations(tmp_path, **options)


PLAIN = [["image", "labels"], *([f"images/{r}.png", cell(r)] for r in ROWS)]


@pytest.mark.parametrize(
    ("rows", "message", "options"),
    [
        ([["image", "labels", "classes"], *([f"images/{r}.png", "a", "b"] for r in ROWS)],
         "columns 'labels', 'classes' could each hold the labels; set data.labels=NAME", {}),
        ([["image", "colour", "mood"], *([f"images/{r}.png", "red", "sad"] for r in ROWS)],
         "columns 'colour', 'mood' could each hold the labels; set data.labels=NAME", {}),
        ([["image", "cat", "dog"], *([f"images/{r}.png", "1", "oops" if r == 7 else "0"] for r in ROWS)],
         r"labels.csv, line 9: 'oops' in column 'dog' is not 1, 0, -1 .*data.label_columns", {}),
        ([["image", "cat", "cat"], *([f"images/{r}.png", "1", "0"] for r in ROWS)], "column 'cat' is there twice", {}),
        ([["image", "", "dog"], *([f"images/{r}.png", "x", "0"] for r in ROWS)],
         r"column 2 has no name, but values \('x' in line 2\)", {}),
        ([["image", "labels", "split"], *([f"images/{r}.png", "a|b", "later" if r == 3 else "train"] for r in ROWS)],
         "labels.csv, line 5: split 'later' in column 'split'; train, val or test", {}),
        ([*PLAIN, ["images/4.png"]], "labels.csv, line 32: 1 cells under 2 columns .*add what is missing", {}),
        ([*PLAIN, ["images/4.png", "a", "b"]], "labels.csv, line 32: 3 cells under 2 columns", {}),
        ([*PLAIN, ["", "cat"]], "labels.csv, line 32: no image under 'image'; remove the row", {}),
        (PLAIN, "data.labels=mood: .*labels.csv has no such column; there are 'image', 'labels'", {"labels": "mood"}),
        (PLAIN, "data.image=photo: .* no such column", {"image": "photo"}),
        (PLAIN, "data.split=part: .* no such column", {"split": "part"}),
        (PLAIN, "data.label_columns: .* has no column 'cow'", {"label_columns": ["cow"]}),
        (PLAIN, "data.group=patient: no column has this name, and as a pattern it is in no path", {"group": "patient"}),
        (PLAIN, r"data.group=\(: no column, and no pattern either", {"group": "("}),
        (PLAIN, "data.uncertain=maybe: unknown, negative, positive", {"uncertain": "maybe"}),
        (PLAIN, "data.file=list.csv: not in .* which holds images/0.png", {"file": "list.csv"}),
        ([["image", "note"], *([f"images/{r}.png", f"I saw number {r}"] for r in ROWS)],
         r"no column holds labels; 'note' \(words\); set data.labels=NAME", {}),
        ([["image", "cat", "dog"], ["images/0.png", 1, 0], ["images/1.png", 1, 1], ["images/0.png", 0, 0]],
         r"line 4: images/0.png is listed before, in .*line 2, and otherwise in column 'cat'", {}),
        ([["image", "labels", "split"], ["images/0.png", "a", "train"], ["images/0.png", "b", "test"]],
         r"line 3: split 'test' of images/0.png, which has split 'train' in .*line 2", {}),
        ([["image", "labels"], ["images/0.png", "[1, {}]"], ["images/1.png", "a"]],
         "line 2, column 'labels': '{}' is not a label", {}),
        ([["image", "labels"], ["images/0.png", "['a', 'b']"], ["images/1.png", "a|b"]],
         "line 3: 'a|b' in column 'labels' has labels separated by '|', and others are lists", {}),
        ([["image", "labels"], ["images/0.png", "[a]|[b]"], ["images/1.png", "[a]"]],
         r"line 2, column 'labels': '\[a\]\|\[b\]' is not a list of labels", {}),
    ],
)  # fmt: skip
def test_refused(tmp_path, rows, message, options):
    refuse(tmp_path, rows, message, **options)


def test_two_tables_are_refused_with_their_names(tmp_path):
    table(table(write_images(tmp_path), PLAIN), PLAIN, "other.csv")
    with pytest.raises(DataError, match=r"labels.csv \(table\); other.csv \(table\); set data.file=FILE"):
        own_annotations(tmp_path)
    assert labels_of(own_annotations(tmp_path, file="other.csv")) == TRUTH


def test_columns_of_different_images_are_refused(tmp_path):
    rows = [
        ["image", "file", "labels"],
        *([f"images/{r}.png", f"images/{29 - r}.png", cell(r)] for r in ROWS),
    ]
    refuse(tmp_path, rows, "columns 'image', 'file' name different images; set data.image=NAME")
    assert labels_of(own_annotations(tmp_path, image="image")) == TRUTH


def test_options_name_the_columns(tmp_path):
    rows = [["image", "labels", "cat", "x_dog", "x_sofa", "part", "who"]]
    for r in ROWS:
        part = SPLITS[r]
        rows.append(
            [f"images/{r}.png", "q|r", has(r, "cat"), has(r, "dog"), has(r, "sofa"), part, f"p{r % 6}"]
        )
    table(write_images(tmp_path), rows)
    annotations = own_annotations(tmp_path, label_columns=["cat", "x_*"], split="part", group="who")
    assert annotations.label_names == ("cat", "x_dog", "x_sofa")
    assert splits_of(annotations) == SPLITS
    assert len(set(annotations.groups.tolist())) == 6
    assert own_annotations(tmp_path, group="none").groups is None
    assert len(set(own_annotations(tmp_path, group="folder").groups.tolist())) == 1
    assert len(set(own_annotations(tmp_path, group=r"/(\d)").groups.tolist())) == 10


def test_one_name_is_taken_for_a_list_of_it_and_numbers_for_names(tmp_path):
    rows = [
        ["image", "is_cat", "is_dog", "7"],
        *([f"images/{r}.png", r % 2, r % 3 == 0, r % 5] for r in ROWS),
    ]
    table(write_images(tmp_path), rows)
    found = own_annotations(tmp_path, label_columns="is_*", group=7, file="./labels.csv")
    assert found.label_names == ("is_cat", "is_dog")
    assert len(set(found.groups.tolist())) == 5
    refuse(tmp_path, rows, "data.min_images=few: a number of images", min_images="few")


def test_labels_that_look_alike_are_shown_with_their_letters(tmp_path):
    write_images(tmp_path, "{}.png")
    forms = ("caf\u00e9", "cafe\u0301")
    (tmp_path / "labels.csv").write_text(
        "image,labels\n" + "".join(f"{r}.png,{forms[r % 2]}|b\n" for r in range(6)), encoding="utf-8"
    )
    with pytest.raises(DataError, match=r"'caf\\xe9', 3\) and .*'cafe\\u0301', 3\); write them alike"):
        own_annotations(tmp_path)
