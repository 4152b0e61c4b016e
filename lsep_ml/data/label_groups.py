"""What a data set says of its labels together: groups of which an image has one, and labels that imply others."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lsep_ml.data.errors import DataError

RULES = ("one_of", "at_most_one", "threshold")


@dataclass(frozen=True)
class LabelGroups:
    """Labels by their places. one_of, at_most_one: groups of which an image has exactly, or at most, one.
    implied: (label, parent), an image with the one has the other."""

    one_of: tuple[tuple[int, ...], ...] = ()
    at_most_one: tuple[tuple[int, ...], ...] = ()
    implied: tuple[tuple[int, int], ...] = ()


def read_label_groups(path: Path, label_names: Sequence[str]) -> LabelGroups:
    """Read groups of labels from a JSON file, with these keys or one of them:

        {"groups": {"weather": {"rule": "one_of", "labels": ["sun", "rain"]}, ...}, "implies": {"dog": ["animal"]}}

    Rules are one_of, at_most_one, and threshold for groups that the decision decides as it does all other labels.

    Raises:
        DataError: the file cannot be read or is of another form; an unknown rule or label; a label in two groups.
    """
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise DataError(f"data.groups_of_labels={path}: {error}") from error
    if not isinstance(content, dict) or not content or set(content) - {"groups", "implies"}:
        raise DataError(f"data.groups_of_labels={path}: expected an object with the keys groups, implies")
    places = {name: place for place, name in enumerate(label_names)}

    def numbers(where: str, names: Any) -> tuple[int, ...]:
        if not isinstance(names, list) or not names:
            raise DataError(
                f"data.groups_of_labels={path}: {where}: expected a list of labels, not {names!r:.60}"
            )
        for name in names:
            if name not in places:
                raise DataError(f"data.groups_of_labels={path}: {where}: {name!r} is none of the labels")
        return tuple(places[name] for name in names)

    of_rule: dict[str, list[tuple[int, ...]]] = {rule: [] for rule in RULES}
    seen: dict[int, str] = {}
    for group, entry in _object(path, "groups", content).items():
        if not isinstance(entry, dict) or entry.get("rule") not in RULES or set(entry) != {"rule", "labels"}:
            raise DataError(
                f"data.groups_of_labels={path}: group {group!r}: expected a rule ({', '.join(RULES)}) and labels"
            )
        labels = numbers(f"group {group!r}", entry["labels"])
        for label in labels:
            if label in seen:
                raise DataError(
                    f"data.groups_of_labels={path}: {label_names[label]!r} is in {seen[label]!r} and in {group!r}; a "
                    "label is in one group, once"
                )
            seen[label] = group
        of_rule[entry["rule"]].append(labels)
    implied = [
        (numbers("implies", [label])[0], parent)
        for label, parents in _object(path, "implies", content).items()
        for parent in numbers(f"what {label!r} implies", parents)
    ]
    return LabelGroups(tuple(of_rule["one_of"]), tuple(of_rule["at_most_one"]), tuple(implied))


def _object(path: Path, key: str, content: dict[str, Any]) -> dict[str, Any]:
    value = content.get(key, {})
    if not isinstance(value, dict):
        raise DataError(f"data.groups_of_labels={path}: {key}: expected an object, not {value!r:.60}")
    return value
