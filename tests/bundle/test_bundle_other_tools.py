"""Files for other tools, read as each tool reads them, and back as labels."""

import json
import logging
import os
import xml.etree.ElementTree as ElementTree
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import numpy as np
import pytest
from bundle_runs import call
from PIL import Image

import lsep_ml
from lsep_ml.bundle.other_tools import probabilities_of
from lsep_ml.bundle.tables import ImageRow
from lsep_ml.data import DataError
from lsep_ml.data.sources.own import own_annotations, read_own
from lsep_ml.decisions import Calibrated, GlobalThreshold, TopK

NAMES = ("cat", "dog & <owl>", 'a "b"|c', "none")
IMAGES = 12


def photographs(root: Path) -> Path:
    rng = np.random.default_rng(0)
    for number in range(IMAGES):
        path = root / "photos" / f"{number} é.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(rng.integers(0, 256, (24, 30, 3), np.uint8)).save(path)
    return root


@pytest.fixture
def scored(tmp_path: Path) -> dict[str, Any]:
    """A score file with given labels, the images it names, and three decisions for it."""
    rng = np.random.default_rng(1)
    targets = rng.random((IMAGES, len(NAMES))) < 0.4
    arrays = {
        "scores": (rng.standard_normal(targets.shape) + targets).astype(np.float32),
        "targets": targets.astype(np.uint8),
        "label_names": np.array(NAMES),
        "image_ids": np.array([f"photos/{row} é.png" for row in range(IMAGES)]),
    }
    np.savez(tmp_path / "scores.npz", **arrays)
    decisions = {"threshold": GlobalThreshold(), "calibrated": Calibrated(), "topk": TopK()}
    for name, decision in decisions.items():
        decision.fit(arrays["scores"], targets).save(tmp_path / f"{name}.json")
    photographs(tmp_path)
    return {**arrays, "root": tmp_path, "decisions": decisions}


def applied(scored: dict[str, Any], decision: str, tool: str, *options: object) -> Any:
    out = scored["root"] / f"{decision}.{tool}.json"
    call(
        "apply",
        scored["root"] / f"{decision}.json",
        scored["root"] / "scores.npz",
        "--to",
        tool,
        "--out",
        out,
        *options,
    )
    return json.loads(out.read_text())


def classifications(content: dict[str, Any]) -> dict[str, list[dict[str, Any]]]:
    """What FiftyOne's importer makes of a labels.json: an image's path -> its classifications.

    A key that is an absolute path is the image; a list of targets is a `Classifications`; a target is a label or its
    number in `classes`, alone or with a confidence and attributes.
    """
    found = {}
    for key, targets in content["labels"].items():
        assert os.path.isabs(key)
        found[key] = [
            {
                "label": content["classes"][one["label"]]
                if isinstance(one["label"], int)
                else str(one["label"]),
                "confidence": one.get("confidence"),
                **one.get("attributes", {}),
            }
            for one in targets
        ]
    return found


@pytest.mark.parametrize("name", ["threshold", "calibrated", "topk"])
def test_fiftyone(scored: dict[str, Any], name: str) -> None:
    content = applied(scored, name, "fiftyone", "--root", scored["root"])
    assert content["classes"] == list(NAMES)
    found = classifications(content)
    decided = scored["decisions"][name].decide(scored["scores"])
    for row, image in enumerate(scored["image_ids"].tolist()):
        path = str(scored["root"] / image)
        assert Path(path).is_file()
        assert {one["label"] for one in found[path]} == {
            NAMES[k] for k in np.flatnonzero(decided.label_sets[row].numpy())
        }
        for one in found[path]:
            k = NAMES.index(one["label"])
            assert np.float32(one["score"]) == scored["scores"][row, k]
            if decided.probabilities is None:
                assert one["confidence"] is None  # a score is no probability
            else:
                assert np.float32(one["confidence"]) == decided.probabilities[row, k].numpy()
            assert ("threshold" in one) == (decided.thresholds is not None)
    assert len(found) == IMAGES


