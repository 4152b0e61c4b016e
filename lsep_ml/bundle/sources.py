"""Where classifiers come from: a bundle, or the folder of a finished run."""

import pickle
from pathlib import Path

import torch

from lsep_ml import decisions
from lsep_ml.bundle.backbones import describe_backbone
from lsep_ml.bundle.files import MANIFEST, read_bundle
from lsep_ml.bundle.parts import TRANSFORM_KEYS, Parts
from lsep_ml.runs.files import CHECKPOINT, DECISION, DECISION_WEIGHTS, RESULT
from lsep_ml.runs.record import read_sealed
from lsep_ml.store.keys import DECISION_PARTS, PREDICTION_PARTS, plain_parts
from lsep_ml.store.names import current_names

_OF_THE_MODEL = ("data", "model", "loss", "decision", "seed", "split_hash", "identity", "choices")
_MEASURED = (*_OF_THE_MODEL, "counts", "metrics", "intervals")


def read_parts(path: str | Path) -> Parts:
    """Read the classifier in `path`, a bundle or a finished run's folder.

    Raises:
        FileNotFoundError: neither is there, or a file is missing.
        ValueError: damaged, of another version, or pieces that do not belong together.
    """
    folder = Path(path)
    if (folder / MANIFEST).is_file():
        return read_bundle(folder)
    if (folder / RESULT).is_file():
        return parts_of_run(folder)
    if folder.is_dir():
        hint = (
            "a run that has not finished?" if (folder / ".hydra").is_dir() else "its parent or child folder?"
        )
        raise FileNotFoundError(
            f"{folder}: neither a bundle ({MANIFEST}) nor a finished run ({RESULT}); {hint}"
        )
    raise FileNotFoundError(f"{folder}: no such folder; expected a bundle or a finished run")


def parts_of_run(folder: Path) -> Parts:
    """Read the classifier that the finished run in `folder` left, every file of it that is read checked.

    Raises:
        FileNotFoundError: a file is missing.
        ValueError: one is damaged or edited, or the run's label sets are not made from its network's scores.
    """
    record = read_sealed(folder, (CHECKPOINT, DECISION, DECISION_WEIGHTS))
    try:
        _refuse_predictor(folder, record.get("predictor", "score_layer"))
        config = current_names(record["config"])
        return Parts(
            label_names=tuple(record["label_names"]),
            model=describe_backbone(config["model"]),
            transform={key: config["transform"][key] for key in TRANSFORM_KEYS if key in config["transform"]},
            state=_network_state(folder / CHECKPOINT),
            decision=decisions.load(folder / DECISION),
            measured={
                **{key: record[key] for key in _MEASURED},
                # without the places on the machine that trained it
                "config": current_names(plain_parts(config, PREDICTION_PARTS + DECISION_PARTS)),
            },
            versions=record["versions"],
            source=folder,
        )
    except (KeyError, TypeError, AttributeError) as error:
        raise ValueError(f"{folder / RESULT}: not the record of a finished run ({error!r})") from error


def _refuse_predictor(folder: Path, predictor: str) -> None:
    """Raise ValueError where the label sets come from a predictor that was fitted on the extracted features."""
    if predictor != "score_layer":
        raise ValueError(
            f"{folder}: a run of predictor={predictor}, which is kept as its results on the run's own images, not as "
            "something to run on others; the same network with its own scores is predictor=score_layer with the rest "
            "of the command, and is found in the store"
        )


def _network_state(file: Path) -> dict[str, torch.Tensor]:
    try:
        state = torch.load(file, map_location="cpu", weights_only=True)["state_dict"]
    except (RuntimeError, EOFError, KeyError, pickle.UnpicklingError) as error:
        raise ValueError(f"{file}: damaged, or not a run's checkpoint ({error})") from error
    prefix = "network."
    return {name.removeprefix(prefix): value for name, value in state.items() if name.startswith(prefix)}
