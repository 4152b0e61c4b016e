"""The two-way loss in training: the columns are those of the whole batch, on any number of processes."""

from pathlib import Path

import pytest
import torch
from small_trainings import EPOCHS, train

from lsep_ml.data import Batch
from lsep_ml.losses import two_way_loss
from lsep_ml.training.recipe import whole_batch_loss


@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.parametrize("sizes", [(7,), (4, 3), (3, 2, 2)])
def test_the_parts_have_the_value_and_the_gradient_of_the_whole(sizes: tuple[int, ...], masked: bool) -> None:
    generator = torch.Generator().manual_seed(0)
    scores = torch.randn(7, 5, dtype=torch.float64, generator=generator)
    targets = (torch.rand(7, 5, generator=generator) < 0.4).float()
    mask = torch.rand(7, 5, generator=generator) < 0.7 if masked else None
    f = scores.clone().requires_grad_()
    value = two_way_loss(f, targets, mask=mask)
    value.backward()
    rows = torch.arange(7).split(sizes)
    batches = [
        Batch(torch.empty(0), targets[i], None if mask is None else mask[i], i, len(i) * len(sizes) / 7)
        for i in rows
    ]
    everyone = [(scores[i], batch.targets, batch.mask) for i, batch in zip(rows, batches, strict=True)]
    gradients = []
    for rank, batch in enumerate(batches):
        own = scores[rows[rank]].clone().requires_grad_()
        loss = whole_batch_loss(two_way_loss, own, batch, lambda part: everyone, rank)
        torch.testing.assert_close(loss.detach(), value.detach())
        (loss * batch.weight / len(sizes)).backward()  # DistributedDataParallel averages
        gradients.append(own.grad)
    torch.testing.assert_close(torch.cat(gradients), f.grad)


def test_stage_1_trains_with_it(tmp_path: Path) -> None:
    state, rows = train(tmp_path, "loss=two_way")
    assert len(rows) == EPOCHS
    assert all(torch.isfinite(value).all() for value in state.values())
    assert all(0 < row["val_loss"] < 20 for row in rows)
    assert rows[-1]["train_loss"] < rows[0]["train_loss"]
