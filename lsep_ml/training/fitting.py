"""Stage 2: fit any decision on scores, features and targets that are already there, arrays or tensors."""

import copy
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from typing import Any, TypeVar, cast

import numpy as np
import pytorch_lightning as pl
import torch
from numpy.typing import NDArray
from rich.progress import Progress
from torch import Tensor
from torch.utils.data import DataLoader

from lsep_ml.decisions import DECISIONS, Decision, LearntDecision, Rule, label_blocks
from lsep_ml.decisions.checks import Array, check_features, check_fit, check_scores
from lsep_ml.decisions.log_odds import LogOddsDecision
from lsep_ml.decisions.offset import MovedThresholds
from lsep_ml.metrics.counts import as_held, as_numpy, held_known
from lsep_ml.processes.group import ALONE, Processes
from lsep_ml.terminal import console
from lsep_ml.training.checkpoints import CheckedCheckpointIO
from lsep_ml.training.cross_fitting import fill_log_odds, fit_log_odds_decision, honest_array
from lsep_ml.training.folds import checked_rows, draw_folds, fold_pairs
from lsep_ml.training.kept import Kept, found_again
from lsep_ml.training.label_decision import (
    CachedRows,
    DecisionBatch,
    LabelDecision,
    OptimizerFactory,
    shuffled,
)
from lsep_ml.training.progress import quiet_lightning
from lsep_ml.training.resume import States

A = TypeVar("A", Array, Array | None)
D = TypeVar("D", bound=Decision)
OnEpoch = Callable[[int, float], None]
Arrays = tuple[Array, Array, Array, Array | None]
"""Scores, targets, features and mask."""
# As the paper trains both stages
paper_sgd: OptimizerFactory = partial(torch.optim.SGD, lr=0.001, momentum=0.9, weight_decay=5e-5)


class DecisionWarning(UserWarning):
    """A decision was fitted, but what it predicts is suspicious."""


def fit_decision(
    decision: D | str,
    scores: Array,
    targets: Array,
    features: Array | None = None,
    mask: Array | None = None,
    *,
    epochs: int = 50,
    batch_size: int = 64,
    optimizer: OptimizerFactory = paper_sgd,
    seed: int = 0,
    progress: bool = False,
    on_epoch: OnEpoch | None = None,
    trainer: Mapping[str, Any] | None = None,
    states: States | None = None,
    folds: Array | None = None,
    validation: Array | None = None,
    further: tuple[Array, Array | None] | None = None,
    processes: Processes = ALONE,
) -> D:
    """Fit `decision`, in place, and return it: a rule by its search, a learnt one by training from scratch.

    A decision's name, such as "per_class" (the keys of `lsep_ml.decisions.DECISIONS`), stands for a new one with its
    default options, of the sizes of these arrays.

    Linear thresholds and label-set support are neither: their log odds are fitted by a solver and asked about rows that
    they were not fitted on, in `folds`; what these decisions choose is chosen there. So is the offset of threshold
    estimation where it has one: it is trained without each fold, then on all rows.

    scores (N, K), targets 0/1 (N, K), features (N, D), mask (N, K) with True = known: torch tensors or NumPy
    arrays; memory-mapped features are read in blocks and batches, never copied as a whole. Targets and mask may be
    sparse (`SparseIndicator`). A decision that `fits_by_rows` takes whatever gives rows as arrays for its scores, such
    as scores that are computed when read.

    epochs, batch_size, optimizer (parameters -> Optimizer), seed: for learnt decisions; the defaults are the
    paper's (SGD, momentum 0.9, learning rate 0.001, weight decay 5e-5), the batch size ours. The result is
    determined by `seed`; the caller's random state is neither read nor changed. on_epoch(epoch, loss) follows
    the training. trainer: further options for the Lightning Trainer, such as accelerator="gpu"; the default
    is the CPU. states: where the state of a training is saved, and found again by the same call after it was killed;
    it then ends with the same numbers; so is a finished training without a fold. The folder must be of this call alone.
    None: nothing is saved.

    folds: for these, int (N,), the rows left out together (None: five random folds from `seed`).

    For decisions by log odds: validation, bool (N,), the rows whose log loss chooses a weight decay, fitted on the
    others (None: each fold's, fitted on the other folds). further: targets (M, K) and mask of images whose scores are
    not honest, such as those that the network was trained on; they count where label sets are counted.

    processes: for an offset, that all call this, on the same data: each trains without other folds, and the decision is
    fitted on the first, the same whatever their number.

    Warns (DecisionWarning) when a learnt head is constant over the data or predicts empty label sets only, and when the
    solver did not reach its tolerance.
    Raises ValueError for data that cannot be fitted on, missing features, and a name that no decision has, before any
    training.
    """
    check_fit(scores, targets, mask)
    if isinstance(decision, str):
        decision = cast(D, _named(decision, scores, features))
    if isinstance(decision, Rule):
        label_blocks.fit_rule(decision, scores, targets, mask)
        return decision
    if isinstance(decision, LogOddsDecision):
        drawn = draw_folds(len(scores), seed) if folds is None else folds
        honest = checked_rows(
            decision, scores, targets, features, mask, folds=drawn, validation=validation, further=further
        )
        ended = fit_log_odds_decision(decision, honest)
        problems = (
            [] if ended.converged else [f"the solver stopped at a gradient norm of {ended.gradient_norm:.1e}"]
        )
        warn(decision, [*problems, *decision.eval().problems(scores, features)])
        return decision
    if not isinstance(decision, LearntDecision):
        raise TypeError(f"decision: {type(decision).__name__} is neither a Rule nor a LearntDecision")
    features = check_features(features, len(scores), decision.num_features, type(decision).__name__)
    check_scores(scores, decision.num_labels)

    def learn(
        unfitted: LearntDecision, arrays: Arrays, after: OnEpoch | None = None, kept: States | None = None
    ) -> None:
        unfitted.reset(*arrays, seed=seed)
        if not unfitted.learns_from_scores:  # none have to be read or computed
            arrays = (np.empty((len(arrays[0]), 0), np.float32), *arrays[1:])
        rows = shuffled(CachedRows(*arrays), batch_size, seed)
        module = LabelDecision(unfitted, optimizer, after)
        _train(module, rows, {"max_epochs": epochs, **(trainer or {})}, kept)

    arrays = (scores, targets, features, mask)
    with _epoch_bar(type(decision).__name__, epochs, progress) as advance:

        def after(epoch: int, loss: float) -> None:
            advance(epoch, loss)
            if on_epoch is not None:
                on_epoch(epoch, loss)

        if processes.first:
            learn(decision, arrays, after, states)
    if decision.chooses_offsets:
        moved = cast(MovedThresholds, decision)
        drawn = draw_folds(len(scores), seed) if folds is None else as_numpy(folds)
        kept = None if states is None else Kept(states.finished)
        without_rows = _honest_log_odds(moved, arrays, drawn, learn, processes, kept)
        if processes.first:
            moved.choose_offsets(*without_rows)
    if not processes.first:
        return decision
    decision.eval()
    warn(decision, decision.problems(scores, features))
    return decision


