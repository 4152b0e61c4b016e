"""A loaded classifier says of every kind of image what the run said of its files."""

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

import lsep_ml
from lsep_ml.bundle.images import read_image
from lsep_ml.data.errors import ImageError
from lsep_ml.data.images.decode import decode_image


def test_predict_is_the_runs_own_predictions(photo_run: Path, photo_tree: Path) -> None:
    arrays = np.load(photo_run / "predictions.npz", allow_pickle=False)
    classifier = lsep_ml.load(photo_run, device="cpu")
    found = classifier.predict(photo_tree / name for name in arrays["image_ids"])
    assert found.label_names == tuple(arrays["label_names"])
    assert np.array_equal(found.scores, arrays["scores"])
    assert np.array_equal(found.label_sets, arrays["predictions"] != 0)
    assert np.array_equal(found.counts, arrays["predictions"].sum(1))


def test_thresholds_are_the_runs(digits_run: Path) -> None:
    arrays = np.load(digits_run / "predictions.npz", allow_pickle=False)
    from lsep_ml.data.sources.digits import read_digits

    images = read_digits(train=64, val=40, test=50, canvas=24, seed=0).test.images
    found = lsep_ml.load(digits_run, device="cpu").predict(images)
    assert np.array_equal(found.scores, arrays["scores"])
    assert np.array_equal(found.thresholds, arrays["thresholds"])
    assert np.array_equal(found.label_sets, arrays["predictions"] != 0)
    first = found[0]
    assert first.thresholds is not None
    assert set(first.labels) == {n for n in found.label_names if first.scores[n] > first.thresholds[n]}
    assert [first.scores[name] for name in first.labels] == sorted(
        (first.scores[name] for name in first.labels), reverse=True
    )


def test_every_way_to_give_an_image_says_the_same(photo_run: Path, photo_tree: Path) -> None:
    classifier = lsep_ml.load(photo_run, device="cpu")
    path = sorted((photo_tree / "photos").iterdir())[0]
    tensor = decode_image(path.read_bytes())
    array = tensor.permute(1, 2, 0).numpy()
    ways = [
        path,
        str(path),
        [path],
        Image.fromarray(array),
        array,
        array[None],
        tensor,
        tensor[None],
        [tensor],
    ]
    ways += [(image for image in [array]), array[::1, ::-1][:, ::-1]]
    scores = [classifier.predict(way).scores for way in ways]
    assert all(score.shape == (1, 5) for score in scores)
    assert all(np.array_equal(score, scores[0]) for score in scores)


def test_mixed_kinds_and_batches_keep_their_order(photo_run: Path, photo_tree: Path) -> None:
    classifier = lsep_ml.load(photo_run, device="cpu")
    paths = sorted((photo_tree / "photos").iterdir())[:5]
    alone = np.concatenate([classifier.predict(path).scores for path in paths])
    mixed = [paths[0], Image.open(paths[1]), read_image(paths[2]), *paths[3:]]
    classifier.batch_size = 2
    np.testing.assert_allclose(classifier.predict(mixed).scores, alone, atol=1e-5)
    assert len(classifier.predict([])) == 0


def test_sizes_of_their_own_are_grouped_and_put_back(digits_run: Path) -> None:
    classifier = lsep_ml.load(digits_run, device="cpu")  # whose images keep their size
    rng = np.random.default_rng(0)
    images = [rng.integers(0, 256, (24 + 4 * (i % 3), 30, 1), np.uint8) for i in range(7)]
    alone = np.concatenate([classifier.predict(image).scores for image in images])
    np.testing.assert_allclose(classifier.predict(images).scores, alone, atol=1e-5)
    together = classifier.predict(images)
    assert together.label_sets.shape == (7, 10)


def image_of_mode(mode: str, grey: np.ndarray) -> Image.Image:
    if mode.startswith("I"):
        image = Image.fromarray(grey.astype(np.uint16) * 257)
        return image.convert("I") if mode == "I" else image
    if mode in ("L", "LA", "PA"):
        return Image.fromarray(grey).convert(mode)
    return Image.fromarray(np.stack([grey, grey[::-1], grey[:, ::-1]], -1)).convert(mode)


