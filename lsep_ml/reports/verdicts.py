"""The paper's claims as questions to our numbers: which row beats which, and whether the difference is real."""

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import combinations

import numpy as np
from numpy.typing import NDArray

from lsep_ml.metrics import BY_KEY
from lsep_ml.metrics.bootstrap import PairedBootstrap, Replicates
from lsep_ml.metrics.functional import LABEL_SET_KEYS, label_set_metrics
from lsep_ml.reports.comparison import Comparison, compare
from lsep_ml.reports.digest import Digest
from lsep_ml.reports.grouping import RunGroup, mean_gain
from lsep_ml.reports.names import method_name
from lsep_ml.reports.paper import OURS, paper_table
from lsep_ml.runs.finished import Method, Run

HEADLINE_METRICS = ("f1", "exact_match")


@dataclass(frozen=True)
class Verdict:
    """A question and the comparisons that answer it: one row against others, in one metric or more."""

    question: str
    comparisons: list[Comparison]

    @property
    def keys(self) -> list[str]:
        """The metrics compared."""
        return list(dict.fromkeys(comparison.key for comparison in self.comparisons))

    @property
    def rows(self) -> list[tuple[str, list[Comparison]]]:
        """Each opponent with its comparisons, in the order of `keys`."""
        opponents = dict.fromkeys(comparison.second for comparison in self.comparisons)
        return [(name, [c for c in self.comparisons if c.second == name]) for name in opponents]


@dataclass(frozen=True)
class Evidence:
    """What a row's runs amount to: mean metrics (8,) and bootstrap replicates of them (R, 8), as fractions."""

    mean: NDArray[np.float64]
    replicates: Replicates


def gather(
    group: RunGroup, digests: Mapping[Run, Digest], bootstrap: PairedBootstrap
) -> dict[Method, Evidence]:
    """The evidence of each chosen row whose runs all have their predictions, the paper's rows first."""
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
    """Every metric of every pair of rows, each pair once."""
    return {(a, b): compare_rows(a, b, evidence) for a, b in combinations(evidence, 2)}


def answer(group: RunGroup, evidence: Mapping[Method, Evidence]) -> list[Verdict]:
    """The questions that the rows present can answer."""
    verdicts = []
    for key in HEADLINE_METRICS:
        best = best_decisions(group, evidence, key)
        ours = best.pop("lsep", None)
        name = BY_KEY[key].short_name
        question = f"{name}: {{first}} against each loss, all under the decision of highest validation {name}"
        verdicts.append(_against(question, ours, list(best.values()), evidence, [key]))
    verdicts.append(
        _against(
            "{first} against the other decisions on LSEP's scores",
            OURS,
            [method for method in evidence if method[0] == "lsep"],
            evidence,
            HEADLINE_METRICS,
        )
    )
    verdicts.append(
        _against(
            "{first} against Table 1's other rows",
            OURS,
            [method for method in evidence if method in paper_table(1) or method == ("bce", "thresh_est")],
            evidence,
            HEADLINE_METRICS,
        )
    )
    return [verdict for verdict in verdicts if verdict.comparisons]


def best_decisions(group: RunGroup, methods: Mapping[Method, object], key: str) -> dict[str, Method]:
    """Loss -> its method of the best mean validation metric; the test split chooses nothing."""
    best: dict[str, Method] = {}
    for method in methods:
        held = best.setdefault(method[0], method)
        if mean_gain(group.chosen[method], key) > mean_gain(group.chosen[held], key):
            best[method[0]] = method
    return best


def _against(
    question: str,
    first: Method | None,
    others: list[Method],
    evidence: Mapping[Method, Evidence],
    keys: tuple[str, ...] | list[str],
) -> Verdict:
    if first is None or first not in evidence:
        return Verdict(question, [])
    found = [
        comparison
        for other in others
        if other != first
        for comparison in compare_rows(first, other, evidence)
        if comparison.key in keys
    ]
    return Verdict(question.format(first=method_name(*first)), found)


def compare_rows(first: Method, second: Method, evidence: Mapping[Method, Evidence]) -> list[Comparison]:
    """Every metric of one row against another, first minus second."""
    a, b = evidence[first], evidence[second]
    return compare(method_name(*first), method_name(*second), (a.mean, b.mean), (a.replicates, b.replicates))
