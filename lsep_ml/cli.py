"""The command line beside run.py: `python -m lsep_ml VERB ...`. Heavy imports happen inside the verbs."""

import os
import sys
from pathlib import Path
from typing import Annotated

import typer

from lsep_ml.bundle.commands import bundle_command, export_command, predict_command
from lsep_ml.demo.command import demo_command
from lsep_ml.terminal import console, net, say
from lsep_ml.terminal.safety_net import DEBUG

app = typer.Typer(
    help="Multi-label image classification by pairwise ranking. `lsep-ml run --help` explains experiments.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    add_completion=False,
)

Root = Annotated[Path, typer.Option("--root", help="The data set's folder, as data.root; prepare makes it.")]
Cache = Annotated[
    Path | None,
    typer.Option(
        "--cache",
        help="What remembers opened images, as data.cache: .cache in $LSEP_ML_DATA, or in data/, if not given.",
    ),
]
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


@app.command("check")
def check_command(
    data: Annotated[str, typer.Argument(help="The data set's name, as in data=NAME; docs/data.md has them.")],
    root: Root,
    options: Annotated[
        list[str] | None, typer.Argument(help="How to read it, as for run.py: data.group=patient ...")
    ] = None,
    everything: Annotated[
        bool, typer.Option("--all", help="List every file that is wrong, not the first few.")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object, whatever the verdict.")] = False,
    cache: Cache = None,
) -> None:
    """Check a data set: layout, counts, every image opened, label statistics, and a verdict.

    Exit code 0: good; 3: readable, with problems; 1: not readable.
    """
    import json

    from lsep_ml.data.cache import default_folder
    from lsep_ml.data.check.options import parse_options
    from lsep_ml.data.check.printed import print_report
    from lsep_ml.data.check.verdict import check

    report = check(data, root, cache=cache or default_folder(), **parse_options(options or ()))
    if as_json:
        print(json.dumps(report.summary, ensure_ascii=False))
    else:
        print_report(report, console, all_items=everything)
    raise typer.Exit(report.exit_code)


@app.command("convert")
def convert_command(
    root: Annotated[Path, typer.Argument(help="A folder of images with labels, as for data=own.")],
    to: Annotated[str, typer.Option("--to", help="csv, jsonl or coco_json.")],
    out: Annotated[Path, typer.Option("--out", help="The file to write.")],
    options: Annotated[
        list[str] | None, typer.Argument(help="How to read it, as for run.py: data.group=patient ...")
    ] = None,
) -> None:
    """Write the labels of own images, in whatever form they come, as one table or COCO-style file."""
    from lsep_ml.data.check.options import parse_options
    from lsep_ml.data.convert import convert
    from lsep_ml.data.sources.own import own_annotations

    annotations = own_annotations(root, **parse_options(options or ()))
    convert(annotations, to, out)
    for note in annotations.notes:
        say(note)
    say(f"{len(annotations):,} images, {len(annotations.label_names):,} labels: {out}")


@app.command("prepare")
def prepare_command(
    data: Annotated[str, typer.Argument(help="The data set's name, as in data=NAME; docs/data.md has them.")],
    source: Annotated[Path, typer.Option("--from", help="The folder with the archives you fetched.")],
    root: Root,
    cache: Cache = None,
) -> None:
    """Unpack fetched archives into the expected tree; can be interrupted, never overwrites."""
    from lsep_ml.data.cache import default_folder
    from lsep_ml.data.prepare.prepared import prepare

    prepared = prepare(data, source, root, cache=cache or default_folder())
    for line in prepared.lines():
        say(line)
    raise typer.Exit(prepared.exit_code)


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
        str, typer.Option(help="Choose by this label-set metric, a key of docs/metrics.md.")
    ] = "f1",
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
        folds=folds,
        epochs=epochs,
        seed=seed,
        progress=console.is_terminal,
    )
    print_tuning(tuning, console)
    say(f"best by {criterion} out of fold: {tuning.best.name}, written to {out}")


@app.command("apply")
def apply_command(
    decision: Annotated[Path, typer.Argument(help="A decision saved by tune, or a run's decision.json.")],
    scores: Annotated[Path, typer.Argument(help="npz, CSV or parquet with scores.")],
    out: Annotated[Path, typer.Option("--out", help="Label sets, as npz, CSV or parquet.")] = Path(
        "labels.csv"
    ),
) -> None:
    """Run a saved decision on new scores."""
    from lsep_ml.tuning import apply

    predictions, metrics = apply(decision, scores, out)
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
    project: Annotated[
        str, typer.Option(help="The project the runs are in (logger.wandb.project).")
    ] = "lsep_ml",
) -> None:
    """Create the W&B workspace with the tables, curves and galleries (needs `wandb login`)."""
    from lsep_ml.trackers.dashboard import create_workspace

    say(f"created {create_workspace(entity, project)}")


@app.command("prune")
def prune_command(
    output: Output = Path("outputs"),
    delete: Annotated[
        bool, typer.Option("--delete", help="Do it; without this, only say what would go.")
    ] = False,
) -> None:
    """Free what no finished run refers to: stored networks and arrays, and leftovers of interrupted work."""
    from lsep_ml.runs.inventory import prune

    prune(output, console, delete=delete)


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
    os.environ.setdefault(
        "OMP_WAIT_POLICY", "PASSIVE"
    )  # as in the main job: waiting threads leave the cores to decoding
    with net():
        app()
