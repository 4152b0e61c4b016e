"""A bundle on disk: bundle.json, network.safetensors and the decision's files, with a checksum of everything."""

import json
import shutil
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from safetensors.torch import load_file, save_file

from lsep_ml import decisions
from lsep_ml.bundle.parts import Parts
from lsep_ml.files import content_hash, file_digest, read_json, write_json

FORMAT = 2
READABLE = (1, 2)
"""Format 2 has more to say of preprocessing; what format 1 does not say is as it was then."""

MANIFEST = "bundle.json"
NETWORK = "network.safetensors"
DECISION = "decision.json"


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
