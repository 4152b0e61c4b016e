"""Score matrices of any model as files: npz, CSV or parquet, in and out."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from lsep_ml.files import atomic_write
from lsep_ml.runs.arrays import write_predictions

SUFFIXES = (".npz", ".csv", ".parquet")


@dataclass(frozen=True)
class ScoreTable:
    """Scores and what else a file holds.

    scores float32 (N, K); targets 0/1 (N, K); mask bool (N, K), True = known, None: all known; features
    float32 (N, D); label_names (K); image_ids (N).
    """

    scores: np.ndarray
    targets: np.ndarray | None = None
    mask: np.ndarray | None = None
    features: np.ndarray | None = None
    label_names: list[str] | None = None
    image_ids: list[str] | None = None


def read_scores(path: Path) -> ScoreTable:
    """Read a file of scores.

    npz: arrays scores (N, K) and, as far as there are, targets, mask, features, label_names, image_ids (the
    keys of a run's predictions.npz). CSV and parquet: a column score_NAME for each label, and target_NAME (0,
    1 or empty for unknown), feature_NAME and image_id columns, as far as there are; parquet also takes list
    columns named scores, targets and features. Raises FileNotFoundError, and ValueError for other contents.
    """
    if path.suffix not in SUFFIXES:
        raise ValueError(f"{path}: expected a file of {', '.join(SUFFIXES)}")
    if not path.is_file():
        raise FileNotFoundError(f"{path}: no such file")
    table = _from_npz(path) if path.suffix == ".npz" else _from_frame(path)
    for name in ("targets", "mask"):
        values = getattr(table, name)
        if values is not None and values.shape != table.scores.shape:
            raise ValueError(f"{path}: {name} have shape {values.shape}, scores {table.scores.shape}")
    if table.label_names is not None and len(table.label_names) != table.scores.shape[1]:
        raise ValueError(f"{path}: {len(table.label_names)} label_names for {table.scores.shape[1]} labels")
    return table


def write_label_sets(
    path: Path, table: ScoreTable, predictions: np.ndarray, thresholds: np.ndarray | None
) -> None:
    """Write label sets, bool (N, K): npz as a run's predictions.npz, or a table of 0/1 columns."""
    if path.suffix not in SUFFIXES:
        raise ValueError(f"{path}: expected a name with {', '.join(SUFFIXES)}")
    names = table.label_names or [str(label) for label in range(predictions.shape[1])]
    if path.suffix == ".npz":
        arrays = {
            "predictions": predictions,
            "targets": table.targets,
            "mask": table.mask,
            "scores": table.scores,
            "thresholds": thresholds,
            "image_ids": None if table.image_ids is None else np.array(table.image_ids),
        }
        write_predictions(path, arrays, names)
        return
    columns: dict[str, Any] = {} if table.image_ids is None else {"image_id": table.image_ids}
    columns |= {
        f"predicted_{name}": predictions[:, label].astype(np.uint8) for label, name in enumerate(names)
    }
    with atomic_write(path, "wb") as file:
        frame = pl.DataFrame(columns)
        frame.write_csv(file) if path.suffix == ".csv" else frame.write_parquet(file)


def _from_npz(path: Path) -> ScoreTable:
    with np.load(path, allow_pickle=False) as file:
        arrays = {name: file[name] for name in file.files}
    if "scores" not in arrays:
        raise ValueError(f"{path}: no array named scores; found {', '.join(arrays) or 'nothing'}")
    return ScoreTable(
        arrays["scores"].astype(np.float32),
        arrays.get("targets"),
        arrays["mask"] != 0 if "mask" in arrays else None,
        arrays["features"].astype(np.float32) if "features" in arrays else None,
        [str(name) for name in arrays["label_names"]] if "label_names" in arrays else None,
        [str(name) for name in arrays["image_ids"]] if "image_ids" in arrays else None,
    )


def _from_frame(path: Path) -> ScoreTable:
    frame = pl.read_csv(path) if path.suffix == ".csv" else pl.read_parquet(path)
    scores, names = _matrix(frame, "score")
    if scores is None:
        raise ValueError(f"{path}: no columns named score_LABEL; found {', '.join(frame.columns)}")
    targets, target_names = _matrix(frame, "target")
    if targets is not None and names != target_names:
        odd = sorted(set(names or []) ^ set(target_names or [])) or "their order"
        raise ValueError(f"{path}: score_ and target_ columns differ in {odd}")
    features, _ = _matrix(frame, "feature")
    known = None if targets is None else ~np.isnan(targets)
    return ScoreTable(
        scores.astype(np.float32),
        None if targets is None or known is None else np.where(known, targets, 0),
        None if known is None or known.all() else known,
        None if features is None else features.astype(np.float32),
        names,
        [str(name) for name in frame["image_id"]] if "image_id" in frame.columns else None,
    )


def _matrix(frame: pl.DataFrame, kind: str) -> tuple[np.ndarray | None, list[str] | None]:
    """The columns KIND_NAME as a float64 matrix (empty: NaN) with their names, or the list column KINDs."""
    columns = [name for name in frame.columns if name.startswith(f"{kind}_")]
    if columns:
        matrix = frame.select(pl.col(columns).cast(pl.Float64)).to_numpy()
        return matrix, [name.removeprefix(f"{kind}_") for name in columns]
    if f"{kind}s" in frame.columns:
        rows = frame[f"{kind}s"].to_list()
        widths = {len(row) for row in rows}
        if len(widths) != 1:
            raise ValueError(f"column {kind}s: lists of different lengths {sorted(widths)}")
        return np.array(rows, dtype=np.float64), None
    return None, None
