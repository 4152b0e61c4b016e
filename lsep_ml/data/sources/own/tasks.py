"""An annotation tool's export: a JSON list of tasks, each with its data and what annotators said of it."""

import dataclasses
from collections import Counter
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from lsep_ml.data.errors import DataError, some
from lsep_ml.data.sources.own.columns import image_column
from lsep_ml.data.sources.own.folder import Folder
from lsep_ml.data.sources.own.frames import from_records
from lsep_ml.data.sources.own.listed import (
    UNKNOWN,
    Candidate,
    Listed,
    Options,
    image_notes,
    label_lists,
)
from lsep_ml.data.tree import beginning, parse_json, read_xml

DEPTH = 2
CANCELLED = "cancelled annotations"
ANNOTATORS = ("union", "majority", "refuse")


def find_tasks(folder: Folder, options: Options) -> list[Candidate]:
    """Return the JSON lists of objects with `data` and `annotations`."""
    files = [
        file
        for file in folder.of_suffix(".json")
        if options.takes(file, file.count("/") < DEPTH) and is_export(folder.root / file)
    ]
    return [
        Candidate("annotation tool's JSON", (file,), partial(_read, folder, file, options)) for file in files
    ]


def is_export(path: Path) -> bool:
    """Return whether the file begins as a list of tasks does."""
    start = beginning(path, 1 << 16)
    kinds = (b'"annotations"', b'"completions"', b'"predictions"', b'"total_annotations"')
    return start.startswith(b"[") and b'"data"' in start and any(kind in start for kind in kinds)


def _read(folder: Folder, file: str, options: Options) -> Listed:
    """Return the tasks' images with the labels that annotators chose or drew; cancelled annotations are left out, a
    task that none of the others is of is unknown, one with an empty result has no label.
    """
    path = folder.root / file
    if options.annotators not in ANNOTATORS:
        raise DataError(f"data.annotators={options.annotators}: {', '.join(ANNOTATORS)}")
    tasks = _tasks(path)
    notes: list[str] = []
    images = _images(path, file, tasks, folder, options, notes)
    control = _control(path, tasks, options)
    names: list[list[str]] = []
    unknown: list[int] = []
    undecided: list[tuple[int, str]] = []
    cancelled = several = 0
    for row, task in enumerate(tasks):
        said = []
        for annotation in task.get("annotations", task.get("completions")) or []:
            if annotation.get("was_cancelled"):
                cancelled += 1
            else:
                said.append(_chosen(annotation, control, f"{path}, task {task.get('id', row + 1)}"))
        if not said:
            unknown.append(row)
        several += len(said) > 1
        if len(said) > 1 and options.annotators == "refuse" and any(set(one) != set(said[0]) for one in said):
            raise DataError(
                f"{path}, task {task.get('id', row + 1)}: annotators differ: {' and '.join(map(str, said))}; set "
                "data.annotators=union or majority, or settle it"
            )
        votes = Counter(name for one in said for name in dict.fromkeys(one))
        majority = options.annotators == "majority"
        names.append([name for name, count in votes.items() if not majority or 2 * count > len(said)])
        undecided += [(row, name) for name, count in votes.items() if majority and 2 * count == len(said)]
    if len(unknown) == len(tasks) and any(task.get("predictions") for task in tasks):
        raise DataError(
            f"{path}: predictions without annotations, which are no labels; accept or correct them in the tool, and "
            "export the tasks again"
        )
    if several:
        notes.append(f"{several:,} images have several annotators: data.annotators={options.annotators}")
    if unknown:
        notes.append(f"{len(unknown):,} tasks have no annotation: their labels are unknown")
    listed = label_lists(
        f"annotation tool's JSON ({file})", images, names, unknown=unknown, notes=tuple(notes),
        dropped={CANCELLED: cancelled} if cancelled else {},
        place=lambda row: f"{path}, task {tasks[row].get('id', row + 1)}",
    )  # fmt: skip
    return _with_unknown(listed, undecided)


def with_configured(listed: Listed, folder: Folder, options: Options) -> Listed:
    """Return `listed` with the labels that a labelling configuration beside it offers and no image has.

    A configuration is an XML file with a `View`; one whose choices, or labels of regions, hold all that are listed
    counts, and its order is that of the labels.
    """
    if options.label_names is not None:
        return listed
    for file in folder.of_suffix(".xml"):
        for offered in _offered(folder.root / file):
            new = [name for name in offered if name not in listed.label_names]
            if new and set(listed.label_names).issubset(offered):
                number_of = {name: number for number, name in enumerate(offered)}
                to = np.array([number_of[name] for name in listed.label_names], np.int64)
                note = f"{file} offers {len(new):,} labels that no image has, which are kept: {some(new)}"
                return dataclasses.replace(
                    listed,
                    label_names=offered,
                    labels=to[listed.labels] if len(to) else listed.labels,
                    sorted_names=False,
                    notes=(*listed.notes, note),
                )
    return listed


