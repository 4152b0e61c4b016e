"""Decisions as files: the same predictions after a round trip, and clear refusals."""

import json

import pytest
import torch
from decisions_data import EVERY, fitted, learnable, name_of

from lsep_ml import decisions

every = pytest.mark.parametrize("decision", EVERY, ids=name_of)


@every
def test_round_trip_gives_identical_predictions(decision, tmp_path):
    scores, _, features = learnable(seed=1)
    decision.label_names = ["a", "b", "c", "d", "e", "f"]
    fitted(decision).save(tmp_path / "decision.json")
    loaded = decisions.load(tmp_path / "decision.json")
    assert type(loaded) is type(decision)
    assert loaded.options() == decision.options()
    assert loaded.choices() == decision.choices()
    assert loaded.label_names == decision.label_names
    assert torch.equal(loaded.predict(scores, features), decision.predict(scores, features))
    names = {file.name for file in tmp_path.iterdir()}
    learnt = {"decision.safetensors"} if any(True for _ in decision.parameters()) else set()
    assert names == {"decision.json"} | learnt


@every
def test_state_dict_round_trip(decision):
    scores, _, features = learnable(seed=1)
    other = type(decision)(**decision.options())
    other.load_state_dict(fitted(decision).state_dict())
    assert torch.equal(other.predict(scores, features), decision.predict(scores, features))


def test_what_cannot_be_loaded(tmp_path):
    path = tmp_path / "decision.json"
    fitted(EVERY[0]).save(path)
    record = json.loads(path.read_text())
    for change, message in [
        ({"format": 4}, "format 4, this version reads formats 1, 2, 3"),
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
    fitted(EVERY[-1]).save(path)
    weights = path.with_suffix(".safetensors")
    content = bytearray(weights.read_bytes())
    content[-1] ^= 1
    weights.write_bytes(content)
    with pytest.raises(ValueError, match=r"not the weights that decision\.json was saved with"):
        decisions.load(path)
    weights.unlink()
    with pytest.raises(FileNotFoundError, match="saved with its weights beside it"):
        decisions.load(path)
