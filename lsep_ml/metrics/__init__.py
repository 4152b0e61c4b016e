"""Metrics: a functional core on arrays (NumPy alone); over it, torchmetrics metrics, loaded on first use."""

from typing import TYPE_CHECKING, Any

from lsep_ml.metrics.bootstrap import bootstrap_label_sets, bootstrap_ranking
from lsep_ml.metrics.functional import (
    LABEL_SET_KEYS,
    RANKING_KEYS,
    LabelCounts,
    average_precisions,
    count_label_sets,
    label_set_metrics,
    per_class_metric,
    per_class_metrics,
    ranking_metrics,
)

if TYPE_CHECKING:
    from lsep_ml.metrics.shells import LabelSetMetrics, RankingMetrics

__all__ = [
    "LABEL_SET_KEYS",
    "RANKING_KEYS",
    "LabelCounts",
    "LabelSetMetrics",
    "RankingMetrics",
    "average_precisions",
    "bootstrap_label_sets",
    "bootstrap_ranking",
    "count_label_sets",
    "label_set_metrics",
    "per_class_metric",
    "per_class_metrics",
    "ranking_metrics",
]


def __getattr__(name: str) -> Any:
    if name in {"LabelSetMetrics", "RankingMetrics"}:
        from lsep_ml.metrics import shells

        return getattr(shells, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
