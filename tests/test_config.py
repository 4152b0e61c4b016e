"""Every value of every configuration group composes, resolves, and builds what it names."""

import itertools
import math
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from hydra import compose, initialize_config_dir
from hydra._internal import defaults_list
from hydra._internal.config_loader_impl import ConfigLoaderImpl
from hydra._internal.utils import create_config_search_path
from hydra.core.hydra_config import HydraConfig
from hydra.types import RunMode
from hydra.utils import instantiate
from omegaconf import DictConfig, OmegaConf

from lsep_ml.predictors import Predictor
from lsep_ml.stages.composing import compose_once, parse_once
from lsep_ml.stages.resolvers import register_resolvers
from lsep_ml.store.sections import DECISION_SECTIONS, PREDICTION_SECTIONS, config_sections

ROOT = Path(__file__).parent.parent
GROUPS = {
    group.name: sorted(file.stem for file in group.glob("*.yaml"))
    for group in sorted((ROOT / "conf").iterdir())
    if group.is_dir() and group.name not in ("suited", "experiment")
}


@pytest.fixture(autouse=True, scope="module")
def hydra() -> Iterator[None]:
    register_resolvers()
    with initialize_config_dir(str(ROOT / "conf"), version_base="1.3"):
        yield


def composed(*overrides: str) -> DictConfig:
    config = compose("config", list(overrides), return_hydra_config=True)
    HydraConfig.instance().set_config(config)
    return config


@pytest.mark.parametrize(
    ("group", "value"), [(group, value) for group, values in GROUPS.items() for value in values]
)
def test_every_value_composes_and_resolves(group: str, value: str) -> None:
    config = composed(f"{group}={value}")
    sections = config_sections(config, PREDICTION_SECTIONS + DECISION_SECTIONS)
    assert all(section in sections for section in ("data", "loss", "decision"))
    assert OmegaConf.is_missing(config.sizes, "labels")  # as it was
    assert OmegaConf.select(config, "hydra.run.dir").startswith("outputs/runs/")
    text = (ROOT / "conf" / group / f"{value}.yaml").read_text()
    assert text.startswith("#"), f"{group}/{value}.yaml does not say what it is"


@pytest.mark.parametrize(
    ("group", "value"),
    [
        (group, value)
        for group in ("loss", "decision", "optimizer", "schedule", "transform", "trainer")
        for value in GROUPS[group]
        # a predictor's own label sets, of which there is nothing to build; the model's own, which a job completes
        if (group, value) not in (("decision", "none"), ("transform", "model"))
    ],
)
def test_every_part_builds(group: str, value: str) -> None:
    # A threshold at zero is refused for losses that only compare scores, which the default is.
    extra = ["loss=bce"] if value == "zero" else []
    config = composed(f"{group}={value}", "sizes.labels=5", "sizes.features=7", *extra)
    if (group, value) != ("trainer", "gpu"):
        assert callable(instantiate(config[group]))


def test_the_contract_of_group_values() -> None:
    assert {"lsep", "warp", "bpmll", "ranking", "softmax"} <= set(GROUPS["loss"])
    assert {"topk", "threshold", "count_est", "thresh_est"} <= set(GROUPS["decision"])
    assert {"small_cnn", "vgg16", "timm"} <= set(GROUPS["model"])
    defaults = composed()
    assert (defaults.names.data, defaults.names.model) == ("digits", "small_cnn")
    assert (defaults.names.loss, defaults.names.decision) == ("lsep", "thresh_est")


def test_the_model_brings_its_transform_and_digits_are_not_mirrored() -> None:
    for model in ("vgg16", "timm"):
        transform = composed(f"model={model}").transform
        assert (transform.geometry, transform.crop, transform.mean) == ("squash", "model", "model")
    assert composed("model=vgg16", "transform=small").transform.resize == [64, 64]
    assert not composed("model=vgg16").transform.flip
    assert not composed("model=timm").transform.flip
    assert composed().transform.channels == composed().model.in_channels == 1


@pytest.mark.parametrize(
    ("overrides", "decision"),
    [
        ([], "ThresholdEstimation"),
        (["data=voc2007"], "ThresholdEstimation"),
        (["data=features"], "LabelSetSupport"),
        (["data=own"], "LabelSetSupport"),
        (["data=csv"], "LabelSetSupport"),
        (["data=coco_json"], "LabelSetSupport"),
        (["data=csv", "decision=topk"], "TopK"),
        (["data=own", "predictor=br"], None),
        (["data=own", "predictor=br", "decision=threshold"], "GlobalThreshold"),
    ],
)
def test_the_default_decision_is_the_papers_or_for_peoples_own_images_support(
    overrides: list[str], decision: str | None
) -> None:
    found = composed(*overrides).decision.get("_target_")
    assert (found and found.rpartition(".")[2]) == decision


