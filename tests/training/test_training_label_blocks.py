"""Training on very many labels: the scores of a batch are computed by blocks of labels, and nothing else changes."""

import gc
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from small_trainings import Trained, interrupted, same, train
from torch import Tensor, distributed, nn
from torch.nn.parallel import DistributedDataParallel
from torch.utils._python_dispatch import TorchDispatchMode

from lsep_ml import losses
from lsep_ml.data import Batch
from lsep_ml.data.loading import Others
from lsep_ml.decisions import ThresholdEstimation
from lsep_ml.losses import LabelIndices
from lsep_ml.models import Network
from lsep_ml.models.heads import Csra
from lsep_ml.training import label_prediction
from lsep_ml.training.label_prediction import LabelPrediction
from lsep_ml.training.recipe import Objective, Optimisation
from lsep_ml.training.schedules import cosine

ROWS, INPUTS = 6, 4
LOSSES: dict[str, Callable[..., Tensor]] = {
    "lsep": losses.lsep_loss,
    "bce": partial(losses.bce_loss, pos_weight="balanced"),
    "softmax": partial(losses.softmax_loss, normalize=True),
    "bpmll": losses.bpmll_loss,
}


class Backbone(nn.Module):
    num_features = 5

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(INPUTS, self.num_features)

    def forward(self, x: Tensor) -> Tensor:
        return torch.tanh(self.layer(x))


def module_of(
    loss: Callable[..., Tensor] = losses.lsep_loss, num_labels: int = 11, **options: Any
) -> LabelPrediction:
    torch.manual_seed(0)
    options.setdefault(
        "diagnostics", {"clamped": losses.bpmll_clamped_rows} if loss is losses.bpmll_loss else {}
    )
    with_counts = losses.with_class_counts(
        loss, lambda: losses.ClassCounts(torch.arange(num_labels), torch.full((num_labels,), 7))
    )
    objective = Objective(with_counts, "some", **options)
    sgd = partial(torch.optim.SGD, lr=0.05)
    return LabelPrediction(
        Network(Backbone(), num_labels, [0.0], [1.0]), objective, Optimisation(sgd, cosine)
    )


def batch_of(kind: str, dtype: torch.dtype = torch.float32, num_labels: int = 11, seed: int = 0) -> Batch:
    generator = torch.Generator().manual_seed(seed)
    inputs = torch.randn(ROWS, INPUTS, generator=generator, dtype=torch.float64).to(dtype)
    sets = [(torch.rand(ROWS, num_labels, generator=generator) < 0.3).to(torch.uint8) for _ in range(2)]
    known = torch.rand(ROWS, num_labels, generator=generator) < 0.7
    rows = torch.arange(ROWS)
    if kind == "sparse":
        return Batch(inputs, LabelIndices.of(sets[0]), None, rows)  # type: ignore[arg-type]
    if kind == "masked":
        return Batch(inputs, sets[0] * known, known, rows, weight=0.7)
    if kind == "soft":
        return Batch(inputs, sets[0], None, rows, soft=0.8 * sets[0].float())
    return Batch(inputs, sets[0], None, rows, others=Others(sets[1], None, 0.3) if kind == "mixed" else None)


def step(module: LabelPrediction, batch: Batch) -> Tensor:
    loss = module.training_step(batch, 0)
    loss.backward()
    return loss.detach()


def count_scores(module: LabelPrediction) -> list[Any]:
    """What the score layer has computed from now on, all scores of a batch at once."""
    calls: list[Any] = []
    module.network.score_layer.register_forward_hook(lambda *given: calls.append(given[-1]))
    return calls


