"""labels.csv: what is read from both of its forms, and what is refused."""

import unicodedata

import numpy as np
import pytest
from data_trees import OWN_CLASSES, random_labels, write_csv, write_image
from source_cases import expected_labels, images_of, labels_of, truncate

from lsep_ml.data import DataError
from lsep_ml.data.check.verdict import check
from lsep_ml.data.sources.csv_labels import csv_annotations, read_csv


@pytest.mark.parametrize("columns", [False, True])
def test_both_forms(tmp_path, columns):
    data_set = read_csv(write_csv(tmp_path, columns=columns))
    assert data_set.label_names == OWN_CLASSES
    assert images_of(data_set) == {"train": 42, "val": 6, "test": 12}
    names = [f"photos/{row:03d}.jpg" for row in range(60)]
    assert labels_of(data_set) == expected_labels(names, random_labels(60, 5, seed=5), OWN_CLASSES)
    assert (data_set.train.mask is None) == (not columns)


def test_unknown_entries_are_masked(tmp_path):
    data_set = read_csv(write_csv(tmp_path, columns=True))
    unknown = (np.random.default_rng(6).random((60, 5)) < 0.1) & (random_labels(60, 5, seed=5) == 0)
    rows = [int(image_id[7:10]) for image_id in data_set.train.image_ids.tolist()]
    assert np.array_equal(~data_set.train.mask, unknown[rows])
    assert unknown[rows].any()


def test_without_split_column_is_divided_by_the_seed(tmp_path):
    root = write_csv(tmp_path, split=False)
    data_set = read_csv(root)
    sizes = images_of(data_set)
    assert sum(sizes.values()) == 60
    assert sizes["train"] > 40
    assert min(sizes.values()) >= 4
    assert read_csv(root).split_hash == data_set.split_hash
    assert read_csv(root, seed=1).split_hash != data_set.split_hash


def test_split_without_val_holds_some_out(tmp_path):
    root = write_csv(tmp_path)
    text = (root / "labels.csv").read_text().replace(",val", ",train")
    (root / "labels.csv").write_text(text)
    assert images_of(read_csv(root, holdout=0.25)) == {"train": 36, "val": 12, "test": 12}


def test_classes_give_the_order(tmp_path):
    for columns in (False, True):
        root = write_csv(tmp_path / str(columns), columns=columns)
        data_set = read_csv(root, classes=OWN_CLASSES[::-1])
        assert data_set.label_names == OWN_CLASSES[::-1]
        assert labels_of(data_set) == labels_of(read_csv(root))


def test_bom_crlf_quotes_blanks_and_unicode_are_read(tmp_path):
    root = write_csv(tmp_path)
    plain = read_csv(root)
    text = (root / "labels.csv").read_text(encoding="utf-8")
    rows = [line.split(",") for line in text.splitlines()]
    awkward = "\r\n".join(
        ", ".join(f' "{cell}"'.strip() if row else cell for cell in cells) for row, cells in enumerate(rows)
    )
    awkward = awkward.replace(', "', ',"').replace("apple", "äpple, röd") + "\r\n\r\n"
    (root / "photos" / "000.jpg").rename(root / "photos" / "bild, größe.jpg")
    awkward = awkward.replace("photos/000.jpg", "./photos\\bild, größe.jpg")
    (root / "labels.csv").write_bytes(b"\xef\xbb\xbf" + awkward.encode())
    data_set = read_csv(root)
    assert "photos/bild, größe.jpg" in labels_of(data_set)
    assert set(data_set.label_names) == {"äpple, röd", *OWN_CLASSES[1:]}
    assert images_of(data_set) == images_of(plain)


def test_unlabelled_images_are_kept_or_dropped(tmp_path):
    root = write_csv(tmp_path)
    lines = (root / "labels.csv").read_text().splitlines()
    lines[1] = "photos/000.jpg,,train"
    (root / "labels.csv").write_text("\n".join(lines))
    assert images_of(read_csv(root))["train"] == 42
    dropped = read_csv(root, unlabelled="drop")
    assert images_of(dropped)["train"] == 41
    assert dropped.counts["dropped"] == {"unlabelled": 1}


