"""Learning-rate schedules over a known number of steps: (optimizer, total_steps) -> schedule, stepped every batch."""

import math
from collections.abc import Sequence

from torch.optim import Optimizer
from torch.optim.lr_scheduler import LambdaLR


def constant(optimizer: Optimizer, total_steps: int) -> LambdaLR:
    """The optimizer's learning rate throughout."""
    return LambdaLR(optimizer, lambda step: 1.0)


def cosine(optimizer: Optimizer, total_steps: int, warmup: float = 0.0, final: float = 0.0) -> LambdaLR:
    """Linear warm-up over the share `warmup` of the steps, then half a cosine down to the factor `final`."""
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
    """Times `gamma` at each milestone, given as a share of all steps."""
    return LambdaLR(optimizer, lambda step: gamma ** sum(step >= share * total_steps for share in milestones))
