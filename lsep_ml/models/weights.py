"""Weights from files: what a file holds, and whether it is this network's."""

import json
import logging
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import torch
from safetensors import safe_open
from torch import Tensor, nn

log = logging.getLogger(__name__)

_NAMED = 5  # tensors in a list of a message


class ScoreRows(NamedTuple):
    """A classifier that came with a backbone's weights: its label names, weight (K, D) and bias (K,) in their order."""

    label_names: tuple[str, ...]
    weight: Tensor
    bias: Tensor


def load_weights(
    model: nn.Module,
    file: Path,
    *,
    strict: bool = True,
    classifiers: Sequence[str] = (),
    label_names: Sequence[str] | None = None,
) -> ScoreRows | None:
    """Load a file's tensors into a network: .safetensors, or a state dict that torch saved, nothing else being read.

    Where they do not fit as they are, they are converted as timm converts what it publishes for the network, which
    interpolates position embeddings, for instance.

    Args:
        model: has to find all of its parameters and buffers in the file.
        file: a state dict, or a checkpoint holding one under `state_dict`.
        strict: whether a file that leaves tensors unfilled, or has tensors that nothing takes, is refused.
        classifiers: names of layers that the file may have and the network has not.
        label_names: of the rows of the first of them; None: the file's own, if it has any (`label_names` in a
            checkpoint, or as JSON in the metadata of .safetensors).

    Returns:
        The classifier, where the file has one with names.

    Raises:
        FileNotFoundError: no such file.
        ValueError: not a file of tensors, or tensors of another network.
    """
    state, names = _read(file)
    rows = _score_rows(state, classifiers, label_names or names)
    kept = {name: tensor for name, tensor in state.items() if not _within(name, classifiers)}
    missing, unused = _misfits(model, kept)
    if missing or unused:
        kept = _converted(model, kept)
        missing, unused = _misfits(model, kept)
    if missing or unused:
        own = model.state_dict()
        what = (
            f"{len(missing)} of {len(own)} tensors of the network are not in it, or of another shape"
            f"{_first(missing)}; {len(unused)} of {len(kept)} tensors of the file have no place{_first(unused)}"
        )
        if strict:
            raise ValueError(
                f"model.weights={file}: the weights of another network: {what}. model.strict=false takes what fits"
            )
        log.warning("model.weights=%s: %s", file, what)
    left_out = {*missing, *unused}
    model.load_state_dict(
        {name: tensor for name, tensor in kept.items() if name not in left_out}, strict=False
    )
    return rows


def _read(file: Path) -> tuple[dict[str, Tensor], Sequence[str] | None]:
    """Return a file's tensors, and its label names if it has any."""
    if not file.is_file():
        raise FileNotFoundError(f"model.weights={file}: no such file")
    try:
        if file.suffix == ".safetensors":
            with safe_open(file, framework="pt") as tensors:
                names = json.loads((tensors.metadata() or {}).get("label_names", "null"))
                return {name: tensors.get_tensor(name) for name in tensors.keys()}, names  # noqa: SIM118
        from timm.models import clean_state_dict  # on first use, as the backbones

        content = torch.load(file, map_location="cpu", weights_only=True)
        keys = ("state_dict_ema", "model_ema", "state_dict", "model")
        state = next((content[key] for key in keys if isinstance(content.get(key), Mapping)), content)
        tensors = {k: v for k, v in clean_state_dict(state).items() if isinstance(v, Tensor)}
        if not tensors:
            raise ValueError("it holds no tensors")
        return tensors, content.get("label_names")
    # torch and safetensors raise a dozen kinds, all meaning the same to the reader
    except Exception as error:
        raise ValueError(f"model.weights={file}: not a readable file of tensors ({error})") from error


def _score_rows(
    state: Mapping[str, Tensor], classifiers: Sequence[str], names: Sequence[str] | None
) -> ScoreRows | None:
    weight = state.get(f"{classifiers[0]}.weight") if classifiers else None
    if weight is None or names is None or weight.ndim != 2 or len(names) != len(weight):
        return None
    bias = state.get(f"{classifiers[0]}.bias", weight.new_zeros(len(weight)))
    return ScoreRows(tuple(map(str, names)), weight.float(), bias.float())


def _within(name: str, layers: Sequence[str]) -> bool:
    return any(name.startswith(f"{layer}.") for layer in layers)


def _misfits(model: nn.Module, state: Mapping[str, Tensor]) -> tuple[list[str], list[str]]:
    """Return the network's tensors that a state does not fill, and the state's that the network has no place for."""
    own: Mapping[str, Tensor] = model.state_dict()
    missing = [
        name
        for name, tensor in own.items()
        if (name not in state or state[name].shape != tensor.shape)
        and not (name not in state and name.endswith("num_batches_tracked"))  # which old files have not
    ]
    return missing, [name for name in state if name not in own]


def _converted(model: nn.Module, state: dict[str, Tensor]) -> dict[str, Tensor]:
    """Return the state as timm's own conversion for the architecture makes it; as it is where there is none for it."""
    convert = getattr(sys.modules[type(model).__module__], "checkpoint_filter_fn", None)
    if convert is None:
        return state
    try:
        converted: dict[str, Tensor] = convert(dict(state), model)
    except Exception:  # made for this architecture's tensors: of others it makes no sense
        return state
    return converted


def _first(names: Sequence[str]) -> str:
    if not names:
        return ""
    more = ", ..." if len(names) > _NAMED else ""
    return f" ({', '.join(names[:_NAMED])}{more})"
