"""Claim (section 4, Theorem 1): LSEP's minimiser is f_u = log P(u in Y) + c (eqn 19), so it ranks as the marginals do.

    python experiments/claims/consistency.py [--draws 1000]

Draws distributions over the label sets of K = 3, 4, 5 labels, minimises the exact risk of ten losses under each, and
compares the minimiser f* with the marginals p: its order, its values with log p + c (eqn 19), and its differences with
log P(u in Y, v not in Y) / P(v in Y, u not in Y) (eqn 25).

- A pair with p_u > p_v is misordered where f*_u < f*_v, and tied where they are equal. (Marginals closer than 1e-4 make
  no pair; scores are equal within 1e-6.) A distribution counts as tied if a pair is tied and none misordered.
- Where several scores minimise a hinge loss, the best-ordering of them is taken. Where the minimiser lies at infinity
  a ridge of 1e-9 bounds it (risk.py).
- Regret: by how much the expected number of wrong pairs exceeds that of the marginals' order, relative to it.

Cost: a minute on one core. Expectation: BCE and softmax never misorder; LSEP does not for K = 3, for independent
labels or with one label an image, and sometimes does otherwise; eqn 19 holds for softmax, and for LSEP with one label.
Writes consistency.csv and consistency.png. counterexample.py has the smallest case, proved.
"""

import argparse
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
import torch
from numpy.typing import NDArray
from results import FOLDER, read_table, save, share_interval, write_table
from risk import HINGE, SMOOTH, label_sets, marginals, minimiser, pair_probabilities, ranking_error
from torch import Tensor

FAMILIES = (
    "concentration 0.1",
    "concentration 0.3",
    "concentration 1",
    "independent",
    "one label",
    "two labels",
)
"""Dirichlet over all label sets; independent labels; Dirichlet over the sets of one label, of two labels."""
SIZES = (3, 4, 5)
LOSSES = ("lsep", "bpmll", "bpmll normalised", "pairwise logistic", "ranking", "warp")
LOSSES += ("softmax", "softmax normalised", "bce", "zlpr")


def draw(family: str, num_labels: int, count: int, rng: np.random.Generator) -> Tensor:
    """Random distributions of a family, (count, 2^K)."""
    sets = label_sets(num_labels).numpy()
    if family == "independent":
        p = rng.uniform(0.05, 0.95, (count, 1, num_labels))
        return torch.from_numpy(np.where(sets, p, 1 - p).prod(2))
    sizes = {"one label": [1], "two labels": [2]}.get(family, list(range(num_labels + 1)))
    concentration = float(family.split()[1]) if family.startswith("concentration") else 1.0
    possible: NDArray[np.bool_] = np.isin(sets.sum(1), sizes)
    probabilities = np.zeros((count, len(sets)))
    probabilities[:, possible] = rng.dirichlet(np.full(possible.sum(), concentration), count)
    return torch.from_numpy(probabilities)


def compare(scores: Tensor, probabilities: Tensor) -> dict[str, Any]:
    """What is said of one loss under D distributions: shares in [0, 1], deviations in units of f."""
    p, beta = marginals(probabilities), pair_probabilities(probabilities)
    above = p[:, :, None] - p[:, None, :] > 1e-4
    difference = scores[:, :, None] - scores[:, None, :]
    wrong = (above & (difference < -1e-6)).any(2).any(1)
    tied = (above & (difference.abs() <= 1e-6)).any(2).any(1) & ~wrong
    low, high = share_interval(int(wrong.sum()), len(wrong))
    best = ranking_error(p, probabilities, tolerance=0)
    off_19 = scores - p.log()
    log_odds = (beta / beta.transpose(1, 2)).log()
    off_25 = torch.where(log_odds.isfinite(), difference - log_odds, 0).abs().amax((1, 2))
    return {
        "misordered": wrong.double().mean().item(),
        "low": low,
        "high": high,
        "tied": tied.double().mean().item(),
        "regret": (ranking_error(scores, probabilities).sum() / best.sum() - 1).item(),
        "off_eqn_19": ((off_19.amax(1) - off_19.amin(1)) / 2).median().item(),
        "off_eqn_25": off_25.median().item(),
        "at_infinity": ((scores.amax(1) - scores.amin(1)) > 15).double().mean().item(),
    }


def table(draws: int, sizes: Sequence[int]) -> Iterator[dict[str, Any]]:
    for num_labels in sizes:
        for family in FAMILIES:
            probabilities = draw(family, num_labels, draws, np.random.default_rng(num_labels))
            if num_labels == 3 and family == "two labels":
                continue  # the mirror image of one label
            for loss in LOSSES:
                row = compare(minimiser(loss, probabilities), probabilities)
                yield {"labels": num_labels, "distributions": family, "loss": loss, "draws": draws, **row}


def plot(folder: Path) -> None:
    rows = read_table(folder, "consistency")
    sizes = sorted({int(row["labels"]) for row in rows})
    figure, panels = plt.subplots(
        1, len(sizes), figsize=(1 + 4 * len(sizes), 4.8), layout="constrained", sharey=True, squeeze=False
    )
    for axes, num_labels in zip(panels[0], sizes, strict=True):
        cells = {(r["loss"], r["distributions"]): r for r in rows if r["labels"] == str(num_labels)}
        families = [family for family in FAMILIES if (LOSSES[0], family) in cells]
        shares = np.array([[100 * float(cells[loss, f]["misordered"]) for f in families] for loss in LOSSES])
        axes.imshow(shares, cmap="Blues", vmin=0, vmax=100, aspect="auto")
        for (y, x), share in np.ndenumerate(shares):
            tied = 100 * float(cells[LOSSES[y], families[x]]["tied"])
            text = _percent(share) + (f"\n+ {_percent(tied)}" if tied else "")
            axes.text(
                x,
                y,
                text,
                ha="center",
                va="center",
                color="white" if share > 55 else "black",
                fontsize=6.5 if tied else 8,
            )
        axes.set_xticks(range(len(families)), families, rotation=40, ha="right")
        axes.set_yticks(range(len(LOSSES)), LOSSES)
        axes.set_title(f"K = {num_labels}", fontsize=11)
    figure.suptitle(
        "Distributions in which the minimiser misorders (+ only ties) labels of different probability, %"
    )
    save(folder, "consistency", figure)
    plt.close(figure)


def _percent(share: float) -> str:
    return "0" if share == 0 else f"{share:.0f}" if share >= 1 else f"{share:.1f}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--draws", type=int, default=1000, help="distributions of each family and K")
    parser.add_argument("--labels", type=int, nargs="*", default=SIZES, help="K")
    parser.add_argument("--folder", type=Path, default=FOLDER)
    arguments = parser.parse_args()
    assert set(LOSSES) == SMOOTH.keys() | HINGE.keys()
    rows = []
    for row in table(arguments.draws, arguments.labels):
        print(
            "  ".join(
                f"{value:.4g}" if isinstance(value, float) else f"{value!s:18s}" for value in row.values()
            )
        )
        rows.append(row)
    write_table(arguments.folder, "consistency", rows)
    plot(arguments.folder)


if __name__ == "__main__":
    main()
