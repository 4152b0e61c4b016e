"""The store: found again by what made it, built once, whole or absent, damage found and said."""

import dataclasses
import errno
import hashlib
import json
import logging
import multiprocessing
import os
import time
from pathlib import Path
from typing import Any

import pytest

from lsep_ml.files import atomic_write, content_hash, file_digest, read_json, write_json
from lsep_ml.store.entries import Store


def builder(calls: list[str], text: str = "content"):
    def build(folder: Path) -> dict[str, Any]:
        calls.append(text)
        (folder / "file.txt").write_text(text)
        return {"length": len(text)}

    return build


def test_an_entry_is_built_once_and_found_by_what_made_it(tmp_path: Path) -> None:
    store, calls = Store(tmp_path), []
    first = store.get_or_build("things", {"a": 1}, builder(calls))
    again = Store(tmp_path).get_or_build("things", {"a": 1}, builder(calls))
    other = store.get_or_build("things", {"a": 2}, builder(calls, "other"))
    assert calls == ["content", "other"]
    assert (first.reused, again.reused, other.reused) == (False, True, False)
    assert first.identity == again.identity != other.identity
    assert again.facts == {"length": 7}
    assert (again.folder / "file.txt").read_text() == "content"


def test_an_unfinished_entry_is_never_found(tmp_path: Path) -> None:
    store, calls = Store(tmp_path), []

    def fail(folder: Path) -> dict[str, Any]:
        (folder / "file.txt").write_text("half")
        raise RuntimeError("killed")

    with pytest.raises(RuntimeError, match="killed"):
        store.get_or_build("things", {"a": 1}, fail)
    entry = store.get_or_build("things", {"a": 1}, builder(calls))
    assert not entry.reused
    assert (entry.folder / "file.txt").read_text() == "content"


@pytest.mark.parametrize("damage", ["flip", "truncate", "remove", "seal", "seal_gone", "other"])
def test_damage_is_said_and_the_entry_made_again(
    tmp_path: Path, damage: str, caplog: pytest.LogCaptureFixture
) -> None:
    store, calls = Store(tmp_path), []
    entry = store.get_or_build("things", {"a": 1}, builder(calls))
    file, seal = entry.folder / "file.txt", entry.folder / "entry.json"
    if damage == "flip":
        file.write_text("contenu")
    elif damage == "truncate":
        file.write_text("")
    elif damage == "remove":
        file.unlink()
    elif damage == "seal":
        seal.write_text(seal.read_text()[:20])
    elif damage == "seal_gone":
        seal.unlink()
    else:
        write_json(seal, read_json(seal) | {"made_by": {"a": 3}})
    with caplog.at_level(logging.WARNING):
        again = store.get_or_build("things", {"a": 1}, builder(calls))
    assert not again.reused
    assert "damaged" in caplog.text
    assert (again.folder / "file.txt").read_text() == "content"
    assert store.get_or_build("things", {"a": 1}, builder(calls)).reused


def _build_slowly(root: Path) -> bool:
    def build(folder: Path) -> dict[str, Any]:
        with (root / "calls").open("a") as calls:
            calls.write("x")
        return {}

    return Store(root).get_or_build("things", {"a": 1}, build).reused


def test_what_cannot_be_read_just_now_is_not_damage(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store, calls = Store(tmp_path), []
    entry = store.get_or_build("things", {"a": 1}, builder(calls))

    def stale(path: Path) -> str:
        raise OSError(errno.ESTALE, os.strerror(errno.ESTALE), str(path))

    with monkeypatch.context() as patch:
        patch.setattr("lsep_ml.store.entries.file_digest", stale)
        with pytest.raises(OSError, match="Stale"):
            store.get_or_build("things", {"a": 1}, builder(calls))
    assert store.find("things", {"a": 1}) == dataclasses.replace(entry, reused=True)


def test_two_processes_build_once(tmp_path: Path) -> None:
    with multiprocessing.get_context("spawn").Pool(2) as pool:
        reused = pool.map(_build_slowly, [tmp_path, tmp_path])
    assert sorted(reused) == [False, True]
    assert (tmp_path / "calls").read_text() == "x"


def test_atomic_write_keeps_the_old_file_when_writing_fails(tmp_path: Path) -> None:
    file = tmp_path / "file.json"
    write_json(file, {"a": 1})
    with pytest.raises(ValueError, match="JSON"):
        write_json(file, {"a": float("nan")})
    with pytest.raises(RuntimeError), atomic_write(file) as out:
        out.write("half")
        raise RuntimeError
    assert json.loads(file.read_text()) == {"a": 1}
    assert list(tmp_path.iterdir()) == [file]


def test_content_hash_does_not_depend_on_the_order_of_keys() -> None:
    assert (
        content_hash({"a": 1, "b": [2]})
        == content_hash({"b": [2], "a": 1})
        != content_hash({"a": 1, "b": [3]})
    )


def test_a_file_is_read_again_only_when_it_was_written_to(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file, reads = tmp_path / "array.npy", []
    read = hashlib.file_digest
    monkeypatch.setattr(hashlib, "file_digest", lambda *args: reads.append(1) or read(*args))

    def digest(content: bytes | None = None, age: float = 0.0) -> str:
        if content is not None:
            file.write_bytes(content)
            os.utime(file, (time.time() - age,) * 2)
        return file_digest(file)

    assert digest(b"one") != digest(b"two")  # both just written: no clock has to tell them apart
    assert digest() == digest() == hashlib.sha256(b"two").hexdigest()
    assert len(reads) == 4
    old = digest(b"old", age=60)
    assert (digest(), digest()) == (old, old)
    assert len(reads) == 5
    assert digest(b"new", age=50) == hashlib.sha256(b"new").hexdigest()
    assert len(reads) == 6
