"""From people's own images to the three splits: groups, splits that lack a part, validation that is too small."""

import logging

import numpy as np
import pytest
from own_trees import IMAGES, SPLITS, TRUTH, number_of, write_images

from lsep_ml.data import DataError
from lsep_ml.data.sources.own import read_own

ROWS = range(IMAGES)


def written(root, header="image,labels,patient", more=lambda r: f"p{r // 3}"):
    lines = [header, *(f"{r}.png,{'|'.join(sorted(TRUTH[r]))},{more(r)}" for r in ROWS)]
    write_images(root)
    (root / "labels.csv").write_text("\n".join(lines) + "\n")
    return root


def parts(data_set):
    return {
        name: set(map(number_of, data_set.split(name).image_ids.tolist()))
        for name in ("train", "val", "test")
    }


@pytest.mark.parametrize("seed", range(3))
def test_no_group_is_divided(tmp_path, seed):
    data_set = read_own(written(tmp_path), seed, shares=(0.6, 0.2, 0.2))
    patients = {name: {r // 3 for r in rows} for name, rows in parts(data_set).items()}
    assert sum(map(len, patients.values())) == 10
    assert {name: len(rows) for name, rows in parts(data_set).items()} == {"train": 18, "val": 6, "test": 6}
    assert data_set.counts["groups"] == {"train": 6, "val": 2, "test": 2}
    assert data_set.counts["shares"] == {"train": 0.6, "val": 0.2, "test": 0.2}
    for name, rows in parts(data_set).items():
        split = data_set.split(name)
        numbers = dict(zip(map(number_of, split.image_ids.tolist()), split.groups.tolist(), strict=True))
        assert all((numbers[a] == numbers[b]) == (a // 3 == b // 3) for a in rows for b in rows)


def test_the_split_is_kept_and_is_that_of_the_groups(tmp_path):
    root = written(tmp_path)
    cache = tmp_path / "cache"
    first, again = read_own(root, cache=cache), read_own(root, cache=cache)
    assert first.split_hash == again.split_hash == read_own(root).split_hash
    assert read_own(root, cache=cache, group="none").split_hash != first.split_hash
    assert read_own(root, cache=cache, group="none").train.groups is None
    by_pattern = read_own(root, cache=cache, group=r"(\d)\.png")
    assert {
        name: len({r % 10 for r in rows}) for name, rows in parts(by_pattern).items()
    } == by_pattern.counts["groups"]
    assert sum(by_pattern.counts["groups"].values()) == 10


def test_too_few_groups_are_refused(tmp_path):
    with pytest.raises(DataError, match=r"1 groups \(data.group\) for 3 splits.*data.group=none"):
        read_own(written(tmp_path), group="folder")


def test_validation_is_held_out_by_group(tmp_path):
    root = written(
        tmp_path, "image,labels,patient,split", lambda r: f"p{r // 3},{'test' if r > 20 else 'train'}"
    )
    data_set = read_own(root, holdout=0.3)
    assert parts(data_set)["test"] == set(range(21, 30))
    assert len(parts(data_set)["val"]) == 6
    assert not {r // 3 for r in parts(data_set)["val"]} & {r // 3 for r in parts(data_set)["train"]}


def test_without_test_images_the_val_images_test(tmp_path, caplog):
    root = written(tmp_path, "image,labels,split", lambda r: "val" if SPLITS[r] == "val" else "train")
    data_set = read_own(root, holdout=0.2)
    assert parts(data_set)["test"] == {r for r in ROWS if SPLITS[r] == "val"}
    assert len(data_set.val) == 5
    assert "its val images test" in caplog.text


def test_with_train_images_alone_the_split_is_drawn(tmp_path, caplog):
    data_set = read_own(written(tmp_path, "image,labels,split", lambda r: "train"))
    assert min(map(len, parts(data_set).values())) >= 2
    assert "it is drawn here (data.shares)" in caplog.text


def test_validation_too_small_for_its_labels_is_said(tmp_path, caplog):
    root = written(tmp_path, "image,labels,split", lambda r: "test" if r > 20 else "train")
    (root / "labels.csv").write_text((root / "labels.csv").read_text().replace("5.png,", "5.png,rare|"))
    with caplog.at_level(logging.WARNING):
        read_own(root, holdout=0.05)
    assert "1 validation images for 5 labels" in caplog.text
    assert "data.holdout" in caplog.text


def test_where_no_image_is_there_the_folder_is_asked_about(tmp_path):
    (tmp_path / "labels.csv").write_text("image,labels\n" + "".join(f"{n}.png,a|b\n" for n in range(4)))
    with pytest.raises(DataError, match=r"4 of 4 images .* cannot be used.* is data.root the folder"):
        read_own(tmp_path)


def test_every_guess_is_logged(tmp_path, caplog):
    with caplog.at_level(logging.INFO):
        read_own(written(tmp_path))
    assert "groups: column 'patient' (data.group; none for none)" in caplog.text
    assert np.char.startswith(read_own(tmp_path).train.image_ids, "images/").all()
