"""What the tests of several processes run in them: a new process finds it by its name."""

import os
import signal
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from pytorch_lightning import seed_everything
from torch import Tensor, nn

from lsep_ml.data.mixing import UNMIXED, Mixing
from lsep_ml.losses import lsep_loss, two_way_loss
from lsep_ml.models import Network, SmallCNN
from lsep_ml.models.batch_norm import sync_batch_norm
from lsep_ml.stages.job import Job, build_job, build_prediction
from lsep_ml.training.progress import quiet_lightning
from lsep_ml.training.recipe import Loss

sys.path.insert(0, str(Path(__file__).parents[2] / "experiments"))
from ddp_equality import Found, measure_job


class Plain(nn.Module):
    """A backbone without batch norm."""

    num_features = 6

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.Conv2d(1, 4, 3), nn.Tanh(), nn.AvgPool2d(4), nn.Flatten(), nn.Linear(100, 6), nn.Tanh()
        )

    def forward(self, images: Tensor) -> Tensor:
        return self.layers(images)


def _train_in_double(
    job: Job, backbone: nn.Module, loss: Loss, mixing: Mixing = UNMIXED
) -> dict[str, np.ndarray]:
    """The state after two epochs of stage 1, and what was logged."""
    seed_everything(0, verbose=False)
    for layer in backbone.modules():
        if hasattr(layer, "reset_parameters"):
            layer.reset_parameters()
    network = Network(backbone, 10, [0.1], [0.2])
    if job.processes.count > 1:
        sync_batch_norm(network, job.device)
    module = build_prediction(job.config, network, job.processes)
    module.objective = replace(module.objective, loss=loss)
    job.data._order.mixing = mixing
    trainer = job.training.trainer(
        max_epochs=2,
        precision="64-true",
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        use_distributed_sampler=False,
        num_sanity_val_steps=0,
    )
    trainer.fit(module, datamodule=job.data)
    logged = dict(trainer.callback_metrics.items())
    return {name: value.double().numpy() for name, value in {**module.state_dict(), **logged}.items()}


@quiet_lightning()
def train_and_measure(
    by_images: dict[int, Any], by_decision: dict[str, Any], folder: Path
) -> tuple[dict[str, dict[str, np.ndarray]], Found]:
    """The networks after training in double precision, and what `measure_job` finds."""
    job = build_job(by_images[97])
    nets = {
        "plain": (Plain(), lsep_loss),
        "batch norm": (SmallCNN(widths=(4, 4), num_features=6), lsep_loss),
        "two-way": (Plain(), two_way_loss),
        "mixed": (Plain(), lsep_loss, Mixing(mixup=0.4, cutmix=1.0)),
        "two-way, mixed": (Plain(), two_way_loss, Mixing(mixup=0.4)),
    }
    trained = {name: _train_in_double(job, *net) for name, net in nets.items()}
    return trained, measure_job(job, by_images, by_decision, folder)


def fault(scores: Tensor, targets: Tensor, mask: Tensor | None, *, case: str) -> Tensor:
    """A diagnostic at which rank 1 is killed or fails."""
    if os.environ.get("RANK") == "1":
        if case == "killed":
            os.kill(os.getpid(), signal.SIGKILL)
        if case == "failing":
            raise RuntimeError("a fault of rank 1 alone")
    return torch.zeros(())
