"""Which differences between rows are real, by the paired bootstrap, and the paper's claims as questions to them."""

from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from itertools import combinations

import numpy as np
from numpy.typing import NDArray

from lsep_ml.metrics import BY_KEY, LABEL_SET_KEYS, count_label_sets, label_set_metrics
from lsep_ml.metrics.bootstrap import PairedBootstrap, Replicates, percentiles
from lsep_ml.reports.grouping import RunGroup, mean_gain
from lsep_ml.reports.paper import OURS, method_name, paper_table
from lsep_ml.reports.records import Digest, content_of
from lsep_ml.reports.remarks import EXPLAINED, marks
from lsep_ml.runs.arrays import read_held
from lsep_ml.runs.files import VALIDATION
from lsep_ml.runs.finished import Method, Run
from lsep_ml.runs.record import RecordError

HEADLINE_METRICS = ("f1", "exact_match")


@dataclass(frozen=True)
class Comparison:
    """Holds the `difference` of metric `key` between two rows, in points of %, with its 95% interval."""

    first: str
    second: str
    key: str
    difference: float
    low: float
    high: float

    @property
    def real(self) -> bool:
        """Say whether the interval leaves out 0."""
        return self.low > 0 or self.high < 0

    @property
    def better(self) -> bool:
        """Say whether the difference speaks for the first row: a lower value does where lower is better."""
        return bool(BY_KEY[self.key].gain(self.difference) > 0)


def differences(
    first: str,
    second: str,
    means: tuple[NDArray[np.float64], NDArray[np.float64]],
    replicates: tuple[Replicates, Replicates],
) -> list[Comparison]:
    """Compare two rows in every label-set metric, `first` minus `second`.

    Args:
        first, second: what the rows are called.
        means: the metrics of either, (M,), as fractions.
        replicates: bootstrap replicates of them, (R, M), of the same samples.
    """
    low, high = 100 * percentiles(replicates[0] - replicates[1])
    difference = 100 * (means[0] - means[1])
    return [
        Comparison(first, second, key, float(d), float(lo), float(hi))
        for key, d, lo, hi in zip(LABEL_SET_KEYS, difference, low, high, strict=True)
    ]


@dataclass(frozen=True)
class Answer:
    """Holds a `question` and the `comparisons` that answer it: one row against others, in one metric or more.

    marks: what warns of a row, by its name (`lsep_ml.reports.remarks`).
    """

    question: str
    comparisons: list[Comparison]
    marks: Mapping[str, str] = field(default_factory=dict)

    @property
    def keys(self) -> list[str]:
        """Return the metrics compared."""
        return list(dict.fromkeys(comparison.key for comparison in self.comparisons))

    @property
    def rows(self) -> list[tuple[str, list[Comparison]]]:
        """Return each opponent, its marks behind its name, with its comparisons, in the order of `keys`."""
        opponents = dict.fromkeys(comparison.second for comparison in self.comparisons)
        return [
            (f"{name}{self.marks.get(name, '')}", [c for c in self.comparisons if c.second == name])
            for name in opponents
        ]

    @property
    def note(self) -> str:
        """Explain the marks, where there are any."""
        return EXPLAINED if any(self.marks.values()) else ""


@dataclass(frozen=True)
class Evidence:
    """Holds the `mean` of the metrics of a row's runs, (M,), and bootstrap `replicates` of it, (R, M), as fractions."""

    mean: NDArray[np.float64]
    replicates: Replicates


def gather(
    group: RunGroup, digests: Mapping[Run, Digest], bootstrap: PairedBootstrap
) -> dict[Method, Evidence]:
    """Gather the evidence of each chosen row of `group` whose runs all have `digests`, the paper's rows first."""
    order = list(dict.fromkeys([*paper_table(1), *paper_table(2), *group.chosen]))
    found = {}
    for method in order:
        row = group.chosen.get(method)
        if row is not None and all(run in digests for run in row.runs):
            metrics = [label_set_metrics(digests[run].counts) for run in row.runs]
            mean = np.mean([[float(values[key]) for key in LABEL_SET_KEYS] for values in metrics], axis=0)
            found[method] = Evidence(
                mean, bootstrap.mean_over_seeds([digests[run].replicates for run in row.runs])
            )
    return found


def compare_all(evidence: Mapping[Method, Evidence]) -> dict[tuple[Method, Method], list[Comparison]]:
    """Compare every pair of rows in `evidence` in every metric, each pair once."""
    return {(a, b): compare_rows(a, b, evidence) for a, b in combinations(evidence, 2)}


