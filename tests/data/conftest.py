"""The small trees of tests/data_trees.py, written once a session; tests that change one copy it first."""

import shutil
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[1]))

import data_trees

WRITERS: dict[str, Callable[[Path], Path]] = {
    "voc2007": data_trees.write_voc,
    "coco": data_trees.write_coco,
    "nuswide": data_trees.write_nuswide,
    "nuswide_table": data_trees.write_nuswide_table,
    "nuswide_lists": data_trees.write_nuswide_lists,
    "csv": data_trees.write_csv,
    "coco_json": data_trees.write_coco_json,
}


def pytest_configure(config: pytest.Config) -> None:
    """torchvision 0.29 announces the end of its decoders; the successor wants a newer torch than we do."""
    config.addinivalue_line("filterwarnings", "ignore:The image decoding and encoding:DeprecationWarning")


@pytest.fixture(scope="session")
def trees(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """name -> its tree, not to be changed."""
    written: dict[str, Path] = {}

    def tree(name: str) -> Path:
        if name not in written:
            written[name] = WRITERS[name](tmp_path_factory.mktemp(name))
        return written[name]

    return tree


@pytest.fixture
def copies(trees: Callable[[str], Path], tmp_path: Path) -> Callable[[str], Path]:
    """name -> a copy of its tree for this test alone."""
    return lambda name: Path(shutil.copytree(trees(name), tmp_path / name))
