"""What is made of one group: its tables, comparisons, figures and explorer data, written and handed to the page."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from lsep_ml.files import atomic_write, inert
from lsep_ml.metrics.bootstrap import PairedBootstrap
from lsep_ml.reports.comparison import Answer, Comparison, answer, compare_all, gather, validated
from lsep_ml.reports.explorer import Json, choose_runs, explore
from lsep_ml.reports.figures.of_group import draw_group, suspecting_loss
from lsep_ml.reports.figures.style import SavedDrawing, save_drawing
from lsep_ml.reports.group_files import GroupFiles
from lsep_ml.reports.grouping import RunGroup
from lsep_ml.reports.paper import method_name
from lsep_ml.reports.provenance import origin
from lsep_ml.reports.records import Digest, LeftOut
from lsep_ml.reports.tables import (
    Headline,
    Table,
    headline,
    table_of_all,
    table_one,
    table_two,
    with_bootstrap,
)
from lsep_ml.reports.text_tables import (
    csv_comparisons,
    csv_table,
    csv_text,
    latex_table,
    markdown_table,
    markdown_verdict,
)
from lsep_ml.runs.finished import Run

_EXPLORED = 60


@dataclass(frozen=True)
class GroupReport:
    """Holds one `group` as the page shows it; `compared` are the rows of `comparisons`, in order."""

    group: RunGroup
    headline: Headline
    tables: Sequence[Table]
    verdicts: Sequence[Answer]
    compared: Sequence[str]
    comparisons: Sequence[Comparison]
    drawings: Sequence[SavedDrawing]
    explorer: Json
    problems: Sequence[LeftOut]


def report_group(
    group: RunGroup, digests: Mapping[Run, Digest], bootstrap: PairedBootstrap, out: Path
) -> GroupReport:
    """Write tables/ and figures/ of `group` below `out`; of its runs the page explores at most _EXPLORED."""
    usable, problems = _of_one_split(group, digests)
    evidence = gather(group, usable, bootstrap)
    pairs = compare_all(evidence)
    tables = [with_bootstrap(make(group), evidence, pairs) for make in (table_one, table_two, table_of_all)]
    verdicts = [*answer(group, evidence), *validated(group, bootstrap)]
    comparisons = [comparison for found in pairs.values() for comparison in found]
    for table in tables:
        texts = {"csv": csv_table(table), "tex": latex_table(table)}
        texts["md"] = f"{markdown_table(table)}\n{origin(table)}\n"
        for kind, text in texts.items():
            write_text(out / "tables" / f"{table.slug}.{kind}", text)
    write_text(out / "tables" / f"comparisons_{group.name}.csv", csv_comparisons(comparisons))
    write_text(out / "tables" / f"verdicts_{group.name}.md", "\n".join(map(markdown_verdict, verdicts)))

    files = GroupFiles(group, usable)
    drawings = [save_drawing(drawing, out / "figures", group.name) for drawing in draw_group(files)]
    write_text(out / "tables" / f"suspects_{group.name}.csv", _suspects(files))
    variants = {run: row.variant for row in group.rows for run in row.runs}
    chosen = choose_runs(files, _EXPLORED)
    explorer, unexplored = explore(files, chosen, variants)
    best = headline(group, evidence)
    explorer |= {"title": group.title, "best": best.method}
    explorer["left_out"] = sum(run.has_scores for run in usable) - len(chosen)
    compared = [method_name(*method) for method in evidence]
    problems += files.problems + unexplored
    return GroupReport(group, best, tables, verdicts, compared, comparisons, drawings, explorer, problems)


def write_text(path: Path, text: str) -> None:
    """Write `text` to `path`, whole or not at all."""
    with atomic_write(path) as file:
        file.write(text)


def _of_one_split(group: RunGroup, digests: Mapping[Run, Digest]) -> tuple[dict[Run, Digest], list[LeftOut]]:
    """Return the digests of the test split that most runs of `group` have, and why the others are left out."""
    found = {run: digests[run] for row in group.rows for run in row.runs if run in digests}
    if not found:
        return {}, []
    content, _ = Counter(digest.content for digest in found.values()).most_common(1)[0]
    problems = [
        LeftOut(
            run.folder,
            f"predictions.npz holds other images, targets or mask than the other runs of split {run.split_hash[:8]}; "
            "left out of comparisons, figures and explorer",
        )
        for run, digest in found.items()
        if digest.content != content
    ]
    return {run: digest for run, digest in found.items() if digest.content == content}, problems


def _suspects(files: GroupFiles) -> str:
    head = ["image_id", "row", "label", "annotation", "belief"]
    loss = suspecting_loss(files)
    if loss is None:
        return csv_text(head, [])
    names, ids = files.label_names, files.image_ids(files.score_runs()[loss][0])
    return csv_text(
        head,
        [
            [
                inert(ids[s.row]),
                s.row,
                inert(names[s.label]),
                "present" if s.present else "absent",
                f"{s.belief:.4f}",
            ]
            for s in files.views[loss].suspects
        ],
    )
