"""A bundle is the run, whole, checked, portable and without code."""

import json
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from typer.testing import CliRunner

import lsep_ml
from lsep_ml.bundle import read_bundle, read_parts, write_bundle
from lsep_ml.bundle.backbones import build_backbone, describe_backbone
from lsep_ml.bundle.classifier import fixed_top
from lsep_ml.cli import app
from lsep_ml.files import content_hash


@pytest.fixture
def bundle(photo_run: Path, tmp_path: Path) -> Path:
    write_bundle(read_parts(photo_run), tmp_path / "bundle")
    return tmp_path / "bundle"


def rewritten(bundle: Path, **changes: object) -> None:
    """Change the manifest and make its checksum right again, as an attacker would."""
    manifest = json.loads((bundle / "bundle.json").read_text()) | changes
    del manifest["checksum"]
    manifest["checksum"] = content_hash(manifest, length=64)
    (bundle / "bundle.json").write_text(json.dumps(manifest))


def test_a_bundle_holds_what_the_run_had(photo_run: Path, bundle: Path) -> None:
    run, parts = read_parts(photo_run), read_bundle(bundle)
    assert parts.label_names == run.label_names == ("apple", "bread", "cheese", "dates", "eggs")
    assert parts.measured == run.measured
    record = json.loads((photo_run / "result.json").read_text())
    assert parts.measured["metrics"] == record["metrics"]
    assert parts.measured["choices"] == record["choices"]
    assert parts.versions == record["versions"]
    assert all(torch.equal(tensor, run.state[name]) for name, tensor in parts.state.items())
    assert len(parts.state) == len(run.state)


def test_a_bundle_is_small_and_names_no_place(photo_run: Path, photo_tree: Path, bundle: Path) -> None:
    assert sorted(file.name for file in bundle.iterdir()) == [
        "bundle.json",
        "decision.json",
        "decision.safetensors",
        "network.safetensors",
    ]
    size = sum(file.stat().st_size for file in bundle.iterdir())
    assert size < (photo_run / "checkpoint.ckpt").stat().st_size + 20_000
    text = (bundle / "bundle.json").read_text()
    assert str(photo_tree.parent) not in text
    assert str(photo_run.parent) not in text


def test_a_bundle_moves(bundle: Path, tmp_path: Path) -> None:
    images = np.random.default_rng(0).integers(0, 256, (3, 30, 40, 3), np.uint8)
    before = lsep_ml.load(bundle).predict(images)
    moved = bundle.rename(tmp_path / "elsewhere")
    assert np.array_equal(lsep_ml.load(moved).predict(images).scores, before.scores)


def test_an_existing_folder_is_not_touched(photo_run: Path, bundle: Path, tmp_path: Path) -> None:
    with pytest.raises(FileExistsError, match="not empty"):
        write_bundle(read_parts(photo_run), bundle)
    (tmp_path / "new").mkdir()
    write_bundle(read_parts(photo_run), tmp_path / "new")
    assert read_bundle(tmp_path / "new").label_names
    assert not list(tmp_path.glob(".*"))


@pytest.mark.parametrize("name", ["network.safetensors", "decision.json", "decision.safetensors"])
def test_a_flipped_byte_and_a_missing_file_are_said(bundle: Path, name: str) -> None:
    content = bytearray((bundle / name).read_bytes())
    content[len(content) // 2] ^= 1
    (bundle / name).write_bytes(content)
    with pytest.raises(ValueError, match=rf"{name}: damaged"):
        read_bundle(bundle)
    (bundle / name).unlink()
    with pytest.raises(FileNotFoundError, match=rf"{name}: missing"):
        read_bundle(bundle)


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ('"format": 2', '"format": 3', "format 3; this version of lsep_ml reads formats 1 and 2"),
        ('"apple"', '"pear"', "damaged or edited"),
        ("{", "", "damaged, or not a bundle"),
        ('"checksum"', '"other"', "damaged, or not a bundle"),
    ],
)
def test_another_manifest_is_refused(bundle: Path, old: str, new: str, message: str) -> None:
    text = (bundle / "bundle.json").read_text()
    assert old in text
    (bundle / "bundle.json").write_text(text.replace(old, new, 1))
    with pytest.raises(ValueError, match=message):
        read_bundle(bundle)


def test_label_names_of_another_length_are_refused(bundle: Path) -> None:
    rewritten(bundle, label_names=["apple", "bread"])
    with pytest.raises(ValueError, match="2 label names, but the score layer has 5"):
        read_bundle(bundle)
    rewritten(bundle, label_names=["bread", "apple", "cheese", "dates", "eggs"])
    with pytest.raises(ValueError, match="in another order"):
        read_bundle(bundle)
    rewritten(bundle, label_names=["apple"] * 5)
    with pytest.raises(ValueError, match="named twice"):
        read_bundle(bundle)


