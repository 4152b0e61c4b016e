"""Label smoothing: the targets that each loss which takes soft ones is given, by loops; all others say no."""

from functools import partial
from typing import Any

import pytest
import torch
from torch.nn import functional as F

import lsep_ml.losses
from lsep_ml.losses import bce_loss, smoothed, smooths_labels, softmax_loss, zlpr_loss

TAKE = (bce_loss, softmax_loss, zlpr_loss)
ALL = [getattr(lsep_ml.losses, name) for name in lsep_ml.losses.__all__ if name.endswith("_loss")]
Y = [[1, 0, 0, 1, 0], [0, 0, 0, 0, 0], [1, 1, 1, 1, 1], [0, 1, 0, 0, 0]]
KNOWN = [[1, 1, 0, 1, 1], [1, 1, 1, 1, 1], [1, 0, 1, 0, 1], [0, 0, 0, 0, 0]]


@pytest.mark.parametrize("loss", ALL, ids=lambda loss: loss.__name__)
def test_exactly_three_take_soft_targets(loss: Any) -> None:
    assert smooths_labels(loss) == smooths_labels(partial(loss, reduction="sum")) == (loss in TAKE)
    y = torch.tensor(Y)
    if loss in TAKE:
        with torch.no_grad():
            loss(torch.randn(4, 5), smoothed(loss, y, None, 0.3))


@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.parametrize("loss", TAKE)
@pytest.mark.parametrize("dtype", [torch.uint8, torch.bool, torch.float64])
def test_smoothed_targets_by_loops(loss: Any, masked: bool, dtype: torch.dtype) -> None:
    y, known = torch.tensor(Y), torch.tensor(KNOWN if masked else [[1] * 5] * 4).bool()
    y = y * known
    found = smoothed(loss, y.to(dtype), known if masked else None, 0.2)
    assert found.dtype == torch.float32
    for i in range(4):
        row = [j for j in range(5) if known[i, j]]
        share = sum(int(y[i, j]) for j in row) / max(len(row), 1)
        for j in row:
            towards = share if loss is softmax_loss else 0.5
            assert found[i, j].item() == pytest.approx(0.8 * int(y[i, j]) + 0.2 * towards, abs=1e-6)
    assert ((found >= 0) & (found <= 1)).all()


def test_the_usual_equations() -> None:
    torch.manual_seed(0)
    scores, y = torch.randn(4, 5, dtype=torch.float64), torch.tensor(Y)
    found = bce_loss(scores, smoothed(bce_loss, y, None, 0.1), normalize=True)
    torch.testing.assert_close(
        found, F.binary_cross_entropy_with_logits(scores, (0.9 * y + 0.05).double()), atol=1e-7, rtol=1e-6
    )
    single = torch.eye(5, dtype=torch.uint8)[:4]  # one label an image
    found = softmax_loss(scores, smoothed(softmax_loss, single, None, 0.1))
    expected = F.cross_entropy(scores, single.argmax(1), label_smoothing=0.1)
    torch.testing.assert_close(found, expected, atol=1e-7, rtol=1e-6)
