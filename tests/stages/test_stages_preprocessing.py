"""A job feeds a pretrained network the pixels it was trained on, and so does everything that uses what it left."""

import json
import logging
import shutil
from pathlib import Path
from typing import Any

import data_trees
import numpy as np
import pytest
import timm
import torch
from hydra.errors import InstantiationException
from jobs import compose_here, run_job_here
from PIL import Image

import lsep_ml
from lsep_ml.bundle import read_parts, write_bundle
from lsep_ml.bundle.export import export
from lsep_ml.bundle.images import read_image
from lsep_ml.data import Transform
from lsep_ml.demo.page import build_page
from lsep_ml.stages.extraction import features_key
from lsep_ml.stages.job import build_job
from lsep_ml.store.keys import identity_of

NET = ("model=timm", "model.name=test_vit", "model.weights=null")  # mean and std 0.5, 160 x 160, bicubic
SMALL = ("training.epochs=1", "fitting.epochs=1", "trainer=cpu", "training.batch_size=8")


@pytest.fixture(scope="module")
def tree(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return data_trees.write_csv(tmp_path_factory.mktemp("own") / "csv")


def place(tree: Path) -> tuple[str, ...]:
    return ("data=csv", f"data.root={tree}", f"paths.data={tree.parent}", "data.num_workers=0", *SMALL)


@pytest.fixture(scope="module")
def run(tree: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[dict[str, Any], Path]:
    return run_job_here(tmp_path_factory.mktemp("outputs"), *place(tree), *NET)


OWN = {
    "geometry": "squash",
    "resize": None,
    "crop": [160, 160],
    "crop_pct": 0.95,
    "interpolation": "bicubic",
    "antialias": True,
    "channels": 3,
    "mean": [0.5, 0.5, 0.5],
    "std": [0.5, 0.5, 0.5],
}


def test_the_record_says_what_the_weights_wanted(run: tuple[dict[str, Any], Path]) -> None:
    record, folder = run
    transform = record["config"]["transform"]
    assert {key: transform[key] for key in OWN} == OWN
    assert record["config"]["model"]["image_size"] == [160, 160]
    assert dict(read_parts(folder).transform) == {**OWN, "test_flip": False, "decode": "full"}


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")  # gradio leaves a loop open
def test_the_same_pixels_everywhere(run: tuple[dict[str, Any], Path], tree: Path, tmp_path: Path) -> None:
    import onnxruntime

    job = build_job(compose_here(tmp_path, *place(tree), *NET)[0])
    [batch, *_] = job.data.evaluation_dataloader("test")
    paths = [tree / name for name in job.data.data_set.test.image_ids[batch.rows]]
    by_pillow = [
        np.asarray(Image.open(path).convert("RGB").resize((160, 160), Image.BICUBIC)) for path in paths
    ]
    assert np.array_equal(batch.images.permute(0, 2, 3, 1).numpy(), np.stack(by_pillow))

    write_bundle(read_parts(run[1]), tmp_path / "bundle")
    classifier = lsep_ml.load(tmp_path / "bundle", device="cpu")
    assert torch.equal(torch.stack([classifier.prepare(path) for path in paths]), batch.images)

    shown: list[torch.Tensor] = []
    classifier.network.register_forward_pre_hook(lambda module, args: shown.append(args[0].clone()))
    page = build_page(classifier)
    [look] = [fn.fn for fn in page.fns.values() if getattr(fn.fn, "__name__", "") == "show_image"]
    look(str(paths[0]), 0.0)
    assert torch.equal(shown[-1][0], batch.images[0])

    export(classifier, tmp_path / "model.onnx")
    session = onnxruntime.InferenceSession(tmp_path / "model.onnx", providers=["CPUExecutionProvider"])
    wanted = json.loads(session.get_modelmeta().custom_metadata_map["preprocessing"])
    assert wanted["transform"] == OWN
    images = torch.stack([Transform(**wanted["transform"])(read_image(path)) for path in paths])
    assert torch.equal(images, batch.images)
    with torch.inference_mode():
        expected = classifier.network(batch.images).scores.numpy()
    found = session.run(["scores"], {"images": images.numpy()})[0]
    np.testing.assert_allclose(found, expected, atol=1e-4)
    applied = (batch.images / 255 - 0.5) / 0.5
    torch.testing.assert_close(classifier.network.extract(batch.images), classifier.network.backbone(applied))


def test_what_is_set_wins_and_a_clash_is_said_once(
    tree: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    own = ("transform.mean=[0.1,0.2,0.3]", "transform.interpolation=bilinear", "transform.geometry=pad")
    job = build_job(compose_here(tmp_path, *place(tree), *NET, *own)[0])
    assert job.network.mean.flatten().tolist() == pytest.approx([25.5, 51.0, 76.5])
    assert job.network.std.flatten().tolist() == pytest.approx([127.5] * 3)
    assert job.config.transform.interpolation == "bilinear"
    said = [r.getMessage() for r in caplog.records if r.levelno == logging.WARNING]
    assert said == [
        "transform.mean is not what test_vit was trained with: [0.5, 0.5, 0.5]; "
        "transform.interpolation is not what test_vit was trained with: bicubic"
    ]


def test_what_changes_pixels_is_another_identity(tree: Path, tmp_path: Path) -> None:
    first = build_job(compose_here(tmp_path, *place(tree), *NET)[0])
    others = [
        build_job(compose_here(tmp_path, *place(tree), *NET, option)[0])
        for option in ("transform.geometry=center", "transform.interpolation=bilinear")
    ]
    assert len({identity_of(job.made_by) for job in (first, *others)}) == 3
    named = build_job(compose_here(tmp_path, *place(tree), *NET, "transform.interpolation=bicubic")[0])
    assert identity_of(named.made_by) == identity_of(first.made_by)


def test_a_bundle_is_started_from_with_its_own_pixels(
    run: tuple[dict[str, Any], Path], tree: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    started = ("model=timm", "model.name=test_vit", f"model.weights={run[1]}")
    job = build_job(compose_here(tmp_path, *place(tree), *started)[0])
    assert {key: job.config.transform[key] for key in OWN} == OWN
    assert not [r for r in caplog.records if "trained with" in r.getMessage()]
    build_job(compose_here(tmp_path, *place(tree), *started, "transform.std=[0.2,0.2,0.2]")[0])
    assert f"transform.std is not what {run[1]} was trained with" in caplog.text


def test_a_model_that_says_nothing_is_named(tree: Path, tmp_path: Path) -> None:
    with pytest.raises(
        ValueError, match=r"transform\.crop=model: SmallCNN says nothing of it.*transform=small"
    ):
        build_job(compose_here(tmp_path, *place(tree), "model=small_cnn", "transform=model")[0])


def test_another_size_is_built_and_a_wrong_one_names_those_that_work(tree: Path, tmp_path: Path) -> None:
    job = build_job(compose_here(tmp_path, *place(tree), *NET, "transform.crop=192")[0])
    [batch, *_] = job.data.evaluation_dataloader("val")
    assert batch.images.shape[2:] == (192, 192)
    assert job.network(batch.images).features.shape == (len(batch.images), 64)
    assert job.network.backbone.model.patch_embed.img_size == (192, 192)
    with pytest.raises(
        InstantiationException, match=r"transform\.crop=.100, 100.: not a size for test_vit.*work: 160"
    ):
        build_job(compose_here(tmp_path, *place(tree), *NET, "transform.crop=100")[0])


def features_identity(tree: Path, output: Path, *options: str) -> str:
    job = build_job(compose_here(output, *place(tree), *options)[0])
    return identity_of(features_key(job.made_by["config"], job.network, job.data, job.running))


def test_whatever_computes_features_is_in_their_key(tree: Path, tmp_path: Path) -> None:
    torch.manual_seed(0)
    model = timm.create_model("test_resnet", num_classes=0)
    torch.save(model.state_dict(), tmp_path / "own.pth")
    net = ("model=timm", "model.name=test_resnet", f"model.weights={tmp_path / 'own.pth'}")
    first = features_identity(tree, tmp_path, *net)
    # None of these changes a tensor of the network.
    others = ("+model.global_pool=max", "model.pool=mean", "model.pool=max", "+model.output_stride=16")
    found = [features_identity(tree, tmp_path, *net, option) for option in others]
    assert len({first, *found}) == len(others) + 1
    # These say where the tensors came from, and how training goes about.
    torch.save(model.state_dict(), tmp_path / "same.pth")
    of_training = (
        "transform.augment=trivial",
        "transform.flip=false",
        "data.sampler=balanced",
        "transform.crop_pct=0.8",
    )
    elsewhere = (f"model.weights={tmp_path / 'same.pth'}", "model.strict=false", "loss=bce", "seed=1")
    for option in (*elsewhere, *of_training, "training.mixup=0.2"):
        assert features_identity(tree, tmp_path, *net, option) == first, option
    centers = {
        features_identity(tree, tmp_path, *net, "transform.geometry=center", *option)
        for option in ((), ("transform.crop_pct=0.8",))
    }
    assert len(centers | {first}) == 3  # where the share says what is seen


def test_what_came_later_leaves_identities_as_they_were(tree: Path, tmp_path: Path) -> None:
    small = build_job(compose_here(tmp_path, *place(tree), "model=small_cnn")[0])
    assert (
        "model"
        not in features_key(small.made_by["config"], small.network, small.data, small.running)["config"]
    )
    for job in (small, build_job(compose_here(tmp_path, *place(tree), *NET)[0])):
        assert {"strict", "pool"}.isdisjoint(job.made_by["config"]["model"])


def test_a_folder_s_network_is_trained_and_bundled_without_the_folder(tree: Path, tmp_path: Path) -> None:
    source = tmp_path / "saved"
    source.mkdir()
    torch.manual_seed(1)
    model = timm.create_model("test_vit", num_classes=3, global_pool="avg")
    torch.save(model.state_dict(), source / "pytorch_model.bin")
    cfg = {key: value for key, value in model.pretrained_cfg.items() if "hub" not in key}
    config = {
        "architecture": "test_vit",
        "model_args": {"global_pool": "avg"},
        "pretrained_cfg": cfg | {"num_classes": 3, "mean": [0.1, 0.2, 0.3]},
    }
    (source / "config.json").write_text(json.dumps(config))
    record, folder = run_job_here(
        tmp_path / "out", *place(tree), "model=timm", f"model.name=local-dir:{source}", "training=probe"
    )
    assert record["config"]["transform"]["mean"] == [0.1, 0.2, 0.3]
    assert record["config"]["model"]["source"] == f"local-dir:{source}"
    shutil.rmtree(source)
    write_bundle(read_parts(folder), tmp_path / "bundle")
    parts = read_parts(tmp_path / "bundle")
    assert parts.model["options"]["name"] == "test_vit"
    assert {"source", "strict", "weights"}.isdisjoint(parts.model["options"])
    classifier = lsep_ml.load(tmp_path / "bundle", device="cpu")
    assert torch.equal(
        classifier.network.backbone.model.blocks[0].attn.qkv.weight, model.blocks[0].attn.qkv.weight
    )
    with np.load(folder / "predictions.npz") as arrays:
        found = classifier.predict([tree / name for name in arrays["image_ids"]])
        np.testing.assert_allclose(found.scores, arrays["scores"], atol=1e-4)