HEAD = "image,labels,split\n"

REFUSED: dict[str, tuple[bytes, str]] = {
    "empty file": (b"", "the first line is ''; expected image,labels"),
    "header only": (HEAD.encode(), "no image below the first line"),
    "another header": (b"file;tags\na.jpg;x\n", "the first line is 'file;tags'; expected image,labels"),
    "image twice": (
        HEAD.encode() + b"a.jpg,x,train\nb.jpg,y,test\n./a.jpg,y,val\n",
        "line 4: a.jpg is listed in line 2",
    ),
    "unknown split": (HEAD.encode() + b"a.jpg,x,training\n", "line 2: split 'training'; train, val or test"),
    "no test image": (HEAD.encode() + b"a.jpg,x,train\nb.jpg,y,train\n", "no test image"),
    "too many cells": (
        HEAD.encode() + b"a, b.jpg,x,train\n",
        "line 2: 4 cells under 3 columns; put a name with a comma",
    ),
    "too few cells": (HEAD.encode() + b"a.jpg,x\n", "line 2: 2 cells under 3 columns"),
    "not UTF-8": (HEAD.encode() + "bär.jpg,x,train\n".encode("latin-1"), "line 2: byte 0xe4 is not UTF-8"),
    "out of the root": (HEAD.encode() + b"../a.jpg,x,train\n", "line 2: '../a.jpg' leads out of data.root"),
    "out by the side": (HEAD.encode() + b"x/../../a.jpg,x,train\n", "leads out of data.root"),
    "absolute": (HEAD.encode() + b"/etc/passwd,x,train\n", "leads out of data.root"),
    "a drive": (HEAD.encode() + b"C:\\a.jpg,x,train\n", "leads out of data.root"),
    "no path": (HEAD.encode() + b",x,train\n", "line 2: '' is not the path of an image"),
    "NUL in a path": (HEAD.encode() + b"a\0.jpg,x,train\n", "line 2"),
    "column twice": (b"image,cat,cat\na.jpg,1,0\n", "the column 'cat' is there twice"),
    "column beside labels": (b"image,labels,spilt\na.jpg,x,train\n", "column 'spilt' beside labels"),
    "value 3": (b"image,cat,dog\na.jpg,1,3\n", "line 2: '3' is not 1, 0, -1"),
    "one class": (HEAD.encode() + b"0.jpg,x,train\n1.jpg,x,val\n2.jpg,x,test\n", "1 label .*at least 2"),
    "no class": (b"image\n0.jpg\n1.jpg\n2.jpg\n", "0 label .*at least 2"),
    "images missing": (
        HEAD.encode() + b"0.jpg,x,train\nno.jpg,y,test\n",
        r"1 of 2 images .*no.jpg \(missing\)",
    ),
    "two images to split": (
        b"image,labels\n0.jpg,x\n1.jpg,y\n",
        "2 usable images; three splits need at least 3",
    ),
    "one image to train": (
        HEAD.encode() + b"0.jpg,x,train\n1.jpg,y,test\n",
        "1 training images; validation needs one",
    ),
    "a field without end": (HEAD.encode() + b'"' + b"a" * 200_000, "line 2: field larger than"),
}


@pytest.mark.parametrize(("content", "message"), REFUSED.values(), ids=REFUSED)
def test_refused(tmp_path, content, message):
    for number in range(3):
        write_image(tmp_path / f"{number}.jpg", seed=number)
    (tmp_path / "labels.csv").write_bytes(content)
    with pytest.raises(DataError, match=message):
        read_csv(tmp_path)


