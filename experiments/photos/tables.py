"""The photographs' tables, from the runs of table1_photos and table2_photos.

    python experiments/photos/tables.py OUTPUT [--to FOLDER]

OUTPUT is paths.output of the runs. In FOLDER, by default the one of this file, it leaves runs.csv, a row for each run
with every metric on validation and test and the intervals over test images; split.json, the names of the images of the
split that the folder names, and split-SEED.json of others (data.resplit=true data.seed=SEED); tables.md, F1 and exact
match by decision and loss for each split, and the differences that README speaks of with paired 95% bootstrap intervals
over the test images; of several splits, means and standard deviations over them too; and what label-set support makes
of test images whose label set it never saw.
"""

import argparse
import csv
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from lsep_ml.decisions import LabelSetSupport, load
from lsep_ml.decisions.catalogue import DECISIONS
from lsep_ml.files import atomic_write
from lsep_ml.metrics import BY_KEY, LABEL_SET_KEYS, count_label_sets, label_set_metrics
from lsep_ml.metrics.bootstrap import PairedBootstrap, percentiles
from lsep_ml.reports.paper import loss_name
from lsep_ml.runs.arrays import Arrays, read_arrays
from lsep_ml.runs.files import DECISION, RESULT, RUNS, SPLIT, TEST
from lsep_ml.runs.finished import read_run
from lsep_ml.runs.record import read_record

LOSSES = ("lsep", "bce", "two_way", "softmax", "bpmll", "ranking", "warp")
NAMES = {row.key: row.name for row in DECISIONS}
SHOWN = ("f1", "exact_match")
PAIRS = (
    *((("lsep", "thresh_est"), ("lsep", other)) for other in ("topk", "threshold", "per_class", "count_est")),
    (("lsep", "thresh_linear"), ("lsep", "thresh_est")),
    (("lsep", "thresh_linear"), ("bce", "per_class")),
    (("lsep", "thresh_linear"), ("bce", "thresh_linear")),
    (("lsep", "support"), ("lsep", "thresh_est")),
    (("lsep", "support"), ("bce", "per_class")),
    (("lsep", "support"), ("bce", "support")),
    (("two_way", "support"), ("lsep", "support")),
    (("two_way", "support"), ("bce", "support")),
    *((("lsep", "thresh_est"), (other, "thresh_est")) for other in LOSSES[1:]),
    *((("lsep", "support"), (other, "support")) for other in LOSSES[3:]),
)
"""What is compared: the first minus the second, each a loss and a decision."""

Run = tuple[Path, dict[str, Any]]


def runs_of(output: Path) -> list[Run]:
    """The finished runs of photographs, by split, loss and decision."""
    found = []
    for file in sorted((output / RUNS).rglob(RESULT)):
        record = read_record(file)
        if record["data"] == "csv" and "solution" in record:
            found.append((file.parent, record))
    once = {place_of(run): run for run in reversed(found)}  # both sweeps have some of them
    return [once[place] for place in sorted(once)]


def test_arrays(run: Run) -> Arrays:
    """Label sets and targets of a run's test images."""
    return read_arrays(read_run(run[0] / RESULT)[0], TEST, "predictions", "targets", "mask")


def place_of(run: Run) -> tuple[int, int, int, str]:
    """Split, loss, decision and what it was fitted on, in the order of the tables."""
    loss, decision = LOSSES.index(run[1]["loss"]), list(NAMES).index(key_of(run))
    return seed_of(run), loss, decision, fit_on_of(run)


def seed_of(run: Run) -> int:
    """Of the split: 0 is that of labels.csv."""
    data = run[1]["config"]["data"]
    return int(data["seed"]) if data.get("resplit") else 0


def key_of(run: Run) -> str:
    """The decision, whatever its runs call it."""
    return str(run[1]["decision"]).split("-")[0]


def fit_on_of(run: Run) -> str:
    return str(run[1]["config"]["decision"]["fit_on"])


def row_of(run: Run) -> dict[str, Any]:
    """A run as a row of runs.csv."""
    record = run[1]
    test, intervals = record["metrics"]["test"], record["intervals"]["test"]
    choices = record["choices"]
    return {
        "split": seed_of(run),
        "loss": record["loss"],
        "decision": key_of(run),
        "fit_on": fit_on_of(run),
        "seed": record["seed"],
        "identity": record["identity"],
        "split_hash": record["split_hash"][:16],
        "probe_weight_decay": choices["probe_weight_decay"],
        "weight_decay": choices.get("weight_decay", ""),
        "unseen_label_sets": record.get("unseen_label_sets", ""),
        **{f"val_{key}": rounded(value) for key, value in record["metrics"]["val"].items()},
        **{f"test_{key}": rounded(value) for key, value in test.items()},
        **{
            f"test_{key}_{end}": rounded(value)
            for key in (*SHOWN, "map")
            for end, value in zip(("low", "high"), intervals[key], strict=True)
        },
        "seconds_decision": record["seconds"]["decision"],
    }


