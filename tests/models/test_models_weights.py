"""Names of folders, files of weights, and what is not to be had: found, or refused with what is missing."""

import json
import re
import time
from pathlib import Path
from typing import Any

import pytest
import timm
import torch
from safetensors.torch import save_file
from timm.models._hub import load_model_config_from_path

from lsep_ml.models import Network, SmallCNN, published, take_score_rows, timm_backbone
from lsep_ml.models.names import pretrained_cfg
from lsep_ml.models.of_timm import resolved_model
from lsep_ml.models.preprocessing import timm_preprocessing

LABELS = ["dog", "cat", "bird"]


def trained_model() -> Any:
    torch.manual_seed(5)
    return timm.create_model("test_vit", num_classes=3).eval()


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder as timm saves it for the hub, of a network built with an option of its own."""
    place = tmp_path_factory.mktemp("saved") / "own-vit"
    torch.manual_seed(4)
    model = timm.create_model("test_vit", num_classes=3, global_pool="avg")
    config = {
        "architecture": "test_vit",
        "num_classes": 3,
        "label_names": LABELS,
        "model_args": {"global_pool": "avg"},
        "pretrained_cfg": {
            **model.pretrained_cfg,
            "mean": [0.1, 0.2, 0.3],
            "interpolation": "bilinear",
            "num_classes": 3,
        },
    }
    config["pretrained_cfg"] = {k: v for k, v in config["pretrained_cfg"].items() if "hub" not in k}
    place.mkdir()
    (place / "config.json").write_text(json.dumps(config))
    save_file(model.state_dict(), place / "model.safetensors")
    return place


def test_a_folder_is_built_and_preprocessed_as_timm_does(folder: Path) -> None:
    name = f"local-dir:{folder}"
    backbone = timm_backbone(name).eval()
    by_timm = timm.create_model(name, pretrained=True, num_classes=0).eval()
    images = torch.randn(2, 3, 160, 160)
    with torch.inference_mode():
        assert torch.equal(backbone(images), by_timm(images))
    cfg, _, _ = load_model_config_from_path(folder)
    wants = timm_preprocessing(name)
    assert list(wants.mean) == cfg["mean"] == [0.1, 0.2, 0.3]
    assert wants.interpolation == "bilinear"


def test_a_folder_s_classifier_gives_the_rows_of_its_labels(folder: Path) -> None:
    backbone = timm_backbone(f"local-dir:{folder}")
    assert backbone.score_rows is not None
    network = Network(backbone, 3, [0.5] * 3, [0.5] * 3)
    before = network.score_layer.weight.detach().clone()
    names = ["cat", "horse", "dog"]
    assert take_score_rows(network.score_layer, names, *backbone.score_rows) == ["cat", "dog"]
    by_timm = timm.create_model(f"local-dir:{folder}", pretrained=True)
    assert torch.equal(network.score_layer.weight[0], by_timm.head.weight[1])
    assert torch.equal(network.score_layer.weight[2], by_timm.head.weight[0])
    assert torch.equal(network.score_layer.weight[1], before[1])


def test_a_folder_s_name_is_timms_own_from_then_on(folder: Path) -> None:
    found = resolved_model({"name": f"local-dir:{folder}", "weights": None, "pool": "mean"})
    assert found == {
        "name": "test_vit",
        "global_pool": "avg",
        "weights": None,
        "pool": "mean",
        "source": f"local-dir:{folder}",
    }
    plain = {"name": "test_vit", "weights": None}
    assert resolved_model(plain) == plain


def test_a_hub_name_is_found_where_its_files_are_put(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    monkeypatch.setattr(published, "unreachable", lambda url: "no route to host")
    with pytest.raises(
        FileNotFoundError, match=r"config\.json of me/own-vit is not on this machine.*no route"
    ):
        timm_backbone("hf-hub:me/own-vit")
    for name in ("config.json", "model.safetensors"):
        place = published.place_for("me/own-vit", name)
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_bytes((folder / name).read_bytes())
    images = torch.randn(1, 3, 160, 160)
    one, other = timm_backbone("hf-hub:me/own-vit").eval(), timm_backbone(f"local-dir:{folder}").eval()
    with torch.inference_mode():
        assert torch.equal(one(images), other(images))


def test_published_weights_are_found_where_they_are_put(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    monkeypatch.setattr(published, "unreachable", lambda url: "no route to host")
    repository = pretrained_cfg("test_vit.r160_in1k").hf_hub_id
    place = published.place_for(repository, "model.safetensors")
    with pytest.raises(
        FileNotFoundError, match=rf"put it at {re.escape(str(place))}.*model\.weights=FILE.*null"
    ):
        timm_backbone("test_vit.r160_in1k")
    torch.manual_seed(3)
    model = timm.create_model("test_vit", num_classes=1000).eval()
    place.parent.mkdir(parents=True)
    save_file(model.state_dict(), place)
    images = torch.randn(1, 3, 160, 160)
    with torch.inference_mode():
        found = timm_backbone("test_vit.r160_in1k").eval()(images)
        assert torch.equal(found, model.forward_head(model.forward_features(images), pre_logits=True))


def test_a_server_that_does_not_answer_is_given_up_in_seconds(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(published, "_PATIENCE", 0.2)
    monkeypatch.setattr(published.urllib.request, "urlopen", lambda *_, **__: time.sleep(2))
    started = time.monotonic()
    problem = published.unreachable("https://nowhere.invalid")
    assert time.monotonic() - started < 2
    assert problem == "https://nowhere.invalid does not answer within 0.2 seconds"


@pytest.mark.parametrize("suffix", [".safetensors", ".pth"])
def test_a_file_in_timms_names_is_loaded_without_its_classifier(tmp_path: Path, suffix: str) -> None:
    model, file = trained_model(), tmp_path / f"own{suffix}"
    if suffix == ".pth":
        torch.save({"state_dict": model.state_dict(), "label_names": LABELS}, file)
    else:
        save_file(model.state_dict(), file, metadata={"label_names": json.dumps(LABELS)})
    backbone = timm_backbone("test_vit", weights=str(file))
    for name, tensor in backbone.model.state_dict().items():
        assert torch.equal(tensor, model.state_dict()[name]), name
    assert backbone.score_rows is not None
    assert backbone.score_rows.label_names == tuple(LABELS)
    assert torch.equal(backbone.score_rows.weight, model.head.weight)


def test_position_embeddings_of_another_size_are_interpolated(tmp_path: Path) -> None:
    model, file = trained_model(), tmp_path / "own.safetensors"
    save_file(model.state_dict(), file)
    large = timm_backbone("test_vit", weights=str(file), image_size=192)
    by_timm = timm.create_model(
        "test_vit", True, num_classes=0, pretrained_cfg_overlay={"file": str(file)}, img_size=192
    )
    assert torch.equal(large.model.pos_embed, by_timm.pos_embed)
    assert large.model.pos_embed.shape != model.pos_embed.shape


def test_the_weights_of_another_network_are_refused_with_both_lists(tmp_path: Path) -> None:
    torch.manual_seed(6)
    file = tmp_path / "lite1.safetensors"
    save_file(timm.create_model("tf_efficientnet_lite1").state_dict(), file)
    with pytest.raises(ValueError, match=r"the weights of another network: 0 of \d+ tensors") as raised:
        timm_backbone("tf_efficientnet_lite0", weights=str(file))
    named = re.search(r"have no place \((.*?), \.\.\.\)", str(raised.value))
    assert named is not None
    assert len(named[1].split(", ")) == 5
    lite1 = timm_backbone("tf_efficientnet_lite0", weights=str(file), strict=False)
    stem = timm.create_model("tf_efficientnet_lite1", checkpoint_path=str(file)).conv_stem.weight
    assert torch.equal(lite1.model.conv_stem.weight, stem)
    torch.save(SmallCNN().state_dict(), tmp_path / "small.pth")
    with pytest.raises(ValueError, match=r"not in it, or of another shape \(.*, \.\.\.\); 24 of 24 tensors"):
        timm_backbone("test_vit", weights=str(tmp_path / "small.pth"))


@pytest.mark.parametrize(
    ("name", "error", "message"),
    [
        ("ftp:owner/model", ValueError, "Unknown model source 'ftp'"),
        ("owner/model", ValueError, r"Use 'hf-hub:owner/model'"),
        ("local-dir:/nowhere/at/all", FileNotFoundError, r"no config\.json in /nowhere/at/all"),
    ],
)
def test_other_names_are_refused(name: str, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        timm_backbone(name)


def test_a_folder_that_is_none_of_timms_is_refused(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text('{"model_type": "bert"}')
    with pytest.raises(ValueError, match=r"config\.json is none of timm's"):
        timm_backbone(f"local-dir:{tmp_path}")
    (tmp_path / "config.json").write_text('{"architecture": "resnet5O", "pretrained_cfg": {}}')
    with pytest.raises(ValueError, match="not a timm model; close names: resnet50"):
        timm_backbone(f"local-dir:{tmp_path}")
