"""How the processes of a job are started, as many as its trainer is set to, what memory they keep, how they end."""

import ctypes
import logging
import os
import signal
import sys
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import lru_cache
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

from hydra.core.hydra_config import HydraConfig
from hydra.core.utils import configure_log, setup_globals
from hydra.errors import InstantiationException
from hydra.utils import instantiate
from lightning_fabric.plugins.environments import LightningEnvironment
from omegaconf import DictConfig, OmegaConf

from lsep_ml.processes.group import look_at, own_rank, started_by_launcher

if TYPE_CHECKING:
    from torch.distributed.elastic.multiprocessing.errors import ProcessFailure

_TRIM_THRESHOLD, _MMAP_THRESHOLD = -1, -3  # of glibc's malloc.h
_FREED = 2**30
_LARGEST = 2**25  # the most that glibc allows

_GRACE = 1.0
"""Seconds that a failed process waits before it ends, so that its error is seen before those it causes in others."""


class RankError(Exception):
    """A process of the job failed; `traceback` is that process's, "" where it was killed."""

    def __init__(self, message: str, traceback: str) -> None:
        super().__init__(message)
        self.traceback = traceback


def launch(function: Callable[..., Any], trainer: DictConfig, *arguments: Any) -> Any:
    """Call `function(*arguments)` in this process, or in as many new ones as the configuration `trainer` asks for.

    New processes are started where `trainer` is set to several devices and no launcher has started this process. Each
    imports `function` by its name, calls it and ends; when one fails, the others are ended.

    Returns:
        What `function` returns; of several processes, the first one's value.

    Raises:
        RankError: a process failed; the message names it and what it raised, or the signal that ended it.
        ValueError: `trainer.num_nodes` above 1, which takes a launcher on every machine.
    """
    if started_by_launcher():
        return function(*arguments)
    nodes, devices = _asked_for(OmegaConf.to_yaml(trainer, resolve=True))
    if nodes > 1:
        raise ValueError(
            f"trainer.num_nodes={nodes}: start run.py on every machine with torchrun or srun "
            "(docs/run-on-a-cluster.md)"
        )
    if devices == 1:
        return function(*arguments)
    return _in_new_processes(devices, function, *arguments)


@lru_cache(1)
def _asked_for(trainer: str) -> tuple[int, int]:
    """Return the machines and the devices on each that a configuration, as YAML, asks for."""
    asked = look_at(instantiate(OmegaConf.create(trainer)), plugins=[LightningEnvironment()])
    return asked.num_nodes, asked.num_devices


def _in_new_processes(count: int, function: Callable[..., Any], *arguments: Any) -> Any:
    # Here: most jobs have one process.
    from torch.distributed.elastic.multiprocessing import DefaultLogsSpecs, SignalException
    from torch.distributed.elastic.multiprocessing.errors import ChildFailedError
    from torch.distributed.launcher.api import LaunchConfig, elastic_launch

    sys.stdout.flush()
    # After SIGTERM the processes save, which may first take a validation; how long there is for it the sender knows.
    os.environ.setdefault("TORCH_ELASTIC_SHUTDOWN_TIMEOUT", "3600")
    with TemporaryDirectory() as logs, _signals_restored(), _elastic_silent():
        options = LaunchConfig(
            min_nodes=1,
            max_nodes=1,
            nproc_per_node=count,
            run_id=uuid.uuid4().hex,
            rdzv_backend="c10d",
            rdzv_endpoint="localhost:0",
            local_addr="localhost",
            max_restarts=0,
            logs_specs=DefaultLogsSpecs(log_dir=logs),
        )
        try:
            return elastic_launch(options, _work)(HydraConfig.instance().cfg, function, arguments)[0]
        except ChildFailedError as error:
            raise _rank_error(*error.get_first_failure(), count) from None
        except SignalException as error:
            raise SystemExit(128 + error.sigval) from None


def _work(hydra_config: Any, function: Callable[..., Any], arguments: tuple[Any, ...]) -> Any:
    """Set up Hydra's state and logging as in the process that started this one, then call `function(*arguments)`."""
    setup_globals()
    HydraConfig.instance().cfg = hydra_config
    configure_log(hydra_config.hydra.job_logging, hydra_config.hydra.verbose)
    try:
        return function(*arguments)
    except Exception as error:
        time.sleep(_GRACE)
        if isinstance(error, InstantiationException) and error.__cause__:
            raise error.__cause__ from None
        raise


def _rank_error(rank: int, failure: "ProcessFailure", count: int) -> RankError:
    """Describe the `failure` of process `rank` of `count`."""
    name = f"rank {rank} of {count} processes"
    said = failure.error_file_data.get("message") if failure.error_file_data else None
    if isinstance(said, dict):
        return RankError(f"{name}: {said['message']}", said["extraInfo"]["py_callstack"])
    if failure.exitcode < 0:
        return RankError(f"{name} was ended by signal {-failure.exitcode} ({failure.signal_name()})", "")
    return RankError(f"{name} ended with exit code {failure.exitcode}", "")


@contextmanager
def _signals_restored() -> Iterator[None]:
    """Put back, at the end, the signal handlers that the elastic agent replaces and leaves behind."""
    handled = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGQUIT)
    before = {number: signal.getsignal(number) for number in handled}
    try:
        yield
    finally:
        if threading.current_thread() is threading.main_thread():
            for number, handler in before.items():
                signal.signal(number, handler)


@contextmanager
def _elastic_silent() -> Iterator[None]:
    """Keep the elastic agent from logging: what it would report is in the `RankError`."""
    loggers = [logging.getLogger(name) for name in ("torch.distributed.elastic", "torch.multiprocessing")]
    silence = logging.NullHandler()
    for logger in loggers:
        logger.addHandler(silence)
        logger.propagate = False
    try:
        yield
    finally:
        for logger in loggers:
            logger.propagate = True
            logger.removeHandler(silence)


def log_beside(file: Path) -> None:
    """Let this process, unless it is the first, log to `file` and nowhere else."""
    if own_rank() == 0:
        return
    root = logging.getLogger()
    formats = [handler.formatter for handler in root.handlers if isinstance(handler, logging.FileHandler)]
    for handler in list(root.handlers):
        root.removeHandler(handler)
        handler.close()
    beside = logging.FileHandler(file)
    beside.setFormatter(formats[0] if formats else None)
    root.addHandler(beside)


def keep_freed_memory() -> bool:
    """Have the C library keep up to 1 GiB that is freed, in blocks of up to 32 MiB; True where it does (glibc).

    Else it gives the maps of a training step back to the system and asks for them anew in the next one, page by page: a
    tenth of the step of a small network on a CPU.
    """
    if sys.platform != "linux":
        return False
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    return mallopt is not None and bool(
        mallopt(_TRIM_THRESHOLD, _FREED) and mallopt(_MMAP_THRESHOLD, _LARGEST)
    )
