"""What a job would do, said without doing it."""

import logging
import time
from pathlib import Path

import torch
from rich.filesize import decimal

from lsep_ml.data.data_set import SPLITS
from lsep_ml.stages.earlier import finished_record
from lsep_ml.stages.extraction import features_key
from lsep_ml.stages.job import Job
from lsep_ml.store.keys import FEATURES, NETWORKS, RATES, identity_of, search_made_by
from lsep_ml.store.sections import config_sections

log = logging.getLogger(__name__)

_planned: set[str] = set()  # networks and features that earlier jobs of this process's sweep would make


def plan(job: Job, folder: Path) -> None:
    """Say what a run would train, what it would find, and the disk it would need; do nothing."""
    identity = identity_of(job.made_by)
    network = job.network
    weights = sum(tensor.nbytes for tensor in network.state_dict().values())
    images = sum(len(job.data.data_set.split(name)) for name in SPLITS)
    stored = 2 if job.running.store == "float16" else 4
    arrays = images * (stored * job.running.row_width(network) + 4 * network.num_labels)
    if finished_record(job, folder):
        verdict = "finished before; nothing to do"
    elif job.config.rates.get("search"):
        verdict = f"{_work(job)}: {_search(job)}, then {job.config.training.epochs} epochs on {job.device}"
    elif job.store.find(NETWORKS, job.made_by):
        verdict = f"finds network {identity} in the store"
    elif identity in _planned:
        verdict = f"uses network {identity}, trained by an earlier job of this sweep"
    else:
        _planned.add(identity)
        how = "solved" if job.solving else f"{job.config.training.epochs} epochs"
        verdict = (
            f"{_work(job)} {identity}: {how} on {job.device}; "
            f"needs {decimal(weights)} for weights, {decimal(arrays)} for features and scores"
        )
    log.info("plan: %s: %s", folder, verdict)


def _search(job: Job) -> str:
    options = config_sections(job.config, ("rates",))["rates"]["search"]
    if job.store.find(RATES, search_made_by(options, job.made_by)):
        return "its rate is in the store"
    return f"its rate is searched in at least 5 trainings of {options['epochs']} epochs"


def _work(job: Job) -> str:
    if not job.config.training.probe:
        return "trains network"
    if job.running.beside == "scores":
        return "trains a head with the frozen network in every epoch, network"
    sections, data = job.shown
    made_by = features_key(sections, job.network, data, job.running)
    identity = identity_of(made_by)
    if identity in _planned:
        return "shares features and trains a score layer, network"
    _planned.add(identity)
    found = job.store.find(FEATURES, made_by)
    start = "finds its features in the store" if found else f"extracts its features{_duration(job)}"
    return f"{start} and trains a score layer, network"


def _duration(job: Job) -> str:
    """Tell about how long the network alone takes over all images, by two batches of blank ones; nothing where their
    size is not known."""
    transform, batch = job.config.transform, 8
    size = transform.get("crop") or transform.get("resize")
    if size is None:
        return ""
    height, width = (size, size) if isinstance(size, int) else size
    network = job.network.eval().to(job.device)
    images = torch.zeros(batch, transform.channels, height, width, device=job.device)
    with torch.inference_mode():
        for _ in range(2):  # the first one is slower
            started = time.perf_counter()
            network.extract(images).sum().item()
            seconds = time.perf_counter() - started
    seconds *= sum(len(job.data.data_set.split(name)) for name in SPLITS) / batch
    told = f"{seconds / 3600:.1f} hours" if seconds >= 5400 else f"{max(1, round(seconds / 60))} min"
    return f" (the network alone about {told} on {job.device})"
