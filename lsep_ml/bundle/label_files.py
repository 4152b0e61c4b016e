"""Label many image files: decoded by threads while the network works, kept as they come, the broken ones listed."""

import csv
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from torch import Tensor

from lsep_ml.bundle.classifier import Classifier
from lsep_ml.bundle.label_table import LabelTable, printable
from lsep_ml.bundle.predictions import Predictions
from lsep_ml.data.cores import available_cores
from lsep_ml.data.errors import ImageError
from lsep_ml.files import atomic_write
from lsep_ml.store.keys import weights_hash

AHEAD = 2
"""Batches that are decoded before the network asks for them."""

OnBatch = Callable[[list[str], Predictions], None]


@dataclass(frozen=True)
class Labelled:
    """Says what became of the images: rows in the table, how many of them an earlier call had made, and why others
    could not be read."""

    images: int
    found: int
    problems: dict[str, str]
    seconds: float


def label_files(
    classifier: Classifier,
    images: Sequence[str],
    table: LabelTable,
    *,
    unreadable: Mapping[str, str] | None = None,
    on_batch: OnBatch | None = None,
    console: Console | None = None,
    finish: bool = True,
) -> Labelled:
    """Fill and `finish` `table` with the labels of these image files, in their order.

    Batches of which the table has every image already are not opened; those of which it has some are computed whole
    again, so that an interruption changes no bit. One that cannot be read, or that the network cannot take, ends
    nothing: it is in `problems`, and its row says why (see `LabelTable.finish`). `unreadable` are problems met before,
    such as folders. `on_batch` is shown the images of each batch and what was predicted before they are kept.
    """
    started = time.perf_counter()
    size = classifier.batch_size
    batches = (images[start : start + size] for start in range(0, len(images), size))
    waiting = [image for batch in batches if not all(image in table for image in batch) for image in batch]
    found = sum(image in table for image in images)
    problems: dict[str, str] = {}
    with _progress_bar(console) as bar:
        task = bar.add_task("", total=len(images), completed=len(images) - len(waiting), broken="")
        for names, tensors, broken in decoded(classifier, waiting):
            problems |= broken
            for part, predictions in _predicted(classifier, names, tensors, problems):
                if on_batch is not None:
                    on_batch(part, predictions)
                table.add(part, predictions)
            shown = f"{len(problems)} cannot be read" if problems else ""
            bar.update(task, advance=len(names) + len(broken), broken=shown)
    rows = len(table)
    if finish:
        table.finish(images, problems=problems)
    problems |= unreadable or {}
    return Labelled(rows, found, problems, time.perf_counter() - started)


def _predicted(
    classifier: Classifier, names: list[str], tensors: list[Tensor], problems: dict[str, str]
) -> Iterator[tuple[list[str], Predictions]]:
    """Predict a batch in one, or image by image where there is one among them that it cannot take."""
    try:
        if names:
            yield names, classifier.predict_prepared(tensors)
    except ImageError as error:
        if len(names) == 1:
            problems[names[0]] = str(error)
            return
        for name, tensor in zip(names, tensors, strict=True):
            yield from _predicted(classifier, [name], [tensor], problems)


Decoded = tuple[list[str], list[Tensor], dict[str, str]]


def decoded(classifier: Classifier, images: Sequence[str]) -> Iterator[Decoded]:
    """Give batches of readable images as the network takes them, and the unreadable ones met on the way."""
    size = classifier.batch_size
    with ThreadPoolExecutor(available_cores()) as pool:  # threads: decoding releases the interpreter
        pending: deque[list[tuple[str, Future[Tensor]]]] = deque()
        starts = iter(range(0, len(images), size))
        try:
            while True:
                while len(pending) <= AHEAD and (start := next(starts, None)) is not None:
                    batch = images[start : start + size]
                    pending.append([(name, pool.submit(classifier.prepare, name)) for name in batch])
                if not pending:
                    return
                yield _gather(pending.popleft())
        finally:
            pool.shutdown(wait=False, cancel_futures=True)


def _gather(batch: list[tuple[str, Future[Tensor]]]) -> Decoded:
    names, tensors, problems = [], [], {}
    for name, future in batch:
        try:
            name.encode()
            tensors.append(future.result())
            names.append(name)
        except UnicodeEncodeError:
            problems[name] = "the file's name is not UTF-8; rename it"
        except ImageError as error:
            problems[name] = str(error).removeprefix(f"{Path(name)}: ")
        # whatever a size that nobody thought of does to the transform: one image of many
        except Exception as error:
            problems[name] = f"cannot be prepared ({type(error).__name__}: {error})"
    return names, tensors, problems


def _progress_bar(console: Console | None) -> Progress:
    """Build a bar that is shown on a terminal only."""
    columns = (
        TextColumn("labelling"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("{task.fields[broken]}"),
        TimeRemainingColumn(),
    )
    shown = console is not None and console.is_terminal
    return Progress(*columns, console=console, disable=not shown, transient=True)


def fingerprint(classifier: Classifier) -> dict[str, Any]:
    """Return what every row depends on beside its image, as plain data."""
    decision = classifier.decision
    return {
        "label_names": list(classifier.label_names),
        "transform": dict(classifier.parts.transform),
        "network": weights_hash(classifier.network),
        "decision": [type(decision).__name__, decision.options(), weights_hash(decision)],
        **({"constraints": decision.constraints.plain()} if decision.constraints else {}),
    }


def write_problems(table: Path, problems: dict[str, str]) -> Path:
    """List the images that could not be read and why beside the table, as CSV; returns the list's path."""
    path = table.with_name(table.name + ".problems.csv")
    with atomic_write(path) as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(["image", "problem"])
        writer.writerows([printable(name), why] for name, why in problems.items())
    return path
