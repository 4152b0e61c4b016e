"""Does a trained classifier say the same everywhere: ONNX against torch, `predict` against the run's own predictions?

    python run.py -m 'decision=glob(*,exclude=zero)'
    python experiments/agreement.py outputs/runs/digits/* --images 1000 --out experiments/agreement.csv

For every run: the largest difference of a score between the exported graph and torch over the first test images, and
the label sets that differ; those that differ although no movement of the scores by 1e-5 changes torch's own label set
are counted on their own, and should be none. Then `predict` over all test images against predictions.npz. Runs on the
CPU, about ten seconds a run.
"""

import argparse
import csv
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from omegaconf import OmegaConf
from rich.console import Console
from rich.table import Table

import lsep_ml
from lsep_ml.bundle.export import compare, export
from lsep_ml.files import atomic_write
from lsep_ml.runs.arrays import read_arrays
from lsep_ml.runs.files import RESULT, TEST
from lsep_ml.runs.finished import read_run
from lsep_ml.stages.job_data import build_data

COLUMNS = {
    "decision": "decision",
    "images": "images",
    "onnx_largest": "largest score difference, ONNX",
    "onnx_differing": "label sets that differ, ONNX",
    "onnx_wrong": "of them not within 1e-5",
    "predicted": "images predicted",
    "predict_largest": "largest score difference, predict",
    "predict_differing": "label sets that differ, predict",
}


def agreement(run: Path, images: int) -> dict[str, Any]:
    """The row of one finished run."""
    classifier, (record, _) = lsep_ml.load(run, device="cpu"), read_run(run / RESULT)
    source = build_data(OmegaConf.create(dict(record.config))).data_set.test.images
    tests = [source[row] for row in range(len(source))]
    with tempfile.TemporaryDirectory() as folder:
        model = Path(folder) / "model.onnx"
        export(classifier, model)
        found = compare(
            classifier, model, torch.stack([classifier.transform(image) for image in tests[:images]])
        )
    predicted = classifier.predict(tests)
    own = read_arrays(record, TEST, "scores", "predictions")
    return {
        "decision": record.decision,
        "images": found.images,
        "onnx_largest": found.largest,
        "onnx_differing": found.differing,
        "onnx_wrong": found.wrong,
        "predicted": len(predicted),
        "predict_largest": float(np.abs(predicted.scores - own["scores"]).max()),
        "predict_differing": int((predicted.label_sets != (own["predictions"] != 0)).any(1).sum()),
    }


def rows(runs: list[Path], images: int) -> Iterator[dict[str, Any]]:
    """A row for each finished run."""
    for run in runs:
        if (run / RESULT).is_file():
            yield agreement(run, images)


def main() -> None:
    """Compare, print the table and write it."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("runs", type=Path, nargs="+", help="folders of finished runs")
    parser.add_argument("--images", type=int, default=1000, help="test images that the graph is run on")
    parser.add_argument("--out", type=Path, help="the table as CSV")
    options = parser.parse_args()
    found = list(rows(options.runs, options.images))
    table = Table(*COLUMNS.values())
    for row in found:
        table.add_row(*(f"{value:.1e}" if isinstance(value, float) else str(value) for value in row.values()))
    Console(width=140).print(table)
    if options.out:
        with atomic_write(options.out) as file:
            writer = csv.DictWriter(file, COLUMNS, lineterminator="\n")
            writer.writeheader()
            writer.writerows(found)


if __name__ == "__main__":
    main()
