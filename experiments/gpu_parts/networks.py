"""Networks on the device: extraction of photographs against pure compute, and training steps against a plain loop."""

import copy
import time
from collections.abc import Callable, Iterator
from functools import cache, partial
from typing import Any

import numpy as np
import torch
from benchmarks.data import write_photographs
from gpu_parts.parts import Group, Judged, Setting
from pytorch_lightning import Callback, LightningModule, Trainer
from torch import Tensor, nn
from torch.optim import SGD

from lsep_ml.data import DataSet, ImageDataModule, Split, Transform
from lsep_ml.data.cores import available_cores
from lsep_ml.data.images.decode import ImageFiles
from lsep_ml.losses import lsep_loss
from lsep_ml.models import Network, timm_backbone, vgg16
from lsep_ml.stages.extraction import extract_features
from lsep_ml.stages.running import Running
from lsep_ml.store.entries import Store
from lsep_ml.training.label_prediction import LabelPrediction
from lsep_ml.training.recipe import Computing, Objective, Optimisation
from lsep_ml.training.schedules import cosine
from lsep_ml.training.trainer import build_trainer

LABELS = 20
MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
SHARE = 0.8
"""Of the images a second of pure compute, the least that extraction from files should reach on a GPU."""
RATIO = 1.05
"""Of a plain loop's time a step, the most that ours should take on a GPU."""
NEAR = {"float32": 0.01, "channels_last": 0.01, "compile": 0.01, "bf16": 0.05}
"""The largest difference of features over the largest one; a GPU convolves float32 in TF32 unless told not to."""
SAME_WEIGHTS = {"cuda": 0.1, "cpu": 1e-4}
"""The distance of weights trained in bfloat16 both ways, as a share of how far they moved."""
WARM = 5  # steps


def groups(setting: Setting) -> Iterator[tuple[str, Group]]:
    """The groups of these parts."""
    yield "extraction", {f"extraction-{way}": partial(extraction, setting, way) for way in NEAR}
    yield "vgg16", {"vgg16": partial(training, setting, small_vgg16 if setting.small else vgg16)}
    yield "resnet50", {"resnet50": partial(training, setting, partial(timm_backbone, "resnet50"))}


def extraction(setting: Setting, way: str) -> Judged:
    """Features from photographs, and images a second: of the stage in float32, of the network alone in other ways."""
    network, images = network_and_images(setting)
    wanted = compute(setting, "float32", network, images)
    if way != "float32":
        found = compute(setting, way, network, images)
        error = relative(found.features, wanted.features)
        speed = f"speed:{wanted.seconds / found.seconds:.2f}"
        return Judged(f"error:{error:.1e},{speed}", f"error<={NEAR[way]:g}", error <= NEAR[way])
    stage, seconds = extracted(setting, network)
    on_cpu = compute(Setting("cpu", setting.folder), way, copy.deepcopy(network).cpu(), images[:8])
    error = max(relative(stage, wanted.features), relative(stage[:8], on_cpu.features))
    rate, alone = len(stage) / seconds, len(images) / wanted.seconds
    good = error <= NEAR[way] and (setting.small or rate >= SHARE * alone)
    goal = f"error<={NEAR[way]:g}" + ("" if setting.small else f",share>={SHARE:g}")
    return Judged(f"error:{error:.1e},images/s:{rate:.0f},share:{rate / alone:.2f}", goal, good)


class Computed:
    """Features (N, D), and the seconds that a second pass over the images took."""

    def __init__(self, features: Tensor, seconds: float) -> None:
        self.features, self.seconds = features, seconds