MODES = ("1", "L", "LA", "P", "PA", "RGB", "RGBA", "CMYK", "YCbCr", "HSV", "I", "I;16")


@pytest.mark.parametrize("mode", MODES)
def test_pil_images_of_every_mode(mode: str) -> None:
    grey = np.random.default_rng(0).integers(0, 256, (9, 7), np.uint8)
    image = image_of_mode(mode, grey)
    tensor = read_image(image)
    assert tensor.shape == (3, 9, 7)
    assert tensor.dtype == torch.uint8
    if mode in ("L", "LA", "I", "I;16"):
        assert torch.equal(tensor[0], torch.from_numpy(grey))
    else:
        assert torch.equal(tensor, torch.from_numpy(np.array(image.convert("RGB"))).permute(2, 0, 1))


def test_pil_images_are_turned_upright_and_laid_on_white() -> None:
    image = Image.fromarray(np.zeros((4, 8, 3), np.uint8))
    image.getexif()[0x0112] = 6
    assert read_image(image).shape == (3, 8, 4)
    clear = Image.new("RGBA", (3, 2), (9, 9, 9, 0))
    assert (read_image(clear) == 255).all()


@pytest.mark.parametrize(
    ("image", "message"),
    [
        ("absent.jpg", "absent.jpg: No such file"),
        (np.zeros((4, 4, 3)), "of float64: expected uint8"),
        (torch.zeros(3, 4, 4), "of torch.float32: expected uint8"),
        (np.zeros((4, 4, 2), np.uint8), "an array is"),
        (torch.zeros(4, 4, 3, dtype=torch.uint8), r"a tensor \(C, H, W\)"),
        (np.zeros((0, 4, 3), np.uint8), "shape"),
        (Image.new("F", (2, 2)), "floating-point"),
    ],
)
def test_what_is_no_image_is_said(photo_run: Path, image: object, message: str) -> None:
    with pytest.raises(ImageError, match=message):
        lsep_ml.load(photo_run, device="cpu").predict(image)  # type: ignore[arg-type]
    with pytest.raises(ImageError, match="int: expected a path"):
        read_image(3)  # type: ignore[arg-type]


@pytest.mark.parametrize("device", ["cuda", "cuda:7", "nowhere"])
def test_a_device_that_is_not_here_is_said(photo_run: Path, device: str) -> None:
    if device == "cuda" and torch.cuda.is_available():
        pytest.skip("there is a GPU here")
    with pytest.raises(ValueError, match=rf"device={device}: .*; device=cpu always works"):
        lsep_ml.load(photo_run, device=device)


def test_overrides(photo_run: Path, photo_tree: Path) -> None:
    classifier = lsep_ml.load(photo_run, device="cpu")
    images = sorted((photo_tree / "photos").iterdir())[:6]
    classifier.override(top=2)
    found = classifier.predict(images)
    assert (found.label_sets.sum(1) == 2).all()
    assert found.counts is None
    classifier.override(threshold=0.25)
    found = classifier.predict(images)
    assert np.array_equal(found.label_sets, found.scores > 0.25)
    assert (found.thresholds == 0.25).all()
    for top in (0, 6):
        with pytest.raises(ValueError, match=r"expected 1\.\.5"):
            classifier.override(top=top)
    with pytest.raises(ValueError, match="give one"):
        classifier.override(top=1, threshold=0.5)
    with pytest.raises(ValueError, match="threshold=nan: expected a number"):
        classifier.override(threshold=float("nan"))


def test_a_slice_is_predictions_again(photo_run: Path, photo_tree: Path) -> None:
    found = lsep_ml.load(photo_run, device="cpu").predict(sorted((photo_tree / "photos").iterdir())[:6])
    assert found[2:5].labels == found.labels[2:5]
    assert [image.count for image in found[2:5]] == [image.count for image in found][2:5]
    assert all(image.count == len(image.labels) for image in found)
