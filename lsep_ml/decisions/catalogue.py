"""Every decision by the name that configurations, `tune` and tables know it by; none is imported before it is used."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from importlib import import_module
from inspect import signature
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:  # what type checkers see of the classes below, which are loaded on first use
    from lsep_ml.decisions.base import Decision
    from lsep_ml.decisions.calibration import Calibrated, ExpectedF1
    from lsep_ml.decisions.capped import CappedThreshold
    from lsep_ml.decisions.conformal import ConformalRisk
    from lsep_ml.decisions.estimation import CountEstimation, ThresholdClass, ThresholdEstimation
    from lsep_ml.decisions.learn_then_test import LearnThenTest
    from lsep_ml.decisions.linear import LinearThresholds
    from lsep_ml.decisions.per_class import PerClassThreshold
    from lsep_ml.decisions.rules import GlobalThreshold, TopK, ZeroThreshold
    from lsep_ml.decisions.support import LabelSetSupport


@dataclass(frozen=True, kw_only=True)
class DecisionRow:
    """A decision.

    key: decision=KEY of the configuration, `--decisions KEY` of `tune`. kind: the module in this room and the class.
    name: in tables; short_name: in brackets behind a loss, where it is another.
    on_request: whether `tune` leaves it out unless it is named. options: arguments of the class that are not its
    defaults.
    """

    key: str
    kind: str
    name: str
    short_name: str = ""
    on_request: bool = False
    options: Mapping[str, Any] = field(default_factory=dict, hash=False)

    @property
    def class_name(self) -> str:
        return self.kind.rpartition(".")[2]

    def load(self) -> type["Decision"]:
        """Return the class."""
        module, _, name = self.kind.rpartition(".")
        found: type[Decision] = getattr(import_module(f"lsep_ml.decisions.{module}"), name)
        return found

    def build(self, **given: Any) -> "Decision":
        """Return the decision, not fitted; `given` are arguments, of which the class takes those it has."""
        kind = self.load()
        known = signature(kind).parameters
        return kind(**{**{name: value for name, value in given.items() if name in known}, **self.options})


DECISIONS = (
    DecisionRow(key="topk", kind="rules.TopK", name="top-k", short_name="K"),
    DecisionRow(key="threshold", kind="rules.GlobalThreshold", name="threshold", short_name="θ"),
    DecisionRow(
        key="count_est",
        kind="estimation.CountEstimation",
        name="label count est.",
        short_name="count est.",
    ),
    DecisionRow(key="thresh_est", kind="estimation.ThresholdEstimation", name="threshold est."),
    # trains six networks
    DecisionRow(
        key="thresh_est_offset",
        kind="estimation.ThresholdEstimation",
        name="threshold est., offset",
        on_request=True,
        options={"offset": "class"},
    ),
    DecisionRow(
        key="threshold_exact",
        kind="rules.GlobalThreshold",
        name="threshold, exact search",
        short_name="θ, exact",
        options={"search": "exact"},
    ),
    DecisionRow(
        key="per_class",
        kind="per_class.PerClassThreshold",
        name="threshold per class",
        short_name="θ per class",
    ),
    DecisionRow(key="thresh_linear", kind="linear.LinearThresholds", name="linear thresholds"),
    DecisionRow(
        key="support", kind="support.LabelSetSupport", name="label-set support", short_name="support"
    ),
    # its caps are a demand
    DecisionRow(
        key="capped",
        kind="capped.CappedThreshold",
        name="threshold, capped",
        short_name="θ, capped",
        on_request=True,
    ),
    # what zero means depends on what trained the scores
    DecisionRow(key="zero", kind="rules.ZeroThreshold", name="threshold 0", on_request=True),
    DecisionRow(key="threshold_class", kind="estimation.ThresholdClass", name="threshold class"),
    DecisionRow(key="calibrated", kind="calibration.Calibrated", name="calibrated"),
    DecisionRow(key="expected_f1", kind="calibration.ExpectedF1", name="expected F1"),
    # these aim at a guarantee, not at a criterion
    DecisionRow(key="conformal", kind="conformal.ConformalRisk", name="conformal risk", on_request=True),
    DecisionRow(
        key="learn_then_test", kind="learn_then_test.LearnThenTest", name="learn then test", on_request=True
    ),
)
"""In the order of the tables, the paper's first."""