def compute(setting: Setting, way: str, network: Network, images: Tensor) -> Computed:
    """Features of images that are on the device already, computed one way."""
    network = network.to(setting.device)
    extract: Callable[[Tensor], Tensor] = network.extract
    if way == "channels_last":
        network.to(memory_format=torch.channels_last)
    if way == "compile":
        torch.compiler.reset()
        extract = torch.compile(extract, backend="aot_eager" if setting.small else "inductor")
    batches = images.to(setting.device).split(batch_size(setting))
    half = torch.autocast(setting.device, torch.bfloat16, enabled=way == "bf16")
    for number in range(2):  # the first warms up
        started = clock(setting)
        with torch.inference_mode(), half:
            features = torch.cat([extract(batch).float() for batch in batches])
        if number:
            seconds = clock(setting) - started
    network.to(memory_format=torch.contiguous_format)
    return Computed(features.cpu(), seconds)


def extracted(setting: Setting, network: Network) -> tuple[Tensor, float]:
    """The training images' features by the stage, and the seconds it took, files and decoding included."""
    data = photographs(setting)
    started = clock(setting)
    parts: dict[str, Any] = {
        "data": {},
        "transform": {},
        "model": {"_target_": "lsep_ml.models.timm_backbone"},
    }
    store = Store(setting.folder / "extracted")
    device, running = torch.device(setting.device), Running(data.eval_batch_size)
    entry = extract_features(store, parts, network, data, device, running)
    seconds = clock(setting) - started
    return torch.from_numpy(np.load(entry.folder / "train_features.npy", allow_pickle=False)), seconds


@cache
def network_and_images(setting: Setting) -> tuple[Network, Tensor]:
    """A network of random weights, and the prepared images."""
    torch.manual_seed(0)
    name, side = ("test_resnet", 64) if setting.small else ("resnet50", 224)
    network = Network(timm_backbone(name, weights=None, image_size=side), LABELS, MEAN, STD).eval()
    loader = photographs(setting).evaluation_dataloader("train")
    return network, torch.cat([batch.images for batch in loader])


@cache
def photographs(setting: Setting) -> ImageDataModule:
    """JPEG files of about 500 x 375, as a data set whose validation and test have one image each."""
    folder = setting.folder / "photographs"
    folder.mkdir()
    files = write_photographs(folder, 24 if setting.small else 4000)
    side = 64 if setting.small else 224

    def split(names: np.ndarray) -> Split:
        return Split(ImageFiles(folder, names), np.ones((len(names), LABELS), np.uint8), None, names)

    splits = split(files[:-2]), split(files[-2:-1]), split(files[-1:])
    return data_module(setting, splits, Transform(resize=(side, side)))


def training(setting: Setting, backbone: Callable[..., nn.Module]) -> Judged:
    """Weights after the same steps both ways, and the time of a step, the Trainer's over the loop's."""
    torch.manual_seed(0)
    network = Network(backbone(weights=None), LABELS, MEAN, STD)
    for module in network.modules():
        if isinstance(module, nn.Dropout):
            module.p = 0.0
    start = copy.deepcopy(network.state_dict())
    side, rows = (32, 8) if setting.small else (224, 1920)
    pixels = torch.randint(0, 256, (rows + 2, 3, side, side), dtype=torch.uint8)
    targets = (torch.rand(rows + 2, LABELS) < 0.2).to(torch.uint8).numpy()
    ids = np.array([str(row) for row in range(rows + 2)])
    parts = slice(rows), slice(rows, rows + 1), slice(rows + 1, rows + 2)
    data = data_module(setting, [Split(pixels[p], targets[p], None, ids[p]) for p in parts], Transform())
    found = []
    for way in (trainer_steps, plain_steps):
        network.load_state_dict(start)
        seconds = way(setting, network, data)
        weights = torch.cat([weight.detach().cpu().float().flatten() for weight in network.parameters()])
        found.append((seconds, weights))
        network.to("cpu", memory_format=torch.contiguous_format)
    (ours, our_weights), (plain, weights) = found
    before = torch.cat([start[name].flatten() for name, _ in network.named_parameters()])
    distance = float((our_weights - weights).norm() / (weights - before).norm())
    good = distance <= SAME_WEIGHTS[setting.device] and (setting.small or ours <= RATIO * plain)
    goal = f"distance<={SAME_WEIGHTS[setting.device]:g}" + ("" if setting.small else f",time<={RATIO:g}")
    speed = f"images/s:{batch_size(setting) / ours:.0f},time:{ours / plain:.3f}"
    return Judged(f"distance:{distance:.1e},{speed}", goal, good)


