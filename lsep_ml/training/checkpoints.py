"""Checkpoint files that are whole or absent, carry their checksum, and cannot run code."""

import hashlib
import io
import pickle
import shutil
import struct
from pathlib import Path
from typing import Any

import torch
from lightning_fabric.plugins import CheckpointIO

from lsep_ml.files import atomic_write

_DIGEST = 64  # hex digits of a sha256
_COMMENT_LENGTH = struct.Struct("<H")  # the last field of a zip archive, before its comment

UNREADABLE = (OSError, ValueError, RuntimeError, EOFError, KeyError, pickle.UnpicklingError)
"""What reading a file that is missing, damaged or not a checkpoint raises."""


def write_checkpoint(path: Path, state: dict[str, Any]) -> None:
    """Write `state`, tensors and plain data, as a torch file whose zip comment is the sha256 of all before it.

    Raises:
        OSError: no room, or no such folder; what was at `path` before is still there.
    """
    buffer = io.BytesIO()
    torch.save(state, buffer)
    content = buffer.getbuffer()
    content[-_COMMENT_LENGTH.size :] = _COMMENT_LENGTH.pack(_DIGEST)
    with atomic_write(path, "wb") as file:
        file.write(content)
        file.write(hashlib.sha256(content).hexdigest().encode())


def read_checkpoint(path: Path) -> dict[str, Any]:
    """Read what `write_checkpoint` wrote to `path`, onto the CPU; nothing in the file is run.

    Raises:
        OSError: no such file.
        ValueError: not the bytes that were written.
    """
    content = memoryview(path.read_bytes())
    if hashlib.sha256(content[:-_DIGEST]).hexdigest().encode() != content[-_DIGEST:]:
        raise ValueError(f"{path}: not the content it was written with (its checksum differs)")
    state: dict[str, Any] = torch.load(io.BytesIO(content), map_location="cpu", weights_only=True)
    return state


class CheckedCheckpointIO(CheckpointIO):
    """Has Lightning write and read its checkpoints as these files."""

    def save_checkpoint(self, checkpoint: dict[str, Any], path: Any, storage_options: Any = None) -> None:
        if Path(path).is_dir():  # else it could not be replaced
            shutil.rmtree(path)
        write_checkpoint(Path(path), checkpoint)

    def load_checkpoint(
        self, path: Any, map_location: Any = None, weights_only: bool | None = None
    ) -> dict[str, Any]:
        return read_checkpoint(Path(path))

    def remove_checkpoint(self, path: Any) -> None:
        Path(path).unlink(missing_ok=True)
