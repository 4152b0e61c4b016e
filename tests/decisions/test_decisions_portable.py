"""Decisions as files: the same predictions after a round trip, and clear refusals."""

import json

import pytest
import torch
from decisions_data import learnable

from lsep_ml import decisions
from lsep_ml.decisions import (
    Calibrated,
    ConformalRisk,
    CountEstimation,
    ExpectedF1,
    GlobalThreshold,
    PerClassThreshold,
    ThresholdClass,
    ThresholdEstimation,
    TopK,
    ZeroThreshold,
)

FITTED = [
    TopK(2, 5, criterion="exact_match"),
    GlobalThreshold("exact", fit_on="both"),
    GlobalThreshold(steps=20),
    PerClassThreshold(),
    PerClassThreshold(min_precision=0.9, guard=False),
    ZeroThreshold("bce"),
    Calibrated(),
    Calibrated("isotonic"),
    ExpectedF1("isotonic"),
    ConformalRisk(),
    ConformalRisk(0.3, "per_class"),
    CountEstimation(20, 6, 3, (8, 4), zero_class=True),
    ThresholdClass(20, 6, (8,)),
    ThresholdEstimation(20, 6, hidden=[5], standardize=False),
]


def fitted(decision):
    scores, targets, features = learnable()
    if decision.needs_features:
        decision.reset(scores, targets, features, seed=3)
    else:
        decision.fit(scores, targets)
    return decision


@pytest.mark.parametrize("decision", FITTED, ids=lambda decision: type(decision).__name__)
def test_round_trip_gives_identical_predictions(decision, tmp_path):
    scores, _, features = learnable(seed=1)
    fitted(decision).save(tmp_path / "decision.json")
    loaded = decisions.load(tmp_path / "decision.json")
    assert type(loaded) is type(decision)
    assert loaded.options() == decision.options()
    assert loaded.choices() == decision.choices()
    assert torch.equal(loaded.predict(scores, features), decision.predict(scores, features))
    names = {file.name for file in tmp_path.iterdir()}
    learnt = {"decision.safetensors"} if decision.needs_features else set()
    assert names == {"decision.json"} | learnt


@pytest.mark.parametrize("decision", FITTED, ids=lambda decision: type(decision).__name__)
def test_state_dict_round_trip(decision):
    scores, _, features = learnable(seed=1)
    other = type(decision)(**decision.options())
    other.load_state_dict(fitted(decision).state_dict())
    assert torch.equal(other.predict(scores, features), decision.predict(scores, features))


def test_what_cannot_be_loaded(tmp_path):
    path = tmp_path / "decision.json"
    fitted(FITTED[0]).save(path)
    record = json.loads(path.read_text())
    for change, message in [
        ({"format": 2}, "format 2, this version reads format 1"),
        ({"decision": "Oracle"}, "unknown decision 'Oracle'; known are Calibrated, "),
    ]:
        path.write_text(json.dumps(record | change))
        with pytest.raises(ValueError, match=message):
            decisions.load(path)
    for text in ("{", "[1]", "{}"):
        path.write_text(text)
        with pytest.raises(ValueError, match="not a saved decision"):
            decisions.load(path)


def test_weights_must_be_the_ones_saved(tmp_path):
    path = tmp_path / "decision.json"
    fitted(FITTED[-1]).save(path)
    weights = path.with_suffix(".safetensors")
    content = bytearray(weights.read_bytes())
    content[-1] ^= 1
    weights.write_bytes(content)
    with pytest.raises(ValueError, match=r"not the weights that decision\.json was saved with"):
        decisions.load(path)
    weights.unlink()
    with pytest.raises(FileNotFoundError, match="saved with its weights beside it"):
        decisions.load(path)
