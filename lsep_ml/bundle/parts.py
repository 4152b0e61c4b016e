"""All that a trained classifier is made of, wherever it was read from."""

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import Tensor

from lsep_ml.bundle.backbones import build_backbone
from lsep_ml.data import Transform
from lsep_ml.decisions import Decision
from lsep_ml.models import Network

TRANSFORM_KEYS = (
    *("resize", "crop", "channels", "mean", "std"),
    *("geometry", "crop_pct", "interpolation", "antialias"),  # which a bundle of format 1 has not
    *("test_flip", "decode"),
)


@dataclass(frozen=True)
class Parts:
    """Holds a classifier in pieces.

    label_names: K distinct names, in the order of the score layer's rows.
    model: the backbone, see `describe_backbone`. transform: evaluation's, by `TRANSFORM_KEYS`; a key that
    is not there has the default of `Transform`.
    state: the network's tensors (`backbone.*`, `score_layer.*`). decision: fitted for the K labels.
    measured: the protocol it was trained by and the metrics it reached: data, loss, decision, seed, split_hash,
    identity, choices, counts, metrics, intervals, config. versions: of the packages that made it.
    source: where it was read.

    Raises:
        ValueError: the pieces do not belong together.
    """

    label_names: tuple[str, ...]
    model: Mapping[str, Any]
    transform: Mapping[str, Any]
    state: Mapping[str, Tensor]
    decision: Decision
    measured: Mapping[str, Any]
    versions: Mapping[str, str]
    source: Path

    def __post_init__(self) -> None:
        names = self.label_names
        if len(set(names)) < len(names):
            raise ValueError(f"{self.source}: a label is named twice")
        rows = [
            self.state.get(f"score_layer.{name}") for name in ("weight", "decoder.duplicate_pooling_bias")
        ]
        layer = next((len(tensor) for tensor in rows if tensor is not None), None)
        if layer is None:
            raise ValueError(f"{self.source}: the network has no score layer")
        for what, size in (("score layer", layer), ("decision", int(self.decision.num_labels))):
            if size != len(names):
                raise ValueError(f"{self.source}: {len(names)} label names, but the {what} has {size} labels")
        known = self.decision.label_names
        if known is not None and tuple(known) != names:
            raise ValueError(f"{self.source}: the decision was fitted for other labels, or in another order")

    def build_transform(self) -> Transform:
        """Build what leads from an image of any size to what the network takes; nothing in it is random."""
        return Transform(**{key: self.transform[key] for key in TRANSFORM_KEYS if key in self.transform})

    def build_network(self, allow: Collection[str] = ()) -> Network:
        """Build the trained network, in evaluation mode, on the CPU.

        Raises:
            ValueError: a backbone that is not allowed (`build_backbone`), or tensors that do not fit it.
        """
        mean, std = self.transform["mean"], self.transform["std"]
        backbone, flip = build_backbone(self.model, allow), self.transform.get("test_flip", False)
        network = Network(backbone, len(self.label_names), mean, std, flip)
        try:
            network.load_state_dict(dict(self.state))
        except RuntimeError as error:
            raise ValueError(
                f"{self.source}: the weights do not fit {self.model['backbone']}: {error}"
            ) from error
        return network.eval().requires_grad_(False)
