"""Decisions as files: JSON for rules; JSON and, beside it, safetensors for learnt decisions."""

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from safetensors.torch import load as load_tensors
from safetensors.torch import save as tensor_bytes
from torch import Tensor

from lsep_ml.files import atomic_write, reading, write_json

FORMAT, WITH_CONSTRAINTS, WITH_ABSTENTION = FORMATS = 1, 2, 3
"""Of decisions without constraints, of those that an earlier version would decide by without them, and of those that
would answer for every image."""


def write_saved(path: Path, record: dict[str, Any], state: Mapping[str, Tensor], *, beside: bool) -> None:
    """Write plain data and the tensors of a decision to `path`, with `beside` the tensors to a file of their own.

    That has the suffix .safetensors. Each file appears whole or not at all.
    """
    record = {"format": FORMAT, **record}
    tensors = {name: tensor.detach().cpu().contiguous() for name, tensor in state.items()}
    if beside:
        weights = tensor_bytes(tensors)
        record["weights"] = {
            "file": path.with_suffix(".safetensors").name,
            "sha256": hashlib.sha256(weights).hexdigest(),
        }
        with atomic_write(path.with_suffix(".safetensors"), "wb") as file:
            file.write(weights)
    else:
        record["state"] = {name: tensor.tolist() for name, tensor in tensors.items()}
    write_json(path, record)


def read_saved(path: Path) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return the plain data that `write_saved` wrote, and the tensors by name; as nested lists where they stood in the
    JSON.

    Raises FileNotFoundError when a file is missing and ValueError when it is not a saved decision, of another
    format version, or when the weights are not the ones it was saved with.
    """
    with reading(path, "a saved decision"):
        record = json.loads(path.read_text(encoding="utf-8"))
        missing = [key for key in ("format", "decision", "options") if key not in record]
        if missing or not {"state", "weights"} & record.keys():
            raise ValueError(f"it has no {', '.join(missing or ['state or weights'])}")
        if not isinstance(record["decision"], str):
            raise ValueError(f"decision = {record['decision']!r:.40}, no name")
        version = record["format"]
    if version not in FORMATS:
        raise ValueError(
            f"{path}: format {version}, this version reads formats {', '.join(map(str, FORMATS))}"
        )
    if "weights" in record:
        weights = record["weights"]
        with reading(path, "a saved decision"):
            if Path(weights["file"]).name != weights["file"] or not isinstance(weights["sha256"], str):
                raise ValueError(f"weights = {weights!r:.80}, no file beside it and its sha256")
        content = _read_weights(path, weights)
        with reading(path.with_name(weights["file"]), "a safetensors file"):
            return record, load_tensors(content)
    return record, record["state"]


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
