"""The public names: what `__all__` of the package and of its public rooms has, which no release takes away unsaid."""

import ast
import json
from importlib import import_module
from pathlib import Path

import pytest

import lsep_ml

RECORD = json.loads((Path(__file__).parent / "public_names.json").read_text())
"""Room -> its public names when they were last recorded. A name goes only with a release that says so."""

PUBLIC = ("losses", "metrics", "decisions", "predictors", "models", "data", "tuning", "bundle")
ROOMS = ("lsep_ml", *(f"lsep_ml.{room}" for room in PUBLIC))


def seen_by_type_checkers(room: str) -> set[str]:
    """The names that a room's `__init__` binds without being run: by imports, TYPE_CHECKING's too, and definitions."""
    file = import_module(room).__file__
    assert file is not None
    found = set()
    for node in ast.walk(ast.parse(Path(file).read_text())):
        if isinstance(node, ast.ImportFrom):
            names = {alias.asname or alias.name for alias in node.names}
            found |= seen_by_type_checkers(node.module or "") if names == {"*"} else names
        elif isinstance(node, ast.FunctionDef | ast.ClassDef):
            found.add(node.name)
        elif isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            found.add(node.id)
    return found


def test_every_public_room_is_recorded() -> None:
    assert set(RECORD) == set(ROOMS)


@pytest.mark.parametrize("room", ROOMS)
def test_no_public_name_goes_unsaid(room: str) -> None:
    gone = set(RECORD[room]) - set(import_module(room).__all__)
    assert gone == set(), "a public name keeps its place, or CHANGELOG.md says what stands in its stead"


@pytest.mark.parametrize("room", ROOMS)
def test_public_names_are_there_once_and_seen_by_type_checkers(room: str) -> None:
    module = import_module(room)
    names = module.__all__
    assert len(set(names)) == len(names)
    assert set(names) <= seen_by_type_checkers(room)
    for name in names:
        value = getattr(module, name)
        home = getattr(value, "__module__", room)
        assert home.startswith("lsep_ml") or home in {"typing", "builtins"} or room == "lsep_ml", (name, home)


@pytest.mark.parametrize("room", ROOMS)
def test_other_names_are_refused(room: str) -> None:
    with pytest.raises(AttributeError, match="no_such_name"):
        _ = import_module(room).no_such_name


def test_a_decision_of_the_catalogue_is_public() -> None:
    from lsep_ml.decisions import DECISIONS

    assert {row.class_name for row in DECISIONS} <= set(import_module("lsep_ml.decisions").__all__)


def test_the_package_says_its_version() -> None:
    assert lsep_ml.__version__
