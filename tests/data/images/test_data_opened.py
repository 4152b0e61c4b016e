"""The check of all images before training: what it finds, what it remembers, and who shares the memory."""

import os
from pathlib import Path

import numpy as np
import pytest
from data_trees import write_image

from lsep_ml.data.errors import ImageError
from lsep_ml.data.images.content import at_most
from lsep_ml.data.images.decode import ImageFiles, decode_image
from lsep_ml.data.images.opened import MISSING, check_images


def truncated(path: Path) -> bytes:
    return path.read_bytes()[:1000]


@pytest.fixture
def folder(tmp_path):
    for number in range(5):
        write_image(tmp_path / f"{number}.jpg", seed=number)
    (tmp_path / "2.jpg").write_bytes(truncated(tmp_path / "1.jpg"))
    (tmp_path / "copy.jpg").write_bytes((tmp_path / "1.jpg").read_bytes())
    return tmp_path


IDS = np.array(["0.jpg", "1.jpg", "2.jpg", "3.jpg", "gone.jpg", "copy.jpg"])


@pytest.mark.parametrize("cached", [False, True])
def test_check_finds_what_is_wrong(folder, cached):
    cache = folder / "cache" if cached else None
    first, second = (check_images(folder, IDS, cache) for _ in range(2))
    assert first.problems[4] == MISSING
    assert "cannot be decoded" in first.problems[2]
    assert list(first.problems) == list(second.problems) == [2, 4]
    assert first.problems == second.problems
    assert first.digests[1] == first.digests[5]
    assert len(set(first.digests[[0, 1, 2, 3]])) == 4
    assert first.sizes[0].tolist() == list(decode_image((folder / "0.jpg").read_bytes()).shape[1:])
    assert first.num_bytes[2] == 1000
    assert first.num_bytes[4] == -1
    for one, other in zip(
        (first.sizes, first.digests, first.num_bytes),
        (second.sizes, second.digests, second.num_bytes),
        strict=True,
    ):
        assert np.array_equal(one, other)


@pytest.fixture
def opened(monkeypatch):
    """The names of the images that were opened."""
    from lsep_ml.data.images import opened as opened_images

    names, real = [], opened_images._open_one

    def record(path):
        names.append(path.name)
        return real(path)

    monkeypatch.setattr(opened_images, "_open_one", record)
    return names


def test_only_changed_and_new_images_are_opened_again(folder, opened):
    check_images(folder, IDS, folder / "cache")
    assert sorted(opened) == ["0.jpg", "1.jpg", "2.jpg", "3.jpg", "copy.jpg"]
    opened.clear()
    check_images(folder, IDS, folder / "cache")
    assert opened == []
    write_image(folder / "2.jpg", seed=77)
    write_image(folder / "new.jpg", seed=78)
    ids = np.array(["new.jpg", "3.jpg", "2.jpg", "gone.jpg", "0.jpg"])
    assert check_images(folder, ids, folder / "cache").problems == {3: MISSING}
    assert sorted(opened) == ["2.jpg", "new.jpg"]


def test_a_damaged_cache_is_made_again(folder, opened, caplog):
    check_images(folder, IDS, folder / "cache")
    [stored] = (folder / "cache").iterdir()
    stored.write_bytes(stored.read_bytes()[:100])
    opened.clear()
    assert list(check_images(folder, IDS, folder / "cache").problems) == [2, 4]
    assert len(opened) == 5
    assert "damaged" in caplog.text


def test_a_cache_that_cannot_be_written_is_only_a_warning(folder, caplog):
    (folder / "cache").write_text("a file where the folder should be")
    assert list(check_images(folder, IDS, folder / "cache").problems) == [2, 4]
    assert "data.cache" in caplog.text


def test_what_is_known_of_other_images_stays_known(folder, opened):
    """Two label files over one folder, or a check of all images and a run on the labelled ones."""
    cache = folder / "cache"
    check_images(folder, IDS, cache)
    write_image(folder / "3.jpg", seed=79)
    assert check_images(folder, np.array(["3.jpg", "0.jpg"]), cache).problems == {}
    opened.clear()
    again = check_images(folder, IDS, cache)
    assert opened == []
    afresh = check_images(folder, IDS, None)
    assert again.problems == afresh.problems
    assert list(again.problems) == [2, 4]
    assert np.array_equal(again.sizes, afresh.sizes)
    assert np.array_equal(again.digests, afresh.digests)


def test_a_file_that_breaks_after_the_check_is_named(folder):
    images = ImageFiles(folder, IDS)
    assert images[0].shape[0] == 3
    with pytest.raises(ImageError, match=r"2\.jpg: JPEG cannot be decoded"):
        images[2]
    with pytest.raises(ImageError, match=r"gone\.jpg"):
        images[4]


def test_only_files_of_a_size_that_is_asked_for_are_opened(folder, opened):
    """A pipe would be waited for, and what is too large for one limit may be right for another."""
    os.mkfifo(folder / "pipe.jpg")
    (folder / "zeros.jpg").symlink_to("/dev/zero")
    with (folder / "sparse.jpg").open("wb") as file:
        file.truncate(2**33)
    ids = np.array(["0.jpg", "pipe.jpg", "zeros.jpg", "sparse.jpg", "1.jpg"])
    cache = folder / "cache"
    for _ in range(2):
        found = check_images(folder, ids, cache)
        assert found.problems == {
            1: "a pipe, not a file",
            2: "a device, not a file",
            3: "8,589,934,592 bytes, more than max_bytes = 536,870,912",
        }
        assert found.num_bytes[3] == 2**33
    assert "sparse.jpg" not in opened
    opened.clear()
    size = (folder / "0.jpg").stat().st_size
    with at_most(size - 1):
        assert 0 in check_images(folder, ids, cache).problems
    assert 0 not in check_images(folder, ids, cache).problems
    with pytest.raises(ImageError, match="a pipe, not a file"):
        ImageFiles(folder, ids)[1]
