"""Every config of this room builds what it names."""

from pathlib import Path

import pytest
from hydra.utils import instantiate
from omegaconf import OmegaConf

from lsep_ml.data import ImageDataModule, Transform

CONF = Path(__file__).parents[2] / "conf"


@pytest.mark.parametrize("path", sorted((CONF / "transform").glob("*.yaml")), ids=lambda path: path.stem)
def test_transform(path):
    node = OmegaConf.load(path)
    transform = instantiate(node)
    assert isinstance(transform, Transform)
    assert list(transform.mean) == list(node.mean)
    assert path.read_text().startswith("#")


def test_digits():
    node = OmegaConf.merge(OmegaConf.load(CONF / "data" / "digits.yaml"), {"train": 40, "val": 5, "test": 5})
    module = instantiate(node)(
        transform=instantiate(OmegaConf.load(CONF / "transform" / "native.yaml")),
        batch_size=8, eval_batch_size=4, training_seed=0,
    )  # fmt: skip
    assert isinstance(module, ImageDataModule)
    assert module.data_set.counts["images"] == {"train": 40, "val": 5, "test": 5}
