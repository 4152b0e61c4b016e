"""The check's report for a terminal."""

from rich.console import Console, Group, RenderableType
from rich.table import Table
from rich.text import Text

from lsep_ml.data.check.statistics import LabelStatistics
from lsep_ml.data.check.verdict import Report
from lsep_ml.terminal import plain

SHOWN_ITEMS = 10
SHOWN_PAIRS = 10
STYLES = {"error": "bold red", "warning": "yellow", "note": "dim"}


def print_report(report: Report, console: Console | None = None, all_items: bool = False) -> None:
    """Print statistics, findings (the first images of each, or all), verdict."""
    console = console or Console()
    parts: list[RenderableType] = [] if report.statistics is None else _statistics(report.statistics)
    for finding in report.findings:
        parts.append(plain(f"{finding.severity}: {finding.message}", STYLES[finding.severity]))
        shown = finding.items if all_items else finding.items[:SHOWN_ITEMS]
        parts += [plain(f"  {item}") for item in shown]
        if len(shown) < len(finding.items):
            parts.append(Text(f"  ... and {len(finding.items) - len(shown):,} more", style="dim"))
    parts.append(plain(f"\n{report.data} in {report.root}: {report.verdict}", "bold"))
    console.print(Group(*parts), soft_wrap=True)


def _statistics(statistics: LabelStatistics) -> list[RenderableType]:
    images = _table("Images", "split", "images", "without a label")
    for split, number in statistics.images.items():
        images.add_row(split, f"{number:,}", f"{statistics.unlabelled[split]:,}")
    total = int(statistics.labels_per_image.sum())
    per_image = _table("Labels per image", "labels", "images", "share")
    for labels, number in enumerate(statistics.labels_per_image.tolist()):
        if number:
            per_image.add_row(str(labels), f"{number:,}", f"{number / total:.1%}")
    frequency = _table("Images with each label", "label", *statistics.positives, "share")
    for column, name in enumerate(statistics.label_names):
        counts = [int(of_part[column]) for of_part in statistics.positives.values()]
        frequency.add_row(plain(name), *(f"{count:,}" for count in counts), f"{sum(counts) / total:.1%}")
    pairs = _table("Labels seen together most", "pair", "images", "lift")
    for first, second, number, lift in statistics.most_together(SHOWN_PAIRS):
        pairs.add_row(plain(f"{first}, {second}"), f"{number:,}", f"{lift:.2f}")
    summary = f"{statistics.mean_labels:.2f} labels per image"
    if statistics.unknown:
        summary += f"; {statistics.unknown:,} entries unknown"
    return [images, per_image, frequency, pairs, Text(summary)]


def _table(title: str, first: str, *numbers: str) -> Table:
    table = Table(first, title=title, title_justify="left")
    for name in numbers:
        table.add_column(name, justify="right")
    return table
