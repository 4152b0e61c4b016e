"""Decisions for the scores of any model: files of scores, decisions compared on them, the best saved and applied."""

from lsep_ml.tuning.compared import Tuned, Tuning, apply, print_tuning, tune
from lsep_ml.tuning.label_sets import write_label_sets
from lsep_ml.tuning.score_files import ScoreTable, read_scores

__all__ = [
    "ScoreTable",
    "Tuned",
    "Tuning",
    "apply",
    "print_tuning",
    "read_scores",
    "tune",
    "write_label_sets",
]
