"""Learning-rate schedules against their formulas."""

import math

import pytest
import torch

from lsep_ml.training import schedules


def rates(schedule, total: int, **options) -> list[float]:
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=2.0)
    scheduler = schedule(optimizer, total, **options)
    values = []
    for _ in range(total):
        values.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        scheduler.step()
    return values


def test_constant() -> None:
    assert rates(schedules.constant, 4) == [2.0] * 4


def test_cosine() -> None:
    expected = [2.0 * (1 + math.cos(math.pi * step / 10)) / 2 for step in range(10)]
    assert rates(schedules.cosine, 10) == pytest.approx(expected)


def test_cosine_with_warmup_and_final() -> None:
    values = rates(schedules.cosine, 10, warmup=0.3, final=0.1)
    assert values[:4] == pytest.approx([0.5, 1.0, 1.5, 2.0])
    assert values[-1] == pytest.approx(2 * (0.1 + 0.9 * (1 + math.cos(math.pi * 6 / 7)) / 2))


def test_step() -> None:
    assert rates(schedules.step, 10) == pytest.approx([2.0] * 6 + [0.2] * 3 + [0.02])
