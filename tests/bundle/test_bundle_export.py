"""Exported graphs decide as torch does, for every decision."""

import copy
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from bundle_decisions import DECISIONS, fitted, made, ties
from torch.export import Dim, ExportedProgram
from typer.testing import CliRunner

import lsep_ml
from lsep_ml import cli, decisions
from lsep_ml.bundle import Classifier, read_parts
from lsep_ml.bundle.export import ClassifierGraph, check_traceable, compare, export, metadata
from lsep_ml.bundle.onnx_program import onnx_program
from lsep_ml.decisions import Decided, Decision

# the test of graphs has them all
ONE_OF_EACH_GRAPH = ("topk", "per_class", "platt", "isotonic", "expected_f1", "count_est", "thresh_est")


def test_no_decision_is_left_out() -> None:
    kinds = [getattr(decisions, name) for name in decisions.__all__]
    concrete = {
        k for k in kinds if isinstance(k, type) and issubclass(k, Decision) and not k.__abstractmethods__
    }
    assert {type(made(name, 5)) for name in DECISIONS} == concrete


@pytest.mark.parametrize("name", DECISIONS)
@pytest.mark.parametrize("labels", [2, 7, 30])
def test_a_graph_is_its_decision_also_with_ties(name: str, labels: int) -> None:
    scores, features = ties(labels)
    decision = fitted(name, scores, features)
    more_scores, more_features = ties(labels, 400)
    given = (
        torch.from_numpy(np.concatenate([scores, 5 * more_scores])),
        torch.from_numpy(np.concatenate([features, more_features])),
    )
    graph: torch.nn.Module = decision
    if labels < 30:  # whose expected F1 takes long to trace
        axes = ({0: Dim.DYNAMIC}, {0: Dim.DYNAMIC})
        graph = torch.export.export(decision, given, dynamic_shapes=axes).module()
    for rows in (slice(None), slice(7)):
        part = [array[rows] for array in given]
        with torch.inference_mode():
            found = graph(*part)
        assert torch.equal(found.label_sets, decision.predict(*part))
        if hasattr(decision, "thresholds"):
            assert torch.equal(found.thresholds, decision.thresholds(part[1], len(part[0])))
        if hasattr(decision, "counts"):
            assert torch.equal(found.counts, decision.counts(part[1]))
        if hasattr(decision, "probabilities"):
            assert torch.equal(found.probabilities, decision.probabilities(part[0]).float())


class AllAtOnce(torch.nn.Module):
    """Every decision in one graph: scores, features -> what each gives, one after the other."""

    def __init__(self, parts: list[Decision]) -> None:
        super().__init__()
        self.parts = torch.nn.ModuleList(parts)

    def forward(self, scores: torch.Tensor, features: torch.Tensor) -> tuple[torch.Tensor, ...]:
        found = [part(scores, features) for part in self.parts]
        return tuple(values.clone() for decided in found for values in decided if values is not None)


def test_onnx_gives_every_field_of_every_decision(tmp_path: Path) -> None:
    import onnxruntime

    scores, features = ties(7)
    parts = [fitted(name, scores, features) for name in DECISIONS]
    fields = [(name, field) for name, part in zip(DECISIONS, parts, strict=True) for field in _fields(part)]
    given = torch.from_numpy(scores), torch.from_numpy(features)
    axes = [{0: "batch"}, {0: Dim.DYNAMIC}]
    names = [f"{name}_{field}" for name, field in fields]
    program = onnx_program(AllAtOnce(parts).eval(), given, ["scores", "features"], names, axes)
    program.save(tmp_path / "all.onnx")
    session = onnxruntime.InferenceSession(tmp_path / "all.onnx", providers=["CPUExecutionProvider"])
    for rows in (slice(None), slice(3, 4)):
        part = [array[rows] for array in given]
        found = session.run(names, dict(zip(("scores", "features"), (a.numpy() for a in part), strict=True)))
        decided = {name: decision.decide(*part) for name, decision in zip(DECISIONS, parts, strict=True)}
        for (name, field), values in zip(fields, found, strict=True):
            expected = getattr(decided[name], field).numpy()
            assert (values.dtype, values.shape) == (expected.dtype, expected.shape), (name, field)
            if expected.dtype == np.float32:
                np.testing.assert_allclose(values, expected, rtol=1e-5, atol=1e-5, err_msg=f"{name} {field}")
            else:
                assert np.array_equal(values, expected), (name, field)


