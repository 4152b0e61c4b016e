"""What the terminal shows of runs: the table of one that has ended, and the list of all."""

from pathlib import Path
from typing import Any

from rich.console import Console
from rich.filesize import decimal
from rich.table import Table

from lsep_ml.metrics import BY_KEY, LABELS_PER_IMAGE, MAP_CALIBRATED, METRICS
from lsep_ml.metrics.catalogue import gain
from lsep_ml.metrics.metric import DASH
from lsep_ml.runs.files import PER_CLASS
from lsep_ml.runs.finished import SCORE_LAYER
from lsep_ml.runs.inventory import Inventory
from lsep_ml.runs.per_class import worst_labels
from lsep_ml.terminal import plain, say

_SHOWN_NUMBERS = 20


def print_result(record: dict[str, Any], folder: Path, console: Console) -> None:
    """Print the results in `record` in %, what was chosen, what was reused, and the `folder` of the files."""
    predictor = record.get("predictor", SCORE_LAYER)  # records of earlier versions have none
    method = [record["loss"], *([predictor] if predictor != SCORE_LAYER else []), record["decision"]]
    table = Table(title=plain(f"{record['data']}: {' + '.join(method)} ({record['model']})"))
    for heading in ("in %", "validation", "test", "95% interval"):
        table.add_column(heading, justify="left" if heading == "in %" else "right")
    val, test = record["metrics"]["val"], record["metrics"]["test"]
    for quantity in (
        quantity for quantity in (*METRICS, MAP_CALIBRATED, LABELS_PER_IMAGE) if quantity.key in val
    ):
        interval = [quantity.show(end) for end in record["intervals"]["test"].get(quantity.key, ())]
        values = val[quantity.key], test.get(quantity.key)
        unit = "" if quantity.unit == "%" or quantity.unit in quantity.name else f", {quantity.unit}"
        table.add_row(
            quantity.label + unit,
            *map(quantity.show, values),
            " to ".join(interval) or DASH,
        )
    console.print(table)
    if (folder / PER_CLASS).exists():  # runs of earlier versions have none
        worst = [f"{name} {f1:.0%} of {support}" for name, f1, support in worst_labels(folder / PER_CLASS)]
        say(f"lowest F1, of so many positives: {', '.join(worst)}", on=console)
    if "abstention" in record:
        asked, found = record["abstention"]["asked_for"], record["abstention"]["test"]
        told = f"{found['coverage']:.1%} of the test images answered, {found['exact_match']:.1%} of them wholly right"
        say(f"{told} ({asked:.0%} asked for); the others are left to a person", on=console)
    chosen = (f"{key} = {_told(value)}" for key, value in record["choices"].items())
    say(f"chosen on validation: {', '.join(chosen)}", on=console)
    again = [
        f"{name} found in the store" if reused else f"{name} made"
        for name, reused in record["reused"].items()
    ]
    seconds = sum(record["seconds"][name] for name, reused in record["reused"].items() if not reused)
    seconds += record["seconds"]["decision"] + record["seconds"]["evaluation"]
    say(f"{', '.join(again)}; {seconds:.1f} s in all", on=console)
    say(f"files: {folder}", on=console)


def _told(value: Any) -> str:
    """Say what was chosen; of many numbers, such as a threshold for each label, how many and from where to where."""
    if isinstance(value, float):
        return f"{value:.4g}"
    if isinstance(value, list) and all(isinstance(each, int | float) for each in value):
        if len(value) > 1 and len(set(value)) == 1:
            return f"{len(value):,} times {_told(value[0])}"
        if len(value) > _SHOWN_NUMBERS:
            return f"{len(value):,} numbers from {min(value):.4g} to {max(value):.4g}"
        return f"[{', '.join(map(_told, value))}]"
    return str(value)


def print_inventory(inventory: Inventory, console: Console, by: str) -> None:
    """Print the runs of `inventory`, the best validation metric `by` first, then what is stored, with its users.

    Raises:
        ValueError: no run has that metric.
    """
    if inventory.runs and not any(by in item.validation for item in inventory.runs):
        known = ", ".join(inventory.runs[0].validation)
        raise ValueError(f"--by={by}: no run has that validation metric; there are {known}")
    name = BY_KEY[by].label if by in BY_KEY else by
    title = f"{len(inventory.runs)} finished runs, by {name} on validation, the best first"
    say(title, on=console, style="italic")
    measured = [item for item in inventory.runs if by in item.validation]
    measured.sort(key=lambda item: gain(by, item.validation[by]), reverse=True)
    for item in [*measured, *(item for item in inventory.runs if by not in item.validation)]:
        value = f"{item.validation[by]:.4f}" if by in item.validation else DASH
        # whole, so that it can be copied
        say(f"{value:>8}  {decimal(item.size):>9}  {item.folder}", on=console)
        say(f"{'':21}{' '.join(item.overrides) or 'the defaults'}", on=console, style="dim")
    title = f"{len(inventory.stored)} stored results"
    stored = Table("stored", "identity", "size", "used by", title=title, title_justify="left")
    for item in inventory.stored:
        users = f"{len(item.runs)} {'run' if len(item.runs) == 1 else 'runs'}"
        stored.add_row(plain(item.kind), plain(item.folder.name), decimal(item.size), users)
    console.print(stored)
    total = sum(item.size for item in inventory.stored)
    unused = sum(item.size for item in inventory.unused)
    say(f"{decimal(total)} stored, {decimal(unused)} of it unused (python -m lsep_ml prune)", on=console)
