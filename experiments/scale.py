"""What a training of very many labels costs, stage by stage: memory and time, from the features to the table.

    python experiments/scale.py --images 200000 --labels 10000
    python experiments/scale.py --images 1000000 --labels 10000 --losses lsep --epochs 1 --json

The data are made up: 256 features drawn from a mixture model (the sum of a direction a label, plus noise), about 30
labels an image (a tenth of the labels where there are fewer than 300), their frequencies after Zipf's law; 5% of the
images are held out for validation and 5% for test. There are no images.

What never exists at once: the scores (N, K). Targets are compressed rows, a training batch holds scores of its own
images alone, and everything after the training reads the scores of validation and test by blocks of labels, which are
computed when they are read. The thresholds (one for all labels on the paper's grid, and one a label) are those of the
dense search, to the last bit. What is inexact is said: intervals from 10^8 scores on are of 100 samples instead
of 1,000, and mAP has none.

Every stage's result is kept in --out and found again by what made it, so a run that was stopped continues. --json: the
last line is one JSON object with images, labels, losses, seconds and peak_gib by stage, and metrics by loss and
decision. The peak is the high-water mark of resident memory, mapped files included, of the largest process.
--costs FILE.csv: rows are added, one a stage that was done now, with its CPU seconds too (all threads);
`experiments/benchmarks/scale_plot.py` draws them.
"""

import argparse
import csv
import json
import resource
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import Any

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
import numpy as np
import polars as pl
import torch
from numpy.lib.format import open_memmap
from pytorch_lightning import Callback, LightningModule, Trainer
from rich.console import Console
from scipy.sparse import csr_array
from torch import nn

from lsep_ml import losses
from lsep_ml.decisions import GlobalThreshold, PerClassThreshold
from lsep_ml.decisions.label_blocks import fit_by_label_blocks
from lsep_ml.files import atomic_write, link_or_copy
from lsep_ml.metrics.functional import (
    average_precisions,
    label_set_metrics,
    mean_of_defined,
    per_class_metrics,
)
from lsep_ml.metrics.indicator import SparseIndicator
from lsep_ml.metrics.label_blocks import CountsByBlock, LinearScores
from lsep_ml.models import Network, Probe
from lsep_ml.stages.evaluation import FEW, LARGE
from lsep_ml.store.entries import Entry, Store
from lsep_ml.training.label_prediction import LabelPrediction
from lsep_ml.training.progress import quiet_lightning
from lsep_ml.training.recipe import Objective, Optimisation
from lsep_ml.training.schedules import cosine
from lsep_ml.training.sparse_rows import SparseRows, sparse_batches
from lsep_ml.training.trainer import build_trainer

FEATURES, BATCH, HELD_OUT = 256, 256, 0.05
RATES = {"bce": 0.15}  # by the loss; 0.8 for those not named
NOISE = 0.7
DECISIONS: dict[str, Callable[[], Any]] = {
    "threshold": GlobalThreshold,
    "per_class": partial(PerClassThreshold, search="grid"),
}
console = Console(stderr=True)


class Costs:
    """Seconds, CPU seconds and peak memory of each stage; which were found in --out."""

    def __init__(self) -> None:
        self.found: set[str] = set()
        self.seconds: dict[str, float] = {}
        self.cpu_seconds: dict[str, float] = {}
        self.peak_gib: dict[str, float] = {}

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        """Measure what runs within as a part of the stage."""
        _forget_peak()
        started, used = time.perf_counter(), time.process_time()
        yield
        self.cpu_seconds[name] = round(self.cpu_seconds.get(name, 0.0) + time.process_time() - used, 1)
        self.seconds[name] = round(self.seconds.get(name, 0.0) + time.perf_counter() - started, 1)
        self.peak_gib[name] = round(max(self.peak_gib.get(name, 0.0), _peak_gib()), 3)
        spent = f"{self.seconds[name]:.0f} s ({self.cpu_seconds[name]:.0f} of the CPU)"
        console.print(f"{name}: {spent}, peak {self.peak_gib[name]:.2f} GiB")

    def made(self, name: str, entry: Entry) -> Entry:
        """Give the entry of a stage back; note where it was found."""
        if entry.reused:
            self.found.add(name)
        return entry

    def append_to(self, path: Path, of: dict[str, Any]) -> None:
        """Add a row a stage that was done now to a table."""
        new = not path.exists()
        with path.open("a", newline="") as file:
            writer = csv.writer(file, lineterminator="\n")
            if new:
                writer.writerow([*of, "stage", "seconds", "cpu_seconds", "peak_gib"])
            for name in [stage for stage in self.seconds if stage not in self.found]:
                row = self.seconds[name], self.cpu_seconds[name], self.peak_gib[name]
                writer.writerow([*of.values(), name, *row])


