"""Work that several processes of this machine do together, for the benchmarks of what they share."""

import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, distributed

Work = Callable[..., dict[str, Any]]
"""(rank, number of processes, further arguments) -> what is found; a function of a module."""


def world(work: Work, count: int, *arguments: Any) -> dict[str, Tensor]:
    """Work in `count` processes of a thread each, and read what the first found."""
    with tempfile.TemporaryDirectory() as folder:
        torch.multiprocessing.spawn(_in_world, (work, count, Path(folder), arguments), nprocs=count)
        found: dict[str, Tensor] = torch.load(Path(folder) / "found.pt", weights_only=True)
        return found


def _in_world(rank: int, work: Work, count: int, folder: Path, arguments: tuple[Any, ...]) -> None:
    torch.set_num_threads(1)
    if count > 1:
        distributed.init_process_group("gloo", f"file://{folder}/met", rank=rank, world_size=count)
    found = work(rank, count, *arguments)
    if rank == 0:
        torch.save(found, folder / "found.pt")
    if count > 1:
        distributed.barrier()
        distributed.destroy_process_group()
