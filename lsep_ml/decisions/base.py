"""What every label decision shares: from scores (and features) to label sets."""

import inspect
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from itertools import repeat
from pathlib import Path
from typing import Any, ClassVar, Literal, NamedTuple, Self, TypeVar, get_args

import torch
from torch import Tensor, nn

from lsep_ml.decisions.abstention import Abstention
from lsep_ml.decisions.checks import Array, MatrixBlocks, check_fit, check_scores, row_blocks
from lsep_ml.decisions.constraints import Constraints
from lsep_ml.decisions.criteria import check_criterion, criterion_metric
from lsep_ml.decisions.saved import WITH_ABSTENTION, WITH_CONSTRAINTS, write_saved
from lsep_ml.metrics import Metric

FitOn = Literal["train", "val", "both", "crossfit"]
FIT_ON = get_args(FitOn)


class Decided(NamedTuple):
    """Says what a decision says of N images and K labels; None for what it does not decide by.

    label_sets: bool (N, K). thresholds: float32 (N, K); the label sets are the scores above them. counts: int64 (N,),
    the sizes of the label sets, where these are the highest scores or the most probable labels. probabilities: float32
    (N, K), calibrated.
    """

    label_sets: Tensor
    thresholds: Tensor | None = None
    counts: Tensor | None = None
    probabilities: Tensor | None = None

    def to(self, device: torch.device) -> "Decided":
        """Return the same on `device`."""
        return Decided._make(None if values is None else values.to(device) for values in self)


P = TypeVar("P", "Decided", Tensor)


class Decision(nn.Module, ABC):
    """A label decision g: scores f(x) (N, K), where needed features f'(x) (N, D), to label sets, bool (N, K).

    The decision for one image never depends on the other images. Scores are compared as float32, which is how
    they are stored, and every threshold is a float32 number.

    `forward` is the decision as tensor operations alone; ONNX and torch.export trace it. `decide` and `predict` check
    what they are given and run it.

    fit_on: the images it is fitted on: "train", "val", "both"; or "crossfit", those whose scores are honest, which are
    the training images' out of fold and the validation images' (see docs/choose-a-decision.md). label_names: what the
    columns stand for, where that is known; kept in the saved decision, so that scores in another order can be refused.
    abstention: which images it leaves to a person, if any; no part of the label sets, and saved too.
    """

    decides_by: ClassVar[tuple[str, ...]]
    """The fields of `Decided` that it gives beside the label sets."""

    needs_features: bool = False
    """Whether it decides from features too."""

    fits_by_rows: bool = False
    """Whether its fit reads scores some rows at a time, and never some labels of all rows."""

    promises: ClassVar[Literal["recall", "precision"] | None] = None
    """What it has a guarantee on, which constraints may not break."""

    counts_label_sets: ClassVar[bool] = False
    """Whether it is fitted to how often label sets occur, which images without honest scores tell too."""

    num_labels: Any  # int, or a buffer that `fit` sets

    def __init__(self, fit_on: FitOn) -> None:
        super().__init__()
        if fit_on not in FIT_ON:
            raise ValueError(f"fit_on={fit_on!r}: expected 'train', 'val', 'both' or 'crossfit'")
        self.fit_on = fit_on
        self.label_names: list[str] | None = None
        self.constraints = Constraints()
        self.abstention: Abstention | None = None

    @abstractmethod
    def forward(self, scores: Tensor, features: Tensor | None = None) -> Decided:
        """Decide by float32 scores (N, K) and features (N, D) on the decision's device; nothing is checked."""

    def constrain(self, constraints: Constraints) -> Self:
        """Have every label set keep `constraints`; they are saved with the decision, and no part of its fit.

        Raises ValueError where they break what the decision promises: labels taken away from a promised recall, or
        any change to a promised precision, as a label taken away may be the right one beside a wrong one.
        """
        broken = {"recall": constraints.removes, "precision": bool(constraints), None: False}[self.promises]
        if broken:
            breaking = (
                "max_labels or groups" if self.promises == "recall" else "min_labels, max_labels or groups"
            )
            raise ValueError(
                f"{type(self).__name__} promises {self.promises}, which {breaking} of labels would break: choose "
                "another decision, or leave them out"
            )
        self.constraints = constraints
        return self

    def constrained(self, scores: Tensor, features: Tensor | None = None) -> Decided:
        """Return what `forward` decides, changed to keep the constraints; tensor operations alone."""
        return self.constraints.apply(scores, self(scores, features))

    def decide(self, scores: Array, features: Array | None = None) -> Decided:
        """Decide by scores (N, K) and, where they are needed, features (N, D); the results are where the scores are.

        Memory-mapped arrays are read in blocks of rows. Raises ValueError when the decision is not fitted, K is not
        the one it was fitted for, a score is NaN, or features are missing or of another shape.
        """
        columns = zip(*self._in_blocks(self.constrained, scores, features), strict=True)
        return Decided._make(None if column[0] is None else torch.cat(column) for column in columns)

    def predict(self, scores: Array, features: Array | None = None) -> Tensor:
        """Return the label sets of `decide`, bool (N, K)."""
        return torch.cat(self._in_blocks(self._label_sets, scores, features))

    def save(self, path: str | Path) -> None:
        """Write the fitted decision to `path` as JSON, learnt weights beside it with the suffix .safetensors.

        `decisions.load` gives a decision with identical predictions. Each file appears whole or not at all.
        """
        names = {} if self.label_names is None else {"label_names": list(self.label_names)}
        record: dict[str, Any] = {"decision": type(self).__name__, "options": self.options(), **names}
        if self.constraints:
            record |= {"format": WITH_CONSTRAINTS, "constraints": self.constraints.plain()}
        if self.abstention is not None:
            record |= {"format": WITH_ABSTENTION, "abstention": self.abstention._asdict()}
        write_saved(Path(path), record, self.state_dict(), beside=any(True for _ in self.parameters()))

    def __repr__(self) -> str:
        labels = int(self.num_labels)
        chosen = [f"{name} = {_short(value)}" for name, value in self.choices().items()] if labels else []
        fitted = ", ".join([f"{labels} labels", *chosen]) if labels else "not fitted"
        return f"{type(self).__name__}({fitted})"

    def choices(self) -> dict[str, Any]:
        """Return the hyperparameters that fitting chose, by name."""
        return {}

    def problems(self, scores: Array, features: Array | None = None) -> list[str]:
        """Return what is suspicious about the fitted decision on these data."""
        return []

    def unseen(self, targets: Array) -> int | None:
        """Count the images, of `targets` 0/1 (N, K), whose label set it can never name; None: it can name any."""
        return None

    def options(self) -> dict[str, Any]:
        """Return the constructor's arguments: with the state_dict, all there is to know about the decision."""
        return {name: getattr(self, name) for name in inspect.signature(type(self)).parameters}

    def _label_sets(self, scores: Tensor, features: Tensor | None) -> Tensor:
        return self.constrained(scores, features).label_sets

    def _in_blocks(
        self, function: Callable[[Tensor, Tensor | None], P], scores: Array, features: Array | None
    ) -> list[P]:
        """Return what a function of scores and features gives for blocks of checked rows, each where the scores are."""
        if int(self.num_labels) == 0:
            raise ValueError(f"{type(self).__name__} is not fitted; call fit(scores, targets) or load it")
        self.constraints.check(int(self.num_labels))
        check_scores(scores, int(self.num_labels))
        features = self._checked_features(features, len(scores))
        device = next(self.buffers()).device
        home = scores.device if isinstance(scores, Tensor) else torch.device("cpu")
        size = self._rows_at_once()
        of_features = repeat(None) if features is None else row_blocks(features, size)
        with torch.no_grad():
            return [
                function(block.to(device), None if rows is None else rows.to(device)).to(home)
                for block, rows in zip(row_blocks(scores, size), of_features, strict=False)
            ]

    def _resize_buffers(self, state_dict: Mapping[str, Any], prefix: str) -> None:
        """Give the buffers the shapes that a saved state has."""
        for name, buffer in self._buffers.items():
            if buffer is not None and prefix + name in state_dict:
                self._buffers[name] = torch.empty_like(state_dict[prefix + name], device=buffer.device)

    def _checked_features(self, features: Array | None, rows: int) -> Array | None:
        """Return the features it decides from; None where it needs none."""
        return None

    def _rows_at_once(self) -> int | None:
        """Return how many rows are decided at a time, where memory asks for fewer than usual."""
        return None


