"""Saved decisions, found again by the name of their class."""

import inspect
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from lsep_ml.decisions.abstention import Abstention
from lsep_ml.decisions.base import Decision
from lsep_ml.decisions.catalogue import DECISIONS
from lsep_ml.decisions.constraints import Constraints
from lsep_ml.decisions.saved import read_saved
from lsep_ml.files import reading


def save(decision: Decision, path: str | Path) -> None:
    """Write a fitted decision, see `Decision.save`."""
    decision.save(path)


def load(path: str | Path) -> Decision:
    """Return the decision that `save` wrote.

    Raises FileNotFoundError when a file is missing and ValueError when it is not a saved decision, of another
    format version, of an unknown kind, edited so that nothing can be decided by it, or when the weights are not
    the ones it was saved with.
    """
    path = Path(path)
    record, state = read_saved(path)
    kinds = {kind.__name__: kind for kind in (row.load() for row in DECISIONS)}
    kinds |= _subclasses(Decision)  # type: ignore[type-abstract]
    name = record["decision"]
    if name not in kinds:
        raise ValueError(f"{path}: unknown decision {name!r}; known are {', '.join(sorted(kinds))}")
    with reading(path, f"a saved {name}"):
        decision = kinds[name](**record["options"])
        _fill(decision, state)
        decision.label_names = _label_names(record, int(decision.num_labels))
        decision.constrain(Constraints.of_plain(record.get("constraints", {})))
        if "abstention" in record:
            decision.abstention = Abstention.of_plain(record["abstention"])
        if not decision.needs_features or hasattr(decision, "num_features"):
            _try(decision)
    return decision.eval()


def _fill(decision: Decision, state: Mapping[str, Any]) -> None:
    blank = decision.state_dict()
    if blank.keys() != state.keys():
        odd = ", ".join(sorted(blank.keys() ^ state.keys()))
        raise ValueError(f"its state has {', '.join(state) or 'nothing'}, not {', '.join(blank)}: {odd}")
    tensors = {}
    for key, value in state.items():
        try:
            tensors[key] = torch.as_tensor(value, dtype=blank[key].dtype)
        except (TypeError, ValueError, RuntimeError) as error:
            raise ValueError(f"{key} = {value!r:.40} is no number, nor a list of them") from error
        if torch.isnan(tensors[key]).any():
            raise ValueError(f"{key} holds NaN")
    decision.load_state_dict(tensors)


def _try(decision: Decision) -> None:
    """Decide a blank image, which fails where sizes do not belong together."""
    try:
        decision.decide(*_blank_image(decision))
    except (RuntimeError, IndexError) as error:
        sizes = {key: tuple(value.shape) for key, value in decision.state_dict().items() if value.ndim}
        told = ", ".join(f"{key} {shape}" for key, shape in sizes.items())
        raise ValueError(
            f"sizes that do not belong together: num_labels = {decision.num_labels}, {told}: {error}"
        ) from error


def _label_names(record: Mapping[str, Any], num_labels: int) -> list[str] | None:
    names: Any = record.get("label_names")
    if names is None:
        return None
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        raise ValueError("its label_names are no list of texts")
    if len(names) != num_labels or len(set(names)) < len(names):
        raise ValueError(f"its {len(set(names))} different label_names are for num_labels = {num_labels}")
    return names


def _blank_image(decision: Decision) -> tuple[torch.Tensor, torch.Tensor | None]:
    features = torch.zeros(1, int(getattr(decision, "num_features", 0)))
    return torch.zeros(1, int(decision.num_labels)), features if decision.needs_features else None


def _subclasses(base: type[Decision]) -> dict[str, type[Decision]]:
    """Return every decision class by name, those of other packages too, the abstract bases left out."""
    found: dict[str, type[Decision]] = {}
    for kind in base.__subclasses__():
        found |= _subclasses(kind)
        if not inspect.isabstract(kind):
            found[kind.__name__] = kind
    return found
