"""Every pooling in a bundle and in a graph: the same features, scores and label sets."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

import lsep_ml
from lsep_ml.bundle import Classifier, read_parts, write_bundle
from lsep_ml.bundle.export import compare, export
from lsep_ml.decisions import ThresholdEstimation
from lsep_ml.models import Network, timm_backbone
from lsep_ml.models.pooling import POOLS

MEAN, STD = [0.5, 0.4, 0.3], [0.2, 0.3, 0.25]
CASES = [
    (name, size, pool, head)
    for name, size, pools in (
        ("test_resnet", 64, [pool for pool in POOLS if pool != "cls_mean"]),
        ("test_vit", 160, [pool for pool in POOLS if pool != "gem"]),  # whose tokens can be negative
    )
    for pool in pools
    for head in ("linear", "csra")
    if head == "linear" or pool == "cls_mean"
]


@pytest.mark.parametrize(("name", "size", "pool", "head"), CASES)
def test_a_pooling_is_the_same_in_bundle_and_graph(
    digits_run: Path, tmp_path: Path, name: str, size: int, pool: str, head: str
) -> None:
    import onnxruntime

    parts = read_parts(digits_run)
    options = {"name": name, "image_size": size, "pool": pool, "head": head}
    torch.manual_seed(0)
    network = Network(timm_backbone(weights=None, **options), len(parts.label_names), MEAN, STD).eval()
    images = torch.randint(0, 256, (6, 3, size, size), dtype=torch.uint8)
    with torch.inference_mode():
        expected = network(images)
    parts = replace(
        parts,
        model={"backbone": "lsep_ml.models.timm_backbone", "options": options},
        transform={"crop": size, "geometry": "squash", "channels": 3, "mean": MEAN, "std": STD},
        state=network.state_dict(),
        decision=ThresholdEstimation(network.num_features, network.num_labels).eval(),
    )
    write_bundle(parts, tmp_path / "bundle")
    classifier = lsep_ml.load(tmp_path / "bundle", device="cpu")
    assert isinstance(classifier, Classifier)
    with torch.inference_mode():
        found = classifier.network(images)
    torch.testing.assert_close(found.features, expected.features)
    torch.testing.assert_close(found.scores, expected.scores)
    export(classifier, tmp_path / "model.onnx", images=images)
    assert compare(classifier, tmp_path / "model.onnx", images).wrong == 0
    session = onnxruntime.InferenceSession(tmp_path / "model.onnx", providers=["CPUExecutionProvider"])
    scores = session.run(["scores"], {"images": images.numpy()})[0]
    np.testing.assert_allclose(scores, expected.scores.numpy(), rtol=1e-3, atol=1e-4)