def trainer_steps(setting: Setting, network: Network, data: ImageDataModule) -> float:
    """Seconds of a step as a run takes it."""
    module = LabelPrediction(
        network, Objective(lsep_loss, "lsep"), Optimisation(optimizer, cosine), Computing(channels_last=True)
    )
    timer = StepTimer(setting)
    trainer = build_trainer(
        accelerator="cpu" if setting.small else "gpu",
        devices=1,
        precision="bf16-mixed",
        benchmark=True,
        max_epochs=1,
        callbacks=[timer],
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        num_sanity_val_steps=0,
        limit_val_batches=0,
        use_distributed_sampler=False,
    )
    trainer.fit(module, datamodule=data)
    return timer.seconds


class StepTimer(Callback):
    """Measures the seconds of a step, the first few left out where there are more."""

    def __init__(self, setting: Setting) -> None:
        self.setting, self.seconds = setting, 0.0

    def on_train_batch_start(
        self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int
    ) -> None:
        if batch_idx == min(WARM, int(trainer.num_training_batches) - 1):
            self._first, self._started = batch_idx, clock(self.setting)

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        if batch_idx == int(trainer.num_training_batches) - 1:
            self.seconds = (clock(self.setting) - self._started) / (batch_idx + 1 - self._first)


def plain_steps(setting: Setting, network: Network, data: ImageDataModule) -> float:
    """Seconds of a step by hand, on the same batches."""
    torch.backends.cudnn.benchmark = True
    network.train().to(setting.device, memory_format=torch.channels_last)
    split = data.data_set.train
    assert isinstance(split.images, Tensor)
    targets = torch.from_numpy(split.targets)
    sgd = optimizer([{"params": list(network.parameters())}])
    order = data.train_dataloader().sampler
    order.set_epoch(0)
    schedule = cosine(sgd, len(order))
    first = min(WARM, len(order) - 1)
    for number, key in enumerate(order):
        if number == first:
            started = clock(setting)
        rows = torch.from_numpy(key.rows)
        with torch.autocast(setting.device, torch.bfloat16):
            features = network.extract(split.images[rows].to(setting.device))
        scores = network.score_layer(features.float())
        sgd.zero_grad()
        lsep_loss(scores, targets[rows].to(setting.device)).backward()
        sgd.step()
        schedule.step()
    return (clock(setting) - started) / (len(order) - first)


def optimizer(parameters: Any) -> SGD:
    """The paper's, as one kernel a step."""
    return SGD(parameters, lr=0.001, momentum=0.9, weight_decay=5e-5, fused=True)


def small_vgg16(weights: None) -> nn.Module:
    """VGG16 with a narrow layer in the place of its widest, which holds most of its weights."""
    backbone = vgg16(weights=weights)
    layers: Any = backbone.classifier
    layers[0], layers[3] = nn.Linear(512 * 49, 64), nn.Linear(64, 4096)
    return backbone


def data_module(setting: Setting, splits: Any, transform: Transform) -> ImageDataModule:
    labels = tuple(str(label) for label in range(LABELS))
    return ImageDataModule(
        lambda: DataSet("random", labels, *splits),
        transform=transform,
        batch_size=batch_size(setting),
        eval_batch_size=batch_size(setting),
        training_seed=0,
        num_workers=0 if setting.small else min(16, available_cores()),
    )


def batch_size(setting: Setting) -> int:
    return 4 if setting.small else 32


def clock(setting: Setting) -> float:
    """Seconds, when all that was given to the device is done."""
    if not setting.small:
        torch.cuda.synchronize()
    return time.perf_counter()


def relative(found: Tensor, wanted: Tensor) -> float:
    """The largest difference over the largest number; infinite where one is not a number."""
    ratio = (found - wanted).abs().max() / wanted.abs().max()
    return float(ratio.nan_to_num(nan=torch.inf))
