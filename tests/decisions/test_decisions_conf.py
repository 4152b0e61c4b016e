"""Every decision of the configuration is built, with the defaults of its class."""

from pathlib import Path

import pytest
from hydra.utils import instantiate
from omegaconf import OmegaConf

from lsep_ml.decisions import Decision, GlobalThreshold

FOLDER = Path(__file__).parents[2] / "conf" / "decision"
FILES = sorted(file for file in FOLDER.glob("*.yaml") if file.stem != "none")


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.stem)
def test_configuration_holds_the_defaults(file):
    config = OmegaConf.create(
        {"sizes": {"labels": 7, "features": 12}, "names": {"method": "bce"}, "decision": OmegaConf.load(file)}
    )
    decision = instantiate(config.decision)
    assert isinstance(decision, Decision)
    sizes = {"num_features": 12, "num_labels": 7} if decision.needs_features else {}
    expected = type(decision)(**sizes).options()
    if "loss" in expected:
        expected["loss"] = "bce"
    assert decision.options() == expected
    assert set(config.decision) - {"_target_"} == set(expected)


def test_the_papers_values():
    assert {"topk", "threshold", "count_est", "thresh_est"} <= {file.stem for file in FILES}
    assert GlobalThreshold().options()["steps"] == 50
