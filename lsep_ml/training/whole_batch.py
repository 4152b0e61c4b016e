"""A loss that compares images with each other, where several processes share the images of a batch."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from lsep_ml.data import Batch

Gather = Callable[[Any], list[Any]]
"""A value -> every process's, in the order of their ranks."""


def whole_batch_loss(
    loss: Callable[..., Tensor], scores: Tensor, batch: Batch, gather: Gather, rank: int
) -> Tensor:
    """Return the loss of the whole batch, on every process, from the scores (n, K) of this one's part of it.

    Its gradient reaches this part alone, multiplied so that, once the training has multiplied it by `batch.weight` and
    averaged it over the processes, it is the gradient of that one loss.
    """
    own = scores.detach().cpu(), batch.targets.cpu(), None if batch.mask is None else batch.mask.cpu()
    parts = gather(own)
    of_all = [part.to(scores.device) for part, _, _ in parts]
    of_all[rank] = scores
    targets = torch.cat([part for _, part, _ in parts]).to(scores.device)
    mask = None if batch.mask is None else torch.cat([part for _, _, part in parts]).to(scores.device)
    value = loss(torch.cat(of_all), targets, mask=mask)
    return value.detach() + (len(parts) / batch.weight) * (value - value.detach())
