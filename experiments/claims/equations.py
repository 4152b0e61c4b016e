"""Four equations of the paper, each as printed and as it should read, on random numbers.

    python experiments/claims/equations.py

- Eqn 8: LSEP is "asymptotically, an upper bound" of the sum of hinges. Random scores times a growing scale s: the share
  of draws in which LSEP is below the sum (margin 0, the weakest reading), and both over s.
- Eqn 10: the gradient's factor is 1 / l. Against finite differences, that and 1 / exp(l).
- Eqn 13: BP-MLL is "asymptotically equivalent" to the sum of differences, which LSEP is not. The error of the sum as an
  approximation of BP-MLL at small and large scale, and LSEP's gradient over BP-MLL's where all pairs are in order.
- Eqn 21: LSEP is "analytically equivalent" to the loss without the logarithm. The minimisers of both under random
  distributions over label sets (K = 4): how often they order the labels differently, and how far apart they lie.

Cost: seconds. Expectation: all four wrong as printed. Writes equations.csv and equations.png.
"""

import argparse
from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
import torch
from consistency import draw
from results import FOLDER, save, write_table
from risk import minimiser
from torch import Tensor

from lsep_ml import losses

LABELS, DRAWS = 10, 2000
SCALES = np.logspace(-2, 2, 41)
ERROR = "error of pairs + eqn 13 as BP-MLL"
RATIO = "LSEP's gradient / BP-MLL's, all pairs in order"

Row = dict[str, Any]


def problem(in_order: bool = False) -> tuple[Tensor, Tensor]:
    """Scores ~ N(0, 1) and targets with three positives of ten; in order: the positives have the highest scores."""
    generator = torch.Generator().manual_seed(0)
    scores = torch.randn(DRAWS, LABELS, generator=generator, dtype=torch.float64)
    targets = torch.zeros(DRAWS, LABELS, dtype=torch.long)
    targets[:, :3] = 1
    return (scores.sort(1, descending=True).values if in_order else scores), targets


def gradient(loss: Any, scores: Tensor, targets: Tensor) -> Tensor:
    f = scores.clone().requires_grad_()
    return torch.autograd.grad(loss(f, targets, reduction="sum"), f)[0]


def eqn_8() -> tuple[list[Row], dict[str, list[float]]]:
    scores, targets = problem()
    largest = scores[:, 3:].amax(1) - scores[:, :3].amin(1)
    curves: dict[str, list[float]] = {"LSEP": [], "sum of hinges": [], "largest hinge": []}
    rows, below, outside = [], 0.0, 0.0
    for scale in SCALES.tolist():
        lsep = losses.lsep_loss(scale * scores, targets, reduction="none")
        hinges = losses.ranking_loss(scale * scores, targets, reduction="none", margin=0)
        top = (scale * largest).clamp(min=0)
        for name, values in zip(curves, (lsep, hinges, top), strict=True):
            curves[name].append(values.mean().item() / scale)
        below = (lsep < hinges).double().mean().item()
        rounding = 1e-12 * (1 + top)
        bounded = (lsep >= top - rounding) & (lsep <= top + np.log(22) + rounding)
        outside = max(outside, 1 - bounded.double().mean().item())
        if scale in (SCALES[20], SCALES[-1]):
            rows.append(
                _row("8", f"share of draws with LSEP below the sum of hinges, scale {scale:g}", below)
            )
    rows.append(_row("8", "share outside [max hinge, max hinge + log(1 + pairs)], any scale", outside))
    return rows, curves


def eqn_10() -> tuple[list[Row], dict[str, list[float]]]:
    scores, targets = problem()
    step, direction = (
        1e-6,
        torch.randn(LABELS, generator=torch.Generator().manual_seed(1), dtype=torch.float64),
    )

    def lsep(f: Tensor) -> Tensor:
        return losses.lsep_loss(f, targets, reduction="none")

    curves: dict[str, list[float]] = {"1 / l, as printed": [], "1 / exp(l)": []}
    for scale in SCALES[SCALES <= 10].tolist():
        f = scale * scores
        numeric = (lsep(f + step * direction) - lsep(f - step * direction)) / (2 * step)
        of_sum = (gradient(losses.bpmll_loss, f, targets) * direction).sum(1)
        for name, factor in zip(curves, (1 / lsep(f), 1 / lsep(f).exp()), strict=True):
            curves[name].append(((factor * of_sum - numeric).abs().mean() / numeric.abs().mean()).item())
    return [
        _row("10", f"largest relative error with {name}", max(values)) for name, values in curves.items()
    ], curves