def _forget_peak() -> None:
    with suppress(OSError):  # then the peak is that of the whole run so far
        Path("/proc/self/clear_refs").write_text("5")


def _peak_gib() -> float:
    children = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss
    status = Path("/proc/self/status")
    if status.exists():
        own = int(
            next(line for line in status.read_text().splitlines() if line.startswith("VmHWM")).split()[1]
        )
    else:
        own = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return max(own, children) / 2**20


def draw_labels(images: int, labels: int, rng: np.random.Generator) -> csr_array:
    """Label sets of about 30 labels, or a tenth of all, the label of rank r = 1, 2, ... drawn as 1 / (r + 9)."""
    mean = min(30, labels / 10)
    reached = np.cumsum(1 / (np.arange(labels) + 10))
    sizes = 1 + rng.poisson(mean - 1, images)
    drawn = np.searchsorted(reached / reached[-1], rng.random(int(sizes.sum())))
    rows = np.repeat(np.arange(images), sizes)
    cells = np.unique(rows * labels + np.minimum(drawn, labels - 1))  # a label once an image
    indptr = np.searchsorted(cells, np.arange(images + 1) * labels)
    return csr_array(
        (np.ones(len(cells), np.uint8), (cells % labels).astype(np.int32), indptr), (images, labels)
    )


def write_data(folder: Path, images: int, labels: int, seed: int) -> dict[str, Any]:
    """Write features.npy (N, 256) and the targets' compressed rows, drawn in blocks that bound the memory."""
    directions = np.random.default_rng([seed, 0]).normal(size=(labels, FEATURES)).astype(np.float32)
    features = open_memmap(folder / "features.npy", mode="w+", dtype=np.float32, shape=(images, FEATURES))
    indices, lengths = [], []
    for number, start in enumerate(range(0, images, 50_000)):
        rng = np.random.default_rng([seed, 1, number])
        size = min(50_000, images - start)
        targets = draw_labels(size, labels, rng)
        of_image = np.diff(targets.indptr)
        signal = (targets.astype(np.float32) @ directions) / np.sqrt(of_image)[:, None]
        features[start : start + size] = signal + NOISE * rng.normal(size=signal.shape).astype(np.float32)
        indices.append(targets.indices.astype(np.int32))
        lengths.append(of_image)
    features.flush()
    np.save(folder / "indices.npy", np.concatenate(indices))
    np.save(folder / "indptr.npy", np.append(0, np.cumsum(np.concatenate(lengths))).astype(np.int64))
    return {"entries": int(sum(len(of_block) for of_block in indices))}


class Split:
    """Some images in their order: features, memory-mapped, and targets as compressed rows."""

    def __init__(self, data: Entry, labels: int, rows: slice) -> None:
        indptr = np.load(data.folder / "indptr.npy", mmap_mode="r", allow_pickle=False)[
            rows.start : rows.stop + 1
        ]
        indices = np.load(data.folder / "indices.npy", mmap_mode="r", allow_pickle=False)[
            indptr[0] : indptr[-1]
        ]
        self.features = np.load(data.folder / "features.npy", mmap_mode="r", allow_pickle=False)[rows]
        self.targets = SparseIndicator(indptr - indptr[0], indices, labels)

    def scores(self, layer: dict[str, Any]) -> LinearScores:
        """Their scores by a score layer, by blocks of labels."""
        return LinearScores(self.features, layer["weight"], layer["bias"], self.targets)


class Told(Callback):
    """Says every tenth of a training how far it is."""

    def on_train_batch_end(self, trainer: Trainer, pl_module: LightningModule, *_: Any) -> None:
        total = int(trainer.estimated_stepping_batches)
        done = trainer.global_step
        if done * 10 // total > (done - 1) * 10 // total:
            console.print(f"  {pl_module.loss_name}: step {done:,} of {total:,}")