def answer(group: RunGroup, evidence: Mapping[Method, Evidence]) -> list[Answer]:
    """Answer the questions that the rows in `evidence` can answer."""
    answers = []
    for key in HEADLINE_METRICS:
        best = best_decisions(group, evidence, key)
        ours = best.pop("lsep", None)
        name = BY_KEY[key].short_name
        question = f"{name}: {{first}} against each loss, all under the decision of highest validation {name}"
        answers.append(_against(group, question, ours, list(best.values()), evidence, [key]))
    answers.append(
        _against(
            group,
            "{first} against the other decisions on LSEP's scores",
            OURS,
            [method for method in evidence if method[0] == "lsep"],
            evidence,
            HEADLINE_METRICS,
        )
    )
    answers.append(
        _against(
            group,
            "{first} against Table 1's other rows",
            OURS,
            [method for method in evidence if method in paper_table(1) or method == ("bce", "thresh_est")],
            evidence,
            HEADLINE_METRICS,
        )
    )
    return [found for found in answers if found.comparisons]


def validated(group: RunGroup, bootstrap: PairedBootstrap) -> list[Answer]:
    """Say for each loss which decisions on its scores validation tells apart from the best one there, by F1.

    Differences and intervals are those of the validation images, paired; decisions on other networks than the best
    one's, and runs without their validation.npz, are left out.
    """
    by_scores: dict[tuple[str, ...], list[Method]] = {}
    for method, row in group.chosen.items():
        by_scores.setdefault((method.scorer, *(run.scores for run in row.runs)), []).append(method)
    answers = []
    for methods in by_scores.values():
        evidence = _on_validation(group, methods, bootstrap) if len(methods) > 1 else {}
        best = max(evidence, key=lambda method: mean_gain(group.chosen[method], "f1"), default=None)
        question = "Validation F1: {first} against the decisions on the same scores that it is better than"
        found = _against(group, question, best, list(evidence), evidence, ["f1"])
        outdone = [comparison for comparison in found.comparisons if comparison.real and comparison.better]
        answers.append(replace(found, comparisons=outdone))
    return [found for found in answers if found.comparisons]


def _on_validation(
    group: RunGroup, methods: Sequence[Method], bootstrap: PairedBootstrap
) -> dict[Method, Evidence]:
    """Gather the evidence of rows on the validation images; of none whose arrays cannot be read."""
    found = {}
    for method in methods:
        values, drawn = [], []
        with suppress(RecordError):
            for run in group.chosen[method].runs:
                arrays = read_held(run, VALIDATION, "predictions", "targets", "mask", "image_ids")
                predictions, targets, mask = (arrays[name] for name in ("predictions", "targets", "mask"))
                metrics = label_set_metrics(count_label_sets(predictions, targets, mask))
                values.append([float(metrics[key]) for key in LABEL_SET_KEYS])
                content = content_of(arrays, run.label_names)
                drawn.append(bootstrap.run_metrics(predictions, targets, mask, content))
            found[method] = Evidence(np.mean(values, axis=0), bootstrap.mean_over_seeds(drawn))
    return found


def best_decisions(group: RunGroup, methods: Mapping[Method, object], key: str) -> dict[str, Method]:
    """Choose for each loss in `methods` the one of the best mean validation metric `key`; test chooses nothing."""
    best: dict[str, Method] = {}
    for method in methods:
        held = best.setdefault(method[0], method)
        if mean_gain(group.chosen[method], key) > mean_gain(group.chosen[held], key):
            best[method[0]] = method
    return best


def _against(
    group: RunGroup,
    question: str,
    first: Method | None,
    others: list[Method],
    evidence: Mapping[Method, Evidence],
    keys: Sequence[str],
) -> Answer:
    if first is None or first not in evidence:
        return Answer(question, [])
    found = [
        comparison
        for other in others
        if other != first
        for comparison in compare_rows(first, other, evidence)
        if comparison.key in keys
    ]
    marked = {method_name(*method): marks(group.chosen[method]) for method in (first, *others)}
    name = method_name(*first)
    return Answer(question.format(first=f"{name}{marked[name]}"), found, marked)


def compare_rows(first: Method, second: Method, evidence: Mapping[Method, Evidence]) -> list[Comparison]:
    """Compare two rows of `evidence` in every metric, `first` minus `second`."""
    a, b = evidence[first], evidence[second]
    return differences(
        method_name(*first), method_name(*second), (a.mean, b.mean), (a.replicates, b.replicates)
    )
