"""Decisions as files: JSON for rules; JSON and, beside it, safetensors for learnt decisions."""

import hashlib
import inspect
import json
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load as load_tensors
from safetensors.torch import save as tensor_bytes

from lsep_ml.decisions.base import Decision
from lsep_ml.decisions.learnt import LearntDecision
from lsep_ml.files import atomic_write, write_json

FORMAT = 1


def save(decision: Decision, path: str | Path) -> None:
    """Write a fitted decision to `path` as JSON, learnt weights beside it with the suffix .safetensors.

    Loading gives a decision with identical predictions. Each file appears whole or not at all.
    """
    path = Path(path)
    record: dict[str, Any] = {
        "format": FORMAT,
        "decision": type(decision).__name__,
        "options": decision.options(),
    }
    if decision.label_names is not None:
        record["label_names"] = list(decision.label_names)
    state = {name: tensor.detach().cpu().contiguous() for name, tensor in decision.state_dict().items()}
    if isinstance(decision, LearntDecision):
        weights = tensor_bytes(state)
        record["weights"] = {
            "file": path.with_suffix(".safetensors").name,
            "sha256": hashlib.sha256(weights).hexdigest(),
        }
        with atomic_write(path.with_suffix(".safetensors"), "wb") as file:
            file.write(weights)
    else:
        record["state"] = {name: tensor.tolist() for name, tensor in state.items()}
    write_json(path, record)


def load(path: str | Path) -> Decision:
    """The decision that `save` wrote.

    Raises FileNotFoundError when a file is missing and ValueError when it is not a saved decision, of another
    format version, of an unknown kind, or when the weights are not the ones it was saved with.
    """
    path = Path(path)
    try:
        record = json.loads(path.read_text(encoding="utf-8"))
        version, name, options = record["format"], record["decision"], record["options"]
    except (ValueError, KeyError, TypeError) as error:
        raise ValueError(f"{path}: not a saved decision ({error!r})") from error
    if version != FORMAT:
        raise ValueError(f"{path}: format {version}, this version reads format {FORMAT}")
    kinds = _kinds(Decision)  # type: ignore[type-abstract]
    if name not in kinds:
        raise ValueError(f"{path}: unknown decision {name!r}; known are {', '.join(sorted(kinds))}")
    decision = kinds[name](**options)
    if "weights" in record:
        state = load_tensors(_read_weights(path, record["weights"]))
    else:
        blank = decision.state_dict()
        state = {key: torch.tensor(value, dtype=blank[key].dtype) for key, value in record["state"].items()}
    decision.load_state_dict(state)
    decision.label_names = record.get("label_names")
    return decision.eval()


def _read_weights(path: Path, weights: dict[str, str]) -> bytes:
    file = path.with_name(weights["file"])
    if not file.is_file():
        raise FileNotFoundError(
            f"{file}: missing; {path.name} was saved with its weights beside it, move both"
        )
    content = file.read_bytes()
    if hashlib.sha256(content).hexdigest() != weights["sha256"]:
        raise ValueError(f"{file}: not the weights that {path.name} was saved with")
    return content


def _kinds(base: type[Decision]) -> dict[str, type[Decision]]:
    """Every decision class by name, the abstract bases left out."""
    found: dict[str, type[Decision]] = {}
    for kind in base.__subclasses__():
        found |= _kinds(kind)
        if not inspect.isabstract(kind):
            found[kind.__name__] = kind
    return found
