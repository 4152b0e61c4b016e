"""The verbs of the command line that work on bundles; heavy imports happen inside them."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from lsep_ml.terminal import console, errors, say

if TYPE_CHECKING:
    from lsep_ml.bundle.label_files import Labelled

SHOWN_PROBLEMS = 20
MOST_COLUMNS = 1000
"""Labels from which on a table has no column for each unless it is asked for."""
NOTHING, PROBLEMS = 1, 3
"""Exit codes of `predict` when images could not be used: of all of them, and of some, where the others are labelled."""

Source = Annotated[Path, typer.Argument(help="A bundle, or the folder of a finished run.")]
Device = Annotated[
    str | None,
    typer.Option("--device", help="cpu, cuda, cuda:1, ...; a GPU when there is one, if not given."),
]
Allow = Annotated[
    list[str] | None,
    typer.Option("--allow", help="A backbone outside this package that may be imported, by its dotted name."),
]

Spreadsheet = Annotated[
    bool,
    typer.Option(
        "--spreadsheet",
        help="Mark as text what a spreadsheet would take for a formula: = + - @ at the start.",
    ),
]


def bundle_command(
    run: Annotated[Path, typer.Argument(help="The folder of a finished run.")],
    out: Annotated[Path, typer.Option("--out", help="The folder to make.")] = Path("bundle"),
    allow: Allow = None,
) -> None:
    """Make one small folder of a finished run: network, decision, label names, preprocessing, metrics, checksums."""
    from rich.filesize import decimal

    from lsep_ml.bundle.files import read_parts, write_bundle
    from lsep_ml.metrics import BY_KEY

    parts = read_parts(run)
    parts.build_network(allow or ())  # what cannot be loaded is not shipped
    write_bundle(parts, out)
    size = sum(file.stat().st_size for file in out.iterdir())
    metrics = parts.measured["metrics"]["test"]
    say(
        f"{out}: {len(parts.label_names)} labels, {parts.measured['loss']} + {parts.measured['decision']}, "
        f"{decimal(size)}; on test {BY_KEY['f1'].told(metrics.get('f1'))}, {BY_KEY['map'].told(metrics.get('map'))}"
    )


def predict_command(
    source: Source,
    images: Annotated[
        list[str], typer.Argument(help='Files, folders (with all below them), "*.png" patterns.')
    ],
    *,
    out: Annotated[Path, typer.Option("--out", help="The table: .csv, .jsonl or .parquet.")] = Path(
        "labels.csv"
    ),
    top: Annotated[
        int | None, typer.Option("--top", help="The k highest scores, in place of the decision.")
    ] = None,
    threshold: Annotated[
        float | None, typer.Option("--threshold", help="Labels scored above this, in place of the decision.")
    ] = None,
    scores: Annotated[
        bool | None,
        typer.Option(
            "--scores/--no-scores",
            help="Scores too, a column a label; up to 1,000 labels, if not given. Without, data=csv trains on the CSV.",
        ),
    ] = None,
    shard: Annotated[
        str | None,
        typer.Option(
            "--shard",
            help="I/N: label every N-th batch alone, from the I-th; the last of N such calls writes the table.",
        ),
    ] = None,
    spreadsheet: Spreadsheet = False,
    max_bytes: Annotated[
        int | None,
        typer.Option("--max-bytes", min=1, help="Larger files are problems; 512 MiB, if not given."),
    ] = None,
    to: Annotated[
        str | None,
        typer.Option("--to", help="fiftyone or label_studio: a file for that tool, in place of a table."),
    ] = None,
    root: Annotated[
        Path | None, typer.Option("--root", help="With --to: the folder that the tool serves images from.")
    ] = None,
    pictures: Annotated[
        Path | None, typer.Option("--pictures", help="Draw each image with its labels into this folder.")
    ] = None,
    batch_size: Annotated[
        int | None,
        typer.Option("--batch-size", min=1, help="Images at a time; as it was evaluated, if not given."),
    ] = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace a finished table.")] = False,
    device: Device = None,
    allow: Allow = None,
) -> None:
    """Label images; can be interrupted. Exit code 3: some could not be used, the others are labelled; 1: none could."""
    from functools import partial

    from lsep_ml.bundle.classifier import load
    from lsep_ml.bundle.inputs import image_files
    from lsep_ml.bundle.label_files import fingerprint, label_files
    from lsep_ml.bundle.label_table import LabelTable, check_out
    from lsep_ml.bundle.predictions import write_pictures
    from lsep_ml.bundle.shards import Shard, ShardedTable

    share = None if shard is None else Shard.parse(shard)
    check_out(out, to, overwrite=overwrite)
    unreadable: dict[str, str] = {}
    found = image_files(images, unreadable)
    classifier = load(source, device=device, allow=allow or ())
    classifier.override(top=top, threshold=threshold)
    classifier.batch_size = batch_size or classifier.batch_size
    classifier.max_bytes = max_bytes or classifier.max_bytes
    on_batch = None if pictures is None else partial(write_pictures, pictures)
    names = classifier.label_names
    open_table = partial(
        LabelTable, label_names=names, overwrite=overwrite, tool=to, root=root, spreadsheet=spreadsheet,
        scores=len(names) <= MOST_COLUMNS if scores is None else scores,
    )  # fmt: skip
    made_by = fingerprint(classifier)
    label = partial(label_files, classifier, unreadable=unreadable, on_batch=on_batch, console=console)
    if share is None:
        with open_table(out, made_by=made_by) as table:
            labelled = label(found, table)
    else:
        sharded = ShardedTable(
            out, found, classifier.batch_size, lambda path, by: open_table(path, made_by=by), made_by
        )
        with sharded.open(share) as table:
            labelled = label(share.of(found, classifier.batch_size), table, finish=False)
        left = sharded.finish(share, labelled)
        state = f"{len(left)} shards are left" if left else "it is written"
        say(f"{labelled.images} images labelled of {out}, shard {shard}; {state}")
    if share is None:
        _report(labelled, out)
    _end(labelled)


def _end(labelled: "Labelled") -> None:
    if labelled.problems:
        raise typer.Exit(PROBLEMS if labelled.images else NOTHING)


def _report(labelled: "Labelled", out: Path) -> None:
    new = labelled.images - labelled.found
    rate = f"{new / labelled.seconds:.0f} images/s" if new else "nothing new"
    earlier = f", {labelled.found} of them by an earlier call" if labelled.found else ""
    say(f"{labelled.images} images labelled{earlier} ({rate}): {out}")
    if not labelled.problems:
        return
    from lsep_ml.bundle.label_files import write_problems

    count = len(labelled.problems)
    say(f"{count} {'image' if count == 1 else 'images'} could not be used:", on=errors, style="red")
    for image, reason in list(labelled.problems.items())[:SHOWN_PROBLEMS]:
        say(f"  {image!r}: {reason}", on=errors)
    say(f"all of them are in {write_problems(out, labelled.problems)}", on=errors)


def export_command(
    source: Source,
    out: Annotated[Path, typer.Argument(help="model.onnx, or model.pt2 for torch.export.load.")],
    opset: Annotated[int, typer.Option("--opset", help="ONNX's operator set.")] = 18,
    images: Annotated[
        list[str] | None,
        typer.Option("--images", help="Files or folders to check the export on, beside random ones."),
    ] = None,
    most: Annotated[
        int | None,
        typer.Option("--most", help="So many labels of an image by number, in place of a column a label."),
    ] = None,
    allow: Allow = None,
) -> None:
    """Write network and decision as one graph, images in, scores and label sets out; checked against torch."""
    import torch

    from lsep_ml.bundle.classifier import load
    from lsep_ml.bundle.export import export, random_images
    from lsep_ml.bundle.inputs import image_files

    classifier = load(source, device="cpu", allow=allow or ())
    checked = random_images(classifier)
    if images:
        real = torch.stack([classifier.prepare(image) for image in image_files(images)])
        checked = torch.cat([checked, real]) if real.shape[1:] == checked.shape[1:] else real
    agreement = export(classifier, out, opset=opset, images=checked, most=most)
    say(
        f"{out}: on {agreement.images} images, the largest difference of a score from torch's is "
        f"{agreement.largest:.1e}, and {agreement.differing} label sets differ"
    )


def label_next_command(
    source: Source,
    images: Annotated[
        list[str] | None,
        typer.Argument(help="Images without labels: files, folders; those below --root, if not given."),
    ] = None,
    *,
    root: Annotated[Path, typer.Option("--root", help="The folder with labels, as for data=own.")],
    out: Annotated[
        Path, typer.Option("--out", help="The table of images to label, the first ones first.")
    ] = Path("next.csv"),
    count: Annotated[int, typer.Option("--count", min=1, help="Images in the table.")] = 200,
    to: Annotated[
        str | None,
        typer.Option("--to", help="label_studio or fiftyone: a file for that tool, in place of a table."),
    ] = None,
    tool_root: Annotated[
        Path | None,
        typer.Option("--tool-root", help="With --to: the folder that the tool serves images from."),
    ] = None,
    options: Annotated[
        list[str] | None, typer.Option("--data", help="How to read --root, as for run.py: group=patient.")
    ] = None,
    folds: Annotated[int, typer.Option(min=2, help="Folds of the learning curve.")] = 5,
    seed: Annotated[int, typer.Option(min=0, max=2**32 - 1, help="Of the folds and the bootstrap.")] = 0,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace a finished table.")] = False,
    device: Device = None,
    allow: Allow = None,
) -> None:
    """Say whether more labels would help, label by label, and which images to label next."""
    import os

    from lsep_ml.bundle.classifier import load
    from lsep_ml.bundle.inputs import image_files
    from lsep_ml.bundle.label_next import label_next, print_curve, write_curve
    from lsep_ml.bundle.label_table import check_out
    from lsep_ml.bundle.other_tools import export_rows
    from lsep_ml.bundle.tables import Columns, rows_of, write_table
    from lsep_ml.data.cache import default_folder
    from lsep_ml.data.sources import parse_options
    from lsep_ml.data.sources.own import own_annotations

    check_out(out, to, overwrite=overwrite)
    annotations = own_annotations(root, **parse_options(options or (), "own"))
    others = image_files(images or [str(root)])
    classifier = load(source, device=device, allow=allow or ())
    found = label_next(
        classifier, annotations, others, count=count, folds=folds, seed=seed, cache=default_folder()
    )
    names = annotations.label_names
    print_curve(found, names, console)
    curve = out.with_suffix(".curve.csv")
    write_curve(curve, found, names)
    if to is None:
        write_table(
            out, rows_of(found.images, found.predictions), Columns(names, thresholds=True, probabilities=True)
        )
    else:
        export_rows(
            out, to, rows_of(list(map(os.path.abspath, found.images)), found.predictions), names, tool_root
        )
    say(
        f"{len(found.images)} images to label next: {out}; {found.twins} near-duplicates left out; curve: {curve}"
    )
    for image, problem in list(found.problems.items())[:SHOWN_PROBLEMS]:
        say(f"  {image!r}: {problem}", on=errors)