def test_rates_belong_to_data_and_model_together() -> None:
    assert composed("model=vgg16").optimizer.lr == 0.001
    assert composed().optimizer.lr == composed().rates.sgd > 0.001
    assert composed("optimizer=adam").optimizer.lr == composed().rates.adam


def test_a_stage_one_identity_has_nothing_of_stage_two_and_nothing_of_the_place() -> None:
    first = config_sections(composed(), PREDICTION_SECTIONS)
    same = (
        "decision=topk",
        "predictor=br",
        "fitting.epochs=3",
        "trainer=cpu",
        "trainer.devices=4",
        "data.num_workers=2",
        "paths.output=elsewhere",
    )
    for override in same:
        assert config_sections(composed(override), PREDICTION_SECTIONS) == first, override
    other = ("seed=1", "data.seed=1", "loss=softmax", "training.epochs=3", "optimizer=adam")
    for override in (*other, "trainer.precision=bf16-mixed", "trainer.sync_batchnorm=false"):
        assert config_sections(composed(override), PREDICTION_SECTIONS) != first, override


def test_predictors_build_and_make_runs_of_their_own() -> None:
    folders = {OmegaConf.select(composed(), "hydra.run.dir")}
    for value in GROUPS["predictor"]:
        config = composed(f"predictor={value}")
        folders.add(OmegaConf.select(config, "hydra.run.dir"))
        own = value != "score_layer"
        assert isinstance(instantiate(config.predictor), Predictor) == own
        assert (config.names.decision == "none") == own
        assert composed(f"predictor={value}", "decision=topk").names.decision == "topk"
    assert len(folders) == len(GROUPS["predictor"])
    assert "/small_cnn-lsep-thresh_est-seed0-" in OmegaConf.select(composed(), "hydra.run.dir")


hydras_own = getattr(
    defaults_list._create_interpolation_map, "__wrapped__", defaults_list._create_interpolation_map
)
EXPERIMENTS = sorted(file.stem for file in (ROOT / "conf" / "experiment").glob("*.yaml"))


@pytest.mark.parametrize("experiment", EXPERIMENTS)
def test_every_job_of_every_sweep_composes(experiment: str, monkeypatch: pytest.MonkeyPatch) -> None:
    text = (ROOT / "conf" / "experiment" / f"{experiment}.yaml").read_text()
    assert all(word in text.split("hydra:")[0] for word in ("Command:", "Cost:"))
    loader = ConfigLoaderImpl(create_config_search_path(str(ROOT / "conf")))
    master = loader.load_configuration("config", [f"experiment={experiment}"], RunMode.MULTIRUN)
    params = master.hydra.sweeper.params
    choices = [[f"{key}={value}" for value in str(values).split(",")] for key, values in params.items()]
    jobs = [[f"experiment={experiment}", *job] for job in itertools.product(*choices)]
    one = jobs[len(jobs) // 2]
    monkeypatch.setattr(defaults_list, "_create_interpolation_map", hydras_own)
    alone = loader.load_sweep_config(master, one)
    parse_once()
    compose_once(loader)
    assert defaults_list._create_interpolation_map is not hydras_own
    folders = set()
    for job in jobs:
        config = loader.load_sweep_config(master, job)
        HydraConfig.instance().set_config(config)
        assert config_sections(config, PREDICTION_SECTIONS + DECISION_SECTIONS)
        folders.add(OmegaConf.select(config, "hydra.sweep.subdir"))
    assert OmegaConf.to_yaml(loader.load_sweep_config(master, one)) == OmegaConf.to_yaml(alone)
    assert len(folders) == math.prod(len(values) for values in choices)


def test_tables_on_real_data_are_the_papers_protocol() -> None:
    for data in ("voc2007", "nuswide", "coco"):
        config = composed("experiment=table1", f"data={data}")
        assert (config.names.model, config.training.epochs, config.optimizer.lr) == ("vgg16", 10, 0.001)
        assert (config.optimizer.momentum, config.optimizer.weight_decay) == (0.9, 5e-5)
        assert (config.fitting.epochs, config.fitting.optimizer.lr) == (50, 0.001)
        assert config.model.weights == "imagenet"
        assert (config.transform.resize, config.transform.crop) == ([256, 256], 224)
        named = {"_target_", "resize", "crop", "flip", "channels", "mean", "std"}
        assert set(config.transform) == named | {"augment", "test_flip", "decode"}
        assert (config.transform.augment, config.transform.test_flip) == (None, False)
        assert config.transform.decode == "full"


def test_cfg_job_starts_without_torch() -> None:
    code = (
        "import sys, runpy; sys.argv = ['run.py', '--cfg', 'job']\n"
        f"try: runpy.run_path({str(ROOT / 'run.py')!r}, run_name='__main__')\n"
        "finally: print('heavy:', *sorted({'torch', 'pytorch_lightning', 'numpy'} & set(sys.modules)))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT, env=os.environ
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.rstrip().endswith("heavy:")
