"""Every config of this room builds what it names."""

import importlib
import inspect
from pathlib import Path

import pytest
from hydra.utils import instantiate
from omegaconf import OmegaConf

from lsep_ml.data import DataError, ImageDataModule, Transform
from lsep_ml.data.sources.csv_labels import read_csv

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


SOURCES = {"voc2007": 20, "coco": 8, "nuswide": 81, "csv": 5, "coco_json": 8}


@pytest.mark.parametrize("name", SOURCES)
def test_sources_load_batches_on_their_small_trees(name, trees, tmp_path):
    node = OmegaConf.load(CONF / "data" / f"{name}.yaml")
    node = OmegaConf.merge(
        node, {"paths": {"data": str(tmp_path)}, "root": str(trees(name)), "num_workers": 0}
    )
    OmegaConf.resolve(node)
    del node["paths"]
    node.pop("defaults", None)  # the model that goes with the source
    transform = instantiate(OmegaConf.load(CONF / "transform" / "imagenet224.yaml"))
    module = instantiate(node)(transform=transform, batch_size=8, eval_batch_size=4, training_seed=0)
    for loader in (module.train_dataloader(), module.val_dataloader(), module.test_dataloader()):
        batch = next(iter(loader))
        assert batch.images.shape[1:] == (3, 224, 224)
        assert batch.targets.shape[1] == SOURCES[name]
    assert len(module.data_set.label_names) == SOURCES[name]
    assert (tmp_path / ".cache").is_dir()


@pytest.mark.parametrize("path", sorted((CONF / "data").glob("*.yaml")), ids=lambda path: path.stem)
def test_config_defaults_are_the_readers_defaults(path):
    """A call from Python without options does what the command line does without overrides."""
    node = OmegaConf.to_container(OmegaConf.load(path))
    node.pop("defaults", None)  # the model that goes with the source
    module, _, function = node["reader"]["_target_"].rpartition(".")
    reader = getattr(importlib.import_module(module), function)
    of_module = inspect.signature(ImageDataModule).parameters
    for name, parameter in inspect.signature(reader).parameters.items():
        if name in ("root", "cache"):
            continue
        wanted = list(parameter.default) if isinstance(parameter.default, tuple) else parameter.default
        assert node.pop(name) == wanted, name
    left = set(node) - {"_target_", "_partial_", "reader", "root", "cache", "num_workers"}
    assert all(node[name] == of_module[name].default for name in left)


def test_images_of_different_sizes_need_a_transform_that_makes_one(trees):
    with pytest.raises(DataError, match="transform=small"):
        ImageDataModule(
            read_csv,
            root=trees("csv"),
            transform=Transform(),
            batch_size=8,
            eval_batch_size=4,
            training_seed=0,
        )
