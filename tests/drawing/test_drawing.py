"""Label sets beneath pictures: compared as a loop does, laid out without cuts or overlaps, drawn and as SVG alike."""

from itertools import combinations
from xml.etree import ElementTree

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lsep_ml.drawing import KINDS, Sheet, Tile, Word, draw, label_words, lay_out, legend, to_svg
from lsep_ml.drawing.sheet import LINE, _length
from lsep_ml.metrics.functional import compare_label_sets, count_label_sets

SVG = "{http://www.w3.org/2000/svg}"
GREY = np.full((30, 20), 90, np.uint8)


def by_hand(predicted: int, true: int, known: int) -> str:
    """What becomes of one label."""
    if not known:
        return ""
    return {(1, 1): "found", (1, 0): "wrong", (0, 1): "missed", (0, 0): ""}[predicted, true]


@pytest.mark.parametrize("kind", [np.uint8, bool])
def test_labels_are_compared_one_by_one(kind: type) -> None:
    rng = np.random.default_rng(0)
    predicted, true, known = rng.integers(0, 2, (3, 40, 6)).astype(kind)
    found = compare_label_sets(predicted, true, known)
    for name, labels in found._asdict().items():
        for place in np.ndindex(40, 6):
            assert labels[place] == (
                by_hand(*(int(array[place]) for array in (predicted, true, known))) == name
            )
    counts = count_label_sets(predicted, true, known)
    np.testing.assert_array_equal(counts.correct, found.found.sum(0))
    np.testing.assert_array_equal(counts.predicted, (found.found | found.wrong).sum(0))
    np.testing.assert_array_equal(counts.actual, (found.found | found.missed).sum(0))
    assert counts.exact == (~(found.wrong | found.missed).any(1) & (known != 0).any(1)).sum()
    every = compare_label_sets(predicted, true)
    np.testing.assert_array_equal(
        every.found, compare_label_sets(predicted, true, np.ones((40, 6), kind)).found
    )


def test_a_label_set_in_words() -> None:
    sets = np.array([[1, 0, 1, 0, 1], [1, 1, 0, 0, 0], [1, 1, 1, 1, 0]], np.uint8)
    words = label_words(*sets, ["cat", "dog", "een triangle", "sky", "unknown"])
    assert words == [("✓ cat", "found"), ("✗ een triangle", "wrong"), ("– dog", "missed")]
    assert label_words(*np.zeros((3, 2), np.uint8), ["a", "b"]) == [("none", "")]
    many, none = np.ones(1234, bool), np.zeros(1234, bool)
    words = label_words(many, none, many, [str(k) for k in range(1234)])
    assert [word.text for word in words] == [*(f"✗ {k}" for k in range(30)), "✗ 1,204 more"]
    assert [word.kind for word in legend()] == list(KINDS)


def inside(sheet: Sheet) -> None:
    """Nothing leaves the sheet, and no two texts or pictures lie over each other."""
    boxes = [(text.x, text.y, text.width, LINE) for text in sheet.texts]
    boxes += [box for box, _ in sheet.pictures]
    assert all(x >= 0 and y >= 0 for x, y, _, _ in boxes)
    assert all(x + w <= sheet.width and y + h <= sheet.height for x, y, w, h in boxes)
    for (x, y, w, h), (u, v, s, t) in combinations(boxes, 2):
        assert x + w <= u or u + s <= x or y + h <= v or v + t <= y


NAMES = st.text(st.characters(exclude_categories=["Cs"]), max_size=40)


@settings(max_examples=60, deadline=None)
@given(st.lists(st.lists(NAMES, max_size=6), min_size=1, max_size=7), st.integers(1, 4), NAMES)
def test_any_words_fit(lines: list[list[str]], columns: int, name: str) -> None:
    tiles = [Tile(GREY, [[Word(text) for text in line], [Word("next")]]) for line in lines]
    sheet = lay_out({f"of {name}": tiles, "": tiles[:1]}, columns, (90, 60), legend(), title=name)
    inside(sheet)
    written = "".join(text.text for text in sheet.texts).replace(" ", "")
    shown = ["".join(letter for letter in text if letter.isprintable()) for line in lines for text in line]
    assert all(word in written for text in shown for word in text.replace(" ", "").split())
    assert ElementTree.fromstring(to_svg(sheet)).tag == f"{SVG}svg"


def test_words_wrap_and_long_ones_are_broken_at_spaces() -> None:
    line = [Word("a long class name of many words", "found"), Word("cat", "wrong")]
    sheet = lay_out({"": [Tile(GREY, [line])]}, 1, (120, 60))
    pieces = [text.text for text in sheet.texts]
    assert " ".join(pieces) == "a long class name of many words cat"
    assert all(_length(piece) <= 120 for piece in pieces)
    assert {text.kind for text in sheet.texts[:-1]} == {"found"}
    first, second = sheet.texts[:2]
    assert (second.y - first.y, second.x - first.x) == (LINE, 12)  # the rest of a broken word is indented
    assert sheet.texts[-1].x == first.x


def test_a_picture_keeps_its_shape() -> None:
    for shape in ((30, 60), (60, 30, 3), (200, 4), (1, 500)):
        sheet = lay_out({"": [Tile(np.zeros(shape, np.uint8), [])]}, 1, (100, 80))
        [((_, _, width, height), _)] = sheet.pictures
        assert width == 100 or height == 80
        assert width <= 100
        assert height <= 80
        assert abs(width - height * shape[1] / shape[0]) < 1 or abs(height - width * shape[0] / shape[1]) < 1


def test_drawn_and_as_svg_it_is_the_same_sheet() -> None:
    colour = np.zeros((100, 100, 3), np.uint8)
    colour[..., 0] = 200
    words = [Word(kind, kind) for kind in KINDS]
    sheet = lay_out({"<a> & b": [Tile(colour, [words]), Tile(GREY, [[Word("none")]])]}, 2, (80, 80))
    image = np.asarray(draw(sheet))
    assert image.shape == (sheet.height, sheet.width, 3)
    for (x, y, width, height), _ in sheet.pictures[:1]:
        assert (image[y : y + height, x : x + width] == [200, 0, 0]).all()
    for text in sheet.texts:
        ground = image[text.y : text.y + LINE, text.x : text.x + text.width].reshape(-1, 3)
        wanted = KINDS[text.kind].light if text.kind else "#1c1e21"
        rgb = [int(wanted[i : i + 2], 16) for i in (1, 3, 5)]
        assert (ground == rgb).all(1).any()
    root = ElementTree.fromstring(to_svg(sheet))
    assert [one.text for one in root.iter(f"{SVG}text")] == [text.text for text in sheet.texts]
    assert [one.get("fill") for one in root.iter(f"{SVG}text")][1:4] == [
        kind.light for kind in KINDS.values()
    ]
    assert len(list(root.iter(f"{SVG}image"))) == 2
    assert to_svg(sheet).count("pixelated") == 1  # the small one
    assert to_svg(sheet) == to_svg(sheet)
