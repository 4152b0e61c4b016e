"""Metrics: a functional core on arrays (NumPy alone); over it, torchmetrics metrics, loaded on first use."""

from typing import TYPE_CHECKING, Any

from lsep_ml.metrics.bootstrap import PairedBootstrap, bootstrap_label_sets
from lsep_ml.metrics.catalogue import (
    BY_KEY,
    LABELS_PER_IMAGE,
    MAP_CALIBRATED,
    MAP_CLASSES,
    METRICS,
    PAPER_KEYS,
)
from lsep_ml.metrics.functional import (
    LABEL_SET_KEYS,
    RANKING_KEYS,
    LabelCounts,
    average_precisions,
    count_label_sets,
    label_set_metrics,
    labels_per_image,
    per_class_metric,
    per_class_metrics,
    ranking_metrics,
)
from lsep_ml.metrics.metric import Metric, Quantity
from lsep_ml.metrics.resampled_ranking import bootstrap_ranking

if TYPE_CHECKING:
    from lsep_ml.metrics.shells import LabelSetMetrics, RankingMetrics

__all__ = [
    "BY_KEY",
    "LABELS_PER_IMAGE",
    "LABEL_SET_KEYS",
    "MAP_CALIBRATED",
    "MAP_CLASSES",
    "METRICS",
    "PAPER_KEYS",
    "RANKING_KEYS",
    "LabelCounts",
    "LabelSetMetrics",
    "Metric",
    "PairedBootstrap",
    "Quantity",
    "RankingMetrics",
    "average_precisions",
    "bootstrap_label_sets",
    "bootstrap_ranking",
    "count_label_sets",
    "label_set_metrics",
    "labels_per_image",
    "per_class_metric",
    "per_class_metrics",
    "ranking_metrics",
]


def __getattr__(name: str) -> Any:
    if name in {"LabelSetMetrics", "RankingMetrics"}:
        from lsep_ml.metrics import shells

        return getattr(shells, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
