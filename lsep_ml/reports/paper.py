"""How the paper names and orders methods, the numbers of its Tables 1 and 2, and the images of its three data sets."""

import csv
from collections.abc import Mapping
from functools import cache
from importlib.resources import files

from lsep_ml.decisions.catalogue import DECISIONS
from lsep_ml.metrics import PAPER_KEYS
from lsep_ml.runs.finished import NO_DECISION, Method

LOSSES = {
    "softmax": "Softmax",
    "ranking": "Ranking",
    "bpmll": "BP-MLL",
    "warp": "WARP",
    "cnn_rnn": "Wang et al. (CNN-RNN)",
    "br": "Binary relevance",
    "chain": "Classifier chain",
    "chain_ensemble": "Ensemble of chains",
    "powerset": "Label powerset",
    "mlknn": "ML-kNN",
    "bce": "Binary cross entropy",
    "focal": "Focal",
    "asl": "Asymmetric",
    "pairwise_logistic": "Pairwise logistic",
    "zlpr": "ZLPR",
    "hill": "Hill",
    "splc": "SPLC",
    "tkpr": "TKPR",
    "distribution_balanced": "Distribution-balanced",
    "ldam": "LDAM",
    "soft_f1": "Soft F1",
    "two_way": "Two-way",
    "lsep": "LSEP",
}
"""Losses, and predictors in their place, in the paper's order; what it lacks comes before its own method."""

_DECISIONS = {row.key: row for row in DECISIONS}


def loss_name(loss: str) -> str:
    """Return the name of the loss, or predictor, with the key `loss`; the key where none is known."""
    return LOSSES.get(loss, loss)


def decision_name(decision: str) -> str:
    """Return the name of the decision with the key `decision`; the key where none is known."""
    return _DECISIONS[decision].name if decision in _DECISIONS else decision


def method_name(loss: str, decision: str) -> str:
    """Name a method as the paper's Table 1 does: `loss`, and `decision` in brackets, but not that there is none."""
    row = _DECISIONS.get(decision)
    short = decision if row is None else row.short_name or row.name
    return f"{loss_name(loss)} ({short})" if short and short != NO_DECISION else loss_name(loss)


def method_order(method: tuple[str, str]) -> tuple[float, str, float, str]:
    """Sort by this `method`s in the paper's order, LSEP last; what it lacks before LSEP, and after its decisions."""
    losses, decisions = list(LOSSES), list(_DECISIONS)
    loss, decision = method
    return (
        losses.index(loss) if loss in losses else losses.index("lsep") - 0.5,
        loss,
        decisions.index(decision) if decision in decisions else len(decisions),
        decision,
    )


_COLUMNS = {"01": "exact_match"}
IMAGES = {"voc2007": (5_011, 4_952), "nuswide": (150_000, 50_261), "coco": (82_081, 40_137)}
"""Data set -> (training images with the hold-out in them, test images), section 5.1 and VOC2007's own lists."""

MODEL = "vgg16"
OURS = Method("lsep", "thresh_est")


@cache
def paper_table(table: int) -> dict[Method, dict[tuple[str, str], float]]:
    """Read `table` 1 or 2: method in the paper's order -> (data, metric key) -> per cent; not reported: absent.

    A method that emits label sets by itself, which the table gives no decision, has the decision "none".
    """
    text = files("lsep_ml.reports").joinpath("paper", f"table{table}.csv").read_text(encoding="utf-8")
    rows = {}
    for line in csv.DictReader(text.splitlines()):
        method = Method(line.pop("method"), line.pop("decision") or NO_DECISION)
        rows[method] = {_column(name): float(value) for name, value in line.items() if value}
    return rows


def paper_numbers(table: int, data: str) -> dict[Method, dict[str, float]]:
    """Return the rows of `table` for `data`: method -> metric key -> per cent; {} for data sets that it lacks."""
    if data not in IMAGES:
        return {}
    return {
        method: {key: value for (name, key), value in numbers.items() if name == data}
        for method, numbers in paper_table(table).items()
    }


def departures(data: str, model: str, images: Mapping[str, str]) -> list[str]:
    """List how a protocol departs from the paper's; `images` maps split -> number of images, as text."""
    if data not in IMAGES:
        return []
    train, test = IMAGES[data]
    own = {split: int(images[split]) for split in ("train", "val", "test") if images.get(split, "").isdigit()}
    found = []
    if len(own) == 3 and own["train"] + own["val"] != train:
        found.append(f"{own['train'] + own['val']:,} training images (the paper: {train:,})")
    if "test" in own and own["test"] != test:
        found.append(f"{own['test']:,} test images (the paper: {test:,})")
    if model != MODEL:
        found.append(f"network {model} (the paper: VGG16)")
    return found


def _column(name: str) -> tuple[str, str]:
    data, key = name.split("_", 1)
    key = _COLUMNS.get(key, key)
    if key not in PAPER_KEYS:
        raise ValueError(f"paper table: column {name!r}; expected DATA_METRIC of {', '.join(PAPER_KEYS)}")
    return data, key
