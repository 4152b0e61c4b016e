"""Learning-rate schedules over a known number of steps: (optimizer, total_steps) -> schedule, stepped every batch."""

import math
from collections.abc import Sequence

from torch.optim import Optimizer
from torch.optim.lr_scheduler import LambdaLR


def constant(optimizer: Optimizer, total_steps: int) -> LambdaLR:
    """Keep the learning rate of `optimizer` as it is."""
    return LambdaLR(optimizer, lambda step: 1.0)


def cosine(optimizer: Optimizer, total_steps: int, warmup: float = 0.0, final: float = 0.0) -> LambdaLR:
    """Raise the rate linearly over the share `warmup` of the steps, then lower it by half a cosine to `final` times."""
    warm = round(warmup * total_steps)

    def factor(step: int) -> float:
        if step < warm:
            return (step + 1) / (warm + 1)
        progress = (step - warm) / max(1, total_steps - warm)
        return final + (1 - final) * (1 + math.cos(math.pi * min(1.0, progress))) / 2

    return LambdaLR(optimizer, factor)


def step(
    optimizer: Optimizer, total_steps: int, milestones: Sequence[float] = (0.6, 0.9), gamma: float = 0.1
) -> LambdaLR:
    """Multiply the rate by `gamma` at each of `milestones`, given as shares of `total_steps`."""
    return LambdaLR(optimizer, lambda step: gamma ** sum(step >= share * total_steps for share in milestones))
