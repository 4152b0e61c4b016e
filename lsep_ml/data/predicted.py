"""Tables of label sets that `predict` and `apply` wrote, once a person has corrected them: what their columns are."""

import json
from collections.abc import Sequence

PER_LABEL = ("score_", "threshold_", "probability_", "predicted_")
"""How the names of columns begin that each label has."""

OTHERS = frozenset(("margin", "count", "problem", "image_id", "scores", "thresholds", "probabilities"))
"""Further columns, which say nothing of the labels."""


def label_names_of(columns: Sequence[str], scores: str | None = None) -> tuple[str, ...]:
    """Return the labels that a predicted table's columns name, in their order; () where it is no such table.

    columns: its header. scores: what a row of the column `scores` holds, an object of names and numbers, as in JSONL.
    """
    if not {"image", "labels"} <= set(columns):
        return ()
    found = tuple(name.removeprefix("score_") for name in columns if name.startswith("score_"))
    if found or scores is None:
        return found
    try:
        value = json.loads(scores)
    except ValueError:
        return ()
    return tuple(value) if isinstance(value, dict) else ()


def beside_labels(column: str) -> bool:
    """Return whether a column of a predicted table holds what the labels were decided from."""
    return column in OTHERS or column.startswith(PER_LABEL)
