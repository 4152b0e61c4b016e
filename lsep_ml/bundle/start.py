"""A trained classifier as the starting point of another training, also for other labels."""

import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from lsep_ml.bundle.files import read_parts
from lsep_ml.bundle.parts import Parts
from lsep_ml.models import Network, take_score_rows

log = logging.getLogger(__name__)


def starting_point(weights: Any) -> Parts | None:
    """Read the classifier that `weights` names: a folder is a bundle or a run; a file, a word or nothing is none.

    Raises:
        FileNotFoundError, ValueError: a folder that is neither, or damaged.
    """
    if not isinstance(weights, str) or not Path(weights).is_dir():
        return None
    return read_parts(weights)


def start_from(network: Network, label_names: Sequence[str], parts: Parts) -> list[str]:
    """Load the backbone of a classifier, and the score rows of the labels that both have by name.

    The other rows stay as they are. Returns the labels whose rows were taken over.

    Raises:
        ValueError: a backbone of another make or size.
    """
    found = {
        name.removeprefix("backbone."): tensor
        for name, tensor in parts.state.items()
        if name.startswith("backbone.")
    }
    own = network.backbone.state_dict()
    if _shapes(own) != _shapes(found):
        raise ValueError(
            f"model.weights={parts.source}: holds another backbone, {parts.model['backbone']} with "
            f"{dict(parts.model['options'])}; give model=... the same options"
        )
    network.backbone.load_state_dict(found)
    rows = [parts.state.get(f"score_layer.{name}") for name in ("weight", "bias")]
    kept: list[str] = []
    if isinstance(network.score_layer, nn.Linear) and rows[0] is not None and rows[1] is not None:
        kept = take_score_rows(network.score_layer, label_names, parts.label_names, rows[0], rows[1])
    new = [name for name in label_names if name not in kept]
    log.info(
        "Starting from %s: its backbone, and the score rows of %d labels; %d labels are new%s",
        parts.source,
        len(kept),
        len(new),
        f": {', '.join(new)}" if new else "",
    )
    return kept


def _shapes(state: dict[str, Tensor]) -> dict[str, torch.Size]:
    return {name: tensor.shape for name, tensor in state.items()}


def preprocessing_of_start(parts: Parts) -> dict[str, Any]:
    """Say in the transform's words what `parts` were trained with; without `crop` where images kept their size."""
    transform = parts.build_transform()
    own = transform.settings
    names = ("mean", "std", "interpolation", "antialias", "crop_pct")
    found = {name: own[name] for name in names}
    if not transform.fixed_size:
        return found
    if transform.geometry is None and own["crop"] and own["resize"]:
        found["crop_pct"] = own["crop"][0] / own["resize"][0]
    return found | {"crop": own["crop"] or own["resize"]}
