"""The path of weight decays that a probe is solved along, what is chosen of it, and scores out of fold."""

import logging
import time
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from lsep_ml.data import DataSet, Split
from lsep_ml.data.stratified import stratified_folds
from lsep_ml.metrics.functional import ranking_metrics
from lsep_ml.training.continuation import is_convex, is_of_hinges
from lsep_ml.training.final_warnings import at_clamp, constant_map, not_above_constant
from lsep_ml.training.kept import Kept
from lsep_ml.training.linear_scores import Blocks, ProbeFeatures, StandardisedFeatures
from lsep_ml.training.probe import WIDEST, ProbeImages, best_of, next_on_path, weight_decay
from lsep_ml.training.recipe import Loss
from lsep_ml.training.solver import Solution
from lsep_ml.training.standardisation import ScoreLayer

LEFT = 0.01
"""Validation mAP that the end of a solve may cost."""

log = logging.getLogger(__name__)

OnRow = Callable[[dict[str, float | int | str]], None]


@dataclass(frozen=True)
class Solving:
    """Says how a probe is solved.

    loss: of `lsep_ml.losses`, its options bound; name: what messages call it. weight_decay: None: chosen on validation
    mAP. tolerance: on the gradient's norm at the end. folds: for the out-of-fold scores. seed: of the folds. device:
    where it is computed. diagnostics: counts of rows, as in `lsep_ml.training.recipe.Objective`.
    """

    loss: Loss
    name: str
    weight_decay: float | None
    tolerance: float
    folds: int
    seed: int
    device: torch.device
    diagnostics: Mapping[str, Callable[..., Tensor]] = field(default_factory=dict)


