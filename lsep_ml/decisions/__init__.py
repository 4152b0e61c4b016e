"""Label decisions: from scores (and features) to label sets. Each is loaded on first use; `DECISIONS` has all."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from lsep_ml.decisions.catalogue import DECISIONS

if TYPE_CHECKING:  # what type checkers see; at run time torch is loaded with the first of these
    from lsep_ml.decisions.base import Decided, Decision, Rule
    from lsep_ml.decisions.catalogue import *
    from lsep_ml.decisions.learnt import LearntDecision
    from lsep_ml.decisions.loading import load, save

_HOMES = {
    "Decided": "base",
    "Decision": "base",
    "LearntDecision": "learnt",
    "Rule": "base",
    "load": "loading",
    "save": "loading",
} | {row.class_name: row.kind.rpartition(".")[0] for row in DECISIONS}

__all__ = ["DECISIONS", *_HOMES]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)
