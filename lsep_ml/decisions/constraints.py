"""What every label set must keep, whatever decides: how many labels, one of a group, and what labels imply."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

if TYPE_CHECKING:
    from lsep_ml.decisions.base import Decided

_ULP = 2.0**-23  # of float32: x - |x| 2^-23 is below x
_MOST = torch.finfo(torch.float32).max


class LabelConflict(ValueError):
    """Says which labels cannot be kept together: `text`, a format, of `labels`, numbers."""

    def __init__(self, text: str, *labels: int) -> None:
        super().__init__(text.format(*(f"label {label}" for label in labels)))
        self._text, self._labels = text, labels

    def naming(self, label_names: Sequence[str]) -> str:
        """Say it with the names of the labels."""
        return self._text.format(*(repr(label_names[label]) for label in self._labels))


@dataclass(frozen=True)
class Constraints:
    """Says what the label sets of a decision must keep. Labels are numbers, their columns.

    It is applied in this order to what the decision says, by the margins of its labels: scores minus thresholds, where
    it has thresholds, else probabilities, else scores. Of equal margins the lower label index comes first.

    one_of, at_most_one: groups of labels; of each, the one of highest margin is left, and of one_of it is always there.
    min_labels, max_labels: the labels of highest margin are added or left until an image has so many.
    implied: (label, parent); an image with the label has the parent, and so on upwards, beyond max_labels if need be.
    """

    min_labels: int = 0
    max_labels: int | None = None
    one_of: tuple[tuple[int, ...], ...] = ()
    at_most_one: tuple[tuple[int, ...], ...] = ()
    implied: tuple[tuple[int, int], ...] = ()

    def __post_init__(self) -> None:
        most = self.max_labels
        if (
            not _whole(self.min_labels)
            or self.min_labels < 0
            or not (most is None or (_whole(most) and most >= 1))
        ):
            raise ValueError(
                f"min_labels={self.min_labels!r}, max_labels={most!r}: expected whole numbers, at least 0 and at "
                "least 1, or None for no highest one"
            )
        if most is not None and self.min_labels > most:
            raise ValueError(f"min_labels={self.min_labels}, max_labels={most}: the first is larger")
        if most is not None and len(self.one_of) > most:
            raise ValueError(
                f"max_labels={most}: an image has a label of each of {len(self.one_of)} one_of groups"
            )
        for name in ("one_of", "at_most_one", "implied"):  # as JSON has them
            object.__setattr__(self, name, tuple(map(tuple, getattr(self, name))))
        grouped = [label for group in (*self.one_of, *self.at_most_one) for label in group]
        if len(set(grouped)) < len(grouped):
            raise ValueError("one_of, at_most_one: a label is in one group, once")
        of_group = {label: group for group in (*self.one_of, *self.at_most_one) for label in group}
        for label, parent in self.closure():
            if label == parent:
                raise LabelConflict("implied: {} implies itself", label)
            if parent in of_group:
                raise LabelConflict(
                    "implied: {}, implied by {}, is in a group of which an image has one; both at once cannot be kept",
                    parent,
                    label,
                )

    def __bool__(self) -> bool:
        return self != Constraints()

    @property
    def removes(self) -> bool:
        """Return whether a label may be taken away."""
        return self.max_labels is not None or bool(self.one_of) or bool(self.at_most_one)

    def closure(self) -> tuple[tuple[int, int], ...]:
        """Return each label with everything that it implies, its parents' parents too."""
        parents: dict[int, set[int]] = {}
        for label, parent in self.implied:
            parents.setdefault(label, set()).add(parent)
        found = []
        for label in sorted(parents):
            reached, ahead = set[int](), list(parents[label])
            while ahead:
                parent = ahead.pop()
                if parent not in reached:
                    reached.add(parent)
                    ahead += parents.get(parent, ())
            found += [(label, parent) for parent in sorted(reached)]
        return tuple(found)

    def check(self, num_labels: int) -> None:
        """Raise ValueError for labels that are not there, and for more labels than the groups leave."""
        labels = [label for group in (*self.one_of, *self.at_most_one, *self.implied) for label in group]
        if labels and not (min(labels) >= 0 and max(labels) < num_labels):
            raise ValueError(f"groups: labels {min(labels)}..{max(labels)}, but there are {num_labels}")
        left = num_labels - sum(len(group) - 1 for group in (*self.one_of, *self.at_most_one))
        if self.min_labels > left:
            raise ValueError(f"min_labels={self.min_labels}: an image can have no more than {left} labels")

    def plain(self) -> dict[str, Any]:
        """Return them as plain data, of which `Constraints(**plain)` makes the same again."""
        return asdict(self)

    @classmethod
    def of_plain(cls, plain: Mapping[str, Any]) -> "Constraints":
        """Return what `plain` gave, from JSON too. Raises ValueError for anything else."""
        try:
            return cls(**plain)
        except TypeError as error:
            raise ValueError(f"constraints = {plain!r:.80}: {error}") from error

    def apply(self, scores: Tensor, decided: "Decided") -> "Decided":
        """Change what is decided by float32 scores (N, K) to what keeps the constraints; tensor operations alone.

        Thresholds are moved just as far as that asks, so that label sets are the scores above them still; counts are
        those of the label sets.
        """
        if not self:
            return decided
        sets = self._label_sets(scores, decided)
        thresholds, counts = decided.thresholds, decided.counts
        if thresholds is not None:
            below = scores - scores.abs().clamp_min(1e-30) * _ULP
            kept = sets == (scores > thresholds)
            thresholds = torch.where(kept, thresholds, torch.where(sets, below, scores))
        return decided._replace(
            label_sets=sets, thresholds=thresholds, counts=None if counts is None else sets.sum(1)
        )

    def _label_sets(self, scores: Tensor, decided: "Decided") -> Tensor:
        margins = _margins(scores, decided)
        sets = decided.label_sets
        never = torch.zeros_like(sets)
        always = torch.zeros_like(sets)
        for group in (*self.one_of, *self.at_most_one):
            member = _indicator(group, scores)
            best = margins.masked_fill(~member, -torch.inf).argmax(1, keepdim=True)
            winner = torch.arange(scores.shape[1], device=scores.device) == best
            never = never | (member & ~winner)
            if group in self.one_of:
                always = always | winner
        sets = (sets | always) & ~never
        if self.max_labels is not None:
            order = margins.masked_fill(~sets, -torch.inf).masked_fill(always, torch.inf)
            sets = sets & (ranks(order) < self.max_labels)
        if self.min_labels:
            order = margins.masked_fill(never, -torch.inf).masked_fill(sets, torch.inf)
            sets = sets | (ranks(order) < self.min_labels)
        pairs = self.closure()
        if pairs:
            matrix = torch.zeros(scores.shape[1], scores.shape[1], device=scores.device)
            labels, parents = (list(column) for column in zip(*pairs, strict=True))
            matrix[labels, parents] = 1
            sets = sets | (sets.to(matrix.dtype) @ matrix > 0)
        return sets


def _margins(scores: Tensor, decided: "Decided") -> Tensor:
    """Return finite margins: infinite ones are those of labels that are forbidden, or demanded already."""
    if decided.thresholds is not None:
        margins = scores - decided.thresholds
    else:
        margins = scores if decided.probabilities is None else decided.probabilities
    return margins.clamp(-_MOST, _MOST)


def _indicator(labels: tuple[int, ...], scores: Tensor) -> Tensor:
    members = torch.zeros(scores.shape[1], dtype=torch.bool, device=scores.device)
    members[list(labels)] = True
    return members


def ranks(values: Tensor) -> Tensor:
    """Return the place of every label in its image's ranking, (N, K), 0 = the highest value.

    Of equal values the lower label index comes first.
    """
    order = values.argsort(dim=1, descending=True, stable=True)
    places = torch.arange(values.shape[1], device=values.device).expand_as(order)
    return torch.empty_like(order).scatter_(1, order, places)


def _whole(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)
