"""`check own`: one JSON object whatever its verdict, and its exit code."""

import json
import shlex
from pathlib import Path

import pytest
from data_trees import picture, write_image
from hydra.core.override_parser.overrides_parser import OverridesParser
from typer.testing import CliRunner

from lsep_ml.cli import app
from lsep_ml.data import DataError
from lsep_ml.data.check.verdict import check
from lsep_ml.data.sources import parse_options

KEYS = [
    "format",
    "images",
    "labels",
    "positives",
    "unknown",
    "splits",
    "groups",
    "dropped",
    "warnings",
]


def write(root: Path, lines, images=range(12)) -> Path:
    for number in images:
        write_image(root / f"images/{number}.jpg", seed=number)
    (root / "labels.csv").write_text("\n".join(lines) + "\n")
    return root


def checked(root: Path, *options: str) -> tuple[int, dict]:
    cache = str(root / ".cache")
    result = CliRunner().invoke(
        app, ["check", "own", "--root", str(root), "--json", "--cache", cache, *options]
    )
    assert len(result.stdout.splitlines()) == 1, result.stdout
    found = json.loads(result.stdout)
    assert list(found) == KEYS
    return result.exit_code, found


LINES = ["image,cat,dog,patient,split"]
LINES += [
    f"{n}.jpg,{n % 2},{'' if n == 3 else 1 - n % 3 // 2},p{n // 2},{'train' if n < 8 else 'test'}"
    for n in range(12)
]


def test_a_good_folder(tmp_path):
    code, found = checked(write(tmp_path, LINES))
    assert code == 0
    assert found["images"] == 12
    assert found["labels"] == 2
    assert found["positives"] == {"cat": 6, "dog": 7}
    assert found["unknown"] == 1
    assert found["splits"] == {"train": 8, "val": 0, "test": 4}
    assert found["groups"] == 6
    assert found["dropped"] == {}
    assert any("column 'image' (data.image)" in warning for warning in found["warnings"])


def test_options_as_for_a_run(tmp_path):
    code, found = checked(
        write(tmp_path, LINES), "data.split=none", "data.group=none", "data.label_columns=[cat, dog]"
    )
    assert code == 0
    assert found["splits"] is None
    assert found["groups"] is None


def test_missing_and_broken_images_are_problems(tmp_path):
    root = write(tmp_path, LINES)
    (root / "images/0.jpg").unlink()
    (root / "images/1.jpg").write_bytes(b"no image")
    code, found = checked(root)
    assert code == 3
    assert found["images"] == 10
    assert found["dropped"] == {"missing": 1, "unreadable": 1}
    assert found["positives"] == {"cat": 5, "dog": 5}
    assert check("own", root).verdict.endswith("data.on_bad_image=drop")


def test_what_dropping_images_does_not_cure_is_not_to_be_cured_so(tmp_path):
    report = check("own", write(tmp_path, ["image,cat,dog", *(f"{n}.jpg,1,1" for n in range(12))]))
    assert report.exit_code == 3
    assert report.verdict == "broken: repair what is an error and check again"


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        (["image,labels", "0.jpg,a|b"], "12.*|"),
        (["colour,mood", "red,sad"], "nothing that could hold labels|names images"),
        (
            ["image,labels", *(f"{n}.jpg,{'Cat' if n % 2 else 'cat'}|dog" for n in range(12))],
            "data.merge_labels=true",
        ),
    ],
)
def test_what_cannot_be_read(tmp_path, lines, message):
    if message.startswith("12"):
        code, found = checked(tmp_path / "no")
        message = "no such folder"
    else:
        code, found = checked(write(tmp_path, lines))
    assert code == 1
    assert found["images"] == found["labels"] == 0
    assert found["format"] is None
    assert any(part in " ".join(found["warnings"]) for part in message.split("|"))


def test_splits_of_which_nothing_is_known_are_said(tmp_path):
    lines = [LINES[0], *(line if n < 8 else f"{n}.jpg,,,p{n},test" for n, line in enumerate(LINES[1:]))]
    code, found = checked(write(tmp_path, lines))
    assert code == 0
    assert any("test" in warning and "known" in warning for warning in found["warnings"])


def test_groups_in_two_splits_are_said(tmp_path):
    lines = [line.replace(",p3,", ",p4,") for line in LINES]
    _, found = checked(write(tmp_path, lines))
    assert any(
        "1 groups are in more than one of train, val and test" in warning for warning in found["warnings"]
    )


def test_options_are_yaml():
    assert parse_options(
        ["data.group=patient", "min_images=3", "data.none_label=[]", "data.merge_labels=true"], "own"
    ) == {
        "group": "patient",
        "min_images": 3,
        "none_label": [],
        "merge_labels": True,
    }
    for mark in ("|", ",", ";", " ", ""):
        assert parse_options([f"data.separator={mark}"], "own") == {"separator": mark}
    assert parse_options(["data.separator=' '"], "csv") == {"separator": " "}
    for wrong in ("group", "data.=x", "data.label_columns=[a"):
        with pytest.raises(DataError, match=r"expected data.NAME=VALUE|is not a value"):
            parse_options([wrong], "own")


def test_the_command_that_is_named_reads_what_was_checked(tmp_path):
    root = write(tmp_path / "my photos, é", LINES)
    options = {"group": "patient", "separator": "|", "none_label": [], "label_columns": ["c*", "dog"]}
    report = check("own", root, **options)
    assert report.exit_code == 0, report.findings
    command = report.verdict.partition("; ")[2]
    arguments = shlex.split(command)
    assert arguments[:3] == ["python", "run.py", "data=own"]
    read = [OverridesParser.create().parse_override(argument) for argument in arguments[3:]]
    assert {one.key_or_group: one.value() for one in read} == {
        "data.root": str(root), **{f"data.{name}": value for name, value in options.items()}
    }  # fmt: skip


