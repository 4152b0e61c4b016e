"""The command line beside run.py: `python -m lsep_ml VERB ...`. Heavy imports happen inside the verbs."""

from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

app = typer.Typer(
    help="Multi-label image classification by pairwise ranking. Experiments run with `python run.py --help`.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    add_completion=False,
)
console = Console()

Output = Annotated[Path, typer.Option("--output", help="Where runs and stored results lie (paths.output).")]


@app.callback()
def group() -> None:
    """Every verb explains itself: python -m lsep_ml VERB --help."""


@app.command("list")
def list_results(output: Output = Path("outputs")) -> None:
    """Show the finished runs and what is stored for them, with sizes."""
    from lsep_ml.inventory import print_inventory, take_inventory

    print_inventory(take_inventory(output), console)


@app.command()
def prune(
    output: Output = Path("outputs"),
    delete: Annotated[
        bool, typer.Option("--delete", help="Do it; without this, only say what would go.")
    ] = False,
) -> None:
    """Free what no finished run refers to: stored networks and arrays, and leftovers of interrupted work."""
    from lsep_ml.inventory import prune as prune_store

    prune_store(output, console, delete=delete)


def main() -> None:
    """Entry point: bad input ends with one message and exit code 1."""
    try:
        app()
    except (ValueError, OSError) as error:
        Console(stderr=True).print(
            f"{type(error).__name__}: {error}", style="red", highlight=False, markup=False
        )
        raise SystemExit(1) from None
