"""The processes that work on one job: which of them is first, and how they exchange values."""

import itertools
import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import timedelta
from functools import cache
from typing import Any, TypeVar

import torch
from lightning_fabric.plugins.environments import SLURMEnvironment, TorchElasticEnvironment
from pytorch_lightning import Trainer
from pytorch_lightning.strategies import DDPStrategy
from pytorch_lightning.utilities.exceptions import MisconfigurationException
from torch import distributed

T = TypeVar("T")

_PATIENCE = timedelta(days=30)
"""How long a process waits for another: the first may itself wait for another job that holds a lock of the store."""


@dataclass(frozen=True)
class Processes:
    """Stands for the `count` processes of a job, of which this one has number `rank`; the first (0) writes and logs.

    Values are exchanged over CPU connections, whatever the devices are. All processes must make the same calls in the
    same order; when one of them dies, the next call of the others fails.
    """

    rank: int = 0
    count: int = 1

    @property
    def first(self) -> bool:
        """Return whether this process has rank 0: the one that writes files and logs to the terminal."""
        return self.rank == 0

    def share(self, value: T) -> T:
        """Return the first process's `value`, on all processes."""
        if self.count == 1:
            return value
        box = [value]
        distributed.broadcast_object_list(box, src=0, group=_object_group())
        return box[0]

    def collect(self, value: T) -> list[T]:
        """Return every process's `value`, in the order of the ranks, on the first process; [] on the others."""
        if self.count == 1:
            return [value]
        values: list[Any] = [None] * self.count
        distributed.gather_object(value, values if self.first else None, dst=0, group=_object_group())
        return values if self.first else []

    def share_out(self, works: Sequence[Callable[[], T]]) -> Iterator[T]:
        """Return what each of `works` returns, in their order, each done by one process; nothing on all but the first.

        The first, which often has something else to do before, does the fewest.
        """
        if self.count == 1:
            return (work() for work in works)
        done = self.collect([work() for work in works[self.count - 1 - self.rank :: self.count]])[::-1]
        return (done[number % self.count][number // self.count] for number in range(len(works) * self.first))

    def broadcast(self, values: torch.Tensor, source: int) -> torch.Tensor:
        """Return the `values` of the process of rank `source`, on all; all give a tensor of the same shape and type."""
        if self.count == 1:
            return values
        if self.rank == source:
            on_cpu = values.detach().contiguous().cpu()
        else:
            on_cpu = torch.empty(values.shape, dtype=values.dtype, device="cpu")
        distributed.broadcast(on_cpu, src=source, group=_object_group())
        return on_cpu.to(values.device)

    def disconnect(self) -> None:
        """End the exchange of values: from here on this process waits for no other, and no other for it."""
        if self.count > 1:
            distributed.destroy_process_group()

    def gather(self, value: T) -> list[T]:
        """Return every process's `value`, in the order of the ranks, on all processes."""
        if self.count == 1:
            return [value]
        values: list[Any] = [None] * self.count
        distributed.all_gather_object(values, value, group=_object_group())
        return values


ALONE = Processes()

_jobs_joined = itertools.count()


@cache
def _object_group() -> Any:
    return distributed.new_group(backend="gloo", timeout=_PATIENCE)


def started_by_launcher() -> bool:
    """Say whether this process is one of several that a launcher started: ours, torchrun, or SLURM's srun."""
    if TorchElasticEnvironment.detect() or "LOCAL_RANK" in os.environ:
        return True
    return SLURMEnvironment.detect() and SLURMEnvironment().world_size() > 1


def own_rank() -> int:
    """Return this process's rank as the launcher's environment has it, before any connection; 0 without a launcher."""
    return int(os.environ.get("RANK") or (os.environ["SLURM_PROCID"] if started_by_launcher() else 0))


def look_at(trainer: Callable[..., Trainer], **options: Any) -> Trainer:
    """Build a Trainer that is not to train, to see what its options mean on this machine.

    Raises:
        ValueError: it has not what they ask for, such as a GPU.
    """
    quiet: dict[str, Any] = {"logger": False, "enable_progress_bar": False, "enable_checkpointing": False}
    try:
        return trainer(**quiet, **options)
    except MisconfigurationException as error:
        asked = getattr(trainer, "keywords", {})
        given = ", ".join(f"trainer.{key}={asked[key]}" for key in ("accelerator", "devices") if key in asked)
        reason = str(error).strip().partition("\n")[0]
        raise ValueError(
            f"{given}: {reason}; trainer=auto takes what there is, trainer=cpu the CPU"
        ) from error


def join_processes(
    trainer: Callable[..., Trainer], *, unused: bool = False
) -> tuple[Callable[..., Trainer], Processes, torch.device]:
    """Connect this process with the others of its job, where a launcher has started several.

    Args:
        trainer: options -> Trainer, as the configuration has it.
        unused: whether there are steps in which some parameters have no gradient.

    Returns:
        A `trainer` that trains with the other processes; the processes; this process's device.

    Raises:
        ValueError: the launcher started another number of processes than the trainer is set to, or this is the second
            job of processes that it started for one.
    """
    strategy = look_at(trainer).strategy
    started = int(os.environ.get("WORLD_SIZE") or os.environ["SLURM_NTASKS"]) if started_by_launcher() else 1
    if not isinstance(strategy, DDPStrategy) or not started_by_launcher():
        if started > 1:
            raise ValueError(
                f"{started} processes were started, but the trainer is set to one; give trainer=ddp, trainer.devices="
                "processes on each machine and trainer.num_nodes=machines"
            )
        return trainer, ALONE, strategy.root_device

    if next(_jobs_joined):
        raise ValueError(
            "torchrun and srun start the processes of one job; start a sweep without them (each job starts its own), "
            "or one job a call, or with hydra/launcher=submitit_slurm"
        )

    def distributed_trainer(**options: Any) -> Trainer:
        # Buffers are not sent at every forward pass: processes validate different numbers of batches.
        strategy = DDPStrategy(broadcast_buffers=False, find_unused_parameters=unused)
        # Lightning's synced batch norm needs GPUs: models/batch_norm.py does it.
        return trainer(strategy=strategy, **(options | {"sync_batchnorm": False}))

    # As many threads as one process has: float results depend on them. Lightning would divide the cores.
    os.environ.setdefault("OMP_NUM_THREADS", str(torch.get_num_threads()))
    strategy = look_at(distributed_trainer).strategy
    assert isinstance(strategy, DDPStrategy)
    assert strategy.cluster_environment is not None
    strategy.cluster_environment.validate_settings(strategy.num_processes, strategy.num_nodes)
    strategy.setup_environment()
    return distributed_trainer, Processes(strategy.global_rank, strategy.world_size), strategy.root_device
