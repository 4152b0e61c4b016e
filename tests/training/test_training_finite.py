"""A loss or a gradient that is not finite stops the training, or its step is left out."""

import itertools
import math
from contextlib import nullcontext
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from small_trainings import train
from torch import Tensor

from lsep_ml.training.checkpoints import read_checkpoint
from lsep_ml.training.label_prediction import LabelPrediction
from lsep_ml.training.trainer import FiniteSteps, build_trainer

pytestmark = pytest.mark.filterwarnings("ignore::pytorch_lightning.utilities.warnings.PossibleUserWarning")


def nan_loss(scores: Tensor) -> Tensor:
    return scores.sum() * float("nan")


def nan_gradient(scores: Tensor) -> Tensor:
    return 0 * torch.sqrt(scores.sum() - scores.sum())  # 0, with the slope 0 / 0


def spoil(patch: pytest.MonkeyPatch, steps: set[int], term: object) -> None:
    """Add a term to the training loss of these steps, counted from 0."""
    original = LabelPrediction.training_step

    def training_step(self: LabelPrediction, batch, batch_idx):
        loss = original(self, batch, batch_idx)
        return loss + term(self.network.score_layer.weight) if self.global_step in steps else loss

    patch.setattr(LabelPrediction, "training_step", training_step)


@pytest.mark.parametrize(
    ("term", "what"), [(nan_loss, "the loss"), (nan_gradient, "the gradient")], ids=["loss", "gradient"]
)
def test_it_stops_with_the_step_the_loss_and_the_last_good_checkpoint(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, term: object, what: str
) -> None:
    spoil(monkeypatch, {7}, term)
    with pytest.raises(
        FloatingPointError, match=rf"{what} of loss=lsep became nan at step 7 \(epoch 2\)"
    ) as error:
        train(tmp_path)
    [newest] = tmp_path.rglob("state-6.ckpt")
    assert str(error.value).endswith(f"the last good checkpoint is {newest}")
    assert all(torch.isfinite(value).all() for value in read_checkpoint(newest)["state_dict"].values())


def test_without_a_checkpoint_it_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    spoil(monkeypatch, {0}, nan_gradient)
    with pytest.raises(FloatingPointError, match=r"at step 0 .*; no checkpoint was written before"):
        train(tmp_path)


def test_bad_steps_are_left_out_counted_and_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    spoil(monkeypatch, {1, 2, 8}, nan_gradient)
    weights: list[Tensor] = []
    step = LabelPrediction.training_step

    def watched(self, batch, batch_idx):
        weights.append(self.network.score_layer.weight.detach().clone())
        return step(self, batch, batch_idx)

    monkeypatch.setattr(LabelPrediction, "training_step", watched)
    state, rows = train(tmp_path, "trainer.skip_nan_steps=2")
    moved = [not torch.equal(one, other) for one, other in itertools.pairwise(weights)]
    assert [step for step, changed in enumerate(moved) if not changed] == [1, 2, 8]
    assert all(torch.isfinite(value).all() for value in state.values())
    assert all(row["train_loss"] < 10 for row in rows)
    assert "Left out step 8, not finite: 3 in all so far" in caplog.text


def test_a_step_left_out_leaves_batch_norms_statistics_as_they_were(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    original = LabelPrediction.training_step

    def training_step(self: LabelPrediction, batch, batch_idx):
        if self.global_step == 4:  # an activation overflows
            batch = batch._replace(images=torch.full_like(batch.images, float("inf"), dtype=torch.float32))
        return original(self, batch, batch_idx)

    monkeypatch.setattr(LabelPrediction, "training_step", training_step)
    state, _ = train(tmp_path, "trainer.skip_nan_steps=2")
    assert any("running_var" in name for name in state)
    assert all(torch.isfinite(value).all() for value in state.values())


@pytest.mark.parametrize("deterministic", [True, False])
def test_deterministic_is_not_undone_by_benchmark(deterministic: bool) -> None:
    before = torch.backends.cudnn.benchmark, torch.are_deterministic_algorithms_enabled()
    try:
        build_trainer(deterministic=deterministic, benchmark=True, accelerator="cpu", logger=False)
        assert torch.backends.cudnn.benchmark is not deterministic
    finally:
        torch.backends.cudnn.benchmark = before[0]
        torch.use_deterministic_algorithms(before[1])


def test_one_more_in_a_row_stops(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    spoil(monkeypatch, {1, 2, 3}, nan_loss)
    with pytest.raises(
        FloatingPointError, match=r"at step 3 .*; 2 steps before it were left out; the last good"
    ):
        train(tmp_path, "trainer.skip_nan_steps=2")


@pytest.mark.parametrize(
    ("entries", "said"),
    [
        ([3e38, 3e38], None),  # their sum is none
        ([1.0, -math.inf], "inf"),
        ([math.inf, -math.inf], "inf"),
        ([math.nan, math.inf], "nan"),
    ],
)
def test_the_gradient_is_judged_by_its_entries(entries: list[float], said: str | None) -> None:
    trainer = SimpleNamespace(world_size=1, precision_plugin=None, global_step=0, current_epoch=0)
    watch, weight = FiniteSteps(), torch.zeros(2, requires_grad=True)
    watch.on_before_backward(trainer, None, torch.tensor(1.0))
    weight.grad = torch.tensor(entries)
    stops = (
        pytest.raises(FloatingPointError, match=f"the gradient of .* became {said}")
        if said
        else nullcontext()
    )
    with stops:
        watch.on_before_optimizer_step(trainer, None, torch.optim.SGD([weight], lr=1))


def test_a_negative_number_of_steps_is_refused() -> None:
    with pytest.raises(ValueError, match=r"trainer\.skip_nan_steps=-1"):
        FiniteSteps(-1)
