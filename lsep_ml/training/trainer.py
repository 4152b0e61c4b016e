"""The trainer of stage 1, as the configuration's group `trainer` names it."""

from collections.abc import Sequence
from typing import Any

import torch
from pytorch_lightning import Callback, Trainer

from lsep_ml.training.finite_steps import FiniteSteps


def build_trainer(*, skip_nan_steps: int = 0, callbacks: Sequence[Callback] = (), **options: Any) -> Trainer:
    """Build a `pytorch_lightning.Trainer` with `options` that watches its steps (`FiniteSteps`).

    Args:
        skip_nan_steps: how many steps in a row may be left out because they are not finite.
        callbacks: those that follow the watch.
        options: further arguments of the Trainer; with `deterministic`, no kernel is chosen by timing it.
    """
    if options.get("deterministic"):
        options["benchmark"] = False
    elif not torch.are_deterministic_algorithms_enabled():
        options.pop("deterministic", None)  # to say so once more would load torch's compiler
    return Trainer(callbacks=[FiniteSteps(skip_nan_steps), *callbacks], **options)
