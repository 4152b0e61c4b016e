"""Where a classifier is read from: the folder of a bundle, which is written here, or of a finished run.

A bundle is bundle.json, network.safetensors and the decision's files, with a checksum of everything.
"""

import json
import pickle
import shutil
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file

from lsep_ml import decisions
from lsep_ml.bundle.backbones import describe_backbone
from lsep_ml.bundle.parts import TRANSFORM_KEYS, Parts
from lsep_ml.files import content_hash, file_digest, read_json, write_json
from lsep_ml.runs.files import CHECKPOINT, DECISION, DECISION_WEIGHTS, HYDRA, RESULT
from lsep_ml.runs.finished import SCORE_LAYER
from lsep_ml.runs.record import read_sealed
from lsep_ml.store.names import current_names
from lsep_ml.store.sections import DECISION_SECTIONS, PREDICTION_SECTIONS, plain_sections

FORMAT = 2
READABLE = (1, 2)
"""Format 2 has more to say of preprocessing; what format 1 does not say is as it was then."""

MANIFEST = "bundle.json"
NETWORK = "network.safetensors"

_OF_THE_MODEL = ("data", "model", "loss", "decision", "seed", "split_hash", "identity", "choices")
_MEASURED = (*_OF_THE_MODEL, "counts", "metrics", "intervals")


def write_bundle(parts: Parts, folder: Path) -> str:
    """Write a classifier to a new folder, which appears whole or not at all; returns its checksum.

    bundle.json holds label names, preprocessing, backbone, protocol, metrics, versions and the sha256 of the other
    files; nothing in a bundle is code. Any program that reads JSON and safetensors can read it.

    Raises:
        FileExistsError: there is something else in `folder`.
    """
    if folder.exists() and any(folder.iterdir()):
        raise FileExistsError(f"{folder}: exists and is not empty; give --out another name")
    folder.parent.mkdir(parents=True, exist_ok=True)
    work = Path(tempfile.mkdtemp(dir=folder.parent, prefix=f".{folder.name}."))
    try:
        state = {name: tensor.detach().cpu().contiguous() for name, tensor in parts.state.items()}
        save_file(state, work / NETWORK)
        parts.decision.save(work / DECISION)
        manifest = _manifest(parts)
        manifest["files"] = {file.name: file_digest(file) for file in sorted(work.iterdir())}
        manifest["checksum"] = content_hash(manifest, length=64)
        write_json(work / MANIFEST, manifest)
        for file in work.iterdir():
            file.chmod(0o644)
        work.chmod(0o755)
        if folder.exists():  # and is empty
            folder.rmdir()
        work.rename(folder)
    except BaseException:
        shutil.rmtree(work, ignore_errors=True)
        raise
    checksum: str = manifest["checksum"]
    return checksum


def read_bundle(folder: Path) -> Parts:
    """Read the classifier that `write_bundle` wrote to `folder`, every byte of it checked.

    Raises:
        FileNotFoundError: a file of it is missing.
        ValueError: it is damaged, or of another format version.
    """
    manifest = _read_manifest(folder / MANIFEST)
    for name, digest in manifest["files"].items():
        file = folder / Path(name).name  # never outside the folder
        if not file.is_file():
            raise FileNotFoundError(f"{file}: missing; a bundle is copied as a whole folder")
        if file_digest(file) != digest:
            raise ValueError(f"{file}: damaged (not the checksum it was written with); copy the bundle again")
    return Parts(
        label_names=tuple(manifest["label_names"]),
        model=manifest["model"],
        transform=manifest["transform"],
        state=load_file(folder / NETWORK),
        decision=decisions.load(folder / DECISION),
        measured=manifest["measured"],
        versions=manifest["versions"],
        source=folder,
    )


def _manifest(parts: Parts) -> dict[str, Any]:
    return {
        "format": FORMAT,
        "label_names": list(parts.label_names),
        "model": dict(parts.model),
        "transform": dict(parts.transform),
        "measured": dict(parts.measured),
        "versions": dict(parts.versions),
    }


def _read_manifest(file: Path) -> Mapping[str, Any]:
    if not file.is_file():
        raise FileNotFoundError(
            f"{file}: no such file; expected a bundle, which `python -m lsep_ml bundle` makes"
        )
    try:
        manifest: dict[str, Any] = read_json(file)
        version, checksum = manifest["format"], manifest.pop("checksum")
    except (json.JSONDecodeError, UnicodeDecodeError, KeyError, TypeError, AttributeError) as error:
        raise ValueError(f"{file}: damaged, or not a bundle ({error!r})") from error
    if version not in READABLE:
        raise ValueError(
            f"{file}: a bundle of format {version}; this version of lsep_ml reads formats "
            + " and ".join(map(str, READABLE))
        )
    if checksum != content_hash(manifest, length=64):
        raise ValueError(
            f"{file}: damaged or edited (not the checksum it was written with); copy the bundle again"
        )
    return manifest


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
        hint = "a run that has not finished?" if (folder / HYDRA).is_dir() else "its parent or child folder?"
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
        _refuse_predictor(folder, record.get("predictor", SCORE_LAYER))
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
                "config": current_names(plain_sections(config, PREDICTION_SECTIONS + DECISION_SECTIONS)),
            },
            versions=record["versions"],
            source=folder,
        )
    except (KeyError, TypeError, AttributeError) as error:
        raise ValueError(f"{folder / RESULT}: not the record of a finished run ({error!r})") from error


def _refuse_predictor(folder: Path, predictor: str) -> None:
    """Raise ValueError where the label sets come from a predictor that was fitted on the extracted features."""
    if predictor != SCORE_LAYER:
        raise ValueError(
            f"{folder}: a run of predictor={predictor}, which is kept as its results on the run's own images, not as "
            f"something to run on others; the same network with its own scores is predictor={SCORE_LAYER} with the "
            "rest of the command, and is found in the store"
        )


def _network_state(file: Path) -> dict[str, torch.Tensor]:
    try:
        state = torch.load(file, map_location="cpu", weights_only=True)["state_dict"]
    except (RuntimeError, EOFError, KeyError, pickle.UnpicklingError) as error:
        raise ValueError(f"{file}: damaged, or not a run's checkpoint ({error})") from error
    prefix = "network."
    return {name.removeprefix(prefix): value for name, value in state.items() if name.startswith(prefix)}
