"""Every decision of the configuration is built, with the defaults of its class."""

import json
from pathlib import Path

import pytest
from hydra.utils import instantiate
from omegaconf import OmegaConf

from lsep_ml.decisions import DECISIONS, Decision, GlobalThreshold
from lsep_ml.stages.resolvers import register_resolvers

FOLDER = Path(__file__).parents[2] / "conf" / "decision"
FILES = sorted(file for file in FOLDER.glob("*.yaml") if file.stem != "none")


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.stem)
def test_configuration_holds_the_defaults(file):
    register_resolvers()
    config = OmegaConf.create(
        {
            "sizes": {"labels": 7, "features": 12},
            "names": {"method": "bce"},
            "loss": {"_target_": "lsep_ml.losses.bce_loss"},
            "predictor": {},
            "max_count": 4,
            "decision": OmegaConf.load(file),
        }
    )
    decision = instantiate(config.decision)
    assert isinstance(decision, Decision)
    sizes = {"num_features": 12, "num_labels": 7} if decision.needs_features else {}
    expected = type(decision)(**sizes).options()
    if "loss" in expected:
        expected["loss"] = "bce"
    assert decision.options() == expected
    assert set(config.decision) - {"_target_"} == set(expected)


def test_every_file_has_its_row_and_tune_takes_the_same_defaults():
    rows = {row.key: row for row in DECISIONS}
    assert len(rows) == len(DECISIONS)
    # two are others with an option: search=exact, offset=class
    assert set(rows) - {"threshold_exact", "thresh_est_offset"} == {file.stem for file in FILES}
    for file in FILES:
        row, config = rows[file.stem], OmegaConf.load(file)
        assert config._target_ == f"lsep_ml.decisions.{row.class_name}"
        sizes = {"num_features": 12, "num_labels": 7}
        expected = {
            **OmegaConf.to_container(config),
            **sizes,
            "max_count": 4,
            "loss": None,
            "shift_invariant": False,
        }
        built = row.build(criterion=config.get("criterion"), **sizes)
        assert json.loads(json.dumps(built.options())) == {name: expected[name] for name in built.options()}
        if "criterion" in config:
            assert row.build(criterion="of1", **sizes).criterion == "of1"
    exact = rows["threshold_exact"].build(criterion="of1").options()
    assert exact == rows["threshold"].build(criterion="of1").options() | {"search": "exact"}
    moved = rows["thresh_est_offset"].build(criterion="of1", **sizes).options()
    assert moved == rows["thresh_est"].build(criterion="of1", **sizes).options() | {"offset": "class"}


def test_the_papers_values():
    assert {"topk", "threshold", "count_est", "thresh_est"} <= {file.stem for file in FILES}
    assert [row.key for row in DECISIONS][:4] == ["topk", "threshold", "count_est", "thresh_est"]
    assert GlobalThreshold().options()["steps"] == 50
