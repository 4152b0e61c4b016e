"""The command line beside run.py: `python -m lsep_ml VERB ...`. Heavy imports happen inside the verbs."""

import os
import sys
from pathlib import Path
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from lsep_ml.bundle.commands import (
    Spreadsheet,
    bundle_command,
    export_command,
    label_next_command,
    predict_command,
)
from lsep_ml.data.commands import check_command, convert_command, pack_command, prepare_command
from lsep_ml.demo import demo_command
from lsep_ml.terminal import console, net, say
from lsep_ml.terminal.safety_net import BEGINS_ANEW, DEBUG, Interrupted

_GOES_ON = {
    "predict": "the rows that were made are kept beside the table, and the same command goes on from there",
    "prepare": "the files that were unpacked are kept, and the same command goes on from there",
}
"""The verbs that Ctrl-C costs little, and what is said then; `run` says it itself."""


class Verbs(TyperGroup):
    """Holds the verbs, after which Ctrl-C ends the program with a word on what is kept."""

    def invoke(self, ctx: Any) -> Any:
        """Call the verb."""
        try:
            return super().invoke(ctx)
        except KeyboardInterrupt:
            raise Interrupted(_GOES_ON.get(ctx.invoked_subcommand, BEGINS_ANEW)) from None


app = typer.Typer(
    cls=Verbs,
    help="Multi-label image classification by pairwise ranking. `lsep-ml run --help` explains experiments.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    add_completion=False,
)

Output = Annotated[Path, typer.Option("--output", help="Where runs and stored results lie (paths.output).")]


def _version(asked: bool) -> None:
    if asked:
        from lsep_ml import __version__

        say(f"lsep_ml {__version__}")
        raise typer.Exit


@app.callback()
def group(
    debug: Annotated[bool, typer.Option("--debug", help="Show the traceback of an error.")] = False,
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Show the version.")
    ] = False,
) -> None:
    """Every verb explains itself: lsep-ml VERB --help."""
    if debug:
        os.environ[DEBUG] = "1"


app.command("check")(check_command)
app.command("convert")(convert_command)
app.command("pack")(pack_command)
app.command("prepare")(prepare_command)


@app.command("tune")
def tune_command(
    scores: Annotated[Path, typer.Argument(help="npz, CSV or parquet with scores and targets of any model.")],
    *,
    out: Annotated[Path, typer.Option("--out", help="Where the best decision is written.")] = Path(
        "decision.json"
    ),
    decisions: Annotated[
        str, typer.Option(help="Names separated by commas; all that the file allows when not given.")
    ] = "",
    criterion: Annotated[
        str,
        typer.Option(
            help="Choose by this label-set metric, a key of docs/metrics.md; or fbeta, cost, break_even."
        ),
    ] = "f1",
    beta: Annotated[
        float, typer.Option(help="Of fbeta: recall counts so many times as much as precision.")
    ] = 1.0,
    miss_cost: Annotated[float, typer.Option(help="Of cost: a miss costs so many false alarms.")] = 1.0,
    folds: Annotated[int, typer.Option(min=2, help="Folds of the cross-fitting.")] = 5,
    epochs: Annotated[
        int, typer.Option(min=1, help="Epochs of learnt decisions (which need features).")
    ] = 50,
    seed: Annotated[int, typer.Option(min=0, max=2**32 - 1, help="Of folds, bootstrap and training.")] = 0,
) -> None:
    """Compare decisions on a score matrix, out of fold and with intervals, and save the best."""
    from lsep_ml.tuning import print_tuning, tune

    names = [name.strip() for name in decisions.split(",") if name.strip()]
    tuning = tune(
        scores,
        out,
        decisions=names,
        criterion=criterion,
        beta=beta,
        miss_cost=miss_cost,
        folds=folds,
        epochs=epochs,
        seed=seed,
        progress=console.is_terminal,
    )
    print_tuning(tuning, console)
    say(f"best by {tuning.criterion.short_name} out of fold: {tuning.best.name}, written to {out}")


@app.command("apply")
def apply_command(
    decision: Annotated[Path, typer.Argument(help="A decision saved by tune, or a run's decision.json.")],
    scores: Annotated[Path, typer.Argument(help="npz, CSV or parquet with scores.")],
    out: Annotated[Path, typer.Option("--out", help="Label sets, as npz, CSV, JSONL or parquet.")] = Path(
        "labels.csv"
    ),
    to: Annotated[
        str | None,
        typer.Option(
            "--to", help="fiftyone, cleanlab or label_studio: JSON for that tool, in place of a table."
        ),
    ] = None,
    root: Annotated[
        Path | None, typer.Option("--root", help="With --to: the folder that image_ids are relative to.")
    ] = None,
    spreadsheet: Spreadsheet = False,
) -> None:
    """Run a saved decision on new scores."""
    from lsep_ml.tuning import apply

    predictions, metrics = apply(decision, scores, out, tool=to, root=root, spreadsheet=spreadsheet)
    say(f"{len(predictions)} label sets, {predictions.sum() / len(predictions):.2f} labels each: {out}")
    if metrics is not None:
        from lsep_ml.metrics.catalogue import LABEL_SET_METRICS

        say(", ".join(metric.told(metrics[metric.key]) for metric in LABEL_SET_METRICS))


