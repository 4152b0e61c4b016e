"""A classifier as one graph, network and decision together: ONNX, or torch.export's .pt2."""

import json
import os
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.export import Dim, ExportedProgram

from lsep_ml.bundle.classifier import Classifier
from lsep_ml.bundle.onnx_program import OPSET, check_opset, onnx_program
from lsep_ml.decisions import Decision

SUFFIXES = (".onnx", ".pt2")
_ANY_SIZE = 64  # an example's side, where images keep the size they have


class ClassifierGraph(nn.Module):
    """Maps images uint8 (N, C, H, W), resized and cropped already, to scores float32 (N, K), labels uint8 (N, K), and
    the fields the decision decides by: thresholds (N, K), counts (N,), probabilities (N, K). It normalises, too.

    most: M: no output has K columns, where K is large; then labels are int64 (N, M), the numbers of an image's labels
    by descending score, the M first if it has more, padded with -1, and the other fields are of these (0 at padding).
    """

    def __init__(self, classifier: Classifier, most: int | None = None) -> None:
        super().__init__()
        self.network = classifier.parts.build_network(classifier.allow)
        self.decision = classifier.decision
        self.most = most

    @property
    def output_names(self) -> list[str]:
        return ["scores", "labels", *self.decision.decides_by]

    def forward(self, images: Tensor) -> tuple[Tensor, ...]:
        scores, features = self.network(images)
        decided = self.decision.constrained(scores, features)
        by = [getattr(decided, name) for name in self.decision.decides_by]
        if self.most is None:
            return scores, decided.label_sets.to(torch.uint8), *by
        labels = first_labels(scores, decided.label_sets, self.most)
        of_these = [_at(labels, field) if field.ndim == 2 else field for field in (scores, *by)]
        return of_these[0], labels, *of_these[1:]


def first_labels(scores: Tensor, label_sets: Tensor, most: int) -> Tensor:
    """Return the numbers of each image's labels by descending score, int64 (N, most), padded with -1."""
    # A label whose score is -inf comes before all that are none.
    ranked = torch.where(label_sets, scores.clamp(min=torch.finfo(scores.dtype).min), -torch.inf)
    _, labels = ranked.topk(most, dim=1)
    return torch.where(label_sets.gather(1, labels), labels, -1)


def _at(labels: Tensor, field: Tensor) -> Tensor:
    """Return the field (N, K) at labels (N, M), 0 where these are -1."""
    return torch.where(labels >= 0, field.gather(1, labels.clamp(min=0)), 0)


def check_traceable(decision: Decision, num_labels: int, num_features: int) -> None:
    """Raise ValueError unless torch.export can trace the decision for any number of images."""
    given = torch.zeros(2, num_labels), torch.zeros(2, num_features)
    try:
        torch.export.export(decision, given, dynamic_shapes=({0: Dim.DYNAMIC}, {0: Dim.DYNAMIC}))
    except Exception as error:  # whatever a `forward` of another package raises
        raise ValueError(
            f"decision {type(decision).__name__} has no graph; it cannot be exported: its `forward` must be tensor "
            f"operations alone ({error})"
        ) from error


def export_program(classifier: Classifier, most: int | None = None) -> ExportedProgram:
    """Trace `classifier` to a torch.export program with a dynamic batch (and image size, where none is fixed)."""
    graph = ClassifierGraph(classifier, most).eval()
    dynamic = dict.fromkeys(_dynamic(classifier), Dim.DYNAMIC)
    return torch.export.export(graph, (_example(classifier),), dynamic_shapes=(dynamic,))


