"""From a folder of runs to tables, figures and one page."""

import logging
from dataclasses import dataclass
from pathlib import Path

from lsep_ml.metrics.bootstrap import PairedBootstrap
from lsep_ml.reports.group_report import report_group, write_text
from lsep_ml.reports.grouping import group_runs
from lsep_ml.reports.page import render_page, render_table
from lsep_ml.reports.provenance import csv_runs, provenance
from lsep_ml.reports.records import Failure, LeftOut, ReportError, digest_runs, find_runs
from lsep_ml.reports.tables import Table
from lsep_ml.runs.finished import Run

log = logging.getLogger(__name__)

FOLDER, PAGE = "report", "report.html"


@dataclass(frozen=True)
class BuiltReport:
    """Holds what was built: the page, the tables, and what was left out of them, with the reasons."""

    page: Path
    tables: list[Table]
    runs: list[Run]
    failures: list[Failure]
    problems: list[LeftOut]


def build_report(folder: Path, out: Path | None = None, *, replicates: int = 1000) -> BuiltReport:
    """Read every run below `folder`; write report.html, tables/ and figures/ to `out` (default: folder/report).

    replicates: bootstrap samples behind the intervals.

    Raises:
        ReportError: no usable run below `folder`, or an option out of range.
    """
    if replicates < 100:
        raise ReportError(f"replicates={replicates} (at least 100)")
    found = find_runs(folder)
    bootstrap = PairedBootstrap(replicates)
    digests = digest_runs(folder, found, bootstrap)
    groups, problems = group_runs(found.runs)
    found.problems += problems
    if not groups:
        raise ReportError(f"{folder}: no run can be used; {problems[0].path}: {problems[0].message}")
    out = folder / FOLDER if out is None else out
    for name in ("tables", "figures"):
        (out / name).mkdir(parents=True, exist_ok=True)
    sections = []
    for group in groups:
        log.info("Report: %s, %d rows", group.name, len(group.rows))
        sections.append(report_group(group, digests, bootstrap, out))
        found.problems += sections[-1].problems
        for table in sections[-1].tables:
            write_text(out / "tables" / f"{table.slug}.html", render_table(table))
    origins = {run: provenance(group, row, run) for group in groups for row in group.rows for run in row.runs}
    write_text(out / "tables" / "runs.csv", csv_runs(origins))
    page = out / PAGE
    write_text(page, render_page(folder, page, sections, origins, found))
    log.info("Report of %d runs: %s", len(origins), page)
    return BuiltReport(
        page,
        [table for section in sections for table in section.tables],
        found.runs,
        found.failures,
        found.problems,
    )
