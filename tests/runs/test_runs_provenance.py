"""A finished run keeps what it was called with, whoever asks for it later, and a plan leaves nothing behind."""

import subprocess
import sys
from pathlib import Path

import pytest
from jobs import ROOT
from rich.console import Console

from lsep_ml.files import read_json
from lsep_ml.reports.provenance import command
from lsep_ml.runs.files import OVERRIDES, RESULT
from lsep_ml.runs.finished import read_run
from lsep_ml.runs.inventory import take_inventory
from lsep_ml.runs.printed import print_inventory

TINY = (
    "data.train=40",
    "data.val=20",
    "data.test=20",
    "data.canvas=24",
    "model.widths=[4]",
    "model.num_features=6",
    "training.epochs=1",
    "decision=topk",
    "trainer=cpu",
)


def call(output: Path, *words: str) -> str:
    flags = [word for word in words if word.startswith("-")]
    overrides = [*TINY, f"paths.output={output}", *(word for word in words if word not in flags)]
    command = [sys.executable, str(ROOT / "run.py"), *flags, *overrides]
    done = subprocess.run(command, capture_output=True, text=True, cwd=output)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def output(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run that one command made, two others asked for and one planned, beside a plan for another seed."""
    output = tmp_path_factory.mktemp("outputs")
    call(output, "objective=f1")
    assert "finished before" in call(output, "objective=map")
    call(output, "-m", "objective=lrap")
    assert "nothing to do" in call(output, "plan=true", "objective=exact_match")
    assert "trains network" in call(output, "plan=true", "seed=1")
    return output


def the_run(output: Path) -> Path:
    [file] = output.rglob(RESULT)
    return file.parent


def test_the_record_names_the_command_that_made_it(output: Path) -> None:
    overrides = read_json(the_run(output) / RESULT)["overrides"]
    assert overrides == [*TINY, f"paths.output={output}", "objective=f1"]


def test_nobody_rewrites_what_hydra_wrote_for_a_finished_run(output: Path) -> None:
    assert "objective=f1" in (the_run(output) / OVERRIDES).read_text()


def test_report_and_list_name_the_command_that_made_it(output: Path) -> None:
    (the_run(output) / OVERRIDES).write_text("- objective=whoever asked last\n")
    assert command(read_run(the_run(output) / RESULT)[0]).endswith("trainer=cpu objective=f1")
    console = Console(record=True, width=400)
    print_inventory(take_inventory(output), console, "f1")
    assert "objective=f1" in console.export_text()


def test_a_plan_leaves_nothing(output: Path) -> None:
    assert [folder for folder in output.rglob("*") if folder.is_dir() and not list(folder.iterdir())] == []
    assert [folder.name for folder in (output / "runs" / "digits").iterdir()] == [the_run(output).name]


def test_a_plan_leaves_the_folder_it_was_called_in(tmp_path: Path) -> None:
    here = tmp_path / "empty"
    here.mkdir()
    command = [sys.executable, str(ROOT / "run.py"), "plan=true", *TINY]
    subprocess.run(command, cwd=here, check=True, capture_output=True)
    assert list(here.iterdir()) == []


def test_a_run_made_again_by_force_is_that_commands(output: Path) -> None:
    call(output, "force=true", "objective=cf1")
    assert read_json(the_run(output) / RESULT)["overrides"][-1] == "objective=cf1"
    assert "objective=cf1" in (the_run(output) / OVERRIDES).read_text()
