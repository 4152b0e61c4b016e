"""Multi-label image classification by pairwise ranking: losses, label decisions, metrics, and the whole experiment.

    import lsep_ml
    lsep_ml.load("bundle").predict("a.jpg")             a trained classifier, from its folder
    lsep_ml.fit_decision("per_class", scores, targets)  a label decision for the scores of any model

Everything else is a room of its own: lsep_ml.losses, lsep_ml.decisions, lsep_ml.metrics, ...
"""

from importlib.metadata import PackageNotFoundError, version
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from lsep_ml.bundle import load
    from lsep_ml.training.fitting import fit_decision

__all__ = ["__version__", "fit_decision", "load"]

try:
    __version__ = version("lsep-ml")
except PackageNotFoundError:  # run from a folder that was never installed
    __version__ = "unknown"


def __getattr__(name: str) -> Any:
    if name == "fit_decision":  # on first use, so that `import lsep_ml` stays light
        from lsep_ml.training.fitting import fit_decision

        return fit_decision
    if name == "load":
        from lsep_ml.bundle import load

        return load
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted(__all__)
