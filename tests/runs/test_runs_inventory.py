"""list and prune: what is there, what nothing refers to, and what is left alone."""

import os
import time
from pathlib import Path

import pytest
from filelock import FileLock
from rich.console import Console

from lsep_ml.files import atomic_write, is_temporary, write_json
from lsep_ml.runs.inventory import STALE, prune, take_inventory
from lsep_ml.runs.printed import print_inventory


@pytest.fixture
def output(tmp_path: Path) -> Path:
    for kind, identity in (
        ("predictions", "used"),
        ("predictions", "unused"),
        ("features", "used"),
        ("scores", "a.work"),
    ):
        folder = tmp_path / "store" / kind / identity
        folder.mkdir(parents=True)
        (folder / "array.npy").write_bytes(b"x" * 1000)
    for name, value in (("low", 0.25), ("high", 0.75)):
        run = tmp_path / "runs" / "digits" / name
        (run / ".hydra").mkdir(parents=True)
        stored = {"predictions": "used", "features": "used", "scores": "gone"}
        write_json(run / "result.json", {"stored": stored, "metrics": {"val": {"f1": value}}})
        (run / ".hydra" / "overrides.yaml").write_text(f"- loss={name}\n")
    return tmp_path


def shown(console: Console) -> str:
    return " ".join(console.export_text().split())


def test_runs_are_listed_by_a_validation_metric(output: Path) -> None:
    console = Console(record=True, width=200)
    print_inventory(take_inventory(output), console, "f1")
    text = shown(console)
    assert text.index("digits/high") < text.index("digits/low")
    assert "loss=high" in text
    assert "2 runs" in text
    narrow = Console(record=True, width=30)  # a path is whole, so that it can be given to another verb
    print_inventory(take_inventory(output), narrow, "f1")
    assert str(output / "runs" / "digits" / "high") in narrow.export_text()
    with pytest.raises(ValueError, match="--by=f2: no run has that validation metric; there are f1"):
        print_inventory(take_inventory(output), console, "f2")


def test_prune_is_dry_unless_asked_and_spares_what_is_used_or_being_built(output: Path) -> None:
    console = Console(record=True, width=200)
    unused, leftover = output / "store" / "predictions" / "unused", output / "store" / "scores" / "a.work"
    assert prune(output, console, delete=False) == [unused, leftover]
    assert unused.exists()
    with FileLock(leftover.with_suffix(".lock")):
        assert prune(output, console, delete=True) == [unused]
    assert not unused.exists()
    assert leftover.exists()
    assert (output / "store" / "predictions" / "used").exists()
    assert "a process is building it" in shown(console)


def test_what_a_stopped_run_continues_from_stays_until_the_run_is_removed(output: Path) -> None:
    kept = output / "store" / "predictions" / "begun.kept"
    kept.mkdir()
    run = output / "runs" / "digits" / "stopped"
    run.mkdir()
    write_json(run / "unfinished.json", {"predictions": "begun"})
    [item] = [item for item in take_inventory(output).stored if item.folder == kept]
    assert item.runs == ("digits/stopped (unfinished)",)
    assert kept not in prune(output, Console(), delete=True)
    assert kept.exists()
    (run / "unfinished.json").unlink()
    assert prune(output, Console(), delete=True) == [kept]


def test_failed_jobs_go_with_what_they_began_when_that_is_asked_for(output: Path) -> None:
    kept = output / "store" / "predictions" / "begun.kept"
    kept.mkdir()
    failed, again = output / "runs" / "digits" / "failed", output / "runs" / "digits" / "low"
    failed.mkdir()
    for folder in (failed, again):  # the second has its result in spite of an earlier error
        write_json(folder / "error.json", {"error": "ValueError"})
    write_json(failed / "unfinished.json", {"predictions": "begun"})
    console = Console(record=True, width=200)
    assert failed not in prune(output, console, delete=True)
    assert kept.exists()
    assert "1 failed jobs keep their folders" in shown(console)
    assert prune(output, Console(), delete=False, failed=True) == [failed]
    assert failed.exists()
    assert prune(output, Console(), delete=True, failed=True) == [failed, kept]
    assert not failed.exists()
    assert not kept.exists()
    assert again.exists()


def test_temporary_files_of_killed_writers_go(output: Path) -> None:
    run = output / "runs" / "digits" / "low"
    killed, writing = (run / f".result.json.{letter * 32}" for letter in "ab")
    for file in (killed, writing, run / ".keep", run / f"{'c' * 32}"):
        file.write_text("{")
        os.utime(file, (time.time() - 2 * STALE,) * 2)
    os.utime(writing)
    prune(output, Console(), delete=True)
    assert not killed.exists()
    assert writing.exists()
    assert (run / ".keep").exists()
    assert (run / f"{'c' * 32}").exists()


def test_what_an_atomic_write_leaves_when_it_is_killed_is_known_by_its_name(tmp_path: Path) -> None:
    with atomic_write(tmp_path / "a.json") as file:
        file.write("{}")
        [temporary] = tmp_path.iterdir()
        assert is_temporary(temporary)
    assert not is_temporary(tmp_path / "a.json")


def test_a_link_to_nothing_has_no_size(output: Path) -> None:
    (output / "runs" / "digits" / "low" / "link").symlink_to(output / "absent")
    assert take_inventory(output).runs


def test_a_damaged_record_is_named_before_anything_is_removed(output: Path) -> None:
    (output / "runs" / "digits" / "low" / "result.json").write_text("{")
    with pytest.raises(ValueError, match=r"low/result\.json: not a readable result record"):
        prune(output, Console(), delete=True)
    with pytest.raises(FileNotFoundError, match="no such folder"):
        take_inventory(output / "absent")
