"""What the tests of several processes run in them: a new process finds it by its name."""

import os
import signal
import sys
from collections.abc import Iterable
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
from lsep_ml.models.heads import packed
from lsep_ml.models.pooling import Pooling
from lsep_ml.stages.job import Job, build_job, build_prediction
from lsep_ml.stages.resolvers import register_resolvers
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


class Overflowing(Plain):
    """A backbone whose validation features are infinite, or whose loss is, on the last process of a job alone."""

    def __init__(self, last: bool, training: bool) -> None:
        super().__init__()
        self.last, self.in_training = last, training

    def forward(self, images: Tensor) -> Tensor:
        features = super().forward(images)
        return features * torch.inf if self.last and self.training == self.in_training else features


def small_lsep(scores: Tensor, targets: Tensor, **options: Any) -> Tensor:
    """LSEP at a hundredth, for a head whose steps would else be too large to be compared."""
    return lsep_loss(scores, targets, **options) / 100


class Places(nn.Module):
    """A backbone of a map and a pooling, for heads that read places or for the pooled vector alone."""

    def __init__(self, pool: str, head: str) -> None:
        super().__init__()
        self.conv = nn.Conv2d(1, 5, 5, stride=4)
        self.head, self.head_lambda, self.token_width = head, 0.3, 5
        self.pooling = Pooling(pool, Mapping(), self._map(torch.zeros(1, 1, 24, 24)))
        self.num_features = self.pooling(Mapping(), self._map(torch.zeros(1, 1, 24, 24))).shape[1]

    def _map(self, images: Tensor) -> Tensor:
        return self.conv(images).sigmoid()

    def forward(self, images: Tensor) -> Tensor:
        places = self._map(images)
        features = self.pooling(Mapping(), places)
        return features if self.head == "linear" else packed(features, places.flatten(2).transpose(1, 2))


class Mapping:
    """What `Pooling` asks of a timm network, of a map of 5 channels and nothing behind it."""

    num_features = 5

    def forward_head(self, places: Tensor) -> Tensor:
        return places.mean(dim=(2, 3))


def _train_in_double(
    job: Job, backbone: nn.Module, loss: Loss, mixing: Mixing = UNMIXED
) -> dict[str, np.ndarray]:
    """The state after two epochs of stage 1, and what was logged."""
    seed_everything(0, verbose=False)
    for layer in backbone.modules():
        if hasattr(layer, "reset_parameters"):
            layer.reset_parameters()
    network = Network(backbone, 10, [0.1], [0.2])
    for layer in network.modules():  # what drops out is drawn anew on each process
        if isinstance(layer, nn.Dropout):
            layer.p = 0.0
        if isinstance(layer, nn.MultiheadAttention):
            layer.dropout = 0.0
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
    register_resolvers()  # in a process that was started for this, nobody has
    job = build_job(by_images[97])
    nets = {
        "plain": (Plain(), lsep_loss),
        "batch norm": (SmallCNN(widths=(4, 4), num_features=6), lsep_loss),
        "two-way": (Plain(), two_way_loss),
        "csra": (Places("mean", "csra"), lsep_loss),
        "ml_decoder": (Places("max", "ml_decoder"), small_lsep),
        "gem": (Places("gem", "linear"), lsep_loss),
        "mean_max": (Places("mean_max", "linear"), lsep_loss),
        "mixed": (Plain(), lsep_loss, Mixing(mixup=0.4, cutmix=1.0)),
        "two-way, mixed": (Plain(), two_way_loss, Mixing(mixup=0.4)),
    }
    trained = {name: _train_in_double(job, *net) for name, net in nets.items()}
    trained |= {f"{what} overflows": _stopped(job, what == "training") for what in ("validation", "training")}
    return trained, measure_job(job, by_images, by_decision, folder)


def _stopped(job: Job, training: bool) -> dict[str, np.ndarray]:
    """What each process says of a training that overflows on the last one."""
    said = "nothing"
    try:
        _train_in_double(job, Overflowing(job.processes.rank == job.processes.count - 1, training), lsep_loss)
    except FloatingPointError as error:
        said = str(error).partition(";")[0]
    return {"said": np.array(job.processes.gather(said))}


def fault(scores: Tensor, targets: Tensor, mask: Tensor | None, *, case: str) -> Tensor:
    """A diagnostic of stage 1 at which rank 1 is killed."""
    if os.environ.get("RANK") == "1" and case == "killed":
        os.kill(os.getpid(), signal.SIGKILL)
    return torch.zeros(())


def faulty_sgd(parameters: Iterable[nn.Parameter], *, case: str) -> torch.optim.Optimizer:
    """An optimizer of stage 2 that rank 1 has none of."""
    if os.environ.get("RANK") == "1" and case == "failing":
        raise RuntimeError("a fault of rank 1 alone")
    return torch.optim.SGD(parameters, lr=0.01)
