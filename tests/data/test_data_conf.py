"""Every config of this room builds what it names."""

import importlib
import inspect
from pathlib import Path

import pytest
from hydra import compose, initialize_config_dir
from hydra.core.hydra_config import HydraConfig
from hydra.utils import instantiate
from omegaconf import DictConfig, OmegaConf

from lsep_ml.data import DataError, ImageDataModule, Transform
from lsep_ml.data.sources import sources
from lsep_ml.data.sources.csv_labels import read_csv
from lsep_ml.files import content_hash
from lsep_ml.reports.paper import IMAGES
from lsep_ml.stages.resolvers import register_resolvers
from lsep_ml.store.sections import config_sections

CONF = Path(__file__).parents[2] / "conf"


def composed(name: str, *overrides: str) -> DictConfig:
    """The node `data` of data=NAME, resolved."""
    changed = [f"data.{override}" for override in overrides if not override.startswith("paths.")]
    changed += [override for override in overrides if override.startswith("paths.")]
    with initialize_config_dir(str(CONF), version_base="1.3"):
        node = compose("config", [f"data={name}", *changed]).data
    OmegaConf.resolve(node)
    return node


@pytest.mark.parametrize("path", sorted((CONF / "transform").glob("*.yaml")), ids=lambda path: path.stem)
def test_transform(path):
    node = OmegaConf.load(path)
    if path.stem == "model":  # what a job has put in the places that say so
        own = {"crop": 224, "crop_pct": 0.875, "interpolation": "bicubic", "antialias": True}
        own |= {"mean": [0.5] * 3, "std": [0.5] * 3}
        assert {key for key, value in node.items() if value == "model"} == set(own)
        node = OmegaConf.merge(node, own)
    transform = instantiate(node)
    assert isinstance(transform, Transform)
    assert list(transform.mean) == list(node.mean)
    assert path.read_text().startswith("#")


def test_digits():
    module = instantiate(composed("digits", "train=40", "val=5", "test=5"))(
        transform=instantiate(OmegaConf.load(CONF / "transform" / "native.yaml")),
        batch_size=8, eval_batch_size=4, training_seed=0,
    )  # fmt: skip
    assert isinstance(module, ImageDataModule)
    assert module.data_set.counts["images"] == {"train": 40, "val": 5, "test": 5}


SOURCES = {"voc2007": 20, "coco": 8, "nuswide": 81, "csv": 5, "coco_json": 8, "own": 5}


@pytest.mark.parametrize("name", SOURCES)
def test_sources_load_batches_on_their_small_trees(name, trees, tmp_path):
    root = trees("csv" if name == "own" else name)
    node = composed(name, f"root={root}", "num_workers=0", f"paths.data={tmp_path}")
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
    node = OmegaConf.to_container(composed(path.stem))
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


FIRST_CONTENT = {
    "coco": "b84d919aefd4ba24",
    "coco_json": "bcd3f3615339c4f0",
    "csv": "92ff2dd4ccafb294",
    "digits": "9d1cdc6e60395c34",
    "nuswide": "e78a12238e182312",
    "voc2007": "fbbb48fa78221f13",
}
"""Source -> hash of what its configuration puts into identities, as it was first."""


@pytest.mark.parametrize("name", FIRST_CONTENT)
def test_what_identities_hold_of_a_source_outlives_changes_of_its_file(name):
    register_resolvers()
    with initialize_config_dir(str(CONF), version_base="1.3"):
        config = compose("config", [f"data={name}"], return_hydra_config=True)
    HydraConfig.instance().set_config(config)
    assert content_hash(config_sections(config, ("data",))) == FIRST_CONTENT[name]


def test_every_source_has_its_group_value_and_a_file_of_its_own():
    for name, source in sources().items():
        assert source.name == name
        assert (CONF / "data" / f"{name}.yaml").exists()
        assert composed(name).reader["_target_"].startswith("lsep_ml.data.sources.")


def test_the_check_compares_with_the_counts_of_the_report():
    for name, (train, test) in IMAGES.items():
        published = sources()[name].published
        counts = published.labelled or published.images
        if published.kept is not None:
            assert train + test == published.kept
        if published.kept is None or sum(counts.values()) == published.kept:
            assert (train, test) == (counts["train"], counts["test"])


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
