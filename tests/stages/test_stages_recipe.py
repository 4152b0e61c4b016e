"""The training recipe from configuration to result: against loops by hand, its refusals, and what later stages read."""

from copy import deepcopy
from functools import partial
from pathlib import Path
from typing import Any

import data_trees
import numpy as np
import pytest
import torch
from jobs import ROOT, compose_here, run_job_here
from torch import Tensor
from torch.nn import functional as F

import lsep_ml
from lsep_ml.bundle import read_parts, write_bundle
from lsep_ml.bundle.export import export
from lsep_ml.losses import lsep_loss
from lsep_ml.runs.files import HISTORY
from lsep_ml.runs.history import read_history
from lsep_ml.stages.job import Job, build_job
from lsep_ml.stages.network import train_prediction
from lsep_ml.stages.sweep import FOLDER
from lsep_ml.store.entries import Entry
from lsep_ml.store.keys import identity_of
from lsep_ml.store.sections import AT_FIRST

TINY = (
    "data.train=40",
    "data.val=30",
    "data.test=20",
    "data.canvas=24",
    "model.widths=[4,5]",
    "model.num_features=6",
    "training.batch_size=16",
    "training.epochs=1",
    "optimizer.lr=0.05",
    "optimizer.momentum=0",
    "optimizer.weight_decay=0.1",
    "schedule=constant",
    "trainer=cpu",
)


def train(output: Path, *overrides: str) -> tuple[Job, Entry]:
    job = build_job(compose_here(output, *TINY, *overrides)[0])
    rows: list[dict[str, Any]] = []
    entry = train_prediction(job.store, job.made_by, job.network, job.training, job.data, rows.append)
    return job, entry


