"""What a reader must know of a row before its numbers: what its trainings warn of, how their rate was chosen, and which
images it leaves to a person."""

from collections.abc import Iterable
from statistics import fmean

from lsep_ml.metrics.metric import DASH
from lsep_ml.reports.grouping import Row
from lsep_ml.reports.paper import loss_name
from lsep_ml.runs.finished import Run

WARNED = " (!)"
BORROWED = " †"

EXPLAINED = (
    "(!): a run of it warns; †: at a learning rate that was not chosen for its loss. The tables say more."
)

_CHOSEN = {
    "search": "searched on validation mAP",
    "tuned": "of a recorded sweep for the loss",
    "given": "given with the command",
    "other": "another loss's †",
    "default": "the default †",
    "solver": "none needed, solved",
}
"""How a rate was chosen, `rate.chosen` of result.json, as the tables say it."""


def marks(row: Row | None) -> str:
    """Mark a `row` some of whose runs warn, or whose loss ran at a rate that was not chosen for it."""
    if row is None:
        return ""
    borrowed = any(run.rate.get("chosen") in ("other", "default") for run in row.runs)
    return f"{WARNED if any(run.warnings for run in row.runs) else ''}{BORROWED if borrowed else ''}"


def rate_of(run: Run) -> str:
    """Say at which rate `run` was trained and how that was chosen; a dash where its record does not."""
    how = run.rate.get("chosen")
    if how not in _CHOSEN:
        return DASH
    whose = f" ({loss_name(run.rate['of'])}'s)" if how == "other" and run.rate.get("of") else ""
    return f"{run.rate['lr']:g}, {_CHOSEN[how]}{whose}" if "lr" in run.rate else _CHOSEN[how]


def remarks(rows: Iterable[tuple[str, Row]]) -> list[str]:
    """Write the notes of labelled `rows`: a line for every warning, with those that have it, one for the rates, and one
    for the images that are left to a person."""
    warned: dict[str, dict[str, str]] = {}
    rates: dict[str, dict[str, None]] = {}
    answers: list[str] = []
    for label, row in rows:
        for warning in dict.fromkeys(warning for run in row.runs for warning in run.warnings):
            count = sum(warning in run.warnings for run in row.runs)
            warned.setdefault(warning, {})[label] = f"{label} ({count} of {len(row.runs)} runs)"
        for run in row.runs:
            rates.setdefault(rate_of(run), {})[loss_name(run.loss)] = None
        asked = [run.abstention for run in row.runs if run.abstention]
        if asked:
            answered, right = (
                fmean(each["test"][key] for each in asked) for key in ("coverage", "exact_match")
            )
            answers.append(
                f"{label} answers {answered:.1%} of them, {right:.1%} wholly right "
                f"({asked[0]['asked_for']:.0%} asked for)"
            )
    notes = [f"{WARNED.strip()} {warning}: {', '.join(of.values())}." for warning, of in warned.items()]
    if set(rates) - {DASH}:
        told = [f"{', '.join(losses)} {how}" for how, losses in rates.items() if how != DASH]
        unknown = [f"{', '.join(rates[DASH])} not recorded"] if DASH in rates else []
        notes.append(f"Learning rates: {'; '.join([*told, *unknown])}.")
    if answers:
        notes.append(
            f"Test images of which a person is asked are in all numbers here; without them, {'; '.join(answers)}."
        )
    return notes
