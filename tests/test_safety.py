"""Nothing that is loaded can run code: no call in the sources that would let it."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
SOURCES = sorted([*ROOT.glob("lsep_ml/**/*.py"), *ROOT.glob("experiments/**/*.py"), ROOT / "run.py"])

SAFE_WITH = {"torch.load": ("weights_only", True), "np.load": ("allow_pickle", False)}
"""What a call must say, though it be the default somewhere."""

FORBIDDEN = {
    "eval", "exec", "compile", "pickle.load", "pickle.loads", "pickle.Unpickler", "joblib.load", "shelve.open",
    "marshal.load", "marshal.loads", "yaml.load", "yaml.unsafe_load", "yaml.full_load", "torch.jit.load",
    "torch.hub.load", "load_from_checkpoint", "read_pickle", "numpy.load",
}  # fmt: skip


def calls(source: str) -> Iterator[tuple[str, ast.Call]]:
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Call):
            yield ast.unparse(node.func), node


def unsafe(source: str) -> list[str]:
    """The calls in a source that could run what a file holds."""
    found = []
    for name, call in calls(source):
        if name in FORBIDDEN or name.rsplit(".", 1)[-1] in {"load_from_checkpoint", "read_pickle"}:
            found.append(name)
        if name in SAFE_WITH:
            word, value = SAFE_WITH[name]
            given = {keyword.arg: keyword.value for keyword in call.keywords}
            if not (isinstance(given.get(word), ast.Constant) and given[word].value is value):  # type: ignore[attr-defined]
                found.append(name)
    return found


def test_no_source_can_run_what_it_loads() -> None:
    assert len(SOURCES) > 100
    assert {str(file): found for file in SOURCES if (found := unsafe(file.read_text()))} == {}


@pytest.mark.parametrize(
    "source",
    [
        "torch.load(path)",
        "torch.load(path, weights_only=False)",
        "np.load(path, mmap_mode='r')",
        "np.load(path, allow_pickle=True)",
        "x = pickle.loads(data)",
        "yaml.load(text, Loader=yaml.Loader)",
        "Model.load_from_checkpoint(path)",
        "eval(text)",
    ],
)
def test_the_search_finds_what_it_looks_for(source: str) -> None:
    assert unsafe(source)


def test_modules_that_could_are_not_imported_for_it() -> None:
    names = {
        (file.name, alias.name)
        for file in SOURCES
        for node in ast.walk(ast.parse(file.read_text()))
        if isinstance(node, ast.ImportFrom)
        and node.module in {"pickle", "marshal", "shelve", "yaml", "joblib"}
        for alias in node.names
    }
    assert names == set()
