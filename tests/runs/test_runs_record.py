"""The seal of a run: what was written is read, and any change to any file of it is named."""

import json
from pathlib import Path
from typing import Any

import pytest

from lsep_ml.files import content_hash, file_digest
from lsep_ml.runs.record import (
    RecordError,
    check_file,
    read_object,
    read_overrides,
    read_record,
    read_sealed,
    write_record,
)

RECORD = {"data": "digits", "metrics": {"test": {"f1": 0.5}}, "overrides": ["loss=lsep"]}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A finished run: sealed files, a figure and a log that are not, and what a run in progress leaves."""
    for name in (
        "checkpoint.ckpt",
        "decision.json",
        "history.csv",
        "predictions.npz",
        "decision.safetensors",
    ):
        (tmp_path / name).write_bytes(f"content of {name}".encode())
    for name in ("gallery.png", "run.log", "error.json", "unfinished.json"):
        (tmp_path / name).write_text("{}")
    write_record(tmp_path, RECORD)
    return tmp_path


def test_the_record_holds_the_checksum_of_every_file_that_is_sealed(folder: Path) -> None:
    record = read_sealed(folder)
    assert {key: record[key] for key in RECORD} == RECORD
    assert record["files"] == {
        name: file_digest(folder / name)
        for name in (
            *("checkpoint.ckpt", "decision.json", "decision.safetensors", "history.csv", "predictions.npz"),
        )
    }
    written = json.loads((folder / "result.json").read_text())
    assert written.pop("checksum") == content_hash(written)
    assert written == record


def test_a_run_that_has_its_result_works_on_nothing(folder: Path) -> None:
    assert not (folder / "unfinished.json").exists()
    assert (folder / "error.json").exists()  # of an earlier try; it is no reason to doubt the result


@pytest.mark.parametrize("name", ["checkpoint.ckpt", "decision.json", "history.csv", "predictions.npz"])
def test_one_changed_bit_of_any_file_is_named(folder: Path, name: str) -> None:
    content = bytearray((folder / name).read_bytes())
    content[3] ^= 1
    (folder / name).write_bytes(content)
    with pytest.raises(RecordError, match=rf"{folder}/{name}: damaged .* run the job again with force=true"):
        read_sealed(folder)
    with pytest.raises(RecordError, match=name):
        read_sealed(folder, (name,))
    others = {"checkpoint.ckpt", "decision.json", "history.csv", "predictions.npz"} - {name}
    assert read_sealed(folder, others)["data"] == "digits"  # what is not asked for is not read


def test_a_file_that_is_gone_is_named_and_one_that_never_was_is_passed_over(folder: Path) -> None:
    (folder / "history.csv").unlink()
    with pytest.raises(FileNotFoundError, match=r"history\.csv: missing"):
        read_sealed(folder)
    assert read_sealed(folder, ("decision.json", "thumbnails.npz"))["data"] == "digits"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda record: record["metrics"]["test"].update(f1=0.6), "damaged or edited"),
        (lambda record: record["files"].clear(), "damaged or edited"),
        (lambda record: record.update(checksum="0" * 16), "damaged or edited"),
        (lambda record: record.pop("checksum"), "it has no checksum"),
    ],
)
def test_an_edited_record_is_refused(folder: Path, change: Any, message: str) -> None:
    record = json.loads((folder / "result.json").read_text())
    change(record)
    (folder / "result.json").write_text(json.dumps(record))
    with pytest.raises(RecordError, match=rf"result\.json: .*{message}"):
        read_sealed(folder)


def test_a_record_of_a_version_without_checksums_is_read_but_not_taken_for_sealed(tmp_path: Path) -> None:
    (tmp_path / "result.json").write_text(json.dumps(RECORD))
    assert read_record(tmp_path / "result.json") == RECORD
    with pytest.raises(RecordError, match="not the record of a finished run"):
        read_sealed(tmp_path)
    (tmp_path / "result.json").write_text(json.dumps({"checksum": content_hash({}), "files": None}))
    with pytest.raises(RecordError):
        read_sealed(tmp_path)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", "not JSON"),
        ("[]", "a JSON list"),
        ('{"a": NaN}', "NaN is no number"),
        ('{"a": Infinity}', "no number"),
    ],
)
def test_what_is_no_record_says_so(tmp_path: Path, text: str, message: str) -> None:
    (tmp_path / "result.json").write_text(text)
    with pytest.raises(RecordError, match=message):
        read_object(tmp_path / "result.json")
    with pytest.raises(RecordError, match=rf"{tmp_path}.*{message}"):
        read_sealed(tmp_path)


def test_only_files_with_a_checksum_are_checked(tmp_path: Path) -> None:
    (tmp_path / "a.npz").write_bytes(b"a")
    check_file(tmp_path / "a.npz", {})
    check_file(tmp_path / "a.npz", {"a.npz": file_digest(tmp_path / "a.npz")})
    with pytest.raises(RecordError, match=r"^a\.npz: damaged"):
        check_file(tmp_path / "a.npz", {"a.npz": "0"})


def test_a_run_was_called_with_what_its_record_says_or_else_with_what_hydra_kept(tmp_path: Path) -> None:
    (tmp_path / ".hydra").mkdir()
    kept = tmp_path / ".hydra" / "overrides.yaml"
    kept.write_text("- seed=1\n- decision.k=2\n")
    assert read_overrides(tmp_path, {"overrides": ["seed=0"]}) == ("seed=0",)
    assert read_overrides(tmp_path, {}) == ("seed=1", "decision.k=2")
    for text in ("{half: [", "seed: 1\n", ""):
        kept.write_text(text)
        assert read_overrides(tmp_path, {}) is None
    kept.unlink()
    assert read_overrides(tmp_path, {}) is None
