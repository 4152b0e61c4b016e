"""Packed folders: the same images under the same names, out of tar files; what is damaged there is said."""

import shutil
import tarfile
import unicodedata
from pathlib import Path

import numpy as np
import pytest
from data_trees import write_image
from typer.testing import CliRunner

from lsep_ml.cli import app
from lsep_ml.data import pack as packing
from lsep_ml.data.errors import DataError, ImageError
from lsep_ml.data.images.content import at_most
from lsep_ml.data.images.decode import ImageFiles, decode_image
from lsep_ml.data.images.opened import MISSING, check_images
from lsep_ml.data.images.packed import MANIFEST, packed_images, table_of
from lsep_ml.data.pack import pack
from lsep_ml.data.sources.coco import read_coco
from lsep_ml.data.sources.coco_json import read_coco_json
from lsep_ml.data.sources.csv_labels import read_csv
from lsep_ml.data.sources.nuswide import read_nuswide
from lsep_ml.data.sources.own import own_annotations
from lsep_ml.data.sources.voc2007 import read_voc2007

NAMES = [
    "a/one.jpg",
    "a/one.png",
    "a/x.2019.jpg",
    "a/x.2020.jpg",
    "b/é ü.jpg",
    "c/" + "long" * 40 + ".jpg",
    "z.JPG",
]
READERS = {
    "voc2007": read_voc2007,
    "coco": read_coco,
    "nuswide": read_nuswide,
    "nuswide_table": read_nuswide,
    "nuswide_lists": read_nuswide,
    "csv": read_csv,
    "coco_json": read_coco_json,
}


@pytest.fixture
def folder(tmp_path):
    root = tmp_path / "images"
    for number, name in enumerate(NAMES):
        write_image(root / name, seed=number)
    shutil.copy(root / "a/one.jpg", root / "a/no_suffix")
    (root / "labels.csv").write_text("image,labels\n" + "".join(f"{name},cat|dog\n" for name in NAMES))
    return root


@pytest.mark.parametrize("pack_bytes", [1, 4000, packing.PACK_BYTES])
def test_tar_files_hold_the_images_as_they_were(folder, tmp_path, pack_bytes):
    packed = pack(folder, tmp_path / "out", pack_bytes)
    assert (packed.images, packed.others, packed.problems, packed.left_out) == (len(NAMES) + 1, 1, {}, {})
    assert packed.packs == {1: len(NAMES) + 1, packing.PACK_BYTES: 1}.get(pack_bytes, packed.packs)
    found = {}
    for path in sorted((tmp_path / "out").glob("*.tar")):
        with tarfile.open(path) as tar:
            found |= {member.name: tar.extractfile(member).read() for member in tar}
    assert found == {name: (folder / name).read_bytes() for name in [*NAMES, "a/no_suffix"]}
    images = packed_images(tmp_path / "out")
    assert images.names == sorted(found)
    assert {name: images.read(row) for row, name in enumerate(images.names)} == found
    assert images.rows(["z.JPG", "gone.jpg", "a/one.jpg"]).tolist() == [
        images.names.index("z.JPG"),
        -1,
        images.names.index("a/one.jpg"),
    ]


@pytest.mark.parametrize("name", READERS)
def test_every_source_reads_a_packed_folder_as_the_folder(trees, tmp_path, name):
    root = trees(name)
    packed = tmp_path / "packed"
    pack(root, packed, 20_000)
    assert not [path for path in packed.rglob("*") if path.suffix in (".jpg", ".png")]
    first, second = READERS[name](root, seed=3), READERS[name](packed, seed=3)
    assert (first.split_hash, first.images_hash, first.dropped) == (
        second.split_hash,
        second.images_hash,
        second.dropped,
    )
    for split in ("train", "val", "test"):
        one, other = first.split(split).images, second.split(split).images
        assert all(bool((one[row] == other[row]).all()) for row in range(len(one)))


def test_own_images_are_found_in_packs(folder, tmp_path):
    pack(folder, tmp_path / "out")
    first, second = own_annotations(folder), own_annotations(tmp_path / "out")
    assert first.image_ids.tolist() == second.image_ids.tolist()
    assert np.array_equal(first.targets, second.targets)


@pytest.mark.parametrize("pack_bytes", [1, packing.PACK_BYTES])
def test_folders_of_labels_and_the_links_in_them_are_read_from_packs(tmp_path, pack_bytes):
    for number, name in enumerate(("cat/1.jpg", "cat/2.jpg", "dog/3.jpg", "cat/4.jpg")):
        write_image(tmp_path / "in/animals" / name, seed=number % 3)
    (tmp_path / "in/animals/dog/2.jpg").hardlink_to(tmp_path / "in/animals/cat/2.jpg")
    pack(tmp_path / "in", tmp_path / "out", pack_bytes)
    (tmp_path / "out/animals").mkdir()  # which is there where it holds other files
    for place in ("", "animals"):
        first, second = own_annotations(tmp_path / "in" / place), own_annotations(tmp_path / "out" / place)
        assert first.image_ids.tolist() == second.image_ids.tolist()
        assert np.array_equal(first.targets, second.targets)
        assert (len(first), int(first.targets.sum())) == (4, 5)


