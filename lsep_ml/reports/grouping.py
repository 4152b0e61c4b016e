"""Which runs may stand side by side, and which may be averaged.

Runs stand in one table when they share the data set, the network and the protocol (split hash, image counts, dropped
images, the rule for difficult objects, `data.seed`). They are averaged when, besides, they share the method and
every setting but the seed. Anything else is shown apart, with what differs.
"""

import json
import math
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import PurePath
from statistics import fmean
from typing import Any

from lsep_ml.metrics.catalogue import gain
from lsep_ml.reports.paper import method_order
from lsep_ml.reports.records import LeftOut
from lsep_ml.runs.finished import Method, Run
from lsep_ml.store.sections import NEUTRAL, RUN_SECTIONS, as_at_first

_USERS_OWN = {"own", "csv", "coco_json", "features"}
"""Data that say nothing of themselves but their layout; a published data set has a name."""

_PROTOCOL_DATA = ("seed", "difficult", "unlabelled", "split", "label_order")
_NO_SETTINGS = {
    "seed",
    *(f"{section}.{key}" for section, keys in NEUTRAL.items() for key in keys),
    *(f"data.{key}" for key in _PROTOCOL_DATA),
}
"""What a row's runs differ in, where the data lie, what computes, and what is the protocol's."""


@dataclass(frozen=True, eq=False)
class Row:
    """Holds `runs` of a `method` that differ in nothing but their seed, by ascending seed.

    settings: dotted configuration key -> value as JSON. variant: the settings in which it differs from the other rows
    of its method, "" when it is the only one.
    """

    method: Method
    runs: tuple[Run, ...]
    settings: Mapping[str, str]
    variant: str = ""

    @property
    def seeds(self) -> tuple[int, ...]:
        return tuple(run.seed for run in self.runs)


@dataclass(frozen=True, eq=False)
class RunGroup:
    """Holds all `rows` of one data set, network and protocol: what one table may show.

    protocol: what defines it, name -> value. name: unique in a report, fit for a file name. title: what its reader
    calls the data, the folder's name where the data are nobody's published set. chosen: for each
    method the row that the paper's tables show; rows: all.
    """

    name: str
    title: str
    data: str
    model: str
    protocol: Mapping[str, str]
    rows: tuple[Row, ...]
    chosen: Mapping[Method, Row]

    @property
    def label_names(self) -> tuple[str, ...]:
        return self.rows[0].runs[0].label_names


def group_runs(runs: Iterable[Run]) -> tuple[list[RunGroup], list[LeftOut]]:
    """Sort `runs` into groups and rows; returns what was refused or not averaged, too."""
    runs, problems = drop_conflicts(list(runs))
    by_data: dict[str, dict[tuple[str, str], list[Run]]] = defaultdict(lambda: defaultdict(list))
    for run in runs:
        by_data[run.data][_key(protocol(run)), network(run)].append(run)
    groups: list[RunGroup] = []
    for data, by_network in sorted(by_data.items()):
        protocols = {key: protocol(own[0]) for (key, _), own in by_network.items()}
        if len(protocols) > 1:
            problems.append(_not_averaged(data, protocols, by_network))
        models = {model for _, model in by_network}
        for (key, model), own in sorted(
            by_network.items(), key=lambda item: (item[0][1], -len(item[1]), item[0][0])
        ):
            name = "-".join(
                [data]
                + ([model] if len(models) > 1 else [])
                + ([protocols[key]["split_hash"][:8]] if len(protocols) > 1 else [])
            )
            named = {"name": _unused(name, groups), "title": _title(own[0]), "data": data, "model": model}
            groups.append(_group(named, protocols[key], own))
    return groups, problems


def drop_conflicts(runs: list[Run]) -> tuple[list[Run], list[LeftOut]]:
    """Keep of `runs` of the same configuration and seed one where their numbers agree, none where they do not."""
    same: dict[str, list[Run]] = defaultdict(list)
    for run in runs:
        same[_key([protocol(run), network(run), run.method, run.seed, settings(run)])].append(run)
    kept, problems = [], []
    for first, *others in same.values():
        differing = next((other for other in others if _disagreeing(first, other)), None)
        if differing is not None:
            problems.append(LeftOut(first.folder, _conflict(first, differing)))
            continue
        kept.append(first)
        problems += [LeftOut(other.folder, f"a copy of {first.folder}: counted once") for other in others]
    return kept, problems


def _conflict(first: Run, other: Run) -> str:
    key = _disagreeing(first, other)[0]
    identity = (
        f"the same identity {first.identity}"
        if first.identity == other.identity
        else f"the same configuration and seed (identities {first.identity} and {other.identity})"
    )
    return (
        f"claims {identity} as {other.folder} with another result: test {key} is {first.test[key]} and "
        f"{other.test[key]}; neither is used, remove one of them"
    )


def _disagreeing(first: Run, other: Run) -> list[str]:
    """List the test metrics in which `first` and `other` differ; one that only one of them has is no difference."""
    return [key for key in first.test if key in other.test and first.test[key] != other.test[key]]


