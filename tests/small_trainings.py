"""Stage 1 of a tiny job in this process, alone, with something done to it at a chosen moment."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from jobs import compose_here

from lsep_ml.stages.job import build_job
from lsep_ml.stages.network import train_prediction
from lsep_ml.training.label_prediction import LabelPrediction
from lsep_ml.training.resume import Saving

STEPS = 6  # an epoch
EPOCHS = 3
TINY = (
    "data.train=96",
    "data.val=20",
    "data.test=20",
    "data.canvas=24",
    "model.widths=[4,4]",
    "model.num_features=6",
    "model.dropout=0.3",
    "transform.crop=20",
    "training.batch_size=16",
    f"training.epochs={EPOCHS}",
    "trainer=cpu",
)
"""Augmentation, dropout, sampled pairs, momentum and a schedule: all that a continued training must not mix up."""

OFTEN = Saving(every_n_steps=2)
Trained = tuple[dict[str, Any], list[dict[str, Any]]]


class Killed(BaseException):
    """Ends a training as SIGKILL does: nothing is saved any more."""


def train(output: Path, *overrides: str, saving: Saving = OFTEN) -> Trained:
    """The weights and the history (without its seconds) of stage 1 under `output`."""
    sampled = () if {"loss=bpmll", "loss=two_way", "loss=bce"} & set(overrides) else ("loss.max_pairs=4",)
    job = build_job(compose_here(output, *TINY, *sampled, *overrides)[0])
    rows: list[dict[str, Any]] = []
    training = replace(job.training, saving=saving)
    train_prediction(job.store, job.made_by, job.network, training, job.data, rows.append)
    return job.training.module.state_dict(), [
        {k: v for k, v in row.items() if k != "seconds"} for row in rows
    ]


def same(one: Trained, other: Trained) -> bool:
    return one[1] == other[1] and all(torch.equal(value, other[0][key]) for key, value in one[0].items())


def kill_at(monkeypatch: pytest.MonkeyPatch, hook: str, call: int, act: Callable[..., None]) -> None:
    """Act in the module's `hook` when it is called for the `call`-th time from now on."""
    original, calls = getattr(LabelPrediction, hook), iter(range(1, call + 1))

    def hooked(self: LabelPrediction, *args: Any, **options: Any) -> Any:
        if next(calls, None) == call:
            act(self)
        return original(self, *args, **options)

    monkeypatch.setattr(LabelPrediction, hook, hooked)


def kill(module: LabelPrediction) -> None:
    raise Killed


def interrupted(output: Path, hook: str, call: int, *overrides: str, **options: Any) -> None:
    with pytest.MonkeyPatch.context() as patch:
        kill_at(patch, hook, call, kill)
        with pytest.raises(Killed):
            train(output, *overrides, **options)
