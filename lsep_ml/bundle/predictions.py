"""What a classifier says of images, as data and as pictures with their labels beneath."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, overload

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from lsep_ml.bundle.images import read_file
from lsep_ml.drawing import Tile, Word, draw, lay_out
from lsep_ml.files import atomic_write

if TYPE_CHECKING:
    import pandas as pd


@dataclass(frozen=True)
class ImageLabels:
    """Holds the labels of one image, highest score first, and what they were decided from.

    scores: of every label. thresholds: of every label, where the decision has them. count: of labels, where the
    decision estimates it. ask: whether a person is to be asked, where the decision leaves images to one.
    """

    labels: tuple[str, ...]
    scores: dict[str, float]
    thresholds: dict[str, float] | None
    count: int | None
    ask: bool | None = None


@dataclass(frozen=True, repr=False)
class Predictions(Sequence[ImageLabels]):
    """N images; `predictions[0]` is the first as `ImageLabels`.

    label_names: K names, the order of all columns. scores float32 (N, K). label_sets bool (N, K). thresholds float32
    (N, K), counts int64 (N,) as the decision estimates them, and probabilities float32 (N, K), or None. ask: whether a
    person is to be asked about the image, bool (N,), or None where all are answered.
    """

    label_names: tuple[str, ...]
    scores: NDArray[np.float32]
    label_sets: NDArray[np.bool_]
    thresholds: NDArray[np.float32] | None
    counts: NDArray[np.int64] | None
    probabilities: NDArray[np.float32] | None = None
    ask: NDArray[np.bool_] | None = None

    def __repr__(self) -> str:
        shown = ", ".join("|".join(labels) or "none" for labels in self[:3].labels)
        more = ", ..." if len(self) > 3 else ""
        return f"Predictions({len(self)} images, {len(self.label_names)} labels: {shown}{more})"

    def to_pandas(self) -> "pd.DataFrame":
        """Give a data frame with a row an image: `labels` (a tuple of names) and the scores, a column a label.

        Raises:
            ImportError: pandas is not installed.
        """
        try:
            import pandas as pd
        except ImportError as error:
            raise ImportError("to_pandas needs pandas: pip install pandas") from error
        frame = pd.DataFrame(self.scores, columns=[f"score_{name}" for name in self.label_names])
        frame.insert(0, "labels", pd.Series(self.labels, dtype=object))
        return frame

    def __len__(self) -> int:
        return len(self.scores)

    @overload
    def __getitem__(self, row: int) -> ImageLabels: ...
    @overload
    def __getitem__(self, row: slice) -> "Predictions": ...
    def __getitem__(self, row: int | slice) -> "ImageLabels | Predictions":
        thresholds, counts = self.thresholds, self.counts
        if isinstance(row, slice):
            arrays = (None if values is None else values[row] for values in self._arrays)
            return Predictions(self.label_names, *arrays)  # type: ignore[arg-type]
        return ImageLabels(
            self[row : row + 1].labels[0],
            self._named(self.scores[row]),
            None if thresholds is None else self._named(thresholds[row]),
            None if counts is None else int(counts[row]),
            None if self.ask is None else bool(self.ask[row]),
        )

    def __iter__(self) -> Iterator[ImageLabels]:
        return (self[row] for row in range(len(self)))

    @property
    def labels(self) -> list[tuple[str, ...]]:
        """Return the label names of every image, highest score first."""
        order = np.argsort(-self.scores, axis=1, kind="stable")
        chosen = np.take_along_axis(self.label_sets, order, axis=1)
        return [
            tuple(self.label_names[k] for k in ranked[kept].tolist())
            for ranked, kept in zip(order, chosen, strict=True)
        ]

    @property
    def margins(self) -> NDArray[np.float32]:
        """Return how near each image is to another label set, float32 (N,): the smaller, the less sure.

        The smallest |score - threshold|; without thresholds, the smallest |probability - 1/2|; where the number of
        labels is decided, the gap between the lowest score (or probability) taken and the highest left, NaN where one
        of both is missing.
        """
        if self.thresholds is not None:
            return np.abs(self.scores - self.thresholds).min(axis=1)
        if self.probabilities is not None and self.counts is None:
            return np.abs(self.probabilities - np.float32(0.5)).min(axis=1)
        values = self.scores if self.probabilities is None else self.probabilities
        taken = np.where(self.label_sets, values, np.float32(np.inf)).min(axis=1)
        left = np.where(self.label_sets, np.float32(-np.inf), values).max(axis=1)
        gap = taken - left
        return np.where(np.isfinite(gap), gap, np.float32(np.nan))

    @property
    def _arrays(self) -> tuple[NDArray[Any] | None, ...]:
        return self.scores, self.label_sets, self.thresholds, self.counts, self.probabilities, self.ask

    def _named(self, values: NDArray[np.float32]) -> dict[str, float]:
        return dict(zip(self.label_names, values.tolist(), strict=True))


def join(parts: Sequence[Predictions]) -> Predictions:
    """Put `parts` one after the other; all are of the same classifier, and there is at least one."""
    arrays = (
        None if column[0] is None else np.concatenate(column)
        for column in zip(*(part._arrays for part in parts), strict=True)
    )
    return Predictions(parts[0].label_names, *arrays)  # type: ignore[arg-type]


SIZE = 640
_NARROWEST = 240  # room for words beneath


def draw_labels(path: Path, labels: ImageLabels) -> Image.Image:
    """Draw the image of `path`, no larger than SIZE, over its labels and their scores, a label a line."""
    picture = Image.fromarray(read_file(path).permute(1, 2, 0).numpy())
    picture.thumbnail((SIZE, SIZE))
    lines = [[Word(f"{name}  {labels.scores[name]:+.2f}")] for name in labels.labels] or [[Word("none")]]
    box = max(picture.width, _NARROWEST), picture.height
    return draw(lay_out({"": [Tile(np.asarray(picture), lines)]}, columns=1, box=box))


def write_pictures(folder: Path, images: list[str], predictions: Predictions) -> None:
    """Write a JPEG for each of `images` at its own path below `folder`."""
    for image, labels in zip(images, predictions, strict=True):
        target = picture_path(folder, image)
        target.parent.mkdir(parents=True, exist_ok=True)
        with atomic_write(target, "wb") as file:
            draw_labels(Path(image), labels).save(file, "JPEG", quality=90)


def picture_path(folder: Path, image: str) -> Path:
    """Return where the picture of `image` goes: its path with what leads out of a folder left out, plus .jpg."""
    path = Path(image)
    parts = [part for part in path.parts if part not in (path.anchor, "..")]
    return folder.joinpath(*parts[:-1], f"{parts[-1]}.jpg")
