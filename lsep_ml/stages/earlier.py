"""What an earlier run left in the folder of a job: found, made again, or refused."""

import logging
from pathlib import Path
from typing import Any, cast

from omegaconf import OmegaConf

from lsep_ml.runs.files import RESULT
from lsep_ml.runs.record import read_sealed
from lsep_ml.stages.job import Job
from lsep_ml.store.keys import identity_of
from lsep_ml.store.names import current_names
from lsep_ml.store.sections import DECISION_SECTIONS, LATER_SECTIONS, RUN_SECTIONS, plain_sections

log = logging.getLogger(__name__)


def finished_record(job: Job, folder: Path) -> dict[str, Any] | None:
    """Return the record of a run that finished in this folder, whose name holds the hash of its configuration.

    None where there is none, or what it was made of is damaged or no longer the same, which is said aloud.

    Raises:
        ValueError: it is of other data or another configuration, and `config.force` is not set.
    """
    if not (folder / RESULT).exists():
        return None
    try:
        record = read_sealed(folder)
        split_hash, config = record["split_hash"], record["config"]
        identity = record.get("rate", {}).get("given", record["identity"])  # of a search, where it began
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        log.warning("The results in %s are damaged (%r): they are made again.", folder, error)
        return None
    if split_hash != job.data.data_set.split_hash and not job.config.force:
        raise ValueError(
            f"{folder} holds results of other data (split {split_hash[:12]}); give paths.output=FOLDER or "
            "names.data=NAME, or let them be replaced by force=true"
        )
    # The folder's name may be the user's own.
    now = cast(dict[str, Any], OmegaConf.to_container(job.config, resolve=True))
    same = identity == identity_of(job.made_by)
    config = current_names(config)
    sections = (*LATER_SECTIONS, *DECISION_SECTIONS)
    then = plain_sections({section: config.get(section, {}) for section in sections}, sections)
    same = same and then == plain_sections(now, sections)
    if same:
        return record
    if not job.config.force and not _same_sections(config, now):  # in a folder that the user named
        raise ValueError(
            f"{folder} holds the finished results of another configuration "
            f"({' '.join(record.get('overrides') or ()) or 'the defaults'}); give hydra.run.dir another folder, or let "
            "them be replaced by force=true"
        )
    log.warning("The results in %s are of another initial network: they are made again.", folder)
    return None


def _same_sections(then: dict[str, Any], now: dict[str, Any]) -> bool:
    """Return whether two configurations, plain and resolved, make the same run; one that lacks a section is another."""
    added: dict[str, Any] = {section: {} for section in LATER_SECTIONS}
    try:
        return plain_sections(added | then, RUN_SECTIONS) == plain_sections(added | now, RUN_SECTIONS)
    except (KeyError, TypeError):
        return False