@pytest.mark.parametrize("name", ["threshold", "calibrated", "topk"])
def test_cleanlab(scored: dict[str, Any], name: str) -> None:
    content = applied(scored, name, "cleanlab")
    labels, probabilities = content["labels"], np.array(content["pred_probs"])
    assert labels == [np.flatnonzero(row).tolist() for row in scored["targets"]]
    assert probabilities.shape == scored["scores"].shape
    assert probabilities.min() >= 0
    assert probabilities.max() <= 1
    assert content["image_ids"] == scored["image_ids"].tolist()
    assert content["label_names"] == list(NAMES)
    decided = scored["decisions"][name].decide(scored["scores"])
    if decided.probabilities is not None:
        expected, meaning = decided.probabilities.numpy(), "calibrated probabilities"
    else:
        above = 0 if decided.thresholds is None else decided.thresholds.numpy()
        expected, meaning = 1 / (1 + np.exp(above - scored["scores"])), "not calibrated"
    assert np.allclose(probabilities, expected, atol=1e-6)
    assert meaning in content["pred_probs_are"]


def test_cleanlab_leaves_out_what_is_not_known_and_says_so(
    scored: dict[str, Any], caplog: pytest.LogCaptureFixture
) -> None:
    mask = np.ones(scored["scores"].shape, bool)
    mask[3, 1] = mask[5] = False
    arrays = {key: scored[key] for key in ("scores", "label_names", "image_ids")}
    np.savez(scored["root"] / "scores.npz", **arrays, targets=scored["targets"] * mask, mask=mask)
    with caplog.at_level(logging.WARNING):
        content = applied(scored, "threshold", "cleanlab")
    assert "2 of 12 images have labels that are not known" in caplog.text
    kept = [row for row in range(IMAGES) if row not in (3, 5)]
    assert content["image_ids"] == scored["image_ids"][kept].tolist()
    assert content["labels"] == [np.flatnonzero(scored["targets"][row]).tolist() for row in kept]
    assert len(content["pred_probs"]) == len(kept)


@pytest.mark.parametrize("value", [-1e4, -40.0, 0.0, 40.0, 1e4])
def test_the_logistic_curve_does_not_overflow(value: float) -> None:
    values, _ = probabilities_of(ImageRow("a", (), np.array([value], np.float32)))
    assert values[0] == pytest.approx(0.0 if value < 0 else 1.0 if value > 0 else 0.5)


def test_labels_are_corrected_in_the_labelling_tool_and_come_back(scored: dict[str, Any]) -> None:
    """apply --to label_studio, a person accepts, corrects, clears or skips tasks, and data=own trains on the export."""
    tasks = applied(scored, "threshold", "label_studio")
    config = ElementTree.parse(scored["root"] / "threshold.label_studio.config.xml").getroot()
    choices = config.find("Choices")
    assert choices is not None
    assert [choice.get("value") for choice in choices] == list(NAMES)
    assert choices.get("choice") == "multiple"
    image = config.find("Image")
    assert image is not None
    decided = scored["decisions"]["threshold"].decide(scored["scores"])
    expected = {}
    for row, task in enumerate(tasks):
        address = task["data"][str(image.get("value")).removeprefix("$")]
        assert parse_qs(urlsplit(address).query)["d"] == [scored["image_ids"][row]]
        [prediction] = task["predictions"]
        chosen = [name for one in prediction["result"] for name in one["value"]["choices"]]
        for one in prediction["result"]:
            assert (one["from_name"], one["to_name"]) == (choices.get("name"), image.get("name"))
            assert one["type"] == "choices"
        assert set(chosen) == {NAMES[k] for k in np.flatnonzero(decided.label_sets[row].numpy())}
        margin = (decided.thresholds[row].numpy() - scored["scores"][row]).__abs__().min()
        assert np.float32(prediction["score"]) == margin
        expected[f"photos/{row} é.png"] = set(chosen)
        task["annotations"] = [{"id": row, "was_cancelled": False, "result": prediction["result"]}]
    with pytest.raises(DataError, match="predictions without annotations, which are no labels"):
        own_annotations(write_export(scored, not_annotated(tasks)))
    others = [name for name in NAMES if name not in expected["photos/2 é.png"]]
    tasks[2]["annotations"][0]["result"] = [
        {"from_name": "labels", "to_name": "image", "type": "choices", "value": {"choices": others}}
    ]
    expected["photos/2 é.png"] = set(others)
    tasks[3]["annotations"][0]["result"] = []
    expected["photos/3 é.png"] = set()
    tasks[4]["annotations"] = []
    root = write_export(scored, tasks)
    annotations = own_annotations(root, none_label=[])
    assert set(annotations.label_names) == {name for labels in expected.values() for name in labels}
    assert annotations.mask is not None
    for row, name in enumerate(annotations.image_ids.tolist()):
        unknown = name == "photos/4 é.png"
        assert annotations.mask[row].any() != unknown
        if not unknown:
            found = {annotations.label_names[k] for k in np.flatnonzero(annotations.targets[row])}
            assert found == expected[name]
    data_set = read_own(root, none_label=[], shares=(0.5, 0.25, 0.25))
    assert sum(len(data_set.split(name)) for name in ("train", "val", "test")) == IMAGES


