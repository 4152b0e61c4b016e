"""The check of a data set on disk: `python -m lsep_ml check NAME --root DIR`."""

import json
import re
import shlex
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from lsep_ml.data.annotations import UNREADABLE, Annotations, Reading, without_unusable
from lsep_ml.data.check import findings
from lsep_ml.data.check.statistics import LabelStatistics, label_statistics
from lsep_ml.data.data_set import SPLITS
from lsep_ml.data.errors import DataError
from lsep_ml.data.images.opened import MISSING, check_images
from lsep_ml.data.sources import find_source
from lsep_ml.data.sources.source import Finding, Published


@dataclass(frozen=True)
class Report:
    """Says what the check found; `statistics` is None where the annotations could not be read, `departs_from` the
    published protocol whose counts the tree does not have, `usable` what of the annotations training can use, `options`
    how they were read."""

    data: str
    root: str
    findings: tuple[Finding, ...]
    statistics: LabelStatistics | None
    departs_from: str | None = None
    usable: Annotations | None = None
    options: Mapping[str, Any] = field(default_factory=dict)

    @property
    def exit_code(self) -> int:
        """Return 0: good; 3: readable, with something that is an error; 1: not readable, or no image that could be
        used."""
        if self.statistics is None or self.usable is None or not len(self.usable):
            return 1
        return 3 if any(finding.severity == "error" for finding in self.findings) else 0

    @property
    def summary(self) -> dict[str, Any]:
        """Return the report as plain values, whatever the verdict: what training can use, and in `warnings` all that is
        to be said. `splits` is None where nothing says the split, `groups` where nothing names groups."""
        found = self.usable
        statistics = None if found is None else label_statistics(found)
        named = set() if found is None else set(found.split_of.tolist()) - {""}
        return {
            "format": None if found is None else found.format or found.data,
            "images": 0 if found is None else len(found),
            "labels": 0 if found is None else len(found.label_names),
            "positives": {}
            if found is None
            else dict(zip(found.label_names, found.targets.sum(axis=0, dtype=int).tolist(), strict=True)),
            "unknown": 0 if statistics is None else statistics.unknown,
            "splits": {name: int((found.split_of == name).sum()) for name in SPLITS}
            if found and named
            else None,
            "groups": None if found is None or found.groups is None else len(set(found.groups.tolist())),
            "dropped": {} if found is None else dict(found.dropped),
            "warnings": [finding.message for finding in self.findings],
        }

    @property
    def verdict(self) -> str:
        """Return the outcome and what to do."""
        options = {"root": self.root, **self.options}
        run = shlex.join(
            [
                "python",
                "run.py",
                f"data={self.data}",
                *(f"data.{name}={_written(options[name])}" for name in options),
            ]
        )
        if self.statistics is None:
            return "broken: the annotations cannot be read; put right what is said above and check again"
        if self.exit_code == 1:
            return "broken: none of the listed images can be used; is data.root the folder that they lie in?"
        if self.exit_code:
            bad_images = self.usable is not None and {MISSING, UNREADABLE} & self.usable.dropped.keys()
            way_out = f", or leave bad images out: {run} data.on_bad_image=drop" if bad_images else ""
            return f"broken: repair what is an error and check again{way_out}"
        if self.departs_from is not None:
            return f"usable, but not {self.departs_from}: numbers do not compare with its; {run}"
        warned = any(finding.severity == "warning" for finding in self.findings)
        return f"usable, with warnings; {run}" if warned else f"good; {run}"


def _written(value: Any) -> str:
    """Write the value of an option for run.py: a word as it is, all else as JSON, which Hydra reads."""
    plain = isinstance(value, str) and re.fullmatch(r"[\w./-]+", value, re.ASCII)
    return str(value) if plain else json.dumps(value, ensure_ascii=False)


def check(
    data: str,
    root: str | Path,
    *,
    published: Published | None = None,
    cache: str | Path | None = None,
    **options: Any,
) -> Report:
    """Read the annotations of a data set, open every image, and compare with what is published.

    Args:
        data: the data set's name, as in data=NAME.
        root: the data set's folder, as data.root.
        published: what to compare with; None: what the source says of itself.
        cache: folder of the parsed annotations and of what is known of the images, shared with training.
        options: of the source's annotations, such as `difficult` or `labels`.

    Raises:
        DataError: no such data set. All that is wrong with the data is in the report.
    """
    source, asked = find_source(data), dict(options)
    published = source.published if published is None else published
    archives = list(findings.archives(Path(root), published))
    if source.keeps_index:
        options["cache"] = cache
    try:
        annotations = source.annotations(root, **options)
    except DataError as error:
        return Report(data, str(root), (*archives, Finding("error", str(error))), None)
    images = check_images(annotations.root, annotations.image_ids, cache)
    annotations = replace(annotations, hashes=images.hashes)
    statistics = label_statistics(annotations)
    differing = list(findings.counts(annotations, images, statistics, published))
    found = (
        *archives,
        *(Finding("note" if isinstance(note, Reading) else "warning", note) for note in annotations.notes),
        *findings.unusable(annotations, images, published),
        *findings.placeholders(annotations, images),
        *findings.duplicates(annotations, images),
        *findings.labels(statistics),
        *findings.known(annotations),
        *findings.groups(annotations),
        *findings.twins(annotations, images),
        *differing,
        *(source.compare(root) if source.compare is not None else ()),
    )
    usable = without_unusable(annotations, images.problems) if images.problems else annotations
    protocol = published.protocol if differing else None
    return Report(data, str(root), found, statistics, protocol, usable, asked)