def rounded(value: float) -> float:
    return round(float(value), 5)


def write_runs(path: Path, runs: Sequence[Run]) -> None:
    rows = [row_of(run) for run in runs]
    head = list(dict.fromkeys(key for row in rows for key in row))
    with atomic_write(path) as file:
        writer = csv.DictWriter(file, head, lineterminator="\n", restval="")
        writer.writeheader()
        writer.writerows(rows)


def write_splits(folder: Path, runs: Sequence[Run]) -> None:
    """Each split once, an image a line."""
    for run in {seed_of(run): run for run in runs}.values():
        split, seed = json.loads((run[0] / SPLIT).read_text()), seed_of(run)
        with atomic_write(folder / (f"split-{seed}.json" if seed else "split.json")) as file:
            file.write(json.dumps(split, indent=0) + "\n")


def cell(run: Run | None, *, interval: bool) -> str:
    """F1 / exact match on test in %."""
    if run is None:
        return "–"
    test, intervals = run[1]["metrics"]["test"], run[1]["intervals"]["test"]
    parts = []
    for key in SHOWN:
        low, high = (100 * value for value in intervals[key])
        parts.append(f"{100 * test[key]:.1f}" + (f" [{low:.1f}, {high:.1f}]" if interval else ""))
    return " / ".join(parts)


def table(runs: Sequence[Run], losses: Sequence[str], *, interval: bool) -> list[str]:
    """A row a decision and what it was fitted on where that is not the table's, a column a loss."""
    of_loss = {loss: [run for run in runs if run[1]["loss"] == loss] for loss in losses}
    shown = [loss for loss in losses if of_loss[loss]]
    maps = {loss: f"{100 * of_loss[loss][0][1]['metrics']['test']['map']:.1f}" for loss in shown}
    lines = [
        f"| decision | {' | '.join(f'{loss_name(loss)} (mAP {maps[loss]})' for loss in shown)} |",
        f"| --- |{' ---: |' * len(shown)}",
    ]
    kinds = list(dict.fromkeys((key_of(run), fit_on_of(run)) for run in runs))
    kinds.sort(key=lambda kind: (list(NAMES).index(kind[0]), kind[1]))
    for decision, fit_on in kinds:
        of_kind = [run for run in runs if (key_of(run), fit_on_of(run)) == (decision, fit_on)]
        by_loss = {run[1]["loss"]: run for run in of_kind}
        cells = [cell(by_loss.get(loss), interval=interval) for loss in shown]
        named = NAMES[decision] if interval else f"{NAMES[decision]}, {fit_on}"
        lines.append(f"| {named} | {' | '.join(cells)} |")
    return lines


def in_table1(run: Run) -> bool:
    """Whether table1_photos has the run: the paper's learnt decisions on training scores, the others on honest ones."""
    return fit_on_of(run) == ("train" if key_of(run) in ("thresh_est", "count_est") else "crossfit")


def differences(runs: Sequence[Run]) -> list[str]:
    """The pairs of PAIRS that the runs of one split have, a row each."""
    methods = {(str(run[1]["loss"]), key_of(run)): run for run in runs}
    bootstrap, drawn, values = PairedBootstrap(), {}, {}
    for method, run in methods.items():
        test = test_arrays(run)
        drawn[method] = bootstrap.run_metrics(test["predictions"], test["targets"], test["mask"], "test")
        values[method] = run[1]["metrics"]["test"]
    lines = [
        f"| | {' | '.join(BY_KEY[key].short_name for key in SHOWN)} |",
        f"| --- |{' ---: |' * len(SHOWN)}",
    ]
    for first, second in PAIRS:
        if first not in methods or second not in methods:
            continue
        cells = []
        for key in SHOWN:
            column = LABEL_SET_KEYS.index(key)
            low, high = 100 * percentiles(drawn[first][:, column] - drawn[second][:, column])
            cells.append(
                f"{signed(100 * (values[first][key] - values[second][key]))} [{signed(low)}, {signed(high)}]"
            )
        lines.append(f"| {told(first)} against {told(second)} | {' | '.join(cells)} |")
    return lines


