"""The list of pretrained networks says what timm says, for every name, and what its table was measured to be."""

import json
import subprocess
import sys

import pytest
import timm
import torch
from timm.data import resolve_data_config
from typer.testing import CliRunner

from lsep_ml import cli
from lsep_ml.models.catalogue import known_backbones
from lsep_ml.models.of_timm import timm_backbone

KEYS = ["name", "parameters", "features", "size", "mean", "std", "interpolation", "crop_pct"]


def listed(*arguments: str) -> list[dict[str, object]]:
    done = CliRunner().invoke(cli.app, ["backbones", *arguments, "--json"])
    assert done.exit_code == 0, done.output
    return [json.loads(line) for line in done.output.splitlines()]


def test_every_name_is_listed_as_timm_has_it() -> None:
    rows = listed()
    assert [row["name"] for row in rows] == timm.list_pretrained()
    for row in rows:
        own = resolve_data_config(pretrained_cfg=timm.get_pretrained_cfg(row["name"]).to_dict())
        assert list(row) == KEYS
        assert row["size"] == list(own["input_size"]), row
        assert (row["mean"], row["std"]) == (list(own["mean"]), list(own["std"])), row
        assert (row["interpolation"], row["crop_pct"]) == (own["interpolation"], own["crop_pct"]), row


def test_the_table_knows_nearly_all_names_of_this_timm() -> None:
    rows = listed()
    newer = [row["name"] for row in rows if row["parameters"] is None]
    assert newer == [] or timm.__version__ != "1.0.31"
    unpooled = {str(row["name"]) for row in rows if row["features"] is None} - set(newer)
    assert {name.partition(".")[0].partition("_")[0] for name in unpooled} <= {"deepseek", "gemma4", "qwen3"}
    assert all(isinstance(row["features"] or 1, int) for row in rows)


@pytest.mark.parametrize(
    "name",
    [
        "resnet18.a1_in1k",
        "mobilenetv3_small_050.lamb_in1k",
        "vit_tiny_patch16_224.augreg_in21k",
        "swin_tiny_patch4_window7_224.ms_in1k",
        "tf_efficientnet_lite0.in1k",
        "test_vit.r160_in1k",
    ],
)
def test_the_table_is_what_is_built(name: str) -> None:
    [row] = listed(name)
    with torch.device("meta"):
        backbone = timm_backbone(name, weights=None)
    assert row["features"] == backbone.num_features
    assert row["parameters"] == sum(p.numel() for p in backbone.parameters())


def test_a_name_newer_than_the_table_has_null(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("lsep_ml.models.catalogue._measured", dict)
    [row] = listed("resnet18.a1_in1k")
    assert (row["parameters"], row["features"], row["size"]) == (None, None, [3, 224, 224])
    done = CliRunner().invoke(cli.app, ["backbones", "resnet18.a1_in1k"])
    assert done.output.splitlines()[1].split()[:4] == ["resnet18.a1_in1k", "?", "?", "?"]


def test_people_see_a_table_with_licence_and_tokens() -> None:
    lines = CliRunner().invoke(cli.app, ["backbones", "vit_small_patch14_dinov2"]).output.splitlines()
    assert lines[0].split()[:3] == ["name", "parameters", "features"]
    assert len(lines) == 2
    for part in ("vit_small_patch14_dinov2.lvd142m", "22.1 M", "384", "class+patches", "518", "apache-2.0"):
        assert part in lines[1]


def test_patterns_are_timms_or_a_part_of_the_name() -> None:
    assert {known.name.partition(".")[0] for known in known_backbones("resnet50")} == {"resnet50"}
    assert len(known_backbones("vit_*dinov2*")) == len(timm.list_pretrained("vit_*dinov2*")) > 3
    assert {"dinov2" in known.name for known in known_backbones("dinov2")} == {True}
    with pytest.raises(ValueError, match="backbones 'no_such_net': no pretrained name matches"):
        known_backbones("no_such_net")


def test_it_loads_little_more_than_timm() -> None:
    code = "import sys, lsep_ml.models.catalogue; print(*{'pytorch_lightning', 'hydra'} & set(sys.modules))"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout.split() == []
