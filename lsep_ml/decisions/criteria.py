"""What rules can be searched by beside the label-set metrics: F-beta, a cost of errors, and balance."""

from typing import Any

from lsep_ml.metrics import BY_KEY, LABEL_SET_KEYS, Metric
from lsep_ml.metrics.metric import Average, Share

FBETA, COST, BREAK_EVEN = "fbeta", "cost", "break_even"
CRITERIA = (*LABEL_SET_KEYS, FBETA, COST, BREAK_EVEN)
"""The criteria of rules: every label-set metric by its key, and three that are no metrics of a table."""


def f_beta(beta: float) -> Share:
    """Compute (1 + beta^2) N^c / (N^p + beta^2 N^g): recall counts beta times as much as precision."""

    def share(correct: Any, predicted: Any, actual: Any, known: Any) -> tuple[Any, Any]:
        return (1 + beta**2) * correct, predicted + beta**2 * actual

    return share


def cost(miss_cost: float) -> Share:
    """Compute (b (N^g - N^c) + N^p - N^c) of all known entries: a miss costs b times a false alarm."""

    def share(correct: Any, predicted: Any, actual: Any, known: Any) -> tuple[Any, Any]:
        return miss_cost * (actual - correct) + (predicted - correct), known

    return share


def imbalance(correct: Any, predicted: Any, actual: Any, known: Any) -> tuple[Any, Any]:
    """Return |N^p - N^g| of all known entries; 0 where precision equals recall."""
    return abs(predicted - actual), known


def check_criterion(criterion: str, beta: float, miss_cost: float) -> None:
    """Raise ValueError for an unknown criterion, and for a weight that is not positive or that it does not have."""
    if criterion not in CRITERIA:
        raise ValueError(f"criterion={criterion!r}: expected one of {', '.join(CRITERIA)}")
    for name, value, owner in (("beta", beta, FBETA), ("miss_cost", miss_cost, COST)):
        if not 0 < value < float("inf"):
            raise ValueError(f"{name}={value}: expected a positive number")
        if value != 1 and criterion != owner:
            raise ValueError(f"{name}={value}: only criterion={owner!r} weighs by it, not {criterion!r}")


def criterion_metric(criterion: str, beta: float = 1.0, miss_cost: float = 1.0, *, by_label: bool) -> Metric:
    """Return what a search by `criterion` computes.

    by_label: whether each label has a threshold of its own; precision then equals recall label by label, otherwise over
    all entries.
    """
    if criterion == FBETA:
        return Metric(
            key=FBETA,
            name=f"macro F-{beta:g}",
            short_name=f"F-{beta:g}",
            note="mean over the labels of each one's F-beta",
            formula=Average("labels", f_beta(beta)),
        )
    if criterion == COST:
        return Metric(
            key=COST,
            name=f"cost, a miss {miss_cost:g}",
            short_name="cost",
            note="mean over the labels of the cost of an entry, a false alarm 1",
            formula=Average("labels", cost(miss_cost)),
            higher_is_better=False,
        )
    if criterion == BREAK_EVEN:
        return Metric(
            key=BREAK_EVEN,
            name="precision-recall break-even",
            short_name="break-even",
            note="how far the number of labels predicted is from the number of true ones",
            formula=Average("labels" if by_label else "entries", imbalance),
            higher_is_better=False,
        )
    return BY_KEY[criterion]
