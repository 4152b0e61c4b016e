"""The same numbers on 1, 2 and 3 processes: every decision, 97 and 2 test images, every metric compared by its bits.

    python experiments/ddp_equality.py

One small network is trained, once. Each number of processes then extracts its features anew, fits every decision and
evaluates it. A line is a metric, as hexadecimal float on one process, or the checksum of an extracted array or of
predictions.npz, and whether more processes gave the same. Exit code 1 if anything differs. A minute on 2 cores.
"""

import copy
import shutil
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

from hydra import compose, initialize_config_dir
from hydra.core.hydra_config import HydraConfig
from hydra.utils import instantiate
from omegaconf import DictConfig, OmegaConf

from lsep_ml.data import DataSet
from lsep_ml.files import file_digest
from lsep_ml.processes.start import launch
from lsep_ml.runs.arrays import write_predictions
from lsep_ml.stages.decision import fit, linear_fits_key, stored_fits
from lsep_ml.stages.evaluation import evaluate
from lsep_ml.stages.extraction import Extraction, extract_features
from lsep_ml.stages.fit_rows import FitRows
from lsep_ml.stages.job import Job, build_job
from lsep_ml.stages.job_data import build_data
from lsep_ml.stages.network import train_prediction
from lsep_ml.stages.resolvers import register_resolvers
from lsep_ml.stages.scores import extract_scores
from lsep_ml.store.entries import Store
from lsep_ml.store.sections import config_sections
from lsep_ml.training.progress import quiet_lightning

CONF = Path(__file__).parent.parent / "conf"
WORLDS = (1, 2, 3)
IMAGES = (97, 2)
OVERRIDES = {
    "zero": ("decision.shift_invariant=false",),  # the one decision that asks what its loss is like
    "count_est:val": ("decision.fit_on=val",),  # fitted without each fold too, as is the next
    "thresh_est:offset": ("decision.offset=class",),
}
# All but "none", which leaves the deciding to a predictor.
DECISIONS = sorted({*OVERRIDES, *(file.stem for file in (CONF / "decision").glob("*.yaml"))} - {"none"})
SMALL = (
    "data.train=61",
    "data.val=40",
    "data.canvas=24",
    "model.widths=[4,4]",
    "model.num_features=6",
    "training.epochs=2",
    "training.batch_size=16",
    "training.eval_batch_size=16",
    "fitting.epochs=3",
    "trainer.accelerator=cpu",
    "hydra/job_logging=disabled",
)

Found = dict[str, str]
"""What is compared, by name: a metric as hex, or a checksum."""


def configuration(folder: Path, *overrides: str) -> DictConfig:
    """The configuration of a job with these overrides, its results under `folder`."""
    register_resolvers()
    with initialize_config_dir(str(CONF), version_base="1.3"):
        config = compose("config", [*SMALL, f"paths.output={folder}", *overrides], return_hydra_config=True)
    config.hydra.runtime.output_dir = str(folder)
    HydraConfig.instance().set_config(config)
    config = copy.deepcopy(config)  # Hydra's own interpolations go by the whole
    OmegaConf.set_struct(config, False)
    del config["hydra"]
    return config


@quiet_lightning()
def measure(by_images: dict[int, DictConfig], by_decision: dict[str, DictConfig], folder: Path) -> Found:
    """In every process of a job: extract for each number of images and fit all decisions; the first evaluates them."""
    register_resolvers()  # in a process that was started for this, nobody has
    return measure_job(build_job(by_images[IMAGES[0]]), by_images, by_decision, folder)


def measure_job(
    job: Job, by_images: dict[int, DictConfig], by_decision: dict[str, DictConfig], folder: Path
) -> Found:
    """`measure`, of a job that is built."""
    train_prediction(job.store, job.made_by, job.network, job.training, job.data, lambda row: None)
    extractions, data_sets = {}, {}
    for images, config in by_images.items():
        data = build_data(config, job.processes)
        data_sets[images] = data.data_set
        parts = config_sections(config, ("data", "transform", "model"))
        features = extract_features(job.store, parts, job.network, data, job.device, job.running)
        extractions[images] = extract_scores(
            job.store, features, job.network.score_layer, data.eval_batch_size
        )
    found = {}
    for images, extraction in extractions.items():
        for entry in (extraction.features, extraction.scores):
            for file in sorted(entry.folder.glob("*.npy")):
                found[f"{images} {file.name}"] = file_digest(file)
        for name, config in by_decision.items():
            config = OmegaConf.merge(config, {"sizes": job.config.sizes})
            for key, value in _decided(
                config, extraction, data_sets[images], folder / f"{images}-{name}.npz", job.store
            ).items():
                found[f"{images} {name} {key}"] = value
    job.processes.disconnect()
    return found if job.processes.first else {}


def _decided(config: Any, extraction: Extraction, data_set: DataSet, file: Path, store: Store) -> Found:
    decision = instantiate(config.decision)
    rows = FitRows.of(decision, extraction, data_set, config.seed)
    key, fits = linear_fits_key(decision, rows, extraction), None
    if key is not None:
        fits = stored_fits(store, key, decision, rows)
    judged = fit(config, decision, rows, lambda row: None, fits=fits, processes=store.processes)
    if not store.processes.first:
        return {}
    outcome = evaluate(decision, extraction, judged)
    arrays = {
        "predictions": outcome.test.predictions,
        "targets": outcome.test.arrays.targets,
        "mask": outcome.test.arrays.mask,
        "scores": outcome.test.arrays.scores,
        "thresholds": outcome.test.thresholds,
        "image_ids": outcome.test.arrays.image_ids,
    }
    write_predictions(file, arrays, [str(label) for label in range(config.sizes.labels)])
    found = {
        f"{split} {key}": float(value).hex()
        for split, measured in (("val", outcome.val), ("test", outcome.test))
        for key, value in measured.metrics.items()
    }
    return {**found, "predictions.npz": file_digest(file)}


@quiet_lightning()
def compare(
    folder: Path, decisions: list[str], work: Callable[..., Any] = measure, *arguments: Any
) -> dict[int, Any]:
    """What `work(..., *arguments)` finds on each number of processes, under `folder`."""
    found = {}
    for world in WORLDS:
        place = folder / f"{world}"
        if world == 1:
            place.mkdir()
        else:
            shutil.copytree(folder / "1" / "store" / "predictions", place / "store" / "predictions")
        by_decision = {
            name: configuration(place, f"decision={name.partition(':')[0]}", *OVERRIDES.get(name, ()))
            for name in decisions
        }
        by_images = {
            images: configuration(place, f"trainer.devices={world}", f"data.test={images}")
            for images in IMAGES
        }
        found[world] = launch(work, by_images[IMAGES[0]].trainer, by_images, by_decision, place, *arguments)
    return found


def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        found = compare(Path(folder), DECISIONS)
    differences = 0
    for name, value in found[1].items():
        verdicts = ["equal" if found[world].get(name) == value else "DIFFERENT" for world in WORLDS[1:]]
        differences += verdicts.count("DIFFERENT")
        print(f"{name:45} {value[:24]:24} " + " ".join(verdicts))
    print(f"{len(found[1])} values on {WORLDS} processes: {differences} differences")
    sys.exit(differences > 0)


if __name__ == "__main__":
    main()