def export(
    classifier: Classifier,
    path: Path,
    *,
    opset: int = OPSET,
    images: Tensor | None = None,
    most: int | None = None,
) -> "Agreement":
    """Write the classifier to `path`: .onnx, or .pt2 for torch.export.load; returns how it compares with torch.

    most: how many labels of an image it gives, in the place of K columns (see `ClassifierGraph`); None: K columns.

    The file's metadata (ONNX: metadata_props; .pt2: extra files) hold label_names, preprocessing, decision and measured
    as JSON. It is run on `images` (prepared, uint8 (N, C, H, W); random ones if not given) before it appears, whole or
    not at all.

    Raises:
        ValueError: another suffix, an opset that is not supported, a decision without a graph, or `most` beyond 1 to K.
        ImportError: ONNX is asked for and not installed.
        RuntimeError: the file does not decide as torch does, or its scores differ by more than rounding.
    """
    if path.suffix not in SUFFIXES:
        raise ValueError(f"{path}: expected a name with {' or '.join(SUFFIXES)}")
    if path.suffix == ".onnx":
        check_opset(opset)
    if most is not None and not 1 <= most <= len(classifier.label_names):
        raise ValueError(
            f"most={most}: expected from 1 to {len(classifier.label_names)}, the number of labels"
        )
    path.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=path.parent, prefix=f".{path.name}.") as folder:
        work = Path(folder) / path.name
        try:
            if path.suffix == ".onnx":
                _write_onnx(classifier, work, opset, most)
            else:
                torch.export.save(export_program(classifier, most), work, extra_files=metadata(classifier))
        except Exception:
            check_traceable(classifier.decision, len(classifier.label_names), classifier.network.num_features)
            raise
        agreement = compare(classifier, work, random_images(classifier) if images is None else images, most)
        if agreement.wrong:
            raise RuntimeError(f"{path}: not written, its label sets are not torch's: {agreement}")
        if not agreement.largest <= _ROUNDING * (1 + agreement.scale):
            raise RuntimeError(f"{path}: not written, its scores are not torch's: {agreement}")
        # weights beyond 2 GB come first
        for file in sorted(work.parent.iterdir(), key=lambda file: file == work):
            os.replace(file, path.parent / file.name)
    return agreement


def metadata(classifier: Classifier) -> dict[str, str]:
    """Return what a program needs to know of `classifier` beside the graph, as JSON texts."""
    parts, transform = classifier.parts, classifier.transform.settings
    shape = ["N", *_image_shape(classifier)]
    preprocessing = {
        **{key: transform[key] for key in ("resize", "crop", "channels", "geometry")},
        "resize_mode": transform["interpolation"] + (", antialiased" if transform["antialias"] else ""),
        "crop_place": "centre",
        "transform": transform,
        "input": {"name": "images", "dtype": "uint8", "shape": shape, "range": [0, 255], "order": "RGB"},
        "normalisation": {"in_graph": True, "mean": transform["mean"], "std": transform["std"]},
    }
    values: Mapping[str, Any] = {
        "label_names": list(parts.label_names),
        "preprocessing": preprocessing,
        "decision": type(classifier.decision).__name__,
        "abstention": None if (asks := classifier.decision.abstention) is None else asks._asdict(),
        "measured": {key: parts.measured[key] for key in ("data", "loss", "decision", "identity", "metrics")},
    }
    return {key: json.dumps(value, ensure_ascii=False) for key, value in values.items()}


def _write_onnx(classifier: Classifier, path: Path, opset: int, most: int | None) -> None:
    import onnx

    graph = ClassifierGraph(classifier, most).eval()
    given = (_example(classifier),)
    program = onnx_program(graph, given, ["images"], graph.output_names, [_dynamic(classifier)], opset)
    program.model.metadata_props.update(metadata(classifier))
    program.save(path)
    written = {
        entry.domain: entry.version for entry in onnx.load(path, load_external_data=False).opset_import
    }
    if written[""] != opset:
        raise ValueError(f"opset={opset}: this graph exists only in opset {written['']}; leave --opset out")


def _image_shape(classifier: Classifier) -> tuple[int, int | str, int | str]:
    """Compute (C, H, W) of prepared images; a size that is the image's own has a name in place of a number."""
    transform = classifier.transform
    size = (transform.crop or transform.resize) if transform.fixed_size else None
    height, width = size or ("height", "width")
    return transform.channels, height, width


