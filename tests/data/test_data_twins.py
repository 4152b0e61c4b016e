"""Near-duplicates: every pair within the distance, what is joined by them, and what splits do about them."""

import dataclasses
import logging
from pathlib import Path

import numpy as np
import pytest
from data_trees import picture, write_lines
from hypothesis import given, settings
from hypothesis import strategies as st

from lsep_ml.data import DataError, twins
from lsep_ml.data.annotations import Annotations, treat_twins
from lsep_ml.data.data_set import SPLITS
from lsep_ml.data.sources.csv_labels import read_csv
from lsep_ml.data.twins import DISTANCE, Twins, near_pairs


def near(one: int, other: int) -> bool:
    return bin(one ^ other).count("1") <= DISTANCE


def flipped(hash_: int, places) -> int:
    for place in places:
        hash_ ^= 1 << place
    return hash_


@st.composite
def some_hashes(draw):
    """A few hashes, most of them another one with up to 10 bits flipped; 0 and repeats among them."""
    whole = st.integers(0, 2**64 - 1)
    found = draw(st.lists(st.one_of(st.just(0), whole), min_size=1, max_size=5))
    for _ in range(draw(st.integers(0, 12))):
        places = draw(st.lists(st.integers(0, 63), max_size=10))
        found.append(flipped(draw(st.sampled_from(found)), places))
    return np.array(found, np.uint64)


@settings(max_examples=60, deadline=None)
@given(some_hashes(), st.integers(1, 5))
def test_all_pairs_within_the_distance_are_found(hashes, chunk):
    distinct = np.unique(hashes)
    before, twins.CHUNK = twins.CHUNK, chunk
    try:
        found = near_pairs(distinct)
    finally:
        twins.CHUNK = before
    expected = [
        (i, j)
        for i in range(len(distinct))
        for j in range(i + 1, len(distinct))
        if near(int(distinct[i]), int(distinct[j]))
    ]
    assert list(map(tuple, found.tolist())) == expected


def test_bits_may_differ_anywhere():
    """Eight flipped bits in any three bands, 3 + 3 + 2 among them; nine are too many."""
    draws = np.random.default_rng(0)
    for number in (1, 7, 8, 9):
        for _ in range(10):
            start = int(draws.integers(0, 2**64, dtype=np.uint64))
            pair = np.array(
                [start, flipped(start, draws.choice(64, number, replace=False).tolist())], np.uint64
            )
            assert len(near_pairs(np.sort(pair))) == (number <= 8)


@settings(max_examples=60, deadline=None)
@given(some_hashes(), st.data())
def test_twins_as_loops_say(hashes, data):
    count = len(hashes)
    values = hashes.tolist()
    same = [[a != 0 and b != 0 and near(a, b) for b in values] for a in values]
    chosen = np.array(data.draw(st.lists(st.booleans(), min_size=count, max_size=count)))
    found = Twins(hashes)
    assert found.has_twin.tolist() == [any(same[i][j] for j in range(count) if j != i) for i in range(count)]
    firsts = [next((j for j in range(count) if chosen[j] and same[i][j]), -1) for i in range(count)]
    assert found.among(chosen).tolist() == firsts


@settings(max_examples=60, deadline=None)
@given(some_hashes(), st.data())
def test_what_is_joined_is_the_transitive_closure(hashes, data):
    count = len(hashes)
    numbers = data.draw(
        st.none() | st.lists(st.integers(-3, count), min_size=count, max_size=count).map(np.array)
    )
    values = hashes.tolist()
    together = np.eye(count, dtype=bool)
    for i in range(count):
        for j in range(count):
            together[i, j] |= values[i] != 0 and values[j] != 0 and near(values[i], values[j])
            together[i, j] |= numbers is not None and numbers[i] == numbers[j]
    for k in range(count):  # Warshall
        together |= together[:, [k]] & together[[k], :]
    found = Twins(hashes).joined(numbers)
    assert np.array_equal(found[:, None] == found[None, :], together)
    assert found.dtype == np.int64