@app.command("report")
def report_command(
    folder: Annotated[Path, typer.Argument(help="Where runs lie (paths.output), or a part of it.")] = Path(
        "outputs"
    ),
    out: Annotated[
        Path | None, typer.Option("--out", help="Where to write; FOLDER/report if not given.")
    ] = None,
    replicates: Annotated[int, typer.Option(min=100, help="Bootstrap samples behind the intervals.")] = 1000,
) -> None:
    """Make the tables, the figures and one page (report.html) of all runs below a folder."""
    from lsep_ml.reports import build_report

    made = build_report(folder, out, replicates=replicates)
    for failure in made.failures:
        say(f"failed: {failure.folder}: {failure.error}")
    for problem in made.problems:
        say(f"left out: {problem.path}: {problem.message}")
    say(f"{len(made.runs)} runs: {made.page}")


app.command("bundle")(bundle_command)
app.command("predict")(predict_command)
app.command("export")(export_command)
app.command("label-next")(label_next_command)
app.command("demo")(demo_command)


@app.command()
def backbones(
    pattern: Annotated[
        str,
        typer.Argument(
            help="Names, as timm's patterns ('vit_*dinov3*') or a part of them; all if not given."
        ),
    ] = "",
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object a line, for programs.")] = False,
) -> None:
    """List timm's pretrained networks: parameters, features, and the images their weights want. Needs no network."""
    import json

    from lsep_ml.models.catalogue import known_backbones, table_lines

    found = known_backbones(pattern)
    lines = (json.dumps(known.values()) for known in found) if as_json else table_lines(found)
    for line in lines:
        typer.echo(line)


@app.command("list")
def list_command(
    output: Output = Path("outputs"),
    by: Annotated[str, typer.Option(help="Sort the runs by this validation metric, the best first.")] = "f1",
) -> None:
    """Show the finished runs and what is stored for them, with sizes."""
    from lsep_ml.runs.inventory import take_inventory
    from lsep_ml.runs.printed import print_inventory

    found = take_inventory(output)
    if not found.runs and not found.stored:
        raise ValueError(
            f"--output={output}: no run in it; a run is made by lsep-ml run, paths.output says where"
        )
    print_inventory(found, console, by)


@app.command("dashboard")
def dashboard_command(
    entity: Annotated[str, typer.Option(help="Your W&B account or team.")],
    data: Annotated[
        str, typer.Option(help="The data set, as data=NAME names it: a bar is never of several.")
    ],
    project: Annotated[
        str, typer.Option(help="The project the runs are in (logger.wandb.project).")
    ] = "lsep_ml",
    decisions: Annotated[
        str, typer.Option(help="Names separated by commas: losses are compared under each.")
    ] = "topk,threshold,thresh_est",
    loss: Annotated[str, typer.Option(help="Decisions are compared on the scores of this loss.")] = "lsep",
    group: Annotated[str | None, typer.Option(help="Only the runs of this W&B group, a sweep.")] = None,
) -> None:
    """Create a W&B report with the tables as bars, curves and galleries (needs `wandb login`)."""
    from lsep_ml.trackers.dashboard import create_dashboard

    names = [name.strip() for name in decisions.split(",") if name.strip()]
    say(f"created {create_dashboard(entity, project, data, decisions=names, loss=loss, group=group)}")


@app.command("prune")
def prune_command(
    output: Output = Path("outputs"),
    delete: Annotated[
        bool, typer.Option("--delete", help="Do it; without this, only say what would go.")
    ] = False,
    failed: Annotated[
        bool,
        typer.Option(
            "--failed", help="Also jobs that failed: their folders, and what they would go on from."
        ),
    ] = False,
) -> None:
    """Free what no run refers to: stored networks and arrays, and leftovers of interrupted work."""
    from lsep_ml.runs.inventory import prune

    prune(output, console, delete=delete, failed=failed)


@app.command(
    "run",
    context_settings={"allow_extra_args": True, "ignore_unknown_options": True, "help_option_names": []},
)
def run_command(context: typer.Context) -> None:
    """Run the main job: `run loss=lsep data=digits`, a sweep with -m; `run --help` explains the groups."""
    from lsep_ml.stages.main import main as run_main

    sys.argv = ["lsep-ml run", *context.args]
    run_main()


def main() -> None:
    """Entry point: bad input ends with one message and exit code 1."""
    # as in the main job: waiting threads leave the cores to decoding
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    with net():
        app()