def protocol(run: Run) -> dict[str, str]:
    """Return what must agree for `run` to be compared with another: name -> value."""
    facts = {"split_hash": run.split_hash}
    for kind in ("images", "dropped"):
        facts |= {f"{kind}.{name}": str(value) for name, value in sorted(_section(run.counts, kind).items())}
    data = _section(run.config, "data")
    return facts | {f"data.{key}": str(data[key]) for key in _PROTOCOL_DATA if data.get(key) is not None}


def network(run: Run) -> str:
    """Name the network of `run`: its model, with the architecture where one model group builds many."""
    name = _section(run.config, "model").get("name")
    return f"{run.model} {name}" if isinstance(name, str) else run.model


def settings(run: Run) -> dict[str, str]:
    """Return every setting of `run` that makes a row, the seed aside: dotted key -> value as JSON.

    Runs of an earlier version, which lack options that came later, have those of a run that leaves them as they are.
    """
    flat: dict[str, str] = {}
    for section in RUN_SECTIONS:
        flat |= _flatten(section, as_at_first(section, run.config.get(section, {})))
    if run.rate.get("chosen") == "search":  # each seed's own
        flat.pop("optimizer.lr", None)
    return {key: value for key, value in flat.items() if key not in _NO_SETTINGS}


def _title(run: Run) -> str:
    """Call the data of `run` by their name; what lies in a folder of the user's, as the folder."""
    root = _section(run.config, "data").get("root")
    if not isinstance(root, str) or run.data not in _USERS_OWN:
        return run.data
    return PurePath(root).name or run.data


def _section(record: Mapping[str, Any], key: str) -> Mapping[str, Any]:
    """Return the object `key` of `record`; empty where it has something else, or nothing, in its place."""
    value = record.get(key)
    return value if isinstance(value, Mapping) else {}


def _flatten(prefix: str, value: Any) -> dict[str, str]:
    if not isinstance(value, Mapping):
        return {prefix: json.dumps(value)}
    return {
        key: item
        for name, inner in value.items()
        for key, item in _flatten(f"{prefix}.{name}", inner).items()
    }


def _group(named: Mapping[str, str], facts: Mapping[str, str], runs: list[Run]) -> RunGroup:
    by_row: dict[str, list[Run]] = defaultdict(list)
    for run in sorted(runs, key=lambda run: run.seed):
        by_row[_key([run.method, settings(run)])].append(run)
    by_method: dict[Method, list[tuple[Run, ...]]] = defaultdict(list)
    for group in by_row.values():
        by_method[group[0].method].append(tuple(group))
    rows, chosen = [], {}
    for method, groups in sorted(by_method.items(), key=lambda item: method_order(item[0])):
        found = [settings(group[0]) for group in groups]
        differing = _differing(found)
        variants = [
            Row(method, group, own, _variant(own, differing))
            for group, own in zip(groups, found, strict=True)
        ]
        rows += variants
        # The paper chose hyperparameters on the hold-out by F1; a row of more seeds is not left for one of fewer.
        chosen[method] = max(variants, key=lambda row: (len(row.runs), mean_gain(row, "f1")))
    return RunGroup(**named, protocol=facts, rows=tuple(rows), chosen=chosen)


def mean_gain(row: Row, key: str) -> float:
    """Return what a choice among rows maximises: the mean over the runs of `row` of their validation metric `key`.

    It is negated where lower is better, and minus infinity where no run has the metric.
    """
    values = [run.val[key] for run in row.runs if key in run.val]
    return gain(key, fmean(values)) if values else -math.inf


def _differing(mappings: Sequence[Mapping[str, str]]) -> list[str]:
    """List the keys that not all of `mappings` agree on."""
    keys = sorted({key for mapping in mappings for key in mapping})
    return [key for key in keys if len({mapping.get(key) for mapping in mappings}) > 1]


def _variant(own: Mapping[str, str], differing: Sequence[str]) -> str:
    shown = [f"{key}={own.get(key, 'null')}" for key in differing[:3]]
    return ", ".join(shown + ([f"{len(differing) - 3} more"] if len(differing) > 3 else []))


def _not_averaged(
    data: str, protocols: Mapping[str, Mapping[str, str]], groups: Mapping[tuple[str, str], list[Run]]
) -> LeftOut:
    differing = _differing(list(protocols.values()))
    sizes = [sum(len(runs) for (key, _), runs in groups.items() if key == wanted) for wanted in protocols]
    values = [
        f"{name} {' / '.join(facts.get(name, 'none')[:12] for facts in protocols.values())}"
        for name in differing
    ]
    first = next(iter(groups.values()))[0]
    return LeftOut(
        first.folder.parent,
        f"{data}: runs of {len(protocols)} protocols ({' / '.join(map(str, sizes))} runs) are not averaged and "
        f"stand in tables of their own; they differ in {', '.join(values)}",
    )


def _unused(name: str, groups: list[RunGroup]) -> str:
    name = "".join(letter if letter.isalnum() or letter in "-_." else "_" for letter in name)
    taken = {group.name for group in groups}
    return next(
        candidate
        for n in range(len(taken) + 1)
        if (candidate := f"{name}-{n + 1}" if n else name) not in taken
    )


def _key(value: Any) -> str:
    return json.dumps(value, sort_keys=True)