def _short(value: Any) -> str:
    """Return a number to four digits; of more numbers, the first three."""
    if isinstance(value, list):
        more = [f"... {len(value)} in all"] if len(value) > 3 else []
        return f"[{', '.join([*map(_short, value[:3]), *more])}]"
    return f"{value:.4g}" if isinstance(value, float) else str(value)


class Rule(Decision):
    """A decision fitted in closed form or by search on scores and targets.

    criterion: what the search chooses by, one of `CRITERIA`: the key of a label-set metric, the highest value, or the
    lowest where lower is better; "fbeta", F-beta; "cost", where a miss costs `miss_cost` false alarms; "break_even",
    where precision equals recall. Values closer than 1e-9 are a tie. beta, miss_cost: of these two alone.
    """

    by_label: ClassVar[bool] = False
    """Whether each label has a threshold of its own."""

    def __init__(self, criterion: str, fit_on: FitOn, beta: float = 1.0, miss_cost: float = 1.0) -> None:
        super().__init__(fit_on)
        check_criterion(criterion, beta, miss_cost)
        self.criterion, self.beta, self.miss_cost = criterion, beta, miss_cost
        self.register_buffer("num_labels", torch.tensor(0))

    def fit(self, scores: Array, targets: Array, mask: Array | None = None) -> Self:
        """Choose the hyperparameters on scores (N, K), targets 0/1 (N, K), mask (True = known; None: all).

        Raises ValueError for data nothing can be fitted on, see `check_fit`.
        """
        check_fit(scores, targets, mask)
        self._fit(MatrixBlocks.of(scores, targets, mask))
        self.num_labels = torch.tensor(scores.shape[1])
        return self

    @property
    def metric(self) -> Metric:
        """Return what the criterion computes."""
        return criterion_metric(self.criterion, self.beta, self.miss_cost, by_label=self.by_label)

    @abstractmethod
    def _fit(self, matrix: MatrixBlocks) -> None:
        """Set the buffers from checked arrays."""

    def _load_from_state_dict(
        self, state_dict: dict[str, Any], prefix: str, *args: Any, **kwargs: Any
    ) -> None:
        # a fitted buffer may have another shape than a fresh one, such as one threshold a label
        self._resize_buffers(state_dict, prefix)
        super()._load_from_state_dict(state_dict, prefix, *args, **kwargs)
