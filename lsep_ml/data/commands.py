"""The verbs about data sets: check, convert, pack, prepare. Heavy imports happen inside them."""

from pathlib import Path
from typing import Annotated

import typer

from lsep_ml.terminal import console, say

Root = Annotated[Path, typer.Option("--root", help="The data set's folder, as data.root; prepare makes it.")]
Cache = Annotated[
    Path | None,
    typer.Option(
        "--cache",
        help="What remembers opened images, as data.cache: .cache in $LSEP_ML_DATA, or in data/, if not given.",
    ),
]


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
    from lsep_ml.data.check.printed import print_report
    from lsep_ml.data.check.verdict import check
    from lsep_ml.data.sources import parse_options

    report = check(data, root, cache=cache or default_folder(), **parse_options(options or (), data))
    if as_json:
        print(json.dumps(report.summary))  # ASCII: what a terminal's letters are changes nothing of it
    else:
        print_report(report, console, all_items=everything)
    raise typer.Exit(report.exit_code)


def convert_command(
    root: Annotated[Path, typer.Argument(help="A folder of images with labels, as for data=own.")],
    to: Annotated[str, typer.Option("--to", help="csv, jsonl or coco_json.")],
    out: Annotated[Path, typer.Option("--out", help="The file to write.")],
    options: Annotated[
        list[str] | None, typer.Argument(help="How to read it, as for run.py: data.group=patient ...")
    ] = None,
) -> None:
    """Write the labels of own images, in whatever form they come, as one table or COCO-style file."""
    from lsep_ml.data.convert import convert
    from lsep_ml.data.sources import parse_options
    from lsep_ml.data.sources.own import own_annotations

    annotations = own_annotations(root, **parse_options(options or (), "own"))
    convert(annotations, to, out)
    for note in annotations.notes:
        say(note)
    say(f"{len(annotations):,} images, {len(annotations.label_names):,} labels: {out}")


def prepare_command(
    data: Annotated[str, typer.Argument(help="The data set's name, as in data=NAME; docs/data.md has them.")],
    source: Annotated[Path, typer.Option("--from", help="The folder with the archives you fetched.")],
    root: Root,
    cache: Cache = None,
) -> None:
    """Unpack fetched archives into the expected tree; can be interrupted, never overwrites."""
    from lsep_ml.data.cache import default_folder
    from lsep_ml.data.prepare import prepare

    prepared = prepare(data, source, root, cache=cache or default_folder())
    for line in prepared.lines():
        say(line)
    raise typer.Exit(prepared.exit_code)


def pack_command(
    root: Annotated[Path, typer.Argument(help="A folder of images with labels in any form.")],
    out: Annotated[Path, typer.Option("--out", help="The folder to make; data.root reads it as any other.")],
    mib: Annotated[int, typer.Option(min=1, help="About how large a tar file becomes, in MiB.")] = 1024,
) -> None:
    """Copy images into a few large tar files, for file systems where many small files are slow.

    Can be interrupted and started again. Exit code 3: some images are broken, or could not be read and are left out.
    """
    from lsep_ml.data.pack import pack

    packed = pack(root, out, mib * 2**20)
    for kind, images in (("cannot be used", packed.problems), ("left out", packed.left_out)):
        for image, why in images.items():
            say(f"{kind}: {image}: {why}")
    say(
        f"{packed.images:,} images in {packed.packs:,} tar files, {packed.others:,} other files copied: {out}"
    )
    if packed.problems or packed.left_out:
        raise typer.Exit(3)
