"""Stage 2: a decision is fitted, or goes on being fitted, by the processes of a job."""

import copy
import logging
import shutil
import time
from collections import deque
from collections.abc import Callable
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

from filelock import FileLock
from hydra.utils import instantiate
from omegaconf import DictConfig, OmegaConf
from torch import Tensor

from lsep_ml.decisions import Decision, LearntDecision
from lsep_ml.decisions.checks import check_fit
from lsep_ml.decisions.log_odds import LogOddsDecision
from lsep_ml.files import write_json
from lsep_ml.processes.group import ALONE, Processes
from lsep_ml.runs.files import UNFINISHED
from lsep_ml.stages.extraction import Extraction
from lsep_ml.stages.fit_rows import FitRows, fits_folds, is_trained
from lsep_ml.stages.job import Job
from lsep_ml.stages.judging import Judged, cross_fit
from lsep_ml.stages.shared import Shared, digest_of
from lsep_ml.store.entries import Store
from lsep_ml.store.keys import (
    DECISION_STATES,
    LINEAR_FITS,
    decision_made_by,
    identity_of,
    linear_fits_made_by,
)
from lsep_ml.store.sections import DECISION_SECTIONS, config_sections
from lsep_ml.terminal import console
from lsep_ml.training.cross_fitting import fit_log_odds_decision
from lsep_ml.training.fitting import OnEpoch, warn
from lsep_ml.training.kept import Kept
from lsep_ml.training.linear_fits import LinearFits
from lsep_ml.training.linear_problem import OnAxes
from lsep_ml.training.linear_scores import KEPT
from lsep_ml.training.path import OnRow
from lsep_ml.training.resume import States

log = logging.getLogger(__name__)


def linear_fits_key(decision: Decision, rows: FitRows, extraction: Extraction) -> dict[str, Any] | None:
    """Return what the fits of linear thresholds that a decision goes by are made by; None: it goes by none.

    Decisions and criteria that ask for the same fits share them.
    """
    linear = decision.linear_thresholds if isinstance(decision, LogOddsDecision) else None
    if linear is None:
        return None
    return linear_fits_made_by(
        extraction.scores.identity,
        None if extraction.prediction is None else extraction.prediction.identity,
        decision.fit_on,
        rows.folds.tobytes(),
        linear.weight_decay,
    )


def fit_and_judge(
    job: Job, extraction: Extraction, on_row: OnRow, folder: Path, in_use: dict[str, str]
) -> Judged | None:
    """Fit the decision of a job, in all its processes, from where a killed training of it stopped; see `fit`.

    folder: of the run, in which the first process notes what is worked on. in_use: the stored results that the run
    works on; those of the decision are added.
    """
    decision, processes = job.decision, job.processes
    if decision is None or job.config.training.joint:  # which leaves the decision trained
        return None
    if not processes.first and not fits_folds(decision, extraction.out_of_fold() is not None):
        return None
    rows = FitRows.of(decision, extraction, job.data.data_set, job.config.seed)
    shared, fits = linear_fits_key(decision, rows, extraction), None
    if shared is not None:
        in_use[LINEAR_FITS] = identity_of(shared)
    sections = config_sections(job.config, (*DECISION_SECTIONS, "seed"))
    made_by = decision_made_by(sections, extraction.scores.identity)
    states = States(job.store.kept(DECISION_STATES, made_by), job.training.saving)
    with ExitStack() as held:
        if processes.first:
            write_json(folder / UNFINISHED, in_use | {DECISION_STATES: states.folder.stem})
            states.folder.parent.mkdir(parents=True, exist_ok=True)
            # another start of the same command waits
            held.enter_context(FileLock(states.folder.with_suffix(".lock")))
        if shared is not None:
            fits = stored_fits(job.store, shared, decision, rows)
        judged = fit(job.config, decision, rows, on_row, states, fits, processes)
        if processes.first:
            shutil.rmtree(states.folder, ignore_errors=True)
    return judged


_ON_AXES: Shared[OnAxes] = Shared(1)