def train(folder: Path, name: str, split: Split, epochs: int, seed: int) -> dict[str, Any]:
    """Train a score layer with a loss by SGD, and write it; its bias starts at the log odds of the labels' shares."""
    torch.manual_seed(seed)
    backbone: Any = nn.Identity()
    backbone.num_features = FEATURES
    network = Network(backbone, split.targets.shape[1], [0.0], [1.0])
    share = np.clip(split.targets.sum(0, dtype=np.int64) / len(split.features), 1e-6, 0.99)
    with torch.no_grad():
        network.score_layer.weight.zero_()
        network.score_layer.bias.copy_(torch.from_numpy(np.log(share / (1 - share))))
    module = LabelPrediction(
        Probe(network),
        Objective(getattr(losses, f"{name}_loss"), name),
        Optimisation(partial(torch.optim.SGD, lr=RATES.get(name, 0.8), momentum=0.9), cosine),
    )
    options = {
        "logger": False,
        "enable_checkpointing": False,
        "enable_progress_bar": False,
        "enable_model_summary": False,
    }
    with quiet_lightning():
        trainer = build_trainer(
            accelerator="cpu", devices=1, max_epochs=epochs, callbacks=[Told()], **options
        )
        trainer.fit(module, sparse_batches(SparseRows(split.features, split.targets), BATCH, seed))
    layer = network.score_layer
    np.savez(folder / "layer.npz", weight=layer.weight.detach().numpy(), bias=layer.bias.detach().numpy())
    return {"steps": trainer.global_step}


def fit(folder: Path, split: Split, layer: dict[str, Any]) -> dict[str, Any]:
    """Fit the thresholds on validation, and take validation's mAP once."""
    scores = split.scores(layer)
    np.savez(
        folder / "thresholds.npz",
        **{name: fit_by_label_blocks(rule(), scores).theta.numpy() for name, rule in DECISIONS.items()},
    )
    of_label = [average_precisions(block.scores, block.targets) for block in scores]
    return {"val_map": mean_of_defined(np.concatenate(of_label))}


def evaluate(
    folder: Path, split: Split, layer: dict[str, Any], thresholds: dict[str, Any], seed: int
) -> dict[str, Any]:
    """Metrics of the test images by every decision, with intervals, and what each label reached."""
    images, labels = split.targets.shape
    replicates = FEW if images * labels >= LARGE else 1000
    counted = {name: CountsByBlock(images, replicates=replicates, seed=seed) for name in thresholds}
    of_label = []
    for block in split.scores(layer):
        of_label.append(average_precisions(block.scores, block.targets))
        for name, theta in thresholds.items():
            counted[name].add(block.scores > (theta[block.labels] if theta.ndim else theta), block.targets)
    precision = np.concatenate(of_label)
    table = {"label": np.arange(labels), "positives": counted["threshold"].counts().actual, "ap": precision}
    facts: dict[str, Any] = {"replicates": replicates, "metrics": {}, "intervals": {}}
    for name, by_block in counted.items():
        counts = by_block.counts()
        values = {key: float(value) for key, value in label_set_metrics(counts).items()}
        facts["metrics"][name] = values | {"map": mean_of_defined(precision)}
        facts["intervals"][name] = by_block.intervals()
        for key, of_labels in per_class_metrics(counts.correct, counts.predicted, counts.actual).items():
            table[f"{name}_{key}"] = of_labels
    pl.DataFrame(table).write_csv(folder / "labels.csv")
    return facts


