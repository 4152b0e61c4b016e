"""Claim (section 3.1): at most t = 1000 sampled pairs (eqn 9) make LSEP scale, at no loss.

    python experiments/claims/sampling.py [--seeds 0 1 2]

A synthetic problem with K = 1,000 labels: x ~ N(0, I) in 64 dimensions, an image's labels are the highest of W x plus
noise, 1 + Poisson(9) of them, so that an image has about 9,900 pairs. For t = 10, 30, ..., 3,000 and all pairs:

- value: the sampled loss over the exact one, at random scores and at trained ones;
- gradient, of a batch of 64 rows at both: the length of its mean over the draws relative to the exact gradient's
  length, the angle between these two, and the spread of single draws around their mean, relative to that mean's length;
- accuracy, for t = 10, 100, 1,000 and all: mAP and label-ranking average precision on 2,000 test images of a linear
  model trained for ten epochs, at the best of four rates by mAP on 1,000 other images; and the training's seconds.

Cost: two minutes on one core, most of it for drawing pairs. Expectation: the value is biased low, its gradient noisy
and off its length; accuracy suffers for small t; nothing is saved, as the exact loss is linear in K already.
Writes sampling.csv, sampling_accuracy.csv and sampling.png.
"""

import argparse
import time
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import matplotlib.pyplot as plt
import torch
from results import FOLDER, mean_interval, read_table, save, write_table
from torch import Tensor, nn

from lsep_ml.losses import LabelIndices, lsep_loss
from lsep_ml.metrics import ranking_metrics

PAIRS = (10, 30, 100, 300, 1_000, 3_000, None)
"""t; None: all."""
TRAINED_WITH = (10, 100, 1_000, None)
LABELS, INPUTS = 1_000, 64
TRAIN, VAL, TEST = 1_000, 1_000, 2_000
RATES = (0.3, 1.0, 3.0, 10.0)

Row = dict[str, Any]


class Images(NamedTuple):
    features: Tensor
    targets: Tensor


def draw(seed: int) -> list[Images]:
    """Training, validation and test images."""
    generator = torch.Generator().manual_seed(seed)
    weights = torch.randn(INPUTS, LABELS, generator=generator) / INPUTS**0.5
    popularity = -0.5 * torch.rand(LABELS, generator=generator)
    parts = []
    for count in (TRAIN, VAL, TEST):
        features = torch.randn(count, INPUTS, generator=generator)
        noisy = features @ weights + popularity + 0.5 * torch.randn(count, LABELS, generator=generator)
        sizes = 1 + torch.poisson(torch.full((count, 1), 9.0), generator=generator)
        ranks = noisy.argsort(1, descending=True).argsort(1)
        parts.append(Images(features, (ranks < sizes).long()))
    return parts


def train(images: Images, max_pairs: int | None, rate: float, seed: int, epochs: int = 10) -> nn.Linear:
    """A linear model, SGD with momentum 0.9, batches of 64, the rate falling to 0 along a line."""
    generator = torch.Generator().manual_seed(seed)
    model = nn.Linear(INPUTS, LABELS)
    nn.init.zeros_(model.weight)
    nn.init.zeros_(model.bias)
    optimizer = torch.optim.SGD(model.parameters(), lr=rate, momentum=0.9)
    indices, num_labels = LabelIndices.of(images.targets)
    batches = -(-len(images.features) // 64)
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: 1 - step / (epochs * batches))
    for _ in range(epochs):
        for rows in torch.randperm(len(images.features), generator=generator).split(64):
            targets = LabelIndices(indices[rows], num_labels)
            loss = lsep_loss(model(images.features[rows]), targets, max_pairs=max_pairs, generator=generator)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
    return model


def accuracy(model: nn.Linear, images: Images) -> dict[str, float]:
    with torch.no_grad():
        scores = model(images.features)
    if not scores.isfinite().all():
        return {"map": 0.0, "lrap": 0.0}
    metrics = ranking_metrics(scores.numpy(), images.targets.numpy())
    return {key: metrics[key] for key in ("map", "lrap")}