@pytest.mark.parametrize("loss", LOSSES)
@pytest.mark.parametrize("kind", ["dense", "sparse", "masked", "mixed"])
@pytest.mark.parametrize(("dtype", "close"), [(torch.float64, 1e-12), (torch.float32, 2e-6)])
def test_the_weights_are_those_of_all_scores_at_once(
    loss: str, kind: str, dtype: torch.dtype, close: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    trained = []
    for large in (label_prediction.LARGE, ROWS * 11):
        monkeypatch.setattr(label_prediction, "LARGE", large)
        module = module_of(LOSSES[loss]).to(dtype)
        calls, optimizer = count_scores(module), torch.optim.SGD(module.parameters(), lr=0.05, momentum=0.9)
        for number in range(4):
            optimizer.zero_grad()
            step(module, batch_of(kind, dtype, seed=number))
            optimizer.step()
        assert len(calls) == (4 if large > ROWS * 11 else 0)
        trained.append([*module.parameters(), module._steps()])
    for plain, blocked in zip(*trained, strict=True):
        torch.testing.assert_close(blocked, plain, rtol=close, atol=close)


class Largest(TorchDispatchMode):
    """Keeps the number of entries of the largest tensor that anything computes."""

    entries = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        for part in result if isinstance(result, tuple | list) else [result]:
            if isinstance(part, Tensor):
                self.entries = max(self.entries, part.numel())
        return result


@pytest.mark.parametrize("loss", LOSSES)
def test_no_tensor_has_a_number_for_each_row_and_label(loss: str, monkeypatch: pytest.MonkeyPatch) -> None:
    labels = 30_000  # more than a block
    largest = []
    for large in (label_prediction.LARGE, 0):
        monkeypatch.setattr(label_prediction, "LARGE", large)
        module, batch = module_of(LOSSES[loss], labels), batch_of("sparse", num_labels=labels)
        with Largest() as seen:
            step(module, batch)
        largest.append(seen.entries)
    weights = labels * Backbone.num_features
    assert largest[1] <= weights < ROWS * labels <= largest[0]


@pytest.mark.parametrize(
    ("options", "kind"),
    [
        ({"loss": losses.warp_loss}, "dense"),
        ({"loss": losses.two_way_loss}, "dense"),
        ({"loss": partial(losses.lsep_loss, weighted=True)}, "dense"),
        ({"loss": losses.bce_loss, "label_smoothing": 0.1}, "dense"),
        ({"loss": losses.bce_loss}, "soft"),
        ({"decision": ThresholdEstimation(5, 11)}, "dense"),
        ({"diagnostics": {"sum": lambda scores, targets, mask: scores.sum()}}, "dense"),
    ],
)
def test_what_needs_all_scores_has_them(
    options: dict[str, Any], kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    plain = step(module_of(**options), batch_of(kind))
    monkeypatch.setattr(label_prediction, "LARGE", 0)
    module = module_of(**options)
    calls = count_scores(module)
    assert torch.equal(step(module, batch_of(kind)), plain)
    assert len(calls) == 1


def test_other_heads_and_half_precision_have_all_scores(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(label_prediction, "LARGE", 0)
    half = module_of().to(torch.bfloat16)
    other = module_of()
    other.network.score_layer = Csra(0, 5, 11)
    for module, dtype in ((half, torch.bfloat16), (other, torch.float32)):
        calls = count_scores(module)
        step(module, batch_of("dense", dtype))
        assert len(calls) == 1


def test_under_mixed_precision_scores_and_gradients_are_of_single_precision(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    gradients = []
    for large, within in ((label_prediction.LARGE, False), (0, False), (0, True)):
        monkeypatch.setattr(label_prediction, "LARGE", large)
        module = module_of()
        with torch.autocast("cpu", torch.bfloat16):
            loss = module.training_step(batch_of("dense"), 0)
        with torch.autocast("cpu", torch.bfloat16, enabled=within):
            loss.backward()
        gradients.append([p.grad for p in module.network.score_layer.parameters()])
    for plain, *blocked in zip(*gradients, strict=True):
        assert plain is not None
        assert plain.dtype == torch.float32
        for of_blocks in blocked:
            torch.testing.assert_close(of_blocks, plain, rtol=2e-6, atol=2e-6)


def test_gradients_reach_what_averages_them_over_processes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(label_prediction, "LARGE", 0)
    alone = module_of()
    step(alone, batch_of("dense"))
    module = module_of()
    module.forward = partial(module.training_step, batch_idx=0)  # type: ignore[method-assign, assignment]

    def doubled(state: object, bucket: distributed.GradBucket) -> torch.futures.Future[Tensor]:
        future: torch.futures.Future[Tensor] = torch.futures.Future()
        future.set_result(2 * bucket.buffer())
        return future

    distributed.init_process_group("gloo", f"file://{tmp_path}/met", rank=0, world_size=1)
    try:
        parallel = DistributedDataParallel(module)
        parallel.register_comm_hook(None, doubled)
        parallel(batch_of("dense")).backward()
        for found, of_one in zip(module.parameters(), alone.parameters(), strict=True):
            torch.testing.assert_close(found.grad, 2 * of_one.grad)  # type: ignore[operator]
        del parallel
        gc.collect()  # before the group that it talks to
    finally:
        distributed.destroy_process_group()


USED = (
    "trainer.accumulate_grad_batches=2",
    "trainer.gradient_clip_val=0.5",
    "training.ema=0.9",
    "loss=bpmll",
)


def test_a_whole_training_has_the_same_history_and_continues_to_the_same_bits(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    state, rows = train(tmp_path / "plain", *USED)
    monkeypatch.setattr(label_prediction, "LARGE", 0)
    whole: Trained = train(tmp_path / "whole", *USED)
    interrupted(tmp_path / "killed", "training_step", 9, *USED)
    assert same(train(tmp_path / "killed", *USED), whole)
    for key, value in state.items():
        torch.testing.assert_close(whole[0][key], value, rtol=1e-4, atol=1e-5)
    for plain, blocked in zip(rows, whole[1], strict=True):
        assert blocked.pop("stage") == plain.pop("stage")
        assert blocked == pytest.approx(plain, rel=1e-4)