def not_annotated(tasks: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [{key: task[key] for key in ("data", "predictions")} for task in tasks]


def write_export(scored: dict[str, Any], tasks: list[dict[str, Any]]) -> Path:
    """The tool's export beside the photographs, and nothing else."""
    root = scored["root"] / "export"
    root.mkdir(exist_ok=True)
    if not (root / "photos").exists():
        (root / "photos").symlink_to(scored["root"] / "photos")
    (root / "export.json").write_text(json.dumps(tasks))
    return root


def test_predict_writes_for_tools_too(photo_run: Path, tmp_path: Path) -> None:
    root = photographs(tmp_path)
    (root / "photos" / "bad.png").write_bytes(b"nothing")
    names = list(lsep_ml.load(photo_run, device="cpu").label_names)
    for tool in ("fiftyone", "label_studio"):
        done = call(
            "predict", photo_run, root / "photos", "--to", tool, "--out", root / f"{tool}.json", "--root", root,
            "--device", "cpu",
        )  # fmt: skip
        assert done.exit_code == 3
    found = classifications(json.loads((root / "fiftyone.json").read_text()))
    assert set(found) == {str(root / "photos" / f"{row} é.png") for row in range(IMAGES)}
    assert {one["label"] for labels in found.values() for one in labels} <= set(names)
    tasks = json.loads((root / "label_studio.json").read_text())
    assert sorted(parse_qs(urlsplit(task["data"]["image"]).query)["d"][0] for task in tasks) == sorted(
        f"photos/{row} é.png" for row in range(IMAGES)
    )
    with pytest.raises(ValueError, match=r"--root .*does not lie in it"):
        call(
            "predict", photo_run, root / "photos", "--to", "label_studio", "--out", root / "x.json", "--root",
            root / "other", "--device", "cpu",
        )  # fmt: skip


def test_what_cannot_be_exported(scored: dict[str, Any], photo_run: Path) -> None:
    root = scored["root"]
    arrays = {key: scored[key] for key in ("scores", "label_names")}
    np.savez(root / "nameless.npz", **arrays)
    decision = root / "threshold.json"
    for words, message in [
        (
            ("apply", decision, root / "scores.npz", "--to", "excel", "--out", "x.json"),
            "--to excel: expected one of",
        ),
        (("apply", decision, root / "scores.npz", "--to", "fiftyone", "--out", "x.csv"), "a name with .json"),
        (
            ("apply", decision, root / "nameless.npz", "--to", "fiftyone", "--out", root / "x.json"),
            "no image_ids",
        ),
        (
            ("apply", decision, root / "nameless.npz", "--to", "cleanlab", "--out", root / "x.json"),
            "has no targets",
        ),
        (
            ("predict", photo_run, root / "photos", "--to", "cleanlab", "--out", root / "x.json"),
            "use apply on a file",
        ),
    ]:
        with pytest.raises(ValueError, match=message):
            call(*words)
    assert not (root / "x.json").exists()
    (root / "there.json").write_text("{}")
    with pytest.raises(FileExistsError, match="name another file"):
        call("apply", decision, root / "scores.npz", "--to", "fiftyone", "--out", root / "there.json")
