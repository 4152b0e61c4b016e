"""How the frozen backbone is run in extraction, and what is kept of what it gives."""

from dataclasses import dataclass

import torch
from omegaconf import DictConfig

SMALL_BATCH = 16
"""Images; what a core computes fastest, and in the least memory (docs/backbones.md)."""


@dataclass(frozen=True)
class Running:
    """Says how the frozen backbone is run and what is kept.

    batch_size: of the fixed batches. channels_last: the memory layout. precision: what the backbone computes in.
    store: what its features are kept in.

    Raises:
        ValueError: another precision or type.
    """

    batch_size: int
    channels_last: bool = False
    precision: str = "float32"
    store: str = "float32"

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

    @property
    def options(self) -> dict[str, str]:
        """Return what of it changes more than last bits, where it is not the default."""
        chosen = {"computed_in": self.precision, "stored_in": self.store}
        return {key: value for key, value in chosen.items() if value != "float32"}