def over_splits(runs: Sequence[Run]) -> list[str]:
    """F1 / exact match by decision and loss, and the differences of PAIRS, mean ± standard deviation over splits.

    Of the runs that all splits have.
    """
    seeds = sorted(set(map(seed_of, runs)))
    values: dict[tuple[str, str], dict[int, list[float]]] = {}
    for run in runs:
        test = run[1]["metrics"]["test"]
        method = str(run[1]["loss"]), key_of(run)
        values.setdefault(method, {})[seed_of(run)] = [100 * test[key] for key in SHOWN]
    whole = {
        method: np.array([own[seed] for seed in seeds])
        for method, own in values.items()
        if len(own) == len(seeds)
    }
    losses = [loss for loss in LOSSES if any(method[0] == loss for method in whole)]
    lines = [f"| decision | {' | '.join(map(loss_name, losses))} |", f"| --- |{' ---: |' * len(losses)}"]
    for decision in dict.fromkeys(key for key in NAMES if any(method[1] == key for method in whole)):
        cells = [spread(whole.get((loss, decision))) for loss in losses]
        lines.append(f"| {NAMES[decision]} | {' | '.join(cells)} |")
    head = " | ".join(BY_KEY[key].short_name for key in SHOWN)
    lines += ["", f"| difference | {head} |", f"| --- |{' ---: |' * len(SHOWN)}"]
    for first, second in PAIRS:
        if first in whole and second in whole:
            cells = [f"{signed(mean)} ± {std:.1f}" for mean, std in moments(whole[first] - whole[second])]
            lines.append(f"| {told(first)} against {told(second)} | {' | '.join(cells)} |")
    return lines


def moments(values: np.ndarray) -> list[tuple[float, float]]:
    """Mean and standard deviation over the rows, of each column."""
    return list(zip(values.mean(0).tolist(), values.std(0, ddof=1).tolist(), strict=True))


def spread(values: np.ndarray | None) -> str:
    """Mean ± standard deviation over the rows of both columns."""
    return "–" if values is None else " / ".join(f"{mean:.1f} ± {std:.1f}" for mean, std in moments(values))


def never_seen(runs: Sequence[Run]) -> list[str]:
    """How many test images have a label set that is no candidate of support, and what decisions make of these images
    and of the others: exact match and the Jaccard index in %, one split and loss a row."""
    shown = ("support", "thresh_linear", "per_class", "thresh_est")
    lines = [
        f"| split, loss | images | {' | '.join(NAMES[key] for key in shown)} |",
        f"| --- | ---: |{' ---: |' * len(shown)}",
    ]
    of_method = {(seed_of(run), str(run[1]["loss"]), key_of(run)): run for run in runs}
    for (seed, loss, decision), run in of_method.items():
        if decision != "support" or loss not in LOSSES[:3]:
            continue
        support, cells = load(run[0] / DECISION), []
        assert isinstance(support, LabelSetSupport)
        for key in shown:
            if (seed, loss, key) not in of_method:
                cells.append("–")
                continue
            test = test_arrays(of_method[seed, loss, key])
            named, actual = test["predictions"] != 0, test["targets"] != 0
            never = ~support.seen(actual)
            cells.append(f"{told_of(named[never], actual[never])}; {told_of(named[~never], actual[~never])}")
        lines.append(f"| {seed}, {loss_name(loss)} | {never.sum()} of {len(never)} | {' | '.join(cells)} |")
    return lines


def told_of(named: np.ndarray, actual: np.ndarray) -> str:
    values = label_set_metrics(count_label_sets(named, actual))
    return f"{100 * float(values['exact_match']):.1f} / {100 * float(values['jaccard']):.1f}"


def told(method: tuple[str, str]) -> str:
    return f"{loss_name(method[0])}, {NAMES[method[1]]}"


def signed(value: float) -> str:
    return f"{value:+.1f}".replace("-", "−")


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("output", type=Path)
    parser.add_argument("--to", type=Path, default=Path(__file__).parent)
    asked = parser.parse_args()
    runs = runs_of(asked.output)
    write_runs(asked.to / "runs.csv", runs)
    write_splits(asked.to, runs)
    lines = ["F1 / exact match on test in %, with 95% intervals over images.", ""]
    for seed in dict.fromkeys(map(seed_of, runs)):
        of_split = [run for run in runs if seed_of(run) == seed]
        first = [run for run in of_split if in_table1(run)]
        lines += [f"## Split {seed}", "", *table(first, LOSSES[:3], interval=True), ""]
        lines += ["Every loss:", "", *table(first, LOSSES, interval=False), ""]
        if len(first) < len(of_split):
            lines += [
                "By what a decision is fitted on:",
                "",
                *table(of_split, LOSSES[:3], interval=False),
                "",
            ]
        lines += ["Differences in points, paired:", "", *differences(first), ""]
    first = [run for run in runs if in_table1(run)]
    if len(set(map(seed_of, runs))) > 1:
        lines += ["## Over the splits", "", "Mean ± standard deviation over splits, which share images.", ""]
        lines += [*over_splits(first), ""]
    lines += [
        "## Label sets never seen",
        "",
        "Exact match / Jaccard index of images whose label set no training or",
    ]
    lines += ["validation image has; of the other test images.", "", *never_seen(first), ""]
    with atomic_write(asked.to / "tables.md") as file:
        file.write("\n".join(lines))


if __name__ == "__main__":
    main()
