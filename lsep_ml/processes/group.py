"""The processes that work on one job together: who is first, and what they tell each other."""

import itertools
import os
from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta
from functools import cache
from typing import Any, TypeVar

import torch
from lightning_fabric.plugins.environments import SLURMEnvironment, TorchElasticEnvironment
from pytorch_lightning import Trainer
from pytorch_lightning.strategies import DDPStrategy
from torch import distributed

T = TypeVar("T")

_PATIENCE = timedelta(days=30)
"""Others wait as long as the first process does, which may stand behind another job at a lock of the store."""


@dataclass(frozen=True)
class Processes:
    """`count` processes of which this is number `rank`; the first (rank 0) writes, and speaks to people.

    Objects travel over connections of the CPU, whatever the devices are. All processes must make the same calls in the
    same order; when one dies, the others' next call fails.
    """

    rank: int = 0
    count: int = 1

    @property
    def first(self) -> bool:
        """Whether this is the one that writes."""
        return self.rank == 0

    def share(self, value: T) -> T:
        """The first process's `value`, on all of them."""
        if self.count == 1:
            return value
        box = [value]
        distributed.broadcast_object_list(box, src=0, group=_object_group())
        return box[0]

    def collect(self, value: T) -> list[T]:
        """Every process's `value`, in the order of their ranks, on the first; nothing on the others."""
        if self.count == 1:
            return [value]
        values: list[Any] = [None] * self.count
        distributed.gather_object(value, values if self.first else None, dst=0, group=_object_group())
        return values if self.first else []

    def part(self) -> None:
        """The end of the common work: from here on each is alone, and nothing waits for the others."""
        if self.count > 1:
            distributed.destroy_process_group()

    def gather(self, value: T) -> list[T]:
        """Every process's `value`, in the order of their ranks, on all of them."""
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
    """Whether this process is one of several that a launcher started: ours, torchrun, or SLURM's srun."""
    if TorchElasticEnvironment.detect() or "LOCAL_RANK" in os.environ:
        return True
    return SLURMEnvironment.detect() and SLURMEnvironment().world_size() > 1


def own_rank() -> int:
    """This process's number as the launcher's environment has it, before any connection; 0 where there is none."""
    return int(os.environ.get("RANK") or (os.environ["SLURM_PROCID"] if started_by_launcher() else 0))


def join(
    trainer: Callable[..., Trainer], *, unused: bool = False
) -> tuple[Callable[..., Trainer], Processes, torch.device]:
    """Connect with the other processes of this job, if a launcher has started several.

    unused: whether there are steps in which some parameters have no gradient.

    Returns:
        The trainer for this process, its part in the job, and its device.

    Raises:
        ValueError: the launcher started another number of processes than the trainer is set to, or this is the second
            job of processes that it started for one.
    """
    quiet: dict[str, Any] = {"logger": False, "enable_progress_bar": False, "enable_checkpointing": False}
    strategy = trainer(**quiet).strategy
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
    strategy = distributed_trainer(**quiet).strategy
    assert isinstance(strategy, DDPStrategy)
    assert strategy.cluster_environment is not None
    strategy.cluster_environment.validate_settings(strategy.num_processes, strategy.num_nodes)
    strategy.setup_environment()
    return distributed_trainer, Processes(strategy.global_rank, strategy.world_size), strategy.root_device
