"""Saved decisions, found again by the name of their class."""

import inspect
from pathlib import Path

import torch

from lsep_ml.decisions.base import Decision
from lsep_ml.decisions.catalogue import DECISIONS
from lsep_ml.decisions.saved import read_saved


def save(decision: Decision, path: str | Path) -> None:
    """Write a fitted decision, see `Decision.save`."""
    decision.save(path)


def load(path: str | Path) -> Decision:
    """The decision that `save` wrote.

    Raises FileNotFoundError when a file is missing and ValueError when it is not a saved decision, of another
    format version, of an unknown kind, or when the weights are not the ones it was saved with.
    """
    path = Path(path)
    record, state = read_saved(path)
    kinds = {kind.__name__: kind for kind in (row.load() for row in DECISIONS)}
    kinds |= _subclasses(Decision)  # type: ignore[type-abstract]
    name = record["decision"]
    if name not in kinds:
        raise ValueError(f"{path}: unknown decision {name!r}; known are {', '.join(sorted(kinds))}")
    decision = kinds[name](**record["options"])
    blank = decision.state_dict()
    decision.load_state_dict(
        {key: torch.as_tensor(value, dtype=blank[key].dtype) for key, value in state.items()}
    )
    decision.label_names = record.get("label_names")
    return decision.eval()


def _subclasses(base: type[Decision]) -> dict[str, type[Decision]]:
    """Every decision class by name, those of other packages too, the abstract bases left out."""
    found: dict[str, type[Decision]] = {}
    for kind in base.__subclasses__():
        found |= _subclasses(kind)
        if not inspect.isabstract(kind):
            found[kind.__name__] = kind
    return found