class DecayPath:
    """Holds the path of weight decays of one loss, and what follows from the one that is chosen.

    features: of the images of `data_set`, which several losses share; None: they are read for this one.
    """

    def __init__(
        self,
        solving: Solving,
        data_set: DataSet,
        kept: Kept,
        on_row: Callable[[dict[str, Any]], None],
        features: ProbeFeatures | None = None,
    ) -> None:
        self.solving, self.kept, self.on_row = solving, kept, on_row
        self.loss = solving.loss
        self.train, self.val = data_set.train, data_set.val
        self.features = features or ProbeFeatures.of(_features(self.train), _features(self.val))
        images = _images(self.train, self.features.train, solving.device).on_axes()
        self.images = replace(images, processes=kept.processes)
        self.together = self.images.in_parts(self.loss)
        self.zero, self.coarse = self.images.start(self.loss)
        self.layers: dict[float, ScoreLayer] = {}
        self.rows: list[dict[str, Any]] = []

    def search(self) -> float:
        """Solve one weight decay after the other; returns that of the highest validation mAP, the larger on a tie."""
        blocks = self.images.blocks()
        if self.solving.weight_decay is not None:
            self._step(self.solving.weight_decay, self.zero, blocks)
            return self.solving.weight_decay
        maps: dict[int, float] = {}
        while (step := next_on_path(maps)) is not None:
            decay = weight_decay(step)
            beside = [weight_decay(step + side) for side in (1, -1)]
            start = next((self.layers[near] for near in beside if near in self.layers), self.zero)
            maps[step] = self._step(decay, start, blocks)
        return weight_decay(best_of(maps))

    def _step(self, decay: float, start: ScoreLayer, blocks: Blocks) -> float:
        """Solve one weight decay, add its row to the history, and return its validation mAP."""

        def make() -> dict[str, Any]:
            started = time.perf_counter()
            layer, found = self._solve(decay, start, self.images, blocks, self.coarse)
            row = {
                "stage": "prediction",
                "epoch": len(self.rows) + 1,
                "train_loss": found.value - decay * float(layer.weight.double().square().sum()),
                **self._counted("train", self.images, blocks, layer),
                **self._validated(layer),
                "weight_decay": decay,
                "iterations": found.iterations,
                "gradient_norm": found.gradient_norm,
                "seconds": round(time.perf_counter() - started, 3),
            }
            return {**layer._asdict(), "row": row}

        made = self.kept.get(f"path-{len(self.rows) + 1}", make, together=self.together)
        row = made["row"]
        self.layers[decay] = ScoreLayer(made["weight"], made["bias"])
        log.info(
            "  weight decay %-8.3g train loss %.4f   val loss %.4f   val mAP %.2f%%   %d iterations, %.1f s",
            *(
                decay,
                row["train_loss"],
                row["val_loss"],
                100 * row["val_map"],
                row["iterations"],
                row["seconds"],
            ),
        )
        self.rows.append(row)
        self.on_row(row)
        return float(row["val_map"])

    def _validated(self, layer: ScoreLayer) -> dict[str, float]:
        images = _images(self.val, self.features.val)
        blocks = images.blocks()
        with torch.no_grad():
            scores, (targets, mask) = blocks.scores(layer), images.labels()
            if images.in_parts(self.loss):
                loss = float(blocks.loss(self.loss, layer, images.labels_of))
            else:
                loss = float(self.loss(scores, targets, mask=mask))
        metrics = {"loss": loss, **ranking_metrics(scores.numpy(), targets, mask)}
        found = {f"val_{key}": float(value) for key, value in metrics.items()}
        return found | self._counted("val", images, blocks, layer)

    def _counted(
        self, split: str, images: ProbeImages, blocks: Blocks, layer: ScoreLayer
    ) -> dict[str, float]:
        """Take the counts that the loss asks for, of the scores of a split."""
        counts: Counter[str] = Counter()
        for rows, x in blocks.parts(len(layer.bias)) if self.solving.diagnostics else ():
            weight, bias = (part.to(x) for part in layer)
            for name, count in self.solving.diagnostics.items():
                counts[f"{split}_{name}"] += int(count(x @ weight.T + bias, *images.labels_of(rows)))
        return {name: float(value) for name, value in counts.items()}

    def end(self, decay: float) -> tuple[ScoreLayer, dict[str, Any]]:
        """Solve the chosen weight decay to the end, in float64, or in float32 where hinges are known well enough in it;
        returns the layer and the facts of it.

        A loss that is not convex may leave the place where the path ended for a lower value elsewhere: where that costs
        more than LEFT of validation mAP the path's layer is kept, which is said.
        """
        row = next(row for row in self.rows if row["weight_decay"] == decay)

        def make() -> dict[str, Any]:
            layer, iterations = self.layers[decay], 0
            ways = [(torch.float64, self.solving.tolerance)]
            if is_of_hinges(self.loss):
                ways.insert(0, (torch.float32, self.coarse))
            for dtype, tolerance in ways:
                blocks = self.images.blocks(dtype)
                layer, found = self._solve(decay, layer, self.images, blocks, tolerance, fine=True)
                iterations += found.iterations
                if found.converged:
                    break
            found, left = replace(found, iterations=iterations), {}
            reached = row["val_map"]
            if not is_convex(self.loss):
                reached = self._validated(ScoreLayer(layer.weight.float(), layer.bias.float()))["val_map"]
            if reached < row["val_map"] - LEFT:
                layer, left = self.layers[decay], {"left_for": reached}
            return {**layer._asdict(), "found": vars(found), **left}

        made = self.kept.get("end", make, together=self.together)
        found = made["found"]
        log.info(
            "  chosen: weight decay %.3g; gradient norm %.2g after %d more iterations",
            *(decay, found["gradient_norm"], found["iterations"]),
        )
        warnings = self._warnings(row, found)
        if "left_for" in made:
            warnings.append(
                f"the solver leaves the place of the chosen weight decay, {decay:.3g}, for one of validation mAP "
                f"{made['left_for']:.1%} in the place of {row['val_map']:.1%}: the layer of the path is kept"
            )
        facts = {
            "epoch": row["epoch"],
            "epochs": len(self.rows),
            "validation": {key[4:]: value for key, value in row.items() if key.startswith("val_")},
            "weight_decay": decay,
            "convex": is_convex(self.loss),
            **found,
            "warnings": warnings,
        }
        return ScoreLayer(made["weight"], made["bias"]), facts

    def _warnings(self, row: dict[str, Any], found: dict[str, Any]) -> list[str]:
        decay = row["weight_decay"]
        warnings = [f"{said} (weight decay {decay:.3g})" for said in at_clamp(row)]
        warnings += not_above_constant(row["val_map"], constant_map(self.val))
        if not found["converged"]:
            warnings.append(
                f"the solver did not converge: gradient norm {found['gradient_norm']:.2g} after "
                f"{found['iterations']} iterations at weight decay {decay:.3g}"
            )
        if self.solving.weight_decay is None and decay in map(weight_decay, WIDEST):
            warnings.append(f"the best weight decay, {decay:.3g}, lies at the end of what is tried")
        return warnings

    def out_of_fold(
        self, decay: float, start: ScoreLayer, scores: NDArray[np.float32] | None = None
    ) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
        """Fit a score layer without each fold; returns the scores (N, K) of its images by it, and their folds (N,).

        Of several processes each takes another fold, or, where the rows are shared, all the same; the first has the
        scores.

        scores: an array that is filled with them; None: a new one.
        """
        train, solving = self.train, self.solving
        folds = stratified_folds(train.targets, solving.folds, solving.seed, train.groups)
        scores = np.empty(train.targets.shape, np.float32) if scores is None else scores

        def make(fold: int) -> dict[str, Any]:
            rest = self.images.only(torch.from_numpy(np.flatnonzero(folds != fold)))
            layer, found = self._solve(decay, start, rest, rest.blocks(), self.coarse)
            held_out = self.images.only(torch.from_numpy(np.flatnonzero(folds == fold)))
            with torch.no_grad():
                return {"scores": held_out.blocks().scores(layer).cpu(), "found": vars(found)}

        makes = {f"fold-{fold}": partial(make, fold) for fold in range(int(folds.max()) + 1)}
        each = (
            (self.kept.get(name, of_fold, together=True) for name, of_fold in makes.items())
            if self.together
            else self.kept.each(makes)
        )
        for fold, made in enumerate(each):
            scores[folds == fold] = made["scores"].numpy()
            if is_convex(self.loss) and not made["found"]["converged"]:
                log.warning(
                    "%s: the solver did not converge without fold %d: gradient norm %.2g after %d iterations",
                    *(
                        self.solving.name,
                        fold + 1,
                        made["found"]["gradient_norm"],
                        made["found"]["iterations"],
                    ),
                )
        log.info("  out-of-fold scores of %d images from %d folds", len(train), int(folds.max()) + 1)
        return scores, folds

    def _solve(
        self,
        decay: float,
        start: ScoreLayer,
        images: ProbeImages,
        blocks: Blocks,
        tolerance: float,
        fine: bool = False,
    ) -> tuple[ScoreLayer, Solution]:
        try:
            return images.solve(self.loss, decay, start, blocks, tolerance=tolerance, fine=fine)
        except FloatingPointError as error:
            raise FloatingPointError(
                f"loss={self.solving.name} at weight decay {decay:.3g}: {error}"
            ) from None


def _features(split: Split) -> Tensor:
    assert isinstance(split.images, Tensor)
    return split.images


def _images(split: Split, features: StandardisedFeatures, device: torch.device | str = "cpu") -> ProbeImages:
    """Return the images of a split by their features."""
    targets, mask = (
        torch.from_numpy(matrix) if isinstance(matrix, np.ndarray) else matrix
        for matrix in (split.targets if split.soft is None else split.soft, split.mask)
    )
    assert targets is not None
    return ProbeImages(features, targets, mask, device=device)
