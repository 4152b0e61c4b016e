"""What people look at: figures, tables and a page made from the files that runs leave, without torch."""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from lsep_ml.reports.records import ReportError
    from lsep_ml.reports.report import BuiltReport, build_report

__all__ = ["BuiltReport", "ReportError", "build_report"]


def __getattr__(name: str) -> Any:
    if name in __all__:  # loaded on first use: a run draws its own figures without what the report needs
        from lsep_ml.reports import report

        return getattr(report, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
