"""Weights from files: what a file holds, and whether it is this network's."""

from pathlib import Path

from timm.models import load_state_dict
from torch import Tensor, nn


def load_weights(model: nn.Module, file: Path) -> None:
    """Load a state dict (or a checkpoint holding one under `state_dict`); what the file has beyond it is ignored.

    Raises:
        FileNotFoundError: no such file.
        ValueError: not a file of tensors, or tensors of another network.
    """
    if not file.is_file():
        raise FileNotFoundError(f"model.weights={file}: no such file")
    try:
        state = load_state_dict(str(file), weights_only=True)
    except (
        Exception
    ) as error:  # torch and safetensors raise a dozen kinds, all meaning the same to the reader
        raise ValueError(f"model.weights={file}: not a readable file of tensors ({error})") from error
    own: dict[str, Tensor] = model.state_dict()
    missing = [name for name in own if name not in state or state[name].shape != own[name].shape]
    if missing:
        raise ValueError(
            f"model.weights={file}: the weights of another network; {len(missing)} of {len(own)} tensors missing or of "
            f"another shape, the first {missing[0]!r}"
        )
    model.load_state_dict({name: state[name] for name in own})