def _honest_log_odds(
    decision: MovedThresholds,
    arrays: Arrays,
    folds: NDArray[np.int64],
    learn: Callable[[LearntDecision, Arrays], None],
    processes: Processes,
    kept: Kept | None,
) -> tuple[NDArray[np.float32], Any, Any]:
    """Return the log odds float32 (N, K) of each row by a decision learnt without its fold, targets and known.

    The log odds are filled in on the first of the processes. kept: where finished trainings are found again.
    """
    scores, targets, features, mask = arrays
    labels = as_held(targets) != 0
    known = held_known(labels, mask)
    pairs = list(fold_pairs(folds, labels, known))

    def state(outside: NDArray[np.bool_]) -> dict[str, Tensor]:
        without = copy.deepcopy(decision)
        given = _rows(scores, outside), _rows(targets, outside), _rows(features, outside)
        learn(without, (*given, _rows(mask, outside)))
        return without.state_dict()

    makes = {f"without-{number}": partial(state, outside) for number, (outside, _) in enumerate(pairs)}
    states = processes.share_out(found_again(kept, makes))
    log_odds = honest_array(labels.shape if processes.first else (0, 0))
    without = copy.deepcopy(decision).eval()
    for found, (_, inside) in zip(states, pairs, strict=processes.first):
        without.load_state_dict(found)
        fill_log_odds(log_odds, without, inside, scores, features)
    return log_odds, labels, known


def _rows(array: A, chosen: NDArray[np.bool_]) -> A:
    """Return some of an array's rows, where there is one."""
    if array is None:
        return array
    rows: Any = np.flatnonzero(chosen)
    return array[torch.from_numpy(rows) if isinstance(array, Tensor) else rows]


def _named(name: str, scores: Array, features: Array | None) -> Decision:
    """Return the decision of this name for K labels, and D features where it decides from them."""
    rows = {row.key: row for row in DECISIONS}
    if name not in rows:
        raise ValueError(f"decision={name!r}: there are {', '.join(rows)}")
    if features is None and rows[name].load().needs_features:
        raise ValueError(f"decision={name!r} decides from features; give features=, (N, D)")
    return rows[name].build(
        num_labels=scores.shape[1], num_features=0 if features is None else features.shape[1]
    )


def warn(decision: Decision, problems: Sequence[str]) -> None:
    """Warn (DecisionWarning) of what is suspicious about a fitted decision, where the caller was called."""
    for problem in problems:
        warnings.warn(f"{type(decision).__name__}: {problem}", DecisionWarning, stacklevel=3)


def _train(
    module: LabelDecision,
    loader: DataLoader[list[DecisionBatch]],
    options: Mapping[str, Any],
    states: States | None,
) -> None:
    """Train `module` under a Trainer that writes nothing but `states`, prints nothing and keeps the random state."""
    quiet: dict[str, Any] = {
        "accelerator": "cpu",
        "devices": 1,
        "logger": False,
        "enable_checkpointing": states is not None,
        "callbacks": [] if states is None else [_OrderState(loader.generator), states],
        "plugins": [CheckedCheckpointIO()],
        "enable_progress_bar": False,
        "enable_model_summary": False,
        "log_every_n_steps": 1,
    }
    with torch.random.fork_rng(devices=[]), torch.enable_grad(), quiet_lightning():
        found = None if states is None else states.newest()
        try:
            pl.Trainer(**(quiet | dict(options))).fit(module, loader, ckpt_path=found)
        except FloatingPointError as error:
            good = states.last_good if states else None
            raise FloatingPointError(
                f"{error}; the last good state is {good}" if good else str(error)
            ) from None


class _OrderState(pl.Callback):
    """Saves, with each state of the training, the random state from which the order of the rows is drawn."""

    def __init__(self, order: torch.Generator) -> None:
        self.order = order

    def state_dict(self) -> dict[str, Any]:
        return {"order": self.order.get_state()}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self.order.set_state(state_dict["order"])


@contextmanager
def _epoch_bar(name: str, epochs: int, shown: bool) -> Iterator[OnEpoch]:
    with Progress(console=console, disable=not shown, transient=True) as bar:
        task = bar.add_task(name, total=epochs)
        yield lambda epoch, loss: bar.update(
            task, completed=epoch + 1, description=f"{name}, loss {loss:.4f}"
        )
