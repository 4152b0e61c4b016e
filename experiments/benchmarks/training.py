"""What the framework costs: stage 1 and stage 2 as a run does them, against the same work as a plain PyTorch loop.

    python experiments/benchmarks/training.py

Stage 1 is the small network on digit scenes, and where there is a GPU also VGG16 at 224 x 224 in bfloat16 on random
images; both train, validate after every epoch and keep the best weights. Stage 2 is 50 epochs of threshold estimation
on cached features. The two ways run in turn; the ratio is the median over the rounds of ours / plain, 1.10 for 10%
more time. On a CPU one thread runs and its own time is counted, so that other programs disturb little. Both ways keep
the memory that they free, as a run does. The share of time in which training waits for its data is read from one more
round under Lightning's profiler.
"""

import argparse
import statistics
import tempfile
import time
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from hydra import compose, initialize_config_dir
from hydra.core.hydra_config import HydraConfig
from pytorch_lightning.profilers import SimpleProfiler
from rich.console import Console
from rich.table import Table

from lsep_ml import fit_decision
from lsep_ml.data import DataSet, ImageDataModule, Split, Transform
from lsep_ml.decisions import ThresholdEstimation
from lsep_ml.metrics import RankingMetrics
from lsep_ml.processes.start import keep_freed_memory
from lsep_ml.stages.job import Job, build_job
from lsep_ml.stages.network import train_prediction
from lsep_ml.stages.resolvers import register_resolvers
from lsep_ml.store.entries import Store
from lsep_ml.training.fitting import paper_sgd
from lsep_ml.training.progress import quiet_lightning

CONF = Path(__file__).parents[2] / "conf"
HEAD_EPOCHS, HEAD_BATCH = 50, 64
GPU = torch.cuda.is_available()


class Row(NamedTuple):
    """Images a second of each way by round, and the share of our time that waits for data."""

    name: str
    ours: list[float]
    plain: list[float]
    waiting: float


def clock() -> float:
    """Seconds: of the wall where a GPU works, else of this process's own time."""
    if GPU:
        torch.cuda.synchronize()
        return time.perf_counter()
    return time.process_time()


def rate(images: int, work: Callable[[], object]) -> float:
    """Images a second."""
    started = clock()
    work()
    return images / (clock() - started)


def build(*overrides: str) -> Job:
    """All that `python run.py <overrides>` would train."""
    with initialize_config_dir(str(CONF), version_base="1.3"):
        config = compose("config", list(overrides), return_hydra_config=True)
    HydraConfig.instance().set_config(config)
    return build_job(config)


def train(job: Job, **options: object) -> None:
    """Stage 1 as a run does it, `options` the Trainer's."""
    with tempfile.TemporaryDirectory() as folder:
        training = replace(job.training, trainer=partial(job.training.trainer, **options))
        train_prediction(Store(Path(folder)), job.made_by, job.network, training, job.data, lambda row: None)


