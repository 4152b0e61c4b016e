"""A trained classifier in Python: images of any kind in, label sets out."""

import math
from collections.abc import Collection, Iterable, Iterator, Sequence
from itertools import islice
from pathlib import Path

import torch
from torch import Tensor

from lsep_ml.bundle.files import read_parts
from lsep_ml.bundle.images import ImageLike, read_image, single_images
from lsep_ml.bundle.inputs import image_files
from lsep_ml.bundle.parts import Parts
from lsep_ml.bundle.predictions import Predictions, join
from lsep_ml.data.errors import ImageError
from lsep_ml.data.images.content import MAX_BYTES
from lsep_ml.decisions import Decision, GlobalThreshold, TopK


def load(
    path: str | Path, *, device: str | torch.device | None = None, allow: Collection[str] = ()
) -> "Classifier":
    """Load the classifier in `path`, a bundle or a finished run's folder.

    Args:
        path: the folder.
        device: where the network runs; None: a GPU when there is one.
        allow: backbones outside this package that may be imported, by dotted name; see `build_backbone`.

    Raises:
        FileNotFoundError: neither is there, or a file is missing.
        ValueError: damaged, of another version, or with a backbone that is not allowed.
    """
    return Classifier(read_parts(path), device=device, allow=allow)


class Classifier:
    """Network, preprocessing and decision of a trained classifier.

    Attributes:
        label_names: K names, the order of all columns.
        decision: from scores to label sets; may be replaced by another that is fitted for the K labels.
        batch_size: images the network is given at a time; the one it was evaluated with, unless set.
        max_bytes: the largest file that is read.
        parts: all the rest, with the protocol and the metrics it was measured with.

    >>> classifier = lsep_ml.load("bundle")                        # doctest: +SKIP
    >>> classifier.predict(["a.jpg", "b.png"]).labels              # doctest: +SKIP
    [('bread', 'cheese'), ('apple',)]
    """

    def __init__(
        self, parts: Parts, *, device: str | torch.device | None = None, allow: Collection[str] = ()
    ) -> None:
        self.parts, self.allow = parts, tuple(allow)
        self.label_names = parts.label_names
        self.transform = parts.build_transform()
        self.device = usable_device(device or ("cuda" if torch.cuda.is_available() else "cpu"))
        self.network = parts.build_network(allow).to(self.device)
        self.decision = parts.decision.eval()
        self.batch_size: int = parts.measured["config"]["training"]["eval_batch_size"]
        self.max_bytes = MAX_BYTES

    def __repr__(self) -> str:
        made = f"{self.parts.measured['loss']} + {type(self.decision).__name__}"
        return f"Classifier({str(self.parts.source)!r}: {len(self.label_names)} labels, {made}, on {self.device})"

    def predict(self, images: ImageLike | Iterable[ImageLike]) -> Predictions:
        """Predict label sets and scores of `images`, and thresholds or counts where the decision has them.

        `images` is a path (of a folder: its images, as `image_files` finds them), a PIL image, an array or tensor, a
        batch of them with one dimension more, or any iterable of these; see `read_image`. Images are decoded, resized
        and decided one like the other, batch by batch.

        Raises:
            ImageError: one cannot be used; names it.
        """
        if isinstance(images, str | Path) and Path(images).is_dir():
            images = image_files([str(images)])
        found = [
            self.predict_prepared([self.prepare(image) for image in batch])
            for batch in _batches(single_images(images), self.batch_size)
        ]
        return join(found) if found else self._decide(*self._empty())

    def prepare(self, image: ImageLike) -> Tensor:
        """Prepare `image` as the network takes it, uint8 (C, H, W)."""
        return self.transform(read_image(image, self.max_bytes, self.transform.least_side))

    @torch.inference_mode()
    def predict_prepared(self, images: Sequence[Tensor]) -> Predictions:
        """Predict at least one image that `prepare` gave; images of several sizes are run size by size.

        Raises:
            ImageError: the network cannot take images of such a size.
        """
        return self._decide(*self.outputs(images))

    @torch.inference_mode()
    def outputs(self, images: Sequence[Tensor]) -> tuple[Tensor, Tensor]:
        """Compute scores float32 (N, K) and features (N, D) of images as `predict_prepared` takes them, on the CPU."""
        sizes = {image.shape for image in images}
        if len(sizes) == 1:
            return self._run(torch.stack(list(images)))
        rows = [[row for row, image in enumerate(images) if image.shape == size] for size in sizes]
        outputs = [self._run(torch.stack([images[row] for row in group])) for group in rows]
        order = torch.argsort(torch.tensor([row for group in rows for row in group]))
        scores, features = (torch.cat(part)[order] for part in zip(*outputs, strict=True))
        return scores, features

    def override(self, *, top: int | None = None, threshold: float | None = None) -> None:
        """Decide by the `top` highest scores, or by one threshold, in place of the decision it came with.

        Raises:
            ValueError: both given, or `top` outside 1..K.
        """
        if top is not None and threshold is not None:
            raise ValueError(f"top={top} and threshold={threshold}: give one of them")
        if top is not None:
            self.decision = fixed_top(top, len(self.label_names))
        if threshold is not None:
            self.decision = fixed_threshold(threshold, len(self.label_names))

    def _run(self, images: Tensor) -> tuple[Tensor, Tensor]:
        try:
            scores, features = self.network(images.to(self.device, non_blocking=True))
        except torch.OutOfMemoryError:
            raise
        except RuntimeError as error:  # its weights fit: what is left is the size of the images
            height, width = images.shape[-2:]
            reason = str(error).partition("\n")[0]
            raise ImageError(
                f"{height} x {width} pixels, which the network cannot take ({reason})"
            ) from error
        return scores.float().cpu(), features.float().cpu()

    def _decide(self, scores: Tensor, features: Tensor) -> Predictions:
        return decide(self.decision, self.label_names, scores, features)

    def _empty(self) -> tuple[Tensor, Tensor]:
        return torch.zeros(0, len(self.label_names)), torch.zeros(0, self.network.num_features)