def _fields(decision: Decision) -> tuple[str, ...]:
    return "label_sets", *decision.decides_by


@pytest.fixture(scope="module")
def digits(digits_run: Path) -> Classifier:
    return lsep_ml.load(digits_run, device="cpu")


@pytest.fixture(scope="module")
def validation(digits_run: Path, digits: Classifier) -> tuple[np.ndarray, np.ndarray]:
    from lsep_ml.data.sources.digits import read_digits

    images = read_digits(train=64, val=40, test=50, canvas=24, seed=0).val.images
    with torch.inference_mode():
        scores, features = digits.network(torch.stack([images[row] for row in range(40)]))
    return scores.numpy(), features.numpy()


def random_images(count: int, channels: int, size: int, seed: int = 0) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    patches = torch.randint(0, 256, (count, channels, size // 4, size // 4), generator=generator)
    return patches.repeat_interleave(4, 2).repeat_interleave(4, 3).to(torch.uint8)


@pytest.mark.parametrize("name", ONE_OF_EACH_GRAPH)
def test_onnx_decides_as_torch_does(
    digits_run: Path, validation: tuple[np.ndarray, np.ndarray], name: str, tmp_path: Path
) -> None:
    parts = replace(read_parts(digits_run), decision=fitted(name, *validation))
    classifier = Classifier(parts, device="cpu")
    assert export(classifier, tmp_path / "model.onnx").wrong == 0
    for count, size in ((200, 24), (1, 32), (3, 40)):  # dynamic batch, and here dynamic size
        agreement = compare(classifier, tmp_path / "model.onnx", random_images(count, 1, size, seed=count))
        assert agreement.wrong == 0
        assert agreement.largest < 1e-4
        assert agreement.unsettled < count or count < 10


@pytest.mark.parametrize(
    ("name", "suffix"), [("topk", ".pt2"), ("topk", ".onnx"), ("thresh_est", ".onnx"), ("count_est", ".onnx")]
)
def test_the_labels_of_an_image_in_place_of_a_column_each(
    digits_run: Path, validation: tuple[np.ndarray, np.ndarray], name: str, suffix: str, tmp_path: Path
) -> None:
    parts = replace(read_parts(digits_run), decision=fitted(name, *validation))
    classifier, images, file = (
        Classifier(parts, device="cpu"),
        random_images(40, 1, 24),
        tmp_path / f"m{suffix}",
    )
    most = 2
    assert export(classifier, file, most=most, images=images).wrong == 0
    names = ClassifierGraph(classifier).output_names
    if suffix == ".pt2":
        outputs = torch.export.load(file).module()(images)
        found = {key: value.numpy() for key, value in zip(names, outputs, strict=True)}
    else:
        import onnxruntime

        session = onnxruntime.InferenceSession(file, providers=["CPUExecutionProvider"])
        found = dict(zip(names, session.run(names, {"images": images.numpy()}), strict=True))
    whole = classifier.predict(images)
    assert found["labels"].dtype == np.int64
    for row, label_set in enumerate(whole.label_sets):
        by_score = sorted(np.flatnonzero(label_set), key=lambda k: -whole.scores[row, k])[:most]
        padding = [-1] * (most - len(by_score))
        assert found["labels"][row].tolist() == [*by_score, *padding]
        np.testing.assert_allclose(
            found["scores"][row, : len(by_score)], whole.scores[row, by_score], atol=1e-4
        )
        assert not found["scores"][row, len(by_score) :].any()
        if "thresholds" in found:
            wanted = whole.thresholds[row, by_score]
            np.testing.assert_allclose(found["thresholds"][row, : len(by_score)], wanted, atol=1e-4)
    with pytest.raises(ValueError, match="most=11: expected from 1 to 10"):
        export(classifier, file, most=11)


def test_real_images_and_metadata(photo_run: Path, photo_tree: Path, tmp_path: Path) -> None:
    import onnx
    import onnxruntime

    classifier = lsep_ml.load(photo_run, device="cpu")
    export(classifier, tmp_path / "model.onnx")
    paths = sorted((photo_tree / "photos").iterdir())
    images = torch.stack([classifier.prepare(path) for path in paths])
    agreement = compare(classifier, tmp_path / "model.onnx", images)
    assert (agreement.images, agreement.wrong) == (60, 0)
    session = onnxruntime.InferenceSession(tmp_path / "model.onnx", providers=["CPUExecutionProvider"])
    assert [(i.name, i.type, i.shape) for i in session.get_inputs()] == [
        ("images", "tensor(uint8)", ["batch", 3, 24, 24])
    ]
    scores, labels, counts = session.run(["scores", "labels", "counts"], {"images": images.numpy()})
    assert scores.dtype == np.float32
    assert labels.dtype == np.uint8
    assert np.array_equal(labels.sum(1), counts)
    found = session.get_modelmeta().custom_metadata_map
    assert json.loads(found["label_names"]) == list(classifier.label_names)
    preprocessing = json.loads(found["preprocessing"])
    assert preprocessing["resize"] == [24, 24]
    assert preprocessing["input"]["shape"] == ["N", 3, 24, 24]
    assert json.loads(found["measured"])["metrics"] == classifier.parts.measured["metrics"]
    onnx.checker.check_model(tmp_path / "model.onnx", full_check=True)
    assert [path.name for path in tmp_path.iterdir()] == ["model.onnx"]


def test_a_wrong_graph_is_seen_and_not_written(
    digits: Classifier, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    other = Classifier(digits.parts, device="cpu")
    other.override(top=1)
    exported = torch.export.export

    def wrong(graph: ClassifierGraph, *given: Any, **options: Any) -> ExportedProgram:
        graph.decision = other.decision
        return exported(graph, *given, **options)

    def apart(graph: ClassifierGraph, *given: Any, **options: Any) -> ExportedProgram:
        graph.network = copy.deepcopy(graph.network)
        graph.network.score_layer.bias.data += 0.5  # no rank changes
        return exported(graph, *given, **options)

    by_rank = Classifier(digits.parts, device="cpu")
    by_rank.override(top=2)
    for classifier, function, what in ((digits, wrong, "label sets are"), (by_rank, apart, "scores are")):
        monkeypatch.setattr("torch.export.export", function)
        with pytest.raises(RuntimeError, match=f"not written, its {what} not torch's"):
            export(classifier, tmp_path / "model.pt2")
        assert not list(tmp_path.iterdir())


def test_the_verb_checks_on_real_images_too(photo_run: Path, photo_tree: Path, tmp_path: Path) -> None:
    words = ["export", str(photo_run), str(tmp_path / "model.pt2"), "--images", str(photo_tree)]
    done = CliRunner().invoke(cli.app, words)
    assert done.exit_code == 0, done.exception
    assert "on 92 images" in done.output
    assert "0 label sets differ" in done.output


def test_torch_export(digits: Classifier, tmp_path: Path) -> None:
    export(digits, tmp_path / "model.pt2")
    for count in (1, 20):
        agreement = compare(digits, tmp_path / "model.pt2", random_images(count, 1, 24))
        assert (agreement.wrong, agreement.largest) == (0, pytest.approx(0, abs=1e-5))
    extra = dict.fromkeys(metadata(digits), "")
    torch.export.load(tmp_path / "model.pt2", extra_files=extra)
    assert json.loads(extra["label_names"]) == list(digits.label_names)


class InNumPy(decisions.TopK):
    """A decision that is no graph of tensor operations."""

    def forward(self, scores: torch.Tensor, features: torch.Tensor | None = None) -> Decided:
        return Decided(torch.from_numpy(scores.numpy() > 0), counts=self.k.expand(len(scores)))


def test_what_cannot_be_exported_is_said(digits: Classifier, tmp_path: Path) -> None:
    for opset in (11, 99):
        with pytest.raises(ValueError, match=f"opset={opset}: supported are 18 to"):
            export(digits, tmp_path / "model.onnx", opset=opset)
    with pytest.raises(ValueError, match="expected a name with"):
        export(digits, tmp_path / "model.tflite")
    with pytest.raises(ValueError, match="has no graph"):
        check_traceable(InNumPy(), 5, 6)
    assert not list(tmp_path.iterdir())
    assert ClassifierGraph(digits).output_names == ["scores", "labels", "thresholds"]


def test_another_opset(digits: Classifier, tmp_path: Path) -> None:
    export(digits, tmp_path / "model.onnx", opset=20)
    assert compare(digits, tmp_path / "model.onnx", random_images(9, 1, 24)).wrong == 0