def test_the_check_takes_what_packing_found(folder, tmp_path):
    (folder / "a/broken.jpg").write_bytes((folder / "a/one.jpg").read_bytes()[:700])
    packed = pack(folder, tmp_path / "out")
    assert list(packed.problems) == ["a/broken.jpg"]
    write_image(tmp_path / "out/loose.jpg", seed=9)
    shutil.copy(tmp_path / "out/loose.jpg", folder / "loose.jpg")
    ids = np.array(["z.JPG", "loose.jpg", "gone.jpg", "a/broken.jpg", "a/one.png"])
    files, packs = check_images(folder, ids, None), check_images(tmp_path / "out", ids, None)
    assert files.problems == packs.problems
    assert packs.problems[2] == MISSING
    for key in ("sizes", "num_bytes", "digests", "hashes"):
        assert np.array_equal(getattr(files, key), getattr(packs, key)), key
    with at_most(1000):
        files, packs = check_images(folder, ids, None), check_images(tmp_path / "out", ids, None)
    assert files.problems == packs.problems
    assert "max_bytes = 1,000" in packs.problems[0]


def test_a_folder_within_a_packed_one(folder, tmp_path):
    pack(folder, tmp_path / "out")
    below = packed_images(tmp_path / "out/a")
    assert below.names == sorted([name[2:] for name in NAMES if name.startswith("a/")] + ["no_suffix"])
    images = ImageFiles(tmp_path / "out/a", np.array(["one.png"]))
    assert bool((images[0] == decode_image((folder / "a/one.png").read_bytes())).all())
    assert packed_images(folder) is None


def test_names_in_the_other_unicode_form_are_found(folder, tmp_path):
    pack(folder, tmp_path / "out")
    apart = unicodedata.normalize("NFD", "b/é ü.jpg")
    (tmp_path / "out/labels.csv").write_text(
        f"image,labels,split\n{apart},cat,train\na/one.jpg,dog,train\na/one.png,dog,test\nz.JPG,cat,val\n"
    )
    assert "b/é ü.jpg" in read_csv(tmp_path / "out").train.image_ids.tolist()


def test_a_damaged_member_is_a_bad_image(folder, tmp_path):
    pack(folder, tmp_path / "out")
    path = tmp_path / "out/images-00000.tar"
    content = bytearray(path.read_bytes())
    images = packed_images(tmp_path / "out")
    row = images.names.index("a/one.png")
    content[images.column("offset")[row] + 40] ^= 1
    path.write_bytes(content)
    with pytest.raises(ImageError, match=r"a/one\.png: damaged in images-00000\.tar"):
        ImageFiles(tmp_path / "out", np.array(["a/one.png"]))[0]
    assert ImageFiles(tmp_path / "out", np.array(["a/one.jpg"]))[0].ndim == 3


def _shorten(out: Path) -> None:
    path = out / "images-00000.tar"
    path.write_bytes(path.read_bytes()[:-512])


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (_shorten, r"images-00000\.tar: [\d,]+ bytes, and packs\.index says"),
        (lambda out: (out / "images-00000.tar").unlink(), r"images-00000\.tar: missing"),
        (lambda out: (out / MANIFEST).write_text("{}"), "not a list of packs"),
        (lambda out: (out / MANIFEST).write_text('{"format": 9, "packs": {}}'), "not a list of packs"),
        (
            lambda out: (out / MANIFEST).write_text('{"format": 1, "packs": {"../a.tar": 1}}'),
            "not a list of packs",
        ),
        (
            lambda out: table_of(out / "images-00000.tar").write_bytes(b"no"),
            "cannot be read as a pack's table",
        ),
        (lambda out: table_of(out / "images-00000.tar").unlink(), "cannot be read as a pack's table"),
    ],
)
def test_a_damaged_packed_folder_is_refused(folder, tmp_path, damage, message):
    out = tmp_path / "out"
    pack(folder, out)
    damage(out)
    with pytest.raises(DataError, match=message):
        read_csv(out)


def test_packing_goes_on_where_it_was_stopped(folder, tmp_path, monkeypatch):
    pack(folder, tmp_path / "whole", 4000)
    real, written = packing._write_pack, []

    def stopped(path, *rest):
        if len(written) == 2:
            raise KeyboardInterrupt
        written.append(path.name)
        return real(path, *rest)

    monkeypatch.setattr(packing, "_write_pack", stopped)
    with pytest.raises(KeyboardInterrupt):
        pack(folder, tmp_path / "out", 4000)
    assert packed_images(tmp_path / "out") is None
    monkeypatch.setattr(
        packing, "_write_pack", lambda path, *rest: (written.append(path.name), real(path, *rest))[1]
    )
    packed = pack(folder, tmp_path / "out", 4000)
    assert len(written) == len(set(written)) == packed.packs  # none twice
    for path in (tmp_path / "whole").iterdir():
        assert path.read_bytes() == (tmp_path / "out" / path.name).read_bytes(), path.name


def test_what_cannot_be_packed_is_refused_or_named(folder, tmp_path):
    with pytest.raises(DataError, match="lies in"):
        pack(folder, folder / "packed")
    (folder / "a/loop.jpg").symlink_to(folder / "a/gone.jpg")
    packed = pack(folder, tmp_path / "out")
    assert packed.left_out == {"a/loop.jpg": "No such file or directory"}
    assert packed.images == len(NAMES) + 1
    with pytest.raises(DataError, match="a packed folder already"):
        pack(folder, tmp_path / "out")
    with pytest.raises(DataError, match="packed already"):
        pack(tmp_path / "out", tmp_path / "again")
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match="no image in it"):
        pack(tmp_path / "empty", tmp_path / "again")


def test_the_verb(folder, tmp_path):
    done = CliRunner().invoke(app, ["pack", str(folder), "--out", str(tmp_path / "out"), "--mib", "1"])
    assert done.exit_code == 0, done.output
    assert f"{len(NAMES) + 1} images in 1 tar files" in done.output.replace("\n", " ")
    (folder / "a/broken.jpg").write_bytes(b"no image")
    done = CliRunner().invoke(app, ["pack", str(folder), "--out", str(tmp_path / "other")])
    assert done.exit_code == 3
    assert "a/broken.jpg" in done.output
