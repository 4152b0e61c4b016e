"""The house: which room may import which, what stays light, and how long a file may be."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

import lsep_ml

PACKAGE = Path(lsep_ml.__file__).parent
FREE = ("lsep_ml.metrics.metric", "lsep_ml.files", "lsep_ml.loops", "lsep_ml.light_packages")
"""What anyone may import, since it imports nothing of ours."""

CORE = {"metrics", "files", "loops"}
"""The rooms of the method (losses, decisions, ...) import nothing of ours but this."""

ALLOWED = {
    "metrics": set(),
    "losses": CORE,
    "decisions": CORE,
    "models": {*CORE, "light_packages"},
    "predictors": CORE,
    "data": {*CORE, "terminal", "light_packages"},
    "terminal": set(),
    "drawing": {"metrics"},
    "processes": {"files"},
    "store": {"files", "processes"},
    "runs": {"files", "terminal", "metrics", "store"},
    "training": {*CORE, "terminal", "losses", "decisions", "models", "data", "processes"},
    "trackers": {*CORE, "terminal", "runs"},
    "tuning": {*CORE, "terminal", "bundle", "decisions", "training", "runs"},
    "bundle": {*CORE, "terminal", "data", "decisions", "drawing", "models", "store", "runs", "training"},
    "demo": {*CORE, "terminal", "bundle", "data", "decisions", "training"},
    "reports": {*CORE, "terminal", "decisions.catalogue", "drawing", "store", "runs"},
    "stages": {
        *CORE,
        "losses",
        "decisions",
        "models",
        "predictors",
        "data",
        "processes",
        "store",
        "runs",
        "training",
    }
    | {"terminal", "trackers", "bundle", "reports", "light_packages"},
}
"""What each room may import of ours, beside itself; the command line, which opens all of them, is not a room."""

LOOSE = {"__init__", "__main__", "cli", "files", "loops", "light_packages"}
"""The modules that stand in no room."""


def imports(file: Path) -> set[str]:
    """The modules of ours that a file imports, wherever in it."""
    found = set()
    for node in ast.walk(ast.parse(file.read_text())):
        if isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{file}: relative import"
            found |= (
                {f"{node.module}.{alias.name}" for alias in node.names}
                if node.module == "lsep_ml"
                else {node.module}
            )
        elif isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
    return {name for name in found if name and name.split(".")[0] == "lsep_ml"}


def within(name: str, packages: set[str]) -> bool:
    return any(name == package or name.startswith(package + ".") for package in packages)


def test_every_room_is_known() -> None:
    rooms = {path.name for path in PACKAGE.iterdir() if path.is_dir() and any(path.glob("*.py"))}
    assert rooms == set(ALLOWED)
    assert {path.stem for path in PACKAGE.glob("*.py")} == LOOSE


def test_no_two_rooms_import_each_other() -> None:
    left = {room: set(allowed) & set(ALLOWED) for room, allowed in ALLOWED.items()}
    while free := {room for room, allowed in left.items() if not allowed}:
        left = {room: allowed - free for room, allowed in left.items() if room not in free}
    assert left == {}


@pytest.mark.parametrize("room", sorted(ALLOWED))
def test_rooms_import_only_what_they_may(room: str) -> None:
    files = list((PACKAGE / room).rglob("*.py"))
    assert files
    allowed = {f"lsep_ml.{name}" for name in {room, *ALLOWED[room]}}
    wrong = {(file.name, name) for file in files for name in imports(file) if not within(name, allowed)}
    assert not wrong


@pytest.mark.parametrize("module", FREE)
def test_what_anyone_may_import_imports_nothing_of_ours(module: str) -> None:
    assert imports(PACKAGE.parent.joinpath(*module.split(".")).with_suffix(".py")) == set()


@pytest.mark.parametrize(
    ("module", "absent"),
    [
        ("lsep_ml", {"torch", "pytorch_lightning", "hydra"}),
        ("lsep_ml.losses", {"pytorch_lightning", "hydra", "omegaconf"}),
        ("lsep_ml.decisions", {"pytorch_lightning", "hydra", "omegaconf", "torch"}),
        ("lsep_ml.metrics", {"pytorch_lightning", "hydra", "omegaconf", "torch"}),
        ("lsep_ml.stages.resolvers", {"torch", "pytorch_lightning"}),
        ("lsep_ml.drawing", {"torch", "pytorch_lightning", "hydra"}),
        ("lsep_ml.reports.figures.of_run", {"torch", "pytorch_lightning", "hydra"}),
        ("lsep_ml.store.keys", {"torch", "pytorch_lightning"}),
        ("lsep_ml.data.check.verdict", {"pytorch_lightning", "hydra", "torch", "sklearn"}),
        ("lsep_ml.models", {"timm", "torchvision", "pytorch_lightning", "hydra"}),
        ("lsep_ml.predictors", {"sklearn", "pytorch_lightning", "hydra"}),
        ("lsep_ml.stages.hydra_job", {"timm", "polars", "wandb", "torchmetrics.functional"}),
        ("lsep_ml.cli", {"torch", "pytorch_lightning", "hydra", "numpy"}),
    ],
)
def test_what_stays_light(module: str, absent: set[str]) -> None:
    code = f"import sys, {module}; print(*sorted({absent!r} & set(sys.modules)))"
    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert loaded.split() == []


def test_no_file_outgrows_a_few_screens() -> None:
    lengths = {
        file.relative_to(PACKAGE): len(file.read_text().splitlines()) for file in PACKAGE.rglob("*.py")
    }
    assert {file: length for file, length in lengths.items() if length > 300} == {}


def test_no_folder_or_file_says_nothing() -> None:
    names = {path.stem for path in PACKAGE.rglob("*")}
    assert names.isdisjoint({"utils", "util", "common", "helpers", "misc"})