@pytest.mark.parametrize("through", ["its own name", "a link"])
def test_absolute_paths_inside_the_root_are_images_of_it(tmp_path, through):
    root = write_csv(tmp_path / "photos of mine")
    expected = read_csv(root)
    if through == "a link":
        (tmp_path / "link").symlink_to(root)
        root = tmp_path / "link"
    for listed in (root.absolute(), root.resolve()):
        head, *rows = (tmp_path / "photos of mine" / "labels.csv").read_text().splitlines()
        absolute = "\n".join([head, *(f"{listed}/{row}" for row in rows)])
        (root / "absolute.csv").write_text(absolute)
        found = read_csv(root, labels="absolute.csv")
        assert found.content == expected.content
        (root / "absolute.csv").write_text(absolute.replace(f"{listed}/", f"{listed}/../", 1))
        with pytest.raises(DataError, match=r"leads out of data\.root"):
            read_csv(root, labels="absolute.csv")


def test_unknown_class_with_the_likely_one(tmp_path):
    root = write_csv(tmp_path / "lists")
    with pytest.raises(DataError, match=r"labels.csv, line 2: unknown class '\w+'"):
        read_csv(root, classes=("xyz", "abc"))
    with pytest.raises(DataError, match="unknown class 'apple'; did you mean 'apples'"):
        read_csv(root, classes=("apples", *OWN_CLASSES[1:]))
    root = write_csv(tmp_path / "columns", columns=True)
    with pytest.raises(DataError, match="unknown class 'apples'; did you mean 'apple'"):
        read_csv(root, classes=("apples", *OWN_CLASSES[1:]))


def test_root_is_the_image_folder(tmp_path):
    root = write_csv(tmp_path)
    with pytest.raises(DataError, match=r"too deep in the tree; set data\.root="):
        read_csv(root / "photos")


def test_names_that_are_not_utf8_on_disk_are_missing_not_a_crash(tmp_path):
    root = write_csv(tmp_path)
    source, target = root / "photos" / "000.jpg", bytes(root / "photos") + b"/\xe4.jpg"
    source.rename(target.decode("utf-8", "surrogateescape"))
    with pytest.raises(DataError, match=r"photos/000.jpg \(missing\)"):
        read_csv(root)


def test_drop_counts_each_reason(tmp_path, caplog):
    root = write_csv(tmp_path)
    (root / "photos" / "000.jpg").unlink()
    (root / "photos" / "001.jpg").write_bytes(b"")
    truncate(root / "photos" / "002.jpg")
    data_set = read_csv(root, on_bad_image="drop")
    assert data_set.counts["dropped"] == {"missing": 1, "unreadable": 2}
    assert sum(data_set.counts["images"].values()) == 57
    assert "3 of 60 images" in caplog.text
    assert "dropped" in caplog.text


def written(root, lines, images=9):
    for number in range(images):
        write_image(root / f"i{number}.png", seed=number)
    (root / "labels.csv").write_text("\n".join(lines) + "\n", encoding="utf-8")
    return root