def write_doubled(root: Path, count: int = 24, split: bool = False) -> Path:
    """`count` photographs and a smaller, compressed copy of each; with a split that puts every copy into test."""
    lines = ["image,labels,split" if split else "image,labels"]
    for number in range(count):
        image = picture(number, 96, 128)
        (root / "images").mkdir(parents=True, exist_ok=True)
        image.save(root / f"images/{number}.jpg", quality=95)
        image.resize((96, 72)).save(root / f"images/{number}_copy.jpg", quality=60)
        labels = ["cat", "dog", "cat|dog"][number % 3]
        for name, part in ((f"{number}", "train"), (f"{number}_copy", "test")):
            lines.append(f"images/{name}.jpg,{labels}{f',{part}' if split else ''}")
    write_lines(root / "labels.csv", lines)
    return root


def photograph(image_id: str) -> str:
    return image_id.removesuffix(".jpg").removesuffix("_copy")


def test_a_drawn_split_divides_no_twins_if_asked(tmp_path, caplog):
    root = write_doubled(tmp_path)
    reported = read_csv(root)
    assert reported.twins is not None
    assert reported.twins["test"] > 0
    assert reported.counts["twins"] == reported.twins
    assert f"{reported.twins['test']} of {len(reported.test)} test images" in caplog.text
    caplog.clear()
    together = read_csv(root, twins="together")
    places = {}
    for name in SPLITS:
        for image_id in together.split(name).image_ids.tolist():
            places.setdefault(photograph(image_id), set()).add(name)
    assert len(places) == 24
    assert all(len(found) == 1 for found in places.values())
    assert together.twins == {"val": 0, "test": 0}
    assert together.counts["groups"] == {
        name: len(together.split(name)) // 2 for name in SPLITS
    }  # pairs, which are groups now
    shares = together.counts["label_shares"]
    assert all(sum(shares[name][label] for name in SPLITS) == pytest.approx(1) for label in ("cat", "dog"))
    assert "near-duplicate" not in caplog.text


def test_by_default_the_split_is_as_if_nobody_looked(tmp_path):
    root = write_doubled(tmp_path)
    first, second = read_csv(root), read_csv(root, twins="ignore")
    assert first.split_hash == second.split_hash
    assert second.twins is None
    assert "twins" not in second.counts


def test_a_listed_split_is_counted_and_kept(tmp_path):
    root = write_doubled(tmp_path, split=True)
    for choice in ("report", "together"):
        found = read_csv(root, twins=choice)
        held_out = len(found.val)
        assert found.twins["test"] == len(found.test) - held_out == 24 - held_out
    train = {photograph(name) for name in found.train.image_ids.tolist()}
    assert train.isdisjoint(photograph(name) for name in found.val.image_ids.tolist())


def test_the_counted_shares_of_groups(tmp_path):
    counts = read_csv(write_doubled(tmp_path), twins="together").counts
    for name in SPLITS:
        for label in ("cat", "dog"):
            total = sum(counts["positives"][part][label] for part in SPLITS)
            share = counts["positives"][name][label] / total
            assert counts["label_shares"][name][label] == pytest.approx(share, abs=1e-4)


def test_an_unknown_choice_is_refused():
    empty = Annotations(
        "own", Path(), ("a", "b"), np.array(["x"]), np.ones((1, 2), np.uint8), None, np.array([""])
    )
    with pytest.raises(DataError, match=r"data\.twins=drop: report, together or ignore"):
        treat_twins(dataclasses.replace(empty, hashes=np.ones(1, np.uint64)), "drop")


def test_a_validation_split_too_small_for_its_labels_is_said(tmp_path, caplog):
    lines = ["image,labels,split"]
    for number in range(40):
        picture(number, 40, 48).save(tmp_path / f"{number}.jpg")
        lines.append(f"{number}.jpg,label {number % 10:02d},{'train' if number < 30 else 'test'}")
    write_lines(tmp_path / "labels.csv", lines)
    with caplog.at_level(logging.WARNING):
        read_csv(tmp_path, holdout=0.1)
    assert "3 validation images for 10 labels, 7 of which none of them has" in caplog.text
    assert "data.holdout" in caplog.text