@pytest.mark.parametrize(
    ("command", "option", "there"),
    [
        (["check", "own", "--root"], "data.grup=patient", "annotators, file, group"),
        (["check", "csv", "--root"], "data.on_bad_image=drop", "classes, labels, separator, soft_targets"),
        (["check", "coco_json", "--root"], "data.root=x", "test, train, val"),
        (["check", "voc2007", "--root"], "data.split=x", "difficult"),
        (["check", "nuswide", "--root"], "data.cache=x", "none"),
        (["convert", "--to", "csv", "--out", "x.csv"], "data.shares=[1]", "annotators, file, group"),
    ],
)
def test_an_unknown_option_is_named(tmp_path, command, option, there):
    result = CliRunner().invoke(app, [*command, str(write(tmp_path, LINES)), option])
    assert isinstance(result.exception, DataError)
    name = command[1] if command[0] == "check" else "own"
    assert f"no option of how data={name} is read; there are {there}" in str(result.exception)


def test_twins_are_said_with_and_without_a_split(tmp_path):
    for number in range(12):
        image = picture(number, 60, 80)
        (tmp_path / "images").mkdir(exist_ok=True)
        image.save(tmp_path / f"images/{number}.png")
        if number < 3:
            image.resize((50, 40)).save(tmp_path / f"images/{number}_small.jpg", quality=80)
    rows = [(f"{n}.png", n % 2, "train" if n < 8 else "test") for n in range(12)]
    rows += [(f"{n}_small.jpg", n % 2, "val" if n == 0 else "test") for n in range(3)]
    (tmp_path / "labels.csv").write_text(
        "\n".join(["image,cat,dog,split", *(f"{name},{cat},{1 - cat},{part}" for name, cat, part in rows)])
    )
    code, found = checked(tmp_path)
    assert code == 0
    for said in ("1 val images", "2 test images"):
        assert f"{said} have a near-duplicate in training" in found["warnings"]
    code, found = checked(tmp_path, "data.split=none")
    assert any("3 images are near-duplicates of another listed image" in one for one in found["warnings"])


def test_without_any_image_nothing_can_be_trained(tmp_path):
    root = write(tmp_path, LINES)
    for number in range(12):
        (root / f"images/{number}.jpg").unlink()
    code, found = checked(root)
    assert code == 1
    assert found["images"] == 0
    assert found["labels"] == 2
    assert found["dropped"] == {"missing": 12}
    assert "none of the listed images can be used" in check("own", root).verdict


PLAIN_TABLES = {
    "columns": LINES,
    "a cell": ["image,labels,split", *(f"{n}.jpg,{'cat|dog' if n % 3 else 'cat'},{'train' if n < 8 else 'test'}"
                                       for n in range(12))],
    "commas": ["file_name,tags", *(f"images/{n}.jpg,\"{'cat, dog' if n % 3 else 'dog'}\"" for n in range(12))],
    "a row a label": ["image_id,label", *(f"{n},{name}" for n in range(12) for name in ("cat", "dog")[n % 2 :])],
}  # fmt: skip


@pytest.mark.parametrize("lines", PLAIN_TABLES.values(), ids=PLAIN_TABLES)
def test_what_is_certain_is_said_and_no_warning(tmp_path, lines):
    report = check("own", write(tmp_path, lines))
    warned = [finding.message for finding in report.findings if finding.severity != "note"]
    assert warned == []
    assert report.verdict.startswith("good; ")
    assert len(report.summary["warnings"]) >= 2


AMBIGUOUS = {
    "a header that says nothing": (
        ["what,labels", *(f"images/{n}.jpg,{'cat|dog' if n % 3 else 'cat'}" for n in range(12))],
        "column 'what'",
    ),
    "labels by content": (
        ["image,mood", *(f"{n}.jpg,{'cat|dog' if n % 3 else 'cat'}" for n in range(12))],
        "column 'mood'",
    ),
    "a split by content": (
        [
            "image,labels,which",
            *(f"{n}.jpg,{'cat|dog' if n % 3 else 'dog'},{'train' if n < 8 else 'test'}" for n in range(12)),
        ],
        "column 'which'",
    ),
    "a column of 0 and 1 beside a cell": (
        ["image,labels,blurred", *(f"{n}.jpg,{'cat|dog' if n % 3 else 'dog'},{n % 2}" for n in range(12))],
        "'blurred'",
    ),
    "names that may hold a comma": (
        ["image,labels", *(f'{n}.jpg,"name {n}, first {n}"' for n in range(12))],
        "separated by ','",
    ),
    "a word for none": (
        ["image,labels", *(f"{n}.jpg,{'cat|dog' if n % 3 else 'none'}" for n in range(12))],
        "taken as no label",
    ),
    "a maybe group": (
        ["image,labels,camera", *(f"{n}.jpg,{'cat|dog' if n % 3 else 'dog'},c{n % 2}" for n in range(12))],
        "data.group=camera",
    ),
}


@pytest.mark.parametrize(("lines", "said"), AMBIGUOUS.values(), ids=AMBIGUOUS)
def test_what_could_be_otherwise_is_a_warning(tmp_path, lines, said):
    report = check("own", write(tmp_path, lines))
    warned = [finding.message for finding in report.findings if finding.severity == "warning"]
    assert any(said in message for message in warned), warned
    assert report.exit_code == 0
    assert report.verdict.startswith("usable, with warnings")
