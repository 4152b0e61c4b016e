"""The stages that work on images, training and extraction, in all processes of a job."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

from lsep_ml.data import DataSet, ImageDataModule
from lsep_ml.data.data_set import SPLITS
from lsep_ml.stages.extraction import (
    UNREAD,
    Extraction,
    extract_features,
    feature_tensors,
    take_features,
)
from lsep_ml.stages.job import Job
from lsep_ml.stages.network import train_prediction
from lsep_ml.stages.predictor import fit_predictor
from lsep_ml.stages.probe import solve_prediction
from lsep_ml.stages.rates import AtRates, search_rate
from lsep_ml.stages.scores import extract_scores
from lsep_ml.store.entries import Entry
from lsep_ml.store.keys import NETWORKS, RATES, identity_of, search_made_by
from lsep_ml.store.sections import config_sections
from lsep_ml.training.path import OnRow


def image_ids(data_set: DataSet) -> set[str]:
    """Return the ids of all images, in whatever split."""
    return {name for split in SPLITS for name in data_set.split(split).image_ids.tolist()}


@dataclass(frozen=True)
class Trained:
    """Says what the stages that work on images leave; searched: the search for the rate, None where there was none."""

    prediction: Entry
    extraction: Extraction
    searched: Entry | None


def train_and_extract(job: Job, on_row: OnRow, on_use: Callable[[dict[str, str]], None]) -> Trained:
    """Return the stages that work on images, in all processes of the job; `on_use` is told of what a search works
    on."""
    searched = None

    def train(source: ImageDataModule) -> Entry:
        nonlocal searched
        training, made_by = job.training, job.made_by
        if job.config.rates.get("search"):
            rates = AtRates(job.config, job.network, training, made_by)
            in_use = {RATES: identity_of(search_made_by(rates.options, made_by))}
            on_use(in_use)
            searched = search_rate(job.store, rates, source)
            training, made_by = rates.at(searched.facts["lr"])
            on_use(in_use | {NETWORKS: identity_of(made_by)})
        return train_prediction(job.store, made_by, job.network, training, source, on_row)

    def features(sections: dict[str, Any], data: ImageDataModule) -> Entry:
        return extract_features(job.store, sections, job.network, data, job.device, job.running)

    def frozen_features() -> Entry:
        """Return those of a backbone that runs once for all folds and splits of the same images."""
        sections, data = job.shown
        # a long tail is cut from each split's own
        if not image_ids(job.data.data_set) <= image_ids(data.data_set):
            return features(job.made_by["config"], job.data)
        stored = features(sections, data)
        return stored if data is job.data else take_features(job.store, stored, job.data)

    if job.config.training.probe and job.running.beside != "scores":
        # The backbone is never trained: its features come first.
        extracted = frozen_features()
        source = job.data.on_features(feature_tensors(extracted.folder), extracted.facts.get(UNREAD, {}))
        if job.solving is None:
            prediction = train(source)
        else:
            prediction = solve_prediction(
                job.store, job.made_by, job.network, job.solving, extracted, source.data_set, on_row
            )
    else:
        # The head of a probe whose places are not kept sees images as they are.
        prediction = train(job.data.unaugmented() if job.config.training.probe else job.data)
        extracted = features(job.made_by["config"], job.data)
    extraction = extract_scores(
        job.store,
        extracted,
        job.network.score_layer,
        job.data.eval_batch_size,
        job.config.extraction.get("scores", "float32"),
    )
    return Trained(prediction, replace(extraction, prediction=prediction), searched)


def predicted(job: Job, extraction: Extraction, on_row: OnRow) -> Extraction:
    """Return the extraction with what the job's predictor makes of it, where there is one; in all processes of the
    job."""
    if job.predictor is None:
        return extraction
    section = config_sections(job.config, ("predictor",))["predictor"]
    return fit_predictor(job.store, extraction, job.predictor, section, job.config.seed, on_row)
