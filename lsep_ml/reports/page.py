"""report.html: one file that fetches nothing, from the templates beside this module."""

import os
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from functools import cache
from pathlib import Path
from typing import Any
from urllib.parse import quote

from jinja2 import Environment, PackageLoader, StrictUndefined

from lsep_ml.drawing import KINDS
from lsep_ml.metrics import BY_KEY
from lsep_ml.metrics.catalogue import LABEL_SET_METRICS
from lsep_ml.metrics.metric import DASH
from lsep_ml.reports.comparison import HEADLINE_METRICS
from lsep_ml.reports.group_report import GroupReport
from lsep_ml.reports.label_figures import LABEL_COLUMNS, fit_figures
from lsep_ml.reports.provenance import Provenance, without_places
from lsep_ml.reports.records import FoundRuns
from lsep_ml.reports.tables import Table
from lsep_ml.reports.text_tables import (
    LEGEND,
    interval,
    mean_std,
    names,
    paper_number,
    rounded,
    runs_of,
    signed,
)
from lsep_ml.runs.finished import Run


def render_table(table: Table) -> str:
    """Render `table` as a page of its own."""
    return _environment().get_template("table_page.html").render(table=table)


CLASS_COLUMNS = {
    "f1": BY_KEY["f1"].short_name,
    "ap": "AP",
    "precision": "precision",
    "recall": "recall",
    "images": "images",
    "predicted": "predicted",
}
"""What the page shows of each class, by key."""

PAGE_BYTES = 19_000_000
"""Up to about so many bytes the page has the figures of all labels of its runs."""


def render_page(
    folder: Path,
    page: Path,
    sections: Sequence[GroupReport],
    origins: Mapping[Run, Provenance],
    found: FoundRuns,
) -> str:
    """Render the report of all groups, `sections`.

    `origins` are the runs in its tables, `folder` holds them, and `page` is where the report goes.
    """

    def link(path: Path) -> str:
        """Lead from the page to a run's `path`; nowhere where the page lies outside and would tell of other folders."""
        inside = page.resolve().is_relative_to(folder.resolve())
        return quote(Path(os.path.relpath(path, page.parent)).as_posix()) if inside else ""

    groups = [section.explorer for section in sections if section.explorer["runs"]]
    pictures = sum(len(drawing.address) for section in sections for drawing in section.drawings)
    fit_figures(groups, PAGE_BYTES - pictures)
    problems = [(_below(folder, problem.path), problem.message) for problem in found.problems]
    failures = [
        (_below(folder, f.folder), f.error, " ".join(without_places(f.overrides))) for f in found.failures
    ]
    return (
        _environment()
        .get_template("report.html")
        .render(
            folder=folder.resolve().name,
            built=datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC"),
            sections=sections,
            origins=origins,
            problems=problems,
            failures=failures,
            link=link,
            versions=sorted({origin.versions for origin in origins.values()}),
            comparisons=[_comparisons(section) for section in sections],
            explorer={
                "keys": [
                    {
                        "key": metric.key,
                        "name": metric.short_name,
                        "note": f"{metric.name}: {metric.note}",
                        "higher_is_better": metric.higher_is_better,
                    }
                    for metric in LABEL_SET_METRICS
                ],
                "columns": [{"key": key, "name": name} for key, name in CLASS_COLUMNS.items()],
                "figures": LABEL_COLUMNS,
                "marks": {kind: KINDS[kind].mark for kind in KINDS},
                "groups": groups,
            },
        )
    )


@cache
def _environment() -> Environment:
    environment = Environment(
        loader=PackageLoader("lsep_ml.reports"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.globals |= {
        "METRICS": BY_KEY,
        "names": names,
        "HEADLINE_METRICS": HEADLINE_METRICS,
        "KINDS": KINDS,
        "DASH": DASH,
        "LEGEND": LEGEND,
        "runs_of": runs_of,
        "interval": interval,
        "mean_std": mean_std,
    }
    environment.filters |= {"rounded": rounded, "paper_number": paper_number, "signed": signed}
    return environment


def _comparisons(section: GroupReport) -> dict[str, Any]:
    """Gather every pair of rows of `section` for the page: [difference, low, high] of each metric."""
    pairs: dict[str, list[list[float]]] = {}
    position = {name: number for number, name in enumerate(section.compared)}
    for c in section.comparisons:
        key = f"{position[c.first]}-{position[c.second]}"
        pairs.setdefault(key, []).append([round(value, 4) for value in (c.difference, c.low, c.high)])
    best = section.headline.method
    return {
        "methods": list(section.compared),
        "pairs": pairs,
        "best": best if best in section.compared else None,
    }


def _below(folder: Path, path: Path) -> str:
    return path.relative_to(folder).as_posix() if path.is_relative_to(folder) else path.as_posix()