def test_jobs_of_a_sweep_share_no_part_of_their_trainer(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(FOLDER, str(tmp_path))
    options = "+trainer.profiler._target_=pytorch_lightning.profilers.SimpleProfiler"
    first, second = (build_job(compose_here(tmp_path, *TINY, options)[0]).training.trainer for _ in range(2))
    assert first.keywords["profiler"] is not second.keywords["profiler"]


def test_a_training_calls_its_loss_without_hydra(tmp_path: Path) -> None:
    objective = build_job(compose_here(tmp_path, *TINY, "loss=bpmll")[0]).training.module.objective
    assert objective.diagnostics
    for function in (objective.loss, *objective.diagnostics.values()):
        assert type(function) is partial


def loss_of(loss: str, scores: Tensor, batch: Any) -> Tensor:
    if loss == "smoothed bce":
        return F.binary_cross_entropy_with_logits(scores, 0.8 * batch.targets + 0.1, reduction="sum") / len(
            scores
        )
    value = lsep_loss(scores, batch.targets)
    if batch.others is None:
        return value
    share = batch.others.share
    return share * value + (1 - share) * lsep_loss(scores, batch.others.targets)


def rate_and_decay(name: str, ndim: int, layer_decay: float, decay_all: bool) -> tuple[float, float]:
    layers = ("blocks.0.", "blocks.1.", "blocks.4.", "blocks.5.", "hidden.")
    place = next((n for n, part in enumerate(layers) if part in name), None)
    below = 0 if place is None else 2 - place // 2
    rate = 0.05 * (10 if place is None else layer_decay**below)
    return rate, 0.1 if decay_all or ndim > 1 else 0.0


@pytest.mark.parametrize(
    ("overrides", "loss", "layer_decay", "decay_all"),
    [
        (("training.mixup=0.4",), "lsep", 1.0, True),
        (("training.cutmix=1", "transform.augment=trivial"), "lsep", 1.0, True),
        (("loss=bce", "training.label_smoothing=0.2"), "smoothed bce", 1.0, True),
        (("training.layer_decay=0.5",), "lsep", 0.5, True),
        (("training.layer_decay=0.5", "training.decay_all=false"), "lsep", 0.5, False),
    ],
)
def test_training_is_what_a_loop_by_hand_does(
    tmp_path: Path, overrides: tuple[str, ...], loss: str, layer_decay: float, decay_all: bool
) -> None:
    rate = ("training.score_layer_lr=10",)
    job = build_job(compose_here(tmp_path, *TINY, *rate, *overrides)[0])
    network = deepcopy(job.network).train()
    for batch in job.data.train_dataloader():
        network.zero_grad()
        loss_of(loss, network(batch.images).scores, batch).backward()
        for name, p in network.named_parameters():
            lr, decay = rate_and_decay(name, p.ndim, layer_decay, decay_all)
            p.data -= lr * (p.grad + decay * p.detach())
    trained, _ = train(tmp_path, *rate, *overrides)
    for name, value in network.state_dict().items():
        torch.testing.assert_close(trained.network.state_dict()[name], value, rtol=1e-4, atol=1e-5, msg=name)


LOSSES = sorted(file.stem for file in (ROOT / "conf" / "loss").glob("*.yaml"))


@pytest.mark.parametrize("loss", LOSSES)
def test_every_loss_is_mixed(tmp_path: Path, loss: str) -> None:
    job, entry = train(
        tmp_path, f"loss={loss}", "training.mixup=0.4", "training.cutmix=1", "optimizer.lr=0.001"
    )
    [row] = read_history(entry.folder / HISTORY)
    assert np.isfinite(float(row["train_loss"]))
    assert all(torch.isfinite(value).all() for value in job.network.state_dict().values())


def test_patience_ends_a_training_and_keeps_its_best_epoch(tmp_path: Path) -> None:
    options = ("training.epochs=30", "optimizer.lr=0.02")
    _, whole = train(tmp_path, *options)
    maps = [float(row["val_map"]) for row in read_history(whole.folder / HISTORY)]
    for patience in (1, 3):
        job, entry = train(tmp_path, *options, f"training.patience={patience}")
        rows = read_history(entry.folder / HISTORY)
        found = [float(row["val_map"]) for row in rows]
        assert found == maps[: len(found)]
        best = [int(np.argmax(maps[: n + 1])) for n in range(len(maps))]
        ended = next((n for n in range(len(maps)) if n - best[n] >= patience), len(maps) - 1)
        assert len(found) == ended + 1
        assert entry.facts["epoch"] == best[ended] + 1
    assert len(found) < 30  # else nothing was tried
    assert job.training.patience == 3


def test_what_is_not_asked_for_is_no_part_of_the_identity(tmp_path: Path) -> None:
    def made_by(*options: str) -> dict[str, Any]:
        return build_job(compose_here(tmp_path, *TINY, "loss=bce", *options)[0]).made_by

    plain = made_by()
    for part in ("transform", "training"):
        assert AT_FIRST[part].keys().isdisjoint(plain["config"][part])
    others = (
        "transform.augment=trivial",
        "transform.augment=[trivial]",
        "transform.test_flip=true",
        "training.mixup=0.2",
        "training.cutmix=0.2",
        "training.label_smoothing=0.1",
        "training.layer_decay=0.9",
        "training.decay_all=false",
        "training.patience=2",
    )
    assert len({identity_of(made) for made in (plain, *map(made_by, others))}) == len(others) + 1


def test_the_main_job_is_found_by_the_name_it_always_had(tmp_path: Path) -> None:
    assert identity_of(build_job(compose_here(tmp_path, "trainer=cpu")[0]).made_by) == "009434a0596e8f8e"


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (("training.label_smoothing=0.1",), r"training\.label_smoothing=0\.1: loss=lsep has no meaning"),
        (
            ("training.label_smoothing=1", "loss=bce"),
            r"training\.label_smoothing=1: expected a number at least 0",
        ),
        (("training.mixup=0.1", "training=probe"), r"training\.mixup=0\.1: a probe trains on features"),
        (
            ("training.cutmix=1", "training=probe", "training.solver=sgd"),
            r"training\.cutmix=1: a probe trains on features",
        ),
        (
            ("training.label_smoothing=0.1", "training=probe", "loss=bce"),
            r"training\.label_smoothing=0\.1: a solver takes targets as they are",
        ),
        (("training.layer_decay=0",), r"training\.layer_decay=0: expected a number above 0 and at most 1"),
        (("training.patience=0",), r"training\.patience=0: expected a whole number at least 1, or null"),
        (
            ("transform.augment=trivail",),
            r"transform\.augment=trivail: expected one of flip, vertical_flip, trivial",
        ),
        (("transform.augment=[flip,{a: 1}]",), r"transform\.augment=.*: expected one of flip"),
        (("transform.test_flip=maybe",), r"transform\.test_flip=maybe: expected true or false"),
    ],
)
def test_what_cannot_be_had_is_refused(tmp_path: Path, overrides: tuple[str, ...], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        build_job(compose_here(tmp_path, *TINY, *overrides)[0])


def test_an_operation_of_torchvisions_is_built_from_its_node(tmp_path: Path) -> None:
    node = "{_target_: torchvision.transforms.v2.RandomInvert, p: 1.0}"
    job = build_job(compose_here(tmp_path, *TINY, f"transform.augment=[{node}]")[0])
    plain = build_job(compose_here(tmp_path, *TINY)[0])
    for one, other in zip(job.data.train_dataloader(), plain.data.train_dataloader(), strict=True):
        assert torch.equal(one.images, 255 - other.images)


def test_a_head_of_places_has_no_mean_of_mirror_images(tmp_path: Path) -> None:
    net = (
        "model=timm",
        "model.name=test_resnet",
        "model.weights=null",
        "model.head=csra",
        "transform.crop=64",
    )
    with pytest.raises(ValueError, match=r"transform\.test_flip=true: .*take model\.head=linear"):
        build_job(
            compose_here(tmp_path, *net, "transform.channels=3", "transform.test_flip=true", "trainer=cpu")[0]
        )


NET = (
    "model=timm",
    "model.name=test_resnet",
    "model.weights=null",
    "transform.crop=64",
    "transform.test_flip=true",
)
SMALL = ("training.epochs=1", "fitting.epochs=1", "trainer=cpu", "training.batch_size=8", "optimizer=adamw")


@pytest.mark.parametrize("training", ["finetune", "probe"])
def test_the_mean_over_the_mirror_image_is_what_stage_2_bundle_and_graph_read(
    tmp_path: Path, training: str
) -> None:
    import onnxruntime

    tree = data_trees.write_csv(tmp_path / "csv")
    place = ("data=csv", f"data.root={tree}", f"paths.data={tree.parent}", "data.num_workers=0", *SMALL, *NET)
    options = (*place, "decision=thresh_est", "decision.fit_on=train", f"training={training}")
    record, folder = run_job_here(tmp_path / "out", *options)
    write_bundle(read_parts(folder), tmp_path / "bundle")
    classifier = lsep_ml.load(tmp_path / "bundle", device="cpu")
    with np.load(folder / "predictions.npz") as arrays:
        files, kept = [tree / name for name in arrays["image_ids"].tolist()], dict(arrays)
    images = torch.stack([classifier.prepare(file) for file in files])
    features = np.load(next((tmp_path / "out/store/features").glob("*/test_features.npy")))
    network = classifier.network
    with torch.inference_mode():
        pixels = (images.float() - network.mean) / network.std
        both = [network.backbone(pixels), network.backbone(pixels.flip(-1))]
        scores = [network.score_layer(part) for part in both]
    assert not torch.allclose(*both, atol=1e-3)
    torch.testing.assert_close(torch.from_numpy(features), sum(both) / 2, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(torch.from_numpy(kept["scores"]), sum(scores) / 2, rtol=1e-4, atol=1e-4)
    found = classifier.predict(files)
    np.testing.assert_allclose(found.scores, kept["scores"], atol=1e-4)
    np.testing.assert_allclose(found.thresholds, kept["thresholds"], atol=1e-4)
    export(classifier, tmp_path / "model.onnx", images=images)
    session = onnxruntime.InferenceSession(tmp_path / "model.onnx", providers=["CPUExecutionProvider"])
    np.testing.assert_allclose(
        session.run(["scores"], {"images": images.numpy()})[0], kept["scores"], atol=1e-4
    )
    if training == "finetune":  # validation chose by the same scores
        val = classifier.network
        with np.load(folder / "validation.npz") as arrays:
            images = torch.stack([classifier.prepare(tree / name) for name in arrays["image_ids"].tolist()])
            with torch.inference_mode():
                np.testing.assert_allclose(val(images).scores.numpy(), arrays["scores"], atol=1e-4)
        assert record["reused"] == {"prediction": False, "extraction": False}