def stored_fits(store: Store, made_by: dict[str, Any], decision: Decision, rows: FitRows) -> LinearFits:
    """Return the fits of linear thresholds on the rows, without each fold and without each two, made now or found."""
    assert isinstance(decision, LogOddsDecision)
    estimator, given = decision.linear_thresholds, rows.by_log_odds(decision)
    assert estimator is not None

    def share(make: Callable[[], OnAxes]) -> OnAxes:
        if rows.features.nbytes > KEPT:
            return make()
        return _ON_AXES.get([rows.features.shape, digest_of(rows.features)], make)

    def build(folder: Path) -> dict[str, Any]:
        started = time.perf_counter()
        kept = Kept(folder, store.processes)
        fits = LinearFits(estimator, given, partial(kept.get, together=True), share, store.processes)
        facts = {"weight_decay": fits.weight_decay}  # by all processes, before they part
        deque(kept.each(fits.makes(twice=bool(rows.val.any()))), maxlen=0)
        return {**facts, "seconds": round(time.perf_counter() - started, 3)}

    entry = store.get_or_build(LINEAR_FITS, made_by, build)
    return LinearFits(estimator, given, Kept(entry.folder).get)


def fit(
    config: DictConfig,
    decision: Decision,
    rows: FitRows,
    on_row: Any,
    states: States | None = None,
    fits: LinearFits | None = None,
    processes: Processes = ALONE,
) -> Judged | None:
    """Fit the decision on the images it asks for; `on_row` is shown its rows of the history.

    fits: of `stored_fits`, for a decision that goes by linear thresholds; None: it makes its own. processes: that all
    call this; each fits without other folds, and the first has the decision.

    Returns what is to be said of the validation images where the decision was fitted on them: each of them is decided
    by a fit without its fold. None: it was not, or this is not the first process.
    """
    unfitted = copy.deepcopy(decision)
    log.info(
        "Fitting decision %s on %d images (%s)", config.names.decision, len(rows.scores), decision.fit_on
    )

    def note_epoch(epoch: int, loss: float) -> None:
        on_row({"stage": "decision", "epoch": epoch + 1, "train_loss": loss})

    options: dict[str, Any] = {
        "epochs": config.fitting.epochs,
        "batch_size": config.fitting.batch_size,
        "optimizer": instantiate(config.fitting.optimizer),
        "seed": config.seed,
    }
    if is_trained(decision):
        if processes.first or decision.chooses_offsets:
            further = {"states": states, "processes": processes}
            _learn_or_share(config, decision, rows, note_epoch, options | further)
    elif processes.first and isinstance(decision, LogOddsDecision):
        ended = fit_log_odds_decision(decision, rows.by_log_odds(decision), fits)
        if not ended.converged:
            log.warning("the solver stopped at a gradient norm of %.1e", ended.gradient_norm)
    elif processes.first:
        rows.fit(decision)
    if not rows.val.any():
        return None
    kept = Kept(states.finished) if states is not None and is_trained(decision) else None
    return cross_fit(unfitted, decision, rows, options, fits, processes, kept)


class Learnt(NamedTuple):
    """Holds the state of a learnt decision after its training, and the loss of each epoch."""

    state: dict[str, Tensor]
    losses: list[float]


_LEARNT: Shared[Learnt] = Shared(4)


def _learn_or_share(
    config: DictConfig, decision: LearntDecision, rows: FitRows, on_epoch: OnEpoch, options: dict[str, Any]
) -> None:
    """Train the decision; jobs with other scores of the same images share one that learns nothing from the scores."""
    trained = False

    def train() -> Learnt:
        nonlocal trained
        losses: list[float] = []

        def note(epoch: int, loss: float) -> None:
            losses.append(loss)
            on_epoch(epoch, loss)

        rows.fit(decision, progress=console.is_terminal, on_epoch=note, **options)
        trained = True
        return Learnt(copy.deepcopy(decision.state_dict()), losses)

    if decision.learns_from_scores:
        train()
        return
    arrays = [
        None if array is None else digest_of(array) for array in (rows.targets, rows.features, rows.mask)
    ]
    built = {name: value for name, value in decision.options().items() if name != "fit_on"}
    fitting = OmegaConf.to_container(config.fitting, resolve=True)
    learnt = _LEARNT.get([type(decision).__name__, built, fitting, config.seed, arrays], train)
    if not trained:
        check_fit(rows.scores, rows.targets, rows.mask)
        for epoch, loss in enumerate(learnt.losses):
            on_epoch(epoch, loss)
        decision.load_state_dict(learnt.state)
        warn(decision.eval(), decision.problems(rows.scores, rows.features))
