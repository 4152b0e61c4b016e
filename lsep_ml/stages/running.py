"""How the frozen backbone is run in extraction, and what is kept of what it gives."""

import logging
from dataclasses import dataclass, replace
from typing import Literal

import torch
from omegaconf import DictConfig
from rich.filesize import decimal

from lsep_ml.models import Network

log = logging.getLogger(__name__)

SMALL_BATCH = 16
"""Images; what a core computes fastest, and in the least memory (docs/backbones.md)."""


@dataclass(frozen=True)
class Running:
    """Says how the frozen backbone is run and what is kept.

    batch_size: of the fixed batches. channels_last: the memory layout. precision: what the backbone computes in.
    store: what is kept in. beside: what is kept beside f'(x): "places" that a head reads, "scores" by that head in
    their stead, or nothing, where scores are a linear function of f'(x).

    Raises:
        ValueError: another precision or type.
    """

    batch_size: int
    channels_last: bool = False
    precision: str = "float32"
    store: str = "float32"
    beside: Literal["places", "scores"] | None = None

    def __post_init__(self) -> None:
        if self.precision not in ("float32", "bf16"):
            raise ValueError(f"extraction.precision={self.precision}: float32 or bf16")
        if self.store not in ("float32", "float16"):
            raise ValueError(f"extraction.store={self.store}: float32 or float16")

    @classmethod
    def on(cls, device: torch.device, config: DictConfig, validation_batch: int) -> "Running":
        """Return what a resolved `config.extraction` means on a device; what it leaves open is what is fast there."""
        cpu = device.type == "cpu"
        batch_size, channels_last = config.batch_size, config.channels_last
        if batch_size is None:
            batch_size = min(SMALL_BATCH, validation_batch) if cpu else validation_batch
        return cls(
            batch_size, cpu if channels_last is None else channels_last, config.precision, config.store
        )

    def of_head(self, network: Network, config: DictConfig, images: int) -> "Running":
        """Return what is kept of so many `images` for the head of a `network` by a resolved `config`.

        A probe's head is trained on places, which are kept in float16 where they fit in `extraction.max_gib`, else
        computed in every epoch, which is said. What needs no places any more has the scores, in float32.
        """
        width = network.row_width
        if width == network.num_features:
            return self
        size, limit = 2 * images * width, config.extraction.max_gib * 2**30
        if config.training.probe and size <= limit:
            return replace(self, store="float16", beside="places")
        if config.training.probe:
            log.warning(
                "The places that model.head=%s reads of %d images take %s in float16, more than extraction.max_gib=%s: "
                "the frozen network runs in every epoch",
                *(config.model.head, images, decimal(size), config.extraction.max_gib),
            )
        return replace(self, store="float32", beside="scores")

    def row_width(self, network: Network) -> int:
        """Return the width of what is kept of an image."""
        beside = {None: 0, "places": network.row_width - network.num_features, "scores": network.num_labels}
        return network.num_features + beside[self.beside]