CLASSES = np.array([[row % 2, row // 2 % 2] for row in range(9)])

NAMELESS = {
    "a trailing comma": (
        "image,cat,dog,",
        lambda row: ("", "", "")[row % 3],
        "column 4 of labels.csv has no name and no",
    ),
    "an index": (",image,cat,dog", str, "column 1 of labels.csv has no name, and whole numbers"),
    "a filtered index": (
        "image,,cat,dog",
        lambda row: str(7 * row + 3),
        "column 2 of labels.csv has no name",
    ),
    "a shuffled index": (
        "Unnamed: 0,image,cat,dog",
        lambda row: str((4 * row) % 9),
        "column 1 of labels.csv",
    ),
    "an index of floats": (",image,cat,dog", lambda row: f"{row}.0", "column 1 of labels.csv has no name"),
}


def with_column(header, cell):
    """The table of CLASSES with one more column, where the header has no name."""
    names = header.split(",")
    at = next(n for n, name in enumerate(names) if name in ("", "Unnamed: 0"))
    rows = [[f"i{row}.png", *map(str, CLASSES[row])] for row in range(9)]
    return [header, *(",".join([*row[:at], cell(number), *row[at:]]) for number, row in enumerate(rows))]


@pytest.mark.parametrize(("header", "cell", "note"), NAMELESS.values(), ids=NAMELESS)
def test_a_column_without_a_name_is_left_out_and_said(tmp_path, header, cell, note, caplog):
    root = written(tmp_path, with_column(header, cell))
    annotations = csv_annotations(root)
    assert annotations.label_names == ("cat", "dog")
    assert annotations.targets.tolist() == CLASSES.tolist()
    [said] = annotations.notes
    assert note in said
    assert "left out" in said
    read_csv(root, cache=tmp_path / "cache")
    read_csv(root, cache=tmp_path / "cache")  # from the cache, which keeps what is to be said
    assert caplog.text.count(note) == 2
    report = check("csv", root)
    assert any(note in finding.message for finding in report.findings)
    assert "with warnings" in report.verdict


REFUSED_COLUMNS = {
    "zeros and ones": (
        "image,cat,,dog",
        lambda row: str(row % 2),
        "column 3 has no name, but values .'0' in line 2",
    ),
    "ones": ("image,cat,dog,", lambda row: "1", "column 4 has no name, but values .'1' in line 2"),
    "whole numbers, one twice": (",image,cat,dog", lambda row: str(max(row, 1)), "column 1 has no name"),
    "numbers that are not whole": (",image,cat,dog", lambda row: f"{row}.5", "column 1 has no name"),
    "words": ("image,cat,dog,", lambda row: f"w{row}", "column 4 has no name, but values .'w0'"),
    "an index with a gap": (
        ",image,cat,dog",
        lambda row: str(row) if row else "",
        "column 1 has no name, but",
    ),
}


@pytest.mark.parametrize(("header", "cell", "message"), REFUSED_COLUMNS.values(), ids=REFUSED_COLUMNS)
def test_other_columns_without_a_name_are_refused_by_their_number(tmp_path, header, cell, message):
    with pytest.raises(DataError, match=message):
        csv_annotations(written(tmp_path, with_column(header, cell)))


def test_two_rows_are_no_index(tmp_path):
    with pytest.raises(DataError, match="column 1 has no name"):
        csv_annotations(written(tmp_path, with_column(",image,cat,dog", str)[:3]))


def test_a_column_without_a_name_beside_lists(tmp_path):
    lines = [",image,labels", *(f"{row},i{row}.png,{'ab'[row % 2]}" for row in range(9))]
    annotations = csv_annotations(written(tmp_path, lines))
    assert annotations.label_names == ("a", "b")
    assert len(annotations.notes) == 1


@pytest.mark.parametrize(
    ("no", "yes", "unknown"),
    [
        ("0.0", "1.0", "-1.0"),
        ("False", "True", "nan"),
        ("false", "TRUE", "NaN"),
        (" 0 ", "1.0 ", "<NA>"),
        ("0", "1", ""),
    ],
)
def test_values_are_read_as_pandas_writes_them(tmp_path, no, yes, unknown):
    rows = [[yes if value else no for value in row] for row in CLASSES]
    rows[4][1] = unknown
    lines = ["image,cat,dog", *(",".join([f"i{n}.png", *row]) for n, row in enumerate(rows))]
    annotations = csv_annotations(written(tmp_path, lines))
    expected = CLASSES.copy()
    expected[4, 1] = 0
    assert annotations.targets.tolist() == expected.tolist()
    assert np.argwhere(~annotations.mask).tolist() == [[4, 1]]


def test_a_wrong_value_is_said_with_its_column(tmp_path):
    lines = ["image,cat,dog", "i0.png,1,0", "i1.png,0,0.5"]
    with pytest.raises(DataError, match=r"line 3: '0.5' is not 1, 0, .*in column 'dog'"):
        csv_annotations(written(tmp_path, lines))


@pytest.mark.parametrize(
    ("other", "cell"), [(";", "a;b"), (",", '"a, b"'), (" ", "scab rust"), (";", '"a; b, c"')]
)
def test_another_separator_is_said_by_run_and_check(tmp_path, other, cell, caplog):
    root = written(
        tmp_path, ["image,labels", *(f"i{row}.png,{(cell, 'c')[row % 3 == 0]}" for row in range(9))]
    )
    said = f"6 cells hold {other!r}, such as "
    read_csv(root)
    assert said in caplog.text
    assert f'set "data.separator={other!r}"' in caplog.text
    report = check("csv", root)
    assert any(said in finding.message for finding in report.findings)
    assert "good" not in report.verdict
    assert csv_annotations(root, separator=other).notes == ()


def test_quotes_may_follow_a_blank(tmp_path):
    root = written(tmp_path, ["image, labels", 'a.png, "cat|dog"', 'b.png, ""', '"c, d.png", "cat"'])
    annotations = csv_annotations(root)
    assert annotations.label_names == ("cat", "dog")
    assert annotations.image_ids.tolist() == ["a.png", "b.png", "c, d.png"]
    assert annotations.targets.tolist() == [[1, 1], [0, 0], [1, 0]]


def test_lists_that_are_not_json_are_refused(tmp_path):
    root = written(tmp_path, ["image,labels", "a.png,cat", "b.png,\"['cat', 'dog']\""])
    with pytest.raises(DataError, match=r"line 3: .* is not a JSON list of labels; .* data=own"):
        csv_annotations(root)


def test_a_tab_between_labels_is_said(tmp_path):
    root = written(tmp_path, ["image,labels", *(f"i{row}.png,{'ab'[row % 2]}\tc" for row in range(9))])
    with pytest.raises(DataError, match=r"control character.*set data\.separator"):
        csv_annotations(root)
    assert csv_annotations(root, separator="\t").label_names == ("a", "b", "c")


def test_a_separator_that_is_used_is_not_doubted(tmp_path):
    root = written(tmp_path, ["image,labels", *(f"i{row}.png,red apple|b;c" for row in range(9))])
    assert csv_annotations(root).notes == ()
    assert csv_annotations(root).label_names == ("b;c", "red apple")
    with pytest.raises(DataError, match=r"data\.separator=''"):
        csv_annotations(root, separator="")


@pytest.mark.parametrize(("in_table", "on_disk"), [("NFC", "NFD"), ("NFD", "NFC"), ("NFC", "NFC")])
def test_names_of_files_are_found_in_either_unicode_form(tmp_path, in_table, on_disk):
    for number in range(4):
        write_image(tmp_path / unicodedata.normalize(on_disk, f"é/café{number}.png"), seed=number)
    lines = [f"é/café{number}.png,{'ab'[number % 2]}" for number in range(4)]
    text = unicodedata.normalize(in_table, "\n".join(["image,labels", *lines]))
    (tmp_path / "labels.csv").write_text(text, encoding="utf-8")
    ids = sorted(labels_of(read_csv(tmp_path)))
    assert ids == [unicodedata.normalize(on_disk, f"é/café{number}.png") for number in range(4)]


def test_a_split_column_may_be_left_aside(tmp_path):
    rows = [
        f"i{i}.png,{'cat' if i % 2 else 'dog'}|owl,{('train', 'train', 'val', 'test')[i % 4]}"
        for i in range(40)
    ]
    (tmp_path / "labels.csv").write_text("image,labels,split\n" + "\n".join(rows))
    for i in range(40):
        write_image(tmp_path / f"i{i}.png", i)
    own, *anew = (
        read_csv(tmp_path, seed, resplit=resplit) for seed, resplit in ((0, False), (0, True), (1, True))
    )
    sizes = [[len(data.split(name)) for name in ("train", "val", "test")] for data in (own, *anew)]
    assert sizes[0] == [20, 10, 10]
    assert np.abs(np.array(sizes) - sizes[0]).max() <= 2
    assert len({data.split_hash for data in (own, *anew)}) == 3
    assert anew[0].split_hash == read_csv(tmp_path, 0, resplit=True).split_hash
    assert all(abs(split.targets[:, 0].mean() - 0.5) <= 0.1 for split in (anew[0].train, anew[1].train))
