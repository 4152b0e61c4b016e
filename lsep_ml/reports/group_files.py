"""What is read of the files of a group's runs, once for all figures."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from lsep_ml.metrics.functional import per_class_metrics
from lsep_ml.reports.grouping import RunGroup
from lsep_ml.reports.records import Digest, LeftOut
from lsep_ml.reports.score_views import ScoreView, score_runs, view_scores
from lsep_ml.runs.arrays import Arrays, read_arrays, read_held, read_thumbnails
from lsep_ml.runs.files import TEST
from lsep_ml.runs.finished import NO_DECISION, SCORE_LAYER, Method, Run
from lsep_ml.runs.history import read_curves
from lsep_ml.runs.record import RecordError

_FALLBACK = ("threshold", "topk", "count_est", "thresh_est", NO_DECISION)


@dataclass
class GroupFiles:
    """Holds a `group` and what was read of its runs' files.

    digests: the runs whose predictions are usable, of one and the same test split. views: loss -> what its scores show.
    thumbnails: test row -> picture, from all runs. problems: what could not be read.
    """

    group: RunGroup
    digests: Mapping[Run, Digest]
    problems: list[LeftOut] = field(default_factory=list)
    views: dict[str, ScoreView] = field(default_factory=dict)
    thumbnails: dict[int, NDArray[np.uint8]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for loss, runs in self.score_runs().items():
            view, problems = view_scores(self.group, loss, runs)
            self.problems += problems
            if view is not None:
                self.views[loss] = view
        found: dict[int, NDArray[np.uint8]] = {}
        for run in self.digests:
            try:
                found = read_thumbnails(run) | found
            except RecordError as error:
                self.problems.append(LeftOut(run.folder, f"{error}; its pictures are left out"))
        images = max((digest.images for digest in self.digests.values()), default=0)
        self.thumbnails = {row: found[row] for row in sorted(found) if row < images}

    def score_runs(self) -> dict[str, list[Run]]:
        """Choose for each loss one run for each seed (`score_runs`)."""
        return score_runs(self.group, set(self.digests))

    def network_runs(self) -> dict[str, list[Run]]:
        """Return those of `score_runs` whose loss trained a network; a predictor's run tells of the same training."""
        runs = self.score_runs()
        return {loss: own for loss, own in runs.items() if own[0].predictor == SCORE_LAYER}

    @property
    def label_names(self) -> tuple[str, ...]:
        """Return the labels, in the order of the columns."""
        return next(iter(self.digests)).label_names

    def methods(self) -> list[Method]:
        """Choose of each loss the method of the paper's figures: threshold estimation of LSEP, θ of the others."""
        found = []
        for loss in dict.fromkeys(loss for loss, _ in self.group.chosen):
            order = ("thresh_est", *_FALLBACK) if loss == "lsep" else _FALLBACK
            candidates = [Method(loss, decision) for decision in order]
            found += [method for method in candidates if self.usable(method)][:1]
        return found

    def usable(self, method: Method) -> list[Run]:
        """Return the runs of `method` whose predictions could be read, by seed."""
        row = self.group.chosen.get(method)
        return [run for run in row.runs if run in self.digests] if row else []

    def class_f1(self, method: Method) -> NDArray[np.float64]:
        """Compute the per-class F1 of `method`, (seeds, K)."""
        counts = [self.digests[run].counts for run in self.usable(method)]
        return np.stack([per_class_metrics(c.correct, c.predicted, c.actual)["f1"] for c in counts])

    def sizes(self, method: Method) -> NDArray[np.int64]:
        """Sum over the seeds of `method` the images with i true and j predicted labels, (S, S)."""
        return np.sum([self.digests[run].sizes for run in self.usable(method)], axis=0)

    def frequency(self) -> NDArray[np.int64]:
        """Count the test images that show each label, (K,)."""
        return np.asarray(next(iter(self.digests.values())).counts.actual)

    def pictured(self, run: Run, *names: str) -> Arrays | None:
        """Read of the predictions.npz of `run` the arrays `names` of the images with a picture, in their order; None,
        and a problem noted, where that fails."""
        rows = list(self.thumbnails)
        try:
            return {name: np.asarray(array[rows]) for name, array in read_held(run, TEST, *names).items()}
        except RecordError as error:
            self.problems.append(LeftOut(run.folder, f"{error}; left out of the figures"))
            return None

    def image_ids(self, run: Run) -> list[str]:
        """Read the ids of the test images of `run`, a usable one."""
        ids: list[str] = read_arrays(run, TEST, "image_ids")["image_ids"].tolist()
        return ids

    def training_curve(self, runs: Sequence[Run], stage: str, column: str) -> NDArray[np.float64] | None:
        """Read `column` of the histories of `runs`, (seeds, epochs) up to the shortest; None where none has it."""
        curves = []
        for run in runs:
            try:
                values = read_curves(run).get(stage, {}).get(column, np.empty(0))
            except RecordError as error:
                problem = LeftOut(run.folder, f"{error}; its training curves are left out")
                self.problems += [problem] if problem not in self.problems else []
                continue
            if len(values) and np.isfinite(values).all():
                curves.append(values)
        if not curves:
            return None
        epochs = min(map(len, curves))
        return np.stack([values[:epochs] for values in curves])
