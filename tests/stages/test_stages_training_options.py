"""Options of stage 1's training, against a loop written by hand, and what must not depend on them."""

import math
from copy import deepcopy
from pathlib import Path
from typing import Any

import pytest
import torch
from jobs import compose_here
from torch import Tensor

from lsep_ml.losses import lsep_loss
from lsep_ml.metrics import RankingMetrics
from lsep_ml.runs.files import CHECKPOINT, HISTORY
from lsep_ml.runs.history import read_history
from lsep_ml.stages.job import Job, build_job
from lsep_ml.stages.network import train_prediction
from lsep_ml.store.entries import Entry
from lsep_ml.store.keys import identity_of, weights_hash

TINY = (
    "data.train=70",  # batches of 16, the last of 6
    "data.val=30",
    "data.test=20",
    "data.canvas=24",
    "model.widths=[4]",
    "model.num_features=6",
    "training.batch_size=16",
    "training.epochs=1",
    "optimizer.lr=0.05",
    "training.score_layer_lr=3",
    "trainer=cpu",
)


def train(output: Path, *overrides: str) -> tuple[Job, Entry]:
    """Stage 1 of a tiny job."""
    job = build_job(compose_here(output, *TINY, *overrides)[0])
    rows: list[dict[str, Any]] = []
    entry = train_prediction(job.store, job.made_by, job.network, job.training, job.data, rows.append)
    return job, entry


def stored(entry: Entry) -> dict[str, Tensor]:
    state: dict[str, Tensor] = torch.load(entry.folder / CHECKPOINT, weights_only=True)["state_dict"]
    return state


def train_by_hand(job: Job, accumulate: int, clip: float | None, decay: float | None) -> dict[str, Tensor]:
    """One epoch of SGD with momentum and half a cosine, as the paper's section 4 and conf/ say."""
    network, lr = deepcopy(job.network).train(), 0.05
    momentum = {name: torch.zeros_like(p) for name, p in network.named_parameters()}
    average: dict[str, Tensor] = {}
    batches = list(job.data.train_dataloader())
    steps = math.ceil(len(batches) / accumulate)
    for step in range(steps):
        network.zero_grad()
        for batch in batches[step * accumulate : (step + 1) * accumulate]:
            (lsep_loss(network(batch.images).scores, batch.targets) / accumulate).backward()
        norm = torch.sqrt(sum((p.grad**2).sum() for p in network.parameters()))
        scale = 1.0 if clip is None else min(1.0, clip / (float(norm) + 1e-6))
        for name, p in network.named_parameters():
            gradient = scale * p.grad + 5e-5 * p.detach()
            momentum[name] = 0.9 * momentum[name] + gradient
            rate = lr * (1 + math.cos(math.pi * step / steps)) / 2 * (3 if "score_layer" in name else 1)
            p.data -= rate * momentum[name]
        for name, value in network.state_dict().items():
            if value.is_floating_point():
                before = average.get(name, value)
                average[name] = value.clone() if decay is None else decay * before + (1 - decay) * value
    return average


@pytest.mark.parametrize(
    ("overrides", "accumulate", "clip", "decay"),
    [
        ((), 1, None, None),
        (("optimizer.fused=true",), 1, None, None),
        (("trainer.accumulate_grad_batches=2",), 2, None, None),  # 5 batches: the last step has one
        (("trainer.gradient_clip_val=0.2",), 1, 0.2, None),
        (("training.ema=0.7",), 1, None, 0.7),
        (
            ("training.ema=0.7", "trainer.accumulate_grad_batches=2", "trainer.gradient_clip_val=0.2"),
            2,
            0.2,
            0.7,
        ),
    ],
)
def test_training_is_what_a_loop_by_hand_does(
    tmp_path: Path, overrides: tuple[str, ...], accumulate: int, clip: float | None, decay: float | None
) -> None:
    expected = train_by_hand(build_job(compose_here(tmp_path, *TINY, *overrides)[0]), accumulate, clip, decay)
    _, entry = train(tmp_path, *overrides)
    found = stored(entry)
    for name, value in expected.items():
        torch.testing.assert_close(found[f"network.{name}"], value, rtol=1e-4, atol=1e-5)


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory) -> tuple[Job, Entry]:
    return train(tmp_path_factory.mktemp("plain"), "training.epochs=2")