def eqn_13() -> tuple[list[Row], dict[str, list[float]]]:
    scores, targets = problem()
    ordered, _ = problem(in_order=True)
    differences = 3 * scores[:, 3:].sum(1) - 7 * scores[:, :3].sum(1)
    curves: dict[str, list[float]] = {ERROR: [], RATIO: []}
    for scale in SCALES.tolist():
        bpmll = losses.bpmll_loss(scale * scores, targets, reduction="none")
        error = (bpmll - 21 - scale * differences).abs() / (scale * differences).abs()
        curves[ERROR].append(error.median().item())
        ratio = gradient(losses.lsep_loss, scale * ordered, targets).abs().sum(1)
        ratio /= gradient(losses.bpmll_loss, scale * ordered, targets).abs().sum(1)
        curves[RATIO].append(ratio.median().item())
    error, ratio = curves.values()
    rows = [
        _row("13", f"median relative error of pairs + eqn 13 for BP-MLL, scale {SCALES[i]:.3g}", error[i])
        for i in (0, 20, 30)
    ]
    rows += [
        _row(
            "13",
            f"LSEP's gradient over BP-MLL's with all pairs in order, median, scale {SCALES[i]:.3g}",
            ratio[i],
        )
        for i in (20, 30, 40)
    ]
    return rows, curves


def eqn_21(draws: int) -> tuple[list[Row], tuple[Tensor, Tensor]]:
    probabilities = draw("concentration 1", 4, draws, np.random.default_rng(0))
    lsep = minimiser("lsep", probabilities)
    # exp(z / 2) has its minimum at twice the scores of exp(z).
    exponential = 2 * minimiser("bpmll", probabilities)
    lsep, exponential = lsep - lsep.mean(1, keepdim=True), exponential - exponential.mean(1, keepdim=True)
    other_order = (lsep.argsort(1) != exponential.argsort(1)).any(1).double().mean().item()
    distance = (lsep - exponential).abs().amax(1) / exponential.abs().amax(1)
    rows = [
        _row("21", "share of distributions whose minimisers order the labels differently", other_order),
        _row("21", "median relative distance of the minimisers", distance.median().item()),
    ]
    return rows, (lsep, exponential)


def _row(equation: str, what: str, value: float) -> Row:
    return {"equation": equation, "what": what, "value": value}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--folder", type=Path, default=FOLDER)
    parser.add_argument("--draws", type=int, default=DRAWS, help="distributions for eqn 21")
    arguments = parser.parse_args()
    (rows_8, hinges), (rows_10, errors), (rows_13, sums), (rows_21, minimisers) = (
        eqn_8(),
        eqn_10(),
        eqn_13(),
        eqn_21(arguments.draws),
    )
    rows = rows_8 + rows_10 + rows_13 + rows_21
    for row in rows:
        print("eqn {equation:3s} {value:10.4g}  {what}".format(**row))
    write_table(arguments.folder, "equations", rows)

    figure, ((eight, ten), (thirteen, twenty_one)) = plt.subplots(
        2, 2, figsize=(10, 7.4), layout="constrained"
    )
    for (name, values), style in zip(hinges.items(), ("-", "--", ":"), strict=True):
        eight.plot(SCALES, values, style, label=name)
    eight.set(xscale="log", ylim=(0, 20), xlabel="scale s of the scores", ylabel="mean loss / s")
    eight.set_title("Eqn 8: LSEP goes to the largest hinge, not to their sum", fontsize=10)
    for (name, values), style in zip(errors.items(), ("--", "-"), strict=True):
        ten.plot(SCALES[SCALES <= 10], values, style, label=name)
    ten.set(
        xscale="log", yscale="log", xlabel="scale s of the scores", ylabel="relative error of the gradient"
    )
    ten.set_title("Eqn 10: the factor is 1 / exp(l)", fontsize=10)
    shown = SCALES <= 10
    for (name, values), style in zip(sums.items(), ("--", "-"), strict=True):
        thirteen.plot(SCALES[shown], np.array(values)[shown], style, label=name)
    thirteen.set(
        xscale="log", yscale="log", xlabel="scale s of the scores", ylabel="relative error, or ratio"
    )
    thirteen.set_title("Eqn 13: the sum is BP-MLL near 0, not far out", fontsize=10)
    twenty_one.plot(*(scores.flatten() for scores in minimisers), ".", markersize=2, alpha=0.4)
    twenty_one.axline((0, 0), slope=1, color="black", linewidth=0.8)
    twenty_one.set(xlabel="minimiser of LSEP", ylabel="minimiser of eqn 21", xlim=(-2, 2), ylim=(-2, 2))
    twenty_one.set_title("Eqn 21: another minimiser than LSEP's", fontsize=10)
    for axes in (eight, ten, thirteen):
        axes.legend(frameon=False, fontsize=9)
        axes.grid(alpha=0.3)
    save(arguments.folder, "equations", figure)
    plt.close(figure)


if __name__ == "__main__":
    main()
