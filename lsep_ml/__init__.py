"""Multi-label image classification by pairwise ranking: losses, label decisions, metrics, and the whole experiment."""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from lsep_ml.bundle import load
    from lsep_ml.training.fitting import fit_decision

__all__ = ["fit_decision", "load"]


def __getattr__(name: str) -> Any:
    if name == "fit_decision":  # on first use, so that `import lsep_ml` stays light
        from lsep_ml.training.fitting import fit_decision

        return fit_decision
    if name == "load":
        from lsep_ml.bundle import load

        return load
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