@torch.inference_mode()
def validation_map(job: Job) -> float:
    """The mAP of the network as it is, in evaluation mode."""
    metric = RankingMetrics(job.network.num_labels)
    for batch in job.data.val_dataloader():
        metric.update(job.network.eval()(batch.images).scores, batch.targets)
    return float(metric.compute()["map"])


@pytest.mark.parametrize(
    "overrides",
    [
        ("training.ema=0.7",),
        ("training.compile=eager",),
        ("training.channels_last=true",),
        ("trainer.precision=64-true",),
        ("trainer.precision=bf16-mixed", "optimizer.fused=true", "trainer.gradient_clip_val=1"),
    ],
)
def test_a_stored_network_is_the_validated_one_whatever_trained_it(
    tmp_path: Path, plain: tuple[Job, Entry], overrides: tuple[str, ...]
) -> None:
    job, entry = train(tmp_path, "training.epochs=2", *overrides)
    state, names = stored(entry), stored(plain[1])
    assert {name: (value.dtype, value.stride()) for name, value in state.items()} == {
        name: (value.dtype, value.stride()) for name, value in names.items()
    }
    for name, value in job.network.state_dict().items():
        assert torch.equal(value, state[f"network.{name}"])
    again, found = train(tmp_path, "training.epochs=2", *overrides)
    assert found.reused
    assert weights_hash(again.network) == weights_hash(job.network)
    traced_only = overrides == (
        "training.compile=eager",
    )  # the same operations, found by the compiler's tracing
    assert (weights_hash(job.network) == weights_hash(plain[0].network)) == traced_only
    rows = read_history(entry.folder / HISTORY)
    chosen = max(float(row["val_map"]) for row in rows)
    half = "bf16" in overrides[0]
    assert validation_map(again) == pytest.approx(chosen, abs=0.02 if half else 1e-6)
    assert entry.identity != plain[1].identity


@pytest.mark.parametrize(
    "override", ["data.pin_memory=true", "data.persistent_workers=false", "data.num_workers=1"]
)
def test_how_batches_are_handed_over_is_no_part_of_the_identity(
    tmp_path: Path, plain: tuple[Job, Entry], override: str
) -> None:
    config, _ = compose_here(tmp_path, *TINY, "training.epochs=2", override)
    job = build_job(config)
    assert identity_of(job.made_by) == plain[1].identity
    loader = job.data.train_dataloader()
    assert loader.pin_memory == ("pin" in override)
    assert loader.persistent_workers == (override == "data.num_workers=1")


def test_mixed_precision_keeps_scores_and_loss_in_float32(tmp_path: Path) -> None:
    job = build_job(compose_here(tmp_path, *TINY)[0])
    batch = next(iter(job.data.val_dataloader()))
    with torch.autocast("cpu", torch.bfloat16):
        scores, features = job.training.module(batch.images)
        loss = job.training.module.objective.loss(scores, batch.targets)
    assert torch.equal(features, features.bfloat16().float())  # the backbone's are of half precision
    assert scores.dtype == loss.dtype == torch.float32
    layer = job.network.score_layer
    torch.testing.assert_close(scores, features @ layer.weight.T + layer.bias)
    assert not torch.equal(scores, scores.bfloat16().float())


@pytest.mark.parametrize(
    ("override", "message"),
    [
        (
            "trainer.precision=16-mixed",
            r"trainer\.precision=16-mixed: needs a GPU; on the CPU take bf16-mixed",
        ),
        ("training.compile=true", r"training\.compile=true: expected a text, or null"),
    ],
)
def test_what_cannot_be_had_is_refused_before_training(tmp_path: Path, override: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        build_job(compose_here(tmp_path, *TINY, override)[0])