def _offered(path: Path) -> list[list[str]]:
    """Return what each question of a labelling configuration offers; [] of any other XML file."""
    if b"<View" not in beginning(path):
        return []
    try:
        tree = read_xml(path)
    except DataError:
        return []
    offered = []
    for question in tree.iter():
        if question.tag == "Choices" or question.tag.endswith("Labels"):
            named = (
                one.get("alias") or one.get("value") for one in question if one.tag in ("Choice", "Label")
            )
            offered.append(list(dict.fromkeys(name.strip() for name in named if name)))
    return offered


def _with_unknown(listed: Listed, entries: list[tuple[int, str]]) -> Listed:
    """Return `listed` with the `entries` unknown on which as many annotators say the one as the other."""
    if not entries:
        return listed
    names = list(dict.fromkeys([*listed.label_names, *(name for _, name in entries)]))
    numbers = {name: number for number, name in enumerate(names)}
    return dataclasses.replace(
        listed,
        label_names=names,
        rows=np.append(listed.rows, [row for row, _ in entries]),
        labels=np.append(listed.labels, [numbers[name] for _, name in entries]),
        codes=np.append(listed.codes, np.full(len(entries), UNKNOWN, np.uint8)),
    )


def _tasks(path: Path) -> list[dict[str, Any]]:
    tasks = parse_json(path)
    for number, task in enumerate(tasks, start=1):
        if not isinstance(task, dict) or not isinstance(task.get("data"), dict):
            raise DataError(f"{path}: task {number} has no data; export tasks as JSON")
    return list(tasks)


def _images(
    path: Path, file: str, tasks: list[dict[str, Any]], folder: Folder, options: Options, notes: list[str]
) -> list[str]:
    frame = from_records(
        path, [(f"task {task.get('id', row)}", task["data"]) for row, task in enumerate(tasks, start=1)]
    )
    beside = file.rpartition("/")[0]
    at = image_column(frame, folder, beside, options)
    if at is None:
        raise DataError(
            f"{path}: no data of the tasks name images; there are {some(list(frame.names))}; set data.image=NAME"
        )
    listed = frame.column(at).fill_null("").to_list()
    empty = next((row for row, value in enumerate(listed) if not value.strip()), None)
    if empty is not None:
        raise DataError(f"{frame.place(empty)}: no {frame.names[at]!r} in its data")
    found = folder.find(listed, beside)
    notes += image_notes(found, file)
    return found.images


def _control(path: Path, tasks: list[dict[str, Any]], options: Options) -> str | None:
    """Return the name of the question whose answers are the labels."""
    found = {
        result.get("from_name")
        for task in tasks
        for annotation in task.get("annotations", task.get("completions")) or []
        for result in annotation.get("result") or []
        if _labels_of(result) is not None
    }
    if options.labels is not None:
        if options.labels not in found:
            raise DataError(
                f"data.labels={options.labels}: {path} has no such question; there are {', '.join(map(str, found))}"
            )
        return options.labels
    if len(found) > 1:
        raise DataError(
            f"{path}: several questions have labels: {', '.join(sorted(map(str, found)))}; set "
            "data.labels=NAME to one of them"
        )
    return None


def _chosen(annotation: dict[str, Any], control: str | None, where: str) -> list[str]:
    names: list[str] = []
    for result in annotation.get("result") or []:
        if control is not None and result.get("from_name") != control:
            continue
        for name in _labels_of(result) or []:
            if not isinstance(name, str) or not name.strip():
                raise DataError(f"{where}: {name!r} is not a label")
            names.append(name.strip())
    return names


def _labels_of(result: dict[str, Any]) -> list[Any] | None:
    """Return the choices of an answer, or the labels of a region that was drawn; None for other answers."""
    value = result.get("value")
    if not isinstance(value, dict):
        return None
    if isinstance(value.get("taxonomy"), list):  # paths from the root of a tree of labels
        return ["/".join(map(str, path)) for path in value["taxonomy"]]
    kinds = [kind for kind in value if kind == "choices" or kind.endswith("labels")]
    found = value.get(kinds[0]) if kinds else None
    return [found] if isinstance(found, str) else found if isinstance(found, list) else None
