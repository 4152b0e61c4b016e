"""Predictions as other tools read them: FiftyOne, cleanlab, and the pre-annotations of Label Studio."""

import json
import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import IO, Any
from urllib.parse import quote
from xml.sax.saxutils import quoteattr

import numpy as np
from numpy.typing import NDArray

from lsep_ml.bundle.tables import ImageRow
from lsep_ml.files import atomic_write, check_writable

CONTROL, IMAGE = "labels", "image"
"""The names of the choices and of the image in the labelling configuration."""


def check_export(path: Path, tool: str, *, overwrite: bool = False) -> None:
    """Raise ValueError, or OSError, unless a file for `tool` can be made at `path`."""
    if tool not in (*WRITERS, "cleanlab"):
        raise ValueError(f"--to {tool}: expected one of {', '.join((*WRITERS, 'cleanlab'))}")
    if path.suffix != ".json":
        raise ValueError(f"--out {path}: --to {tool} writes JSON; give a name with .json")
    check_writable(path)
    if path.exists() and not overwrite:
        raise FileExistsError(f"{path}: exists; name another file")


def export_rows(
    path: Path, tool: str, rows: Iterable[ImageRow], label_names: Sequence[str], root: Path | None = None
) -> int:
    """Write the rows that have scores for `tool`, "fiftyone" or "label_studio"; returns how many.

    root: the folder that the images' names are relative to; None: the one that the process runs in.
    """
    count = 0

    def usable() -> Iterator[ImageRow]:
        nonlocal count
        for row in rows:
            if row.problem is None:
                count += 1
                yield row

    with atomic_write(path) as file:
        WRITERS[tool](file, usable(), label_names, root)
    if tool == "label_studio":
        with atomic_write(labelling_config(path)) as file:
            file.write(_config(label_names))
    return count


def export_cleanlab(
    path: Path,
    rows: Iterable[ImageRow],
    label_names: Sequence[str],
    targets: NDArray[np.uint8],
    mask: NDArray[np.bool_] | None,
) -> int:
    """Write what cleanlab's multi-label functions take; returns how many images, those whose labels are all known.

    The file has `labels`, for each image the list of the numbers of the labels that it was given, and `pred_probs`
    (N, K); beside them `image_ids`, `label_names`, and `pred_probs_are`, what the numbers are: the calibrated
    probabilities of the decision, or else the logistic curve of score - threshold, or of the score, which is not
    calibrated.
    """
    count = 0
    known = np.ones(len(targets), bool) if mask is None else (mask != 0).all(axis=1)
    images: list[str] = []
    meaning = ""
    with atomic_write(path) as file:
        file.write('{"pred_probs": [')
        for row, given in zip(rows, known.tolist(), strict=True):
            if not given:
                continue
            values, meaning = probabilities_of(row)
            file.write(f"{',' if count else ''}\n{json.dumps(np.round(values.astype(float), 7).tolist())}")
            images.append(row.image)
            count += 1
        rest = {
            "labels": [np.flatnonzero(one).tolist() for one in targets[known]],
            "pred_probs_are": meaning,
            "label_names": list(label_names),
            "image_ids": images,
        }
        file.write(f"],\n{json.dumps(rest, ensure_ascii=False)[1:]}\n")
    return count


def probabilities_of(row: ImageRow) -> tuple[NDArray[np.float32], str]:
    """Return a number in [0, 1] for each label of a row with scores, and what it is, in words."""
    assert row.scores is not None
    if row.probabilities is not None:
        return row.probabilities, "calibrated probabilities of the decision"
    if row.thresholds is not None:
        return _logistic(row.scores - row.thresholds), "1 / (1 + exp(threshold - score)), not calibrated"
    return _logistic(row.scores), "1 / (1 + exp(-score)), not calibrated"


def labelling_config(path: Path) -> Path:
    """Return where the labelling configuration of the pre-annotations in `path` lies."""
    return path.with_suffix(".config.xml")


def _logistic(values: NDArray[np.float32]) -> NDArray[np.float32]:
    return np.float32(0.5) * (1 + np.tanh(values / 2))  # 1 / (1 + exp(-x)) without overflow


def _write_fiftyone(
    file: IO[str], rows: Iterator[ImageRow], label_names: Sequence[str], root: Path | None
) -> None:
    """FiftyOneImageClassificationDataset: an image's absolute path -> its labels, `fo.Classifications`."""
    number_of = {name: number for number, name in enumerate(label_names)}
    file.write(f'{{"classes": {json.dumps(list(label_names), ensure_ascii=False)},\n"labels": {{')
    for number, row in enumerate(rows):
        name = os.path.abspath(root / row.image if root is not None else row.image)
        labels = [_classification(row, number_of[label], label) for label in row.labels]
        file.write(f"{',' if number else ''}\n{json.dumps(name)}: {json.dumps(labels, ensure_ascii=False)}")
    file.write("\n}}\n")


def _classification(row: ImageRow, number: int, label: str) -> dict[str, Any]:
    """Return a label with its score and threshold; `confidence` is a probability, there only where the decision has
    one."""
    found: dict[str, Any] = {"label": label}
    if row.probabilities is not None:
        found["confidence"] = float(row.probabilities[number])
    values = (("score", row.scores), ("threshold", row.thresholds))
    found["attributes"] = {name: float(array[number]) for name, array in values if array is not None}
    return found


def _write_label_studio(
    file: IO[str], rows: Iterator[ImageRow], label_names: Sequence[str], root: Path | None
) -> None:
    """Tasks with a prediction each; its score is the margin, so that the least sure images come first."""
    file.write("[")
    for number, row in enumerate(rows):
        address = quote(_below(row.image, root).lstrip("/"))
        chosen = {
            "from_name": CONTROL,
            "to_name": IMAGE,
            "type": "choices",
            "value": {"choices": list(row.labels)},
        }
        prediction: dict[str, Any] = {
            "model_version": "lsep_ml, score: margin",
            "result": [chosen] if row.labels else [],
        }
        if row.margin is not None:
            prediction["score"] = row.margin
        task = {"data": {IMAGE: f"/data/local-files/?d={address}"}, "predictions": [prediction]}
        file.write(f"{',' if number else ''}\n{json.dumps(task, ensure_ascii=False)}")
    file.write("\n]\n")


def _below(image: str, root: Path | None) -> str:
    """Return the path of an image below `root`; a relative name is taken to be that already."""
    path = Path(image)
    if root is None or not path.is_absolute():
        return path.as_posix()
    below = os.path.relpath(path, root)
    if below.startswith(os.pardir):
        raise ValueError(f"--root {root}: {image} does not lie in it; give the folder that the tool serves")
    return Path(below).as_posix()


def _config(label_names: Sequence[str]) -> str:
    """Return the tool's labelling configuration: an image, and any number of the labels."""
    choices = "\n".join(f"    <Choice value={quoteattr(name)}/>" for name in label_names)
    return (
        f'<View>\n  <Image name="{IMAGE}" value="${IMAGE}"/>\n'
        f'  <Choices name="{CONTROL}" toName="{IMAGE}" choice="multiple">\n{choices}\n  </Choices>\n</View>\n'
    )


WRITERS: dict[str, Callable[[IO[str], Iterator[ImageRow], Sequence[str], Path | None], None]] = {
    "fiftyone": _write_fiftyone,
    "label_studio": _write_label_studio,
}