def estimates(scores: Tensor, targets: Tensor, max_pairs: int | None, draws: int) -> Row:
    """Value and gradient of the sampled loss over `draws` draws, relative to the exact ones."""
    generator = torch.Generator().manual_seed(0)

    def once(loss: partial[Tensor]) -> tuple[float, Tensor]:
        f = scores.clone().requires_grad_()
        value = loss(f, targets)
        return value.item(), torch.autograd.grad(value, f)[0].flatten()

    exact, gradient = once(partial(lsep_loss))
    found = [once(partial(lsep_loss, max_pairs=max_pairs, generator=generator)) for _ in range(draws)]
    gradients = torch.stack([g for _, g in found])
    mean = gradients.mean(0)
    # The square of the mean's length is overestimated by the variance of the mean.
    variance = (gradients - mean).square().sum() / (draws - 1)
    length = (mean.square().sum() - variance / draws).clamp(min=0).sqrt()
    return {
        "value": sum(value for value, _ in found) / draws / exact,
        "gradient_length": (length / gradient.norm()).item(),
        "gradient_cosine": (mean @ gradient / (length * gradient.norm())).clamp(max=1).item(),
        "gradient_spread": (variance.sqrt() / length).item(),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--seeds", type=int, nargs="*", default=[0, 1, 2])
    parser.add_argument("--draws", type=int, default=30, help="of the estimates")
    parser.add_argument("--pairs", type=int, nargs="*", help="values of t; all pairs are added")
    parser.add_argument("--epochs", type=int, default=10)
    parser.add_argument("--folder", type=Path, default=FOLDER)
    arguments = parser.parse_args()
    pairs, trained_with = PAIRS, TRAINED_WITH
    if arguments.pairs:
        pairs = trained_with = (*arguments.pairs, None)

    training, validation, test = draw(seed=0)
    batch = Images(*(part[:64] for part in validation))
    random = torch.randn(64, LABELS, generator=torch.Generator().manual_seed(1))
    trained = train(training, None, 1.0, seed=0, epochs=arguments.epochs)(batch.features).detach()
    rows = []
    for name, scores in {"random": random, "trained": trained}.items():
        for t in pairs:
            row = estimates(scores, batch.targets, t, arguments.draws)
            rows.append({"scores": name, "t": t or "all", **row})
            print(rows[-1])
    write_table(arguments.folder, "sampling", rows)

    results = []
    for t in trained_with:
        found = [_chosen(training, validation, test, t, seed, arguments.epochs) for seed in arguments.seeds]
        means = {key: mean_interval([row[key] for row in found]) for key in ("map", "lrap")}
        row = {"t": t or "all", "seeds": len(found), "rates": " ".join(f"{row['rate']:g}" for row in found)}
        row["cpu_seconds_a_training"] = sum(r["seconds"] for r in found) / len(found)
        for key, (mean, half) in means.items():
            row |= {key: mean, f"{key}_half": half}
        results.append(row)
        print(row, flush=True)
    write_table(arguments.folder, "sampling_accuracy", results)
    plot(arguments.folder)


def _chosen(training: Images, validation: Images, test: Images, t: int | None, seed: int, epochs: int) -> Row:
    """Test accuracy at the rate of the best validation mAP."""
    started = time.process_time()
    models = {rate: train(training, t, rate, seed, epochs) for rate in RATES}
    seconds = (time.process_time() - started) / len(RATES)
    rate = max(models, key=lambda rate: accuracy(models[rate], validation)["map"])
    return {"rate": rate, "seconds": seconds, **accuracy(models[rate], test)}


def plot(folder: Path) -> None:
    rows, results = read_table(folder, "sampling"), read_table(folder, "sampling_accuracy")
    figure, panels = plt.subplots(1, 3, figsize=(12, 4), layout="constrained")
    titles = ("Value, exact = 1", "Gradient of one batch", "Linear model, test")
    for scores, style in {"random": "--", "trained": "-"}.items():
        mine = [row for row in rows if row["scores"] == scores]
        ticks = [row["t"] for row in mine]
        panels[0].plot(
            ticks, [float(row["value"]) for row in mine], style, marker="o", label=f"{scores} scores"
        )
        for key, color in {"length": "C0", "spread": "C3"}.items():
            label = {"length": "length, exact = 1", "spread": "spread / length"}[key]
            values = [float(row[f"gradient_{key}"]) for row in mine]
            panels[1].plot(ticks, values, style, color=color, marker="o", label=f"{label}, {scores}")
    panels[1].set_ylim(bottom=0)
    for key in ("map", "lrap"):
        means, halves = ([float(row[k]) for row in results] for k in (key, f"{key}_half"))
        panels[2].errorbar(
            [row["t"] for row in results],
            means,
            halves,
            marker="o",
            capsize=3,
            label={"map": "mAP", "lrap": "LRAP"}[key],
        )
    for axes, title in zip(panels, titles, strict=True):
        axes.set(title=title, xlabel="pairs sampled, t")
        axes.legend(frameon=False, fontsize=8)
        axes.grid(alpha=0.3)
    save(folder, "sampling", figure)
    plt.close(figure)


if __name__ == "__main__":
    main()