def test_a_decision_for_other_labels_is_refused(photo_run: Path) -> None:
    with pytest.raises(ValueError, match="but the decision has 4"):
        replace(read_parts(photo_run), decision=fixed_top(1, 4))


def test_nothing_in_a_bundle_can_run_code(bundle: Path) -> None:
    for backbone in ("os.system", "torch.load", "subprocess.run"):
        rewritten(bundle, model={"backbone": backbone, "options": {"command": "true"}})
        with pytest.raises(ValueError, match=r"is none of .*allow"):
            lsep_ml.load(bundle)
    nested = {"in_channels": {"_target_": "os.getcwd"}}
    rewritten(bundle, model={"backbone": "lsep_ml.models.SmallCNN", "options": nested})
    with pytest.raises(ValueError, match="option in_channels"):
        lsep_ml.load(bundle)
    for option in ("checkpoint_path", "pretrained", "pretrained_cfg", "cache_dir"):
        with pytest.raises(ValueError, match=option):
            build_backbone({"backbone": "lsep_ml.models.timm_backbone", "options": {option: "file"}})
    with pytest.raises(ValueError, match="cannot be built"):
        build_backbone({"backbone": "lsep_ml.models.SmallCNN", "options": {"depth": 3}})
    with pytest.raises(ValueError, match="not a timm model"):
        build_backbone({"backbone": "lsep_ml.models.timm_backbone", "options": {"name": "hf-hub:a/b"}})


def test_a_file_list_cannot_lead_out_of_the_folder(bundle: Path) -> None:
    rewritten(bundle, files={"../../etc/passwd": "0"})
    with pytest.raises(FileNotFoundError, match=f"{bundle.name}/passwd: missing"):
        read_bundle(bundle)


def test_a_backbone_of_others_needs_to_be_allowed_by_name(bundle: Path) -> None:
    model = json.loads((bundle / "bundle.json").read_text())["model"]
    rewritten(bundle, model={**model, "backbone": "lsep_ml.models.small_cnn.SmallCNN"})
    with pytest.raises(ValueError, match="allow"):
        lsep_ml.load(bundle)
    assert lsep_ml.load(bundle, allow=["lsep_ml.models.small_cnn.SmallCNN"]).label_names


def test_weights_of_another_network_are_refused(bundle: Path) -> None:
    state = load_file(bundle / "network.safetensors")
    state["backbone.more"] = torch.zeros(1)
    save_file(state, bundle / "network.safetensors")
    manifest = json.loads((bundle / "bundle.json").read_text())
    from lsep_ml.files import file_digest

    rewritten(
        bundle, files=manifest["files"] | {"network.safetensors": file_digest(bundle / "network.safetensors")}
    )
    with pytest.raises(ValueError, match=r"do not fit .*SmallCNN"):
        lsep_ml.load(bundle)


@pytest.mark.parametrize("name", ["vgg16", "timm"])
def test_every_backbone_is_described_without_its_starting_weights(name: str) -> None:
    config = {"_target_": "lsep_ml.models.vgg16", "weights": "imagenet"}
    if name == "timm":
        config = {
            "_target_": "lsep_ml.models.timm_backbone",
            "name": "test_resnet",
            "weights": "imagenet",
            "in_chans": 1,
        }
    description = describe_backbone(config)
    assert "weights" not in description["options"]
    if name == "timm":  # and nothing is downloaded; VGG16 takes a GB to build
        assert build_backbone(description).num_features > 0


def test_a_missing_or_unfinished_source_is_said(photo_run: Path, tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="no such folder"):
        read_parts(tmp_path / "absent")
    with pytest.raises(FileNotFoundError, match="neither a bundle"):
        read_parts(tmp_path)
    asked = CliRunner().invoke(app, ["bundle", str(tmp_path), "--out", str(tmp_path / "b")])
    assert "neither a bundle" in str(asked.exception)
    copy = shutil.copytree(photo_run, tmp_path / "run")
    (copy / "checkpoint.ckpt").write_bytes((copy / "checkpoint.ckpt").read_bytes()[:1000])
    with pytest.raises(ValueError, match=r"checkpoint.ckpt: damaged"):
        read_parts(copy)
    (copy / "checkpoint.ckpt").unlink()
    with pytest.raises(FileNotFoundError, match=r"checkpoint.ckpt: missing"):
        read_parts(copy)
    (copy / "checkpoint.ckpt").write_bytes(b"")
    (copy / "result.json").write_text("{}")
    with pytest.raises(ValueError, match="not the record"):
        read_parts(copy)