def report(out: Path, evaluated: dict[str, Entry], title: str) -> None:
    """Write report.md, labels.csv of each loss, and a picture of the average precision by how frequent a label is."""
    lines = [
        f"# {title}",
        "",
        "| loss | decision | F1 | 95% interval | exact match | mAP |",
        "| --- | --- | --- | --- | --- | --- |",
    ]
    figure, axes = plt.subplots(figsize=(6.4, 4), layout="constrained")
    worst: list[str] = []
    for loss, entry in evaluated.items():
        for decision, values in entry.facts["metrics"].items():
            low, high = entry.facts["intervals"][decision]["f1"]
            lines.append(
                f"| {loss} | {decision} | {100 * values['f1']:.2f} | {100 * low:.2f} to {100 * high:.2f} "
                f"| {100 * values['exact_match']:.2f} | {100 * values['map']:.2f} |"
            )
        labels = pl.read_csv(entry.folder / "labels.csv")
        link_or_copy(entry.folder / "labels.csv", out / f"labels_{loss}.csv")
        known = labels.filter(pl.col("positives") > 0).sort("positives")
        groups = np.array_split(
            np.arange(len(known)), min(12, len(known))
        )  # from the rarest labels to the most frequent
        means = [known[rows].select("positives", "ap").mean() for rows in groups]
        axes.plot(
            [mean["positives"][0] for mean in means],
            [100 * mean["ap"][0] for mean in means],
            marker="o",
            label=loss,
        )
        for words, some in (
            ("most frequent", known.tail(5)),
            ("rarest", known.head(5)),
            ("worst of the more frequent half", known.tail(len(known) // 2).sort("ap").head(5)),
        ):
            shown = ", ".join(
                f"{row['label']} ({row['positives']} images, AP {100 * row['ap']:.1f})"
                for row in some.iter_rows(named=True)
            )
            worst.append(f"- {loss}, {words}: {shown}")
    axes.set(xscale="log", xlabel="positives among the test images", ylabel="average precision (%)")
    axes.legend(frameon=False)
    axes.spines[["top", "right"]].set_visible(False)
    figure.savefig(out / "precision_by_frequency.png", dpi=150)
    plt.close(figure)
    replicates = next(iter(evaluated.values())).facts["replicates"]
    said = (
        f"Intervals are percentiles of {replicates} bootstrap samples of the test images; mAP has none. Where many "
        "labels have few positives they lie below a mean over labels: a sample misses some of these positives."
    )
    text = "\n".join([*lines, "", said, "", *worst, "", "![](precision_by_frequency.png)", ""])
    with atomic_write(out / "report.md") as file:
        file.write(text)


def run(
    images: int, labels: int, epochs: int, names: list[str], seed: int, out: Path, costs: Costs
) -> dict[str, Any]:
    """Run all stages, or find again what was done, and return what --json prints."""
    store = Store(out / "store")
    made_by: dict[str, Any] = {
        "images": images,
        "labels": labels,
        "features": FEATURES,
        "noise": NOISE,
        "seed": seed,
        "version": 1,
    }
    with costs.stage("data"):
        make = partial(write_data, images=images, labels=labels, seed=seed)
        data = costs.made("data", store.get_or_build("data", made_by, make))
    held_out = max(2, round(HELD_OUT * images))
    bounds = [0, images - 2 * held_out, images - held_out, images]
    training, validation, test = (Split(data, labels, slice(*pair)) for pair in pairwise(bounds))
    evaluated = {}
    for name in names:
        how = {
            "data": data.identity,
            "loss": name,
            "rate": RATES.get(name, 0.8),
            "batch": BATCH,
            "epochs": epochs,
        }
        with costs.stage("train"):
            make = partial(train, name=name, split=training, epochs=epochs, seed=seed)
            trained = costs.made("train", store.get_or_build("layers", how, make))
        with np.load(trained.folder / "layer.npz", allow_pickle=False) as file:
            layer = dict(file)
        with costs.stage("fit"):
            make = partial(fit, split=validation, layer=layer)
            fitted = costs.made("fit", store.get_or_build("thresholds", {"layer": trained.identity}, make))
        with np.load(fitted.folder / "thresholds.npz", allow_pickle=False) as file:
            thresholds = dict(file)
        with costs.stage("evaluate"):
            make = partial(evaluate, split=test, layer=layer, thresholds=thresholds, seed=seed)
            key = {"thresholds": fitted.identity}
            evaluated[name] = costs.made("evaluate", store.get_or_build("metrics", key, make))
    with costs.stage("report"):
        report(out, evaluated, f"{images:,} images, {labels:,} labels, {epochs} epochs")
    metrics = {name: entry.facts["metrics"] for name, entry in evaluated.items()}
    return {
        "images": images,
        "labels": labels,
        "losses": names,
        "seconds": costs.seconds,
        "peak_gib": costs.peak_gib,
        "metrics": metrics,
    }


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--images", type=int, required=True, help="N, at least 100")
    parser.add_argument("--labels", type=int, required=True, help="K, at least 20")
    parser.add_argument("--epochs", type=int, default=2)
    parser.add_argument("--losses", default="lsep,bce", help="names of losses, separated by commas")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, default=Path("outputs/scale"), help="folder of the results")
    parser.add_argument("--costs", type=Path, help="a table, to which the costs of the stages are added")
    parser.add_argument("--json", action="store_true", help="print one JSON object as the last line")
    options = parser.parse_args()
    names = options.losses.split(",")
    of_scores = set(losses.__all__) - set(losses.label_blocks.__all__)
    known = sorted(name.removesuffix("_loss") for name in of_scores if name.endswith("_loss"))
    unknown = [name for name in names if name not in known]
    if unknown:
        parser.error(f"--losses: no loss is called {unknown[0]!r}; there are {', '.join(known)}")
    for name, value, least in (
        ("images", options.images, 100),
        ("labels", options.labels, 20),
        ("epochs", options.epochs, 1),
    ):
        if value < least:
            parser.error(f"--{name}={value}: expected at least {least}")
    options.out.mkdir(parents=True, exist_ok=True)
    size, costs = (options.images, options.labels, options.epochs), Costs()
    found = run(*size, names, options.seed, options.out, costs)
    if options.costs is not None:
        of = dict(zip(("images", "labels", "epochs"), size, strict=True)) | {"losses": "|".join(names)}
        costs.append_to(options.costs, of)
    if options.json:
        print(json.dumps(found), flush=True)
    else:
        sys.stdout.write((options.out / "report.md").read_text())


if __name__ == "__main__":
    main()
