"""Processes of a job: a job of one asks nobody, a launcher's environment is read, what cannot be is refused."""

import logging
import resource
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hydra.utils import instantiate
from jobs import compose_here
from pytorch_lightning import Trainer

from lsep_ml.processes.group import ALONE, Processes, join_processes, own_rank, started_by_launcher
from lsep_ml.processes.start import keep_freed_memory, launch, log_beside

TWO = {"LOCAL_RANK": "1", "RANK": "1", "WORLD_SIZE": "2"}


@pytest.fixture(autouse=True)
def no_launcher(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("LOCAL_RANK", "RANK", "WORLD_SIZE", "SLURM_NTASKS", "SLURM_PROCID", "TORCHELASTIC_RUN_ID"):
        monkeypatch.delenv(name, raising=False)


def launched(monkeypatch: pytest.MonkeyPatch, environment: dict[str, str]) -> None:
    for name, value in environment.items():
        monkeypatch.setenv(name, value)


def test_a_process_alone_is_the_first_and_has_only_its_own_values() -> None:
    value = object()
    assert ALONE.first
    assert ALONE.share(value) is value
    assert ALONE.collect(value) == ALONE.gather(value) == [value]
    ALONE.disconnect()
    assert not Processes(1, 2).first


@pytest.mark.parametrize("count", [1, 2, 3, 7])
def test_works_are_shared_out_and_come_back_in_their_order(count: int) -> None:
    done = {}

    class Gathered(Processes):
        def collect(self, value: Any) -> list[Any]:
            done[self.rank] = value
            return [done[rank] for rank in range(count)] if self.first else []

    works = [lambda number=number: number**2 for number in range(5)]
    found = [list(Gathered(rank, count).share_out(works)) for rank in reversed(range(count))]
    assert found == [[]] * (count - 1) + [[0, 1, 4, 9, 16]]
    assert count == 1 or [len(done[rank]) for rank in (0, count - 1)] == [5 // count, -(-5 // count)]


def test_the_rank_is_the_launchers(monkeypatch: pytest.MonkeyPatch) -> None:
    assert (started_by_launcher(), own_rank()) == (False, 0)
    launched(monkeypatch, TWO)
    assert (started_by_launcher(), own_rank()) == (True, 1)


def config(output: Path, *overrides: str):
    return compose_here(output, "trainer=cpu", *overrides)[0].trainer


def test_one_device_is_this_process(tmp_path: Path) -> None:
    assert launch(lambda a, b: (a, b), config(tmp_path), 1, 2) == (1, 2)  # a lambda could not be sent away


def test_a_process_that_a_launcher_started_starts_no_others(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    launched(monkeypatch, TWO)
    many = config(tmp_path, "trainer=ddp", "trainer.accelerator=cpu", "trainer.devices=2")
    assert launch(lambda: "here", many) == "here"


def test_several_machines_take_a_launcher(tmp_path: Path) -> None:
    many = config(
        tmp_path, "trainer=ddp", "trainer.accelerator=cpu", "trainer.devices=2", "trainer.num_nodes=2"
    )
    with pytest.raises(ValueError, match=r"trainer\.num_nodes=2: .* torchrun or srun"):
        launch(print, many)


def test_a_launcher_of_more_processes_than_the_trainer_has_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    trainer = instantiate(config(tmp_path))
    launched(monkeypatch, {"RANK": "0", "WORLD_SIZE": "3", "LOCAL_RANK": "0"})
    with pytest.raises(ValueError, match="3 processes were started, but the trainer is set to one"):
        join_processes(trainer)


def test_a_job_of_one_process_joins_nothing(tmp_path: Path) -> None:
    trainer = instantiate(config(tmp_path))
    joined, processes, device = join_processes(trainer)
    assert joined is trainer
    assert processes is ALONE
    assert device.type == "cpu"
    assert isinstance(joined(logger=False, enable_checkpointing=False), Trainer)


def test_other_processes_log_beside_the_first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    root = logging.getLogger()
    monkeypatch.setattr(root, "handlers", list(root.handlers))
    before = list(root.handlers)
    log_beside(tmp_path / "run.rank1.log")
    assert root.handlers == before
    launched(monkeypatch, TWO)
    root.handlers = []
    log_beside(tmp_path / "run.rank1.log")
    root.warning("said by the second")
    [handler] = root.handlers
    handler.close()
    assert (tmp_path / "run.rank1.log").read_text() == "said by the second\n"


def test_memory_that_was_freed_is_not_asked_for_again() -> None:
    if not keep_freed_memory():
        pytest.skip("this C library has no mallopt")
    for round_ in range(4):
        if round_ == 1:
            before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
        maps = [np.ones(2**20, np.float32) for _ in range(8)]
        del maps
    assert (
        resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before < 1000
    )  # of 24,576 pages that were written
