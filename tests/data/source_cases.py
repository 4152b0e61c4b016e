"""What the tests of the sources share: reading a data set back, and damaging a tree."""

from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

import numpy as np

from lsep_ml.data import DataSet

Damage = Callable[[Path], object]


def labels_of(data_set: DataSet) -> dict[str, set[str]]:
    """image id -> its labels, over all splits."""
    found = {}
    for name in ("train", "val", "test"):
        split = data_set.split(name)
        for image_id, row in zip(split.image_ids.tolist(), split.targets, strict=True):
            found[image_id] = {data_set.label_names[column] for column in np.flatnonzero(row)}
    return found


def expected_labels(
    names: Iterable[str], targets: np.ndarray, label_names: Sequence[str]
) -> dict[str, set[str]]:
    """The same from names and a matrix."""
    rows = zip(names, targets, strict=True)
    return {name: {label_names[column] for column in np.flatnonzero(row)} for name, row in rows}


def images_of(data_set: DataSet) -> dict[str, int]:
    """Images of each split."""
    return data_set.counts["images"]


def edit(path: str, change: Callable[[str], str]) -> Damage:
    def damage(root: Path) -> None:
        (root / path).write_text(change((root / path).read_text()))

    return damage


def put(path: str, content: bytes) -> Damage:
    return lambda root: (root / path).write_bytes(content)


def remove(path: str) -> Damage:
    return lambda root: (root / path).unlink()


def swap(old: str, new: str, count: int = 1) -> Callable[[str], str]:
    return lambda text: text.replace(old, new, count)


def cut_last_line(text: str) -> str:
    return "\n".join(text.splitlines()[:-1]) + "\n"


def truncate(path: Path) -> None:
    content = path.read_bytes()
    path.write_bytes(content[: len(content) // 2])