def plain_training(job: Job) -> None:
    """The same stage 1 by hand: no Trainer, no datamodule, no store."""
    options, network, device = job.config.training, job.network.to(job.device), job.device
    if options.channels_last:
        network.to(memory_format=torch.channels_last)
    data = job.data.data_set
    images, val_images = data.train.images, data.val.images
    targets, val_targets = torch.from_numpy(data.train.targets), torch.from_numpy(data.val.targets)
    lr = job.config.optimizer.lr
    groups = [
        {"params": network.backbone.parameters()},
        {"params": network.score_layer.parameters(), "lr": lr * options.score_layer_lr},
    ]
    optimizer = job.training.module.optimisation.optimizer(groups)
    steps = options.epochs * -(-len(images) // options.batch_size)
    schedule = job.training.module.optimisation.schedule(optimizer, steps)
    half = partial(torch.autocast, device.type, torch.bfloat16, job.config.trainer.precision == "bf16-mixed")
    best = 0.0
    with tempfile.TemporaryDirectory() as folder:
        for _ in range(options.epochs):
            network.train()
            for rows in torch.randperm(len(images)).split(options.batch_size):
                with half():
                    scores = network(images[rows].to(device)).scores
                loss = job.training.module.objective.loss(scores, targets[rows].to(device))
                optimizer.zero_grad()
                loss.backward()
                optimizer.step()
                schedule.step()
            network.eval()
            ranking = RankingMetrics(network.num_labels)
            for rows in torch.arange(len(val_images)).split(options.eval_batch_size):
                with torch.inference_mode(), half():
                    scores = network(val_images[rows].to(device)).scores
                ranking.update(scores.cpu(), val_targets[rows])
            value = float(ranking.compute()["map"])
            if value > best:
                best = value
                torch.save(network.state_dict(), Path(folder) / "best.pt")


def waiting(fit: Callable[[SimpleProfiler], object]) -> float:
    """The share of the time of training epochs that `fit` spends on waiting for the next batch."""
    with tempfile.TemporaryDirectory() as folder:  # for the report, which is not wanted
        profiler = SimpleProfiler(folder, "profile")
        fit(profiler)
    seconds = {action: sum(durations) for action, durations in profiler.recorded_durations.items()}
    return seconds["[_TrainingEpochLoop].train_dataloader_next"] / seconds["run_training_epoch"]


def measure_training(name: str, make: Callable[[], Job], rounds: int) -> Row:
    """Stage 1 both ways in turn, each time from the same weights, after a short round that warms up."""
    ours, plain = [], []
    for number in range(rounds + 1):
        job = make()
        images = job.config.training.epochs * len(job.data.data_set.train)
        found = rate(images, lambda job=job: plain_training(job)), rate(images, partial(train, make()))
        if number:
            plain.append(found[0])
            ours.append(found[1])
    return Row(name, ours, plain, waiting(lambda profiler: train(make(), profiler=profiler)))


def synthetic(job: Job, images: int) -> Job:
    """The job on random images 224 x 224 in memory, so that no disk and no decoder is measured."""
    rng = np.random.default_rng(0)

    def split(name: str, rows: int) -> Split:
        pixels = torch.randint(0, 256, (rows, 3, 224, 224), dtype=torch.uint8)
        targets = (rng.random((rows, job.network.num_labels)) < 0.2).astype(np.uint8)
        return Split(pixels, targets, None, np.array([f"{name}/{row}" for row in range(rows)]))

    labels = tuple(str(label) for label in range(job.network.num_labels))
    splits = (split(name, rows) for name, rows in {"train": images, "val": 64, "test": 1}.items())
    data_set = DataSet("synthetic", labels, *splits)
    options = job.config.training
    data = ImageDataModule(
        lambda: data_set,
        transform=Transform(),
        batch_size=options.batch_size,
        eval_batch_size=options.eval_batch_size,
        training_seed=0,
        num_workers=8,
    )
    return replace(job, data=data)


def compute_rate(job: Job, steps: int = 50) -> float:
    """Images a second of forward, backward and step alone, on one batch that is on the device already."""
    network = job.network.to(job.device, memory_format=torch.channels_last)
    images = torch.randint(0, 256, (job.config.training.batch_size, 3, 224, 224), dtype=torch.uint8)
    images = images.to(job.device)
    targets = (torch.rand(len(images), network.num_labels) < 0.2).to(job.device)
    optimizer = job.training.module.optimisation.optimizer(network.parameters())

    def step() -> None:
        with torch.autocast(job.device.type, torch.bfloat16):
            scores = network(images).scores
        optimizer.zero_grad()
        job.training.module.objective.loss(scores, targets).backward()
        optimizer.step()

    for _ in range(10):
        step()
    return rate(steps * len(images), lambda: [step() for _ in range(steps)])


def measure_decision(rows: int, num_features: int, num_labels: int, rounds: int) -> Row:
    """Stage 2 both ways in turn."""
    torch.manual_seed(0)
    features, scores = torch.rand(rows, num_features), torch.randn(rows, num_labels)
    targets = (torch.rand(rows, num_labels) < 0.2).long()

    def ours(**trainer: object) -> None:
        decision = ThresholdEstimation(num_features, num_labels)
        options = {"epochs": HEAD_EPOCHS, "batch_size": HEAD_BATCH, "trainer": trainer}
        fit_decision(decision, scores, targets, features, **options)

    def plain() -> None:
        decision = ThresholdEstimation(num_features, num_labels)
        decision.reset(scores, targets, features, None, seed=0)
        optimizer = paper_sgd(decision.parameters())
        for _ in range(HEAD_EPOCHS):
            for batch in torch.randperm(rows).split(HEAD_BATCH):
                optimizer.zero_grad()
                decision.loss(scores[batch], targets[batch], features[batch]).backward()
                optimizer.step()

    found = [(rate(HEAD_EPOCHS * rows, plain), rate(HEAD_EPOCHS * rows, ours)) for _ in range(rounds + 1)]
    plain_rates, our_rates = (list(rates) for rates in zip(*found[1:], strict=True))
    share = waiting(lambda profiler: ours(profiler=profiler))
    return Row(f"stage 2, thresh_est, {rows} x {num_features}", our_rates, plain_rates, share)


@quiet_lightning()
def main() -> None:
    """Measure and print the table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--scenes", type=int, default=6000, help="digit scenes to train on")
    parser.add_argument("--epochs", type=int, default=3, help="of stage 1")
    parser.add_argument("--images", type=int, default=2000, help="images 224 x 224, where there is a GPU")
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()
    torch.set_num_threads(1)
    keep_freed_memory()
    register_resolvers()
    epochs = f"training.epochs={options.epochs}"
    scenes = (f"data.train={options.scenes}", "data.test=1", epochs, "trainer=cpu")
    vgg = ("model=vgg16", "model.weights=null", "trainer=gpu", "data.train=8", "data.val=8", "data.test=1")
    rows = [
        measure_training(
            f"stage 1, small_cnn, {options.scenes} scenes", lambda: build(*scenes), options.rounds
        ),
        measure_decision(options.scenes, 128, 10, options.rounds),  # small_cnn's features
        measure_decision(options.scenes // 6, 4096, 81, options.rounds),  # VGG16's, NUS-WIDE's labels
    ]
    if GPU:

        def build_vgg() -> Job:
            return synthetic(build(*vgg, epochs), options.images)

        rows.append(
            measure_training(f"stage 1, vgg16 bf16, {options.images} images", build_vgg, options.rounds)
        )
    table = Table("work", "ours, images / s", "plain, images / s", "ratio of times", "waiting for data")
    for row in rows:
        ratios = [plain / ours for plain, ours in zip(row.plain, row.ours, strict=True)]
        cells = [
            f"{statistics.median(row.ours):.0f}",
            f"{statistics.median(row.plain):.0f}",
            f"{statistics.median(ratios):.3f} ({min(ratios):.3f} - {max(ratios):.3f})",
            f"{row.waiting:.1%}",
        ]
        table.add_row(row.name, *cells)
    console = Console(width=120)
    console.print(table)
    if GPU:
        console.print(f"vgg16 bf16, compute alone: {compute_rate(build(*vgg)):.0f} images / s")


if __name__ == "__main__":
    main()