def random_images(classifier: Classifier, count: int = 32, seed: int = 0) -> Tensor:
    """Draw prepared images of coarse random patches, uint8 (count, C, H, W): more like a picture than noise is."""
    generator = torch.Generator().manual_seed(seed)
    channels, height, width = _example(classifier).shape[1:]
    patches = torch.randint(0, 256, (count, channels, 8, 8), generator=generator).float()
    return (
        torch.nn.functional.interpolate(patches, (height, width), mode="bicubic")
        .clamp(0, 255)
        .to(torch.uint8)
    )


def _example(classifier: Classifier) -> Tensor:
    channels, *size = _image_shape(classifier)
    height, width = (side if isinstance(side, int) else _ANY_SIZE for side in size)
    return torch.zeros(2, channels, height, width, dtype=torch.uint8)


def _dynamic(classifier: Classifier) -> dict[int, str]:
    """Name the axes of the images that are not fixed."""
    names = enumerate(("batch", *_image_shape(classifier)))
    return {axis: name for axis, name in names if isinstance(name, str)}


_ROUNDING = 0.01
"""Of scores near 1: what bicubic embeddings that another runtime resizes otherwise exceed, and float32 does not."""


@dataclass(frozen=True)
class Agreement:
    """Says how an exported file compares with torch on the same images.

    images: how many. largest: difference of a score. scale: the largest of torch's scores, in size. differing: label
    sets that differ. unsettled: images whose label set torch itself changes when their scores move by 1e-5. wrong:
    differing label sets of the others.
    """

    images: int
    largest: float
    scale: float
    differing: int
    unsettled: int
    wrong: int


def compare(classifier: Classifier, path: Path, images: Tensor, most: int | None = None) -> Agreement:
    """Run an exported file on prepared images, uint8 (N, C, H, W), and compare with the classifier on the CPU.

    most: as the file was exported. Scores are compared where the file has them.
    """
    graph = ClassifierGraph(classifier).eval()

    def decide(scores: Tensor) -> Tensor:
        label_sets = classifier.decision.predict(scores, features)
        return label_sets if most is None else _sets_of(first_labels(scores, label_sets, most), scores)

    with torch.inference_mode():
        scores, features = graph.network(images)
        label_sets = decide(scores)
        found_scores, labels = _run(path, images)
        found_sets = labels != 0 if most is None else _sets_of(labels, scores)
        settled = torch.ones(len(images), dtype=torch.bool)
        generator = torch.Generator().manual_seed(0)
        for trial in range(18):
            signs = torch.randint(0, 2, scores.shape, generator=generator) * 2 - 1
            moved = scores + 1e-5 * (signs if trial > 1 else 2 * trial - 1)
            settled &= (decide(moved) == label_sets).all(1)
        wanted = scores if most is None else _at(labels, scores)
    differs = (found_sets != label_sets).any(1)
    largest = float((found_scores - wanted).abs().max())
    counts = (int(part.sum()) for part in (differs, ~settled, differs & settled))
    return Agreement(len(images), largest, float(scores.abs().max()), *counts)


def _sets_of(labels: Tensor, scores: Tensor) -> Tensor:
    """Return the label sets, bool like `scores` (N, K), that numbers of labels, padded with -1, stand for."""
    padded = scores.new_zeros(len(scores), scores.shape[1] + 1, dtype=torch.bool)
    return padded.scatter(1, labels.remainder(padded.shape[1]), True)[:, :-1]


def _run(path: Path, images: Tensor) -> tuple[Tensor, Tensor]:
    if path.suffix == ".pt2":
        scores, labels, *_ = torch.export.load(path).module()(images)
    else:
        import onnxruntime

        session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
        scores, labels = map(torch.from_numpy, session.run(["scores", "labels"], {"images": images.numpy()}))
    return scores, labels