@torch.inference_mode()
def decide(
    decision: Decision, label_names: Sequence[str], scores: Tensor, features: Tensor | None
) -> Predictions:
    """Decide by a fitted `decision` on `scores` float32 (N, K) and `features` float32 (N, D), on the CPU."""
    decided = decision.decide(scores, features)
    counts = decided.counts if decision.needs_features else None  # the others' are no estimate
    ask = None if decision.abstention is None else decision.abstention.asks(scores, decided)
    by = (decided.thresholds, counts, decided.probabilities, ask)
    return Predictions(
        tuple(label_names),
        scores.numpy(),
        decided.label_sets.numpy(),
        *(None if values is None else values.numpy() for values in by),
    )


def usable_device(device: str | torch.device) -> torch.device:
    """Find the device of this name.

    Raises:
        ValueError: it is not here, or there is none of such a name.
    """
    try:
        found = torch.device(device)
        torch.empty(0, device=found)
    except (RuntimeError, AssertionError) as error:  # the second where torch was built without CUDA
        reason = str(error).partition("\n")[0]
        raise ValueError(f"device={device}: {reason}; device=cpu always works") from error
    return found


def fixed_top(top: int, num_labels: int) -> Decision:
    """Make a TopK with k given rather than fitted."""
    if not 1 <= top <= num_labels:
        raise ValueError(f"top={top}: expected 1..{num_labels}, the number of labels")
    decision = TopK(top, top)
    decision.k, decision.num_labels = torch.tensor(top), torch.tensor(num_labels)
    return decision


def fixed_threshold(threshold: float, num_labels: int) -> Decision:
    """Make a GlobalThreshold with theta given rather than fitted."""
    if math.isnan(threshold):
        raise ValueError(f"threshold={threshold}: expected a number")
    decision = GlobalThreshold()
    decision.theta, decision.num_labels = torch.tensor(threshold), torch.tensor(num_labels)
    return decision


def _batches(images: Iterator[ImageLike], size: int) -> Iterator[list[ImageLike]]:
    while batch := list(islice(images, size)):
        yield batch
