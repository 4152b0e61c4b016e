"""prepare: archives to trees, interrupted and repeated, damaged or hostile archives, NUS-WIDE's split
file."""

import hashlib
import io
import shutil
import tarfile
import zipfile
from pathlib import Path
from typing import NamedTuple

import pytest

from lsep_ml.data import DataError
from lsep_ml.data.prepare import Prepared, Unpacked, prepare, unpack
from lsep_ml.data.sources.coco import read_coco
from lsep_ml.data.sources.nuswide import read_nuswide
from lsep_ml.data.sources.nuswide.paper_split import read_split_file
from lsep_ml.data.sources.source import Archive
from lsep_ml.data.sources.voc2007 import read_voc2007


def tar(path: Path, folder: Path, inside: str) -> Path:
    with tarfile.open(path, "w") as archive:
        archive.add(folder, inside)
    return path


def zipped(path: Path, folder: Path, inside: str) -> Path:
    with zipfile.ZipFile(path, "w") as archive:
        for file in sorted(folder.rglob("*")):
            if file.is_file():
                archive.write(
                    file, f"{inside}/{file.relative_to(folder)}" if inside else str(file.relative_to(folder))
                )
    return path


def described(*paths: Path) -> tuple[Archive, ...]:
    return tuple(Archive(p.name, p.stat().st_size, hashlib.md5(p.read_bytes()).hexdigest()) for p in paths)


@pytest.fixture
def voc_archive(trees, tmp_path):
    (tmp_path / "fetched").mkdir()
    return tar(tmp_path / "fetched" / "VOCtrainval.tar", trees("voc2007") / "VOCdevkit", "VOCdevkit")


def files(root: Path) -> dict[str, bytes]:
    return {str(path.relative_to(root)): path.read_bytes() for path in root.rglob("*") if path.is_file()}


def test_voc2007(trees, voc_archive, tmp_path):
    root = tmp_path / "voc"
    prepared = prepare("voc2007", voc_archive.parent, root, archives=described(voc_archive))
    assert files(root) == files(trees("voc2007"))
    assert prepared.exit_code == 0
    assert prepared.unpacked["VOCtrainval.tar"].written == len(files(root))
    assert prepared.lines()[-1] == f"next: python -m lsep_ml check voc2007 --root {root}"
    assert read_voc2007(root).split_hash == read_voc2007(trees("voc2007")).split_hash


def test_coco_from_three_archives(trees, tmp_path):
    tree, fetched = trees("coco"), tmp_path / "fetched"
    fetched.mkdir()
    names = ("train2014", "val2014", "annotations")
    paths = [zipped(fetched / f"{name}.zip", tree / name, name) for name in names]
    prepared = prepare("coco", fetched, tmp_path / "coco", archives=described(*paths))
    assert files(tmp_path / "coco") == files(tree)
    assert read_coco(tmp_path / "coco").split_hash == read_coco(tree).split_hash
    paths[1].unlink()
    absent = (*described(paths[0], paths[2]), Archive("val2014.zip", 1, "0" * 32))
    prepared = prepare("coco", fetched, tmp_path / "coco", archives=absent)
    assert prepared.absent == ("val2014.zip",)
    assert "val2014.zip: not found" in prepared.lines()


def test_nuswide_in_the_layouts_archives_have(trees, tmp_path):
    """Some archives hold the folder itself, some only what is in it."""
    tree, fetched = trees("nuswide"), tmp_path / "fetched"
    fetched.mkdir()
    tar(fetched / "images.tar", tree / "Flickr", "NUS-WIDE/images/Flickr")
    zipped(fetched / "ImageList.zip", tree / "ImageList", "ImageList")
    zipped(fetched / "Groundtruth.zip", tree / "Groundtruth", "")
    with zipfile.ZipFile(fetched / "ConceptsList.zip", "w") as archive:
        archive.write(tree / "Concepts81.txt", "ConceptsList/Concepts81.txt")
        archive.writestr("NUS_WID_Tags/tags.txt", "noisy")
    root = tmp_path / "nuswide"
    prepared = prepare("nuswide", fetched, root, train_images=60)
    assert prepared.unpacked["ConceptsList.zip"].skipped == 1
    assert {name: content for name, content in files(root).items() if "splits" not in name} == files(tree)
    assert prepared.split == root / "splits" / "paper-seed0.json"
    parts = read_split_file(prepared.split)
    assert {part: len(names) for part, names in parts.items()} == {"train": 60, "test": 16}
    from_file, drawn = read_nuswide(root), read_nuswide(tree, train_images=60)
    assert from_file.split_hash == drawn.split_hash
    before = prepared.split.read_bytes()
    assert prepare("nuswide", fetched, root, train_images=30).split.read_bytes() == before


def test_nuswide_without_its_lists(trees, tmp_path):
    tar(tmp_path / "images.tar", trees("nuswide") / "Flickr", "Flickr")
    with pytest.raises(DataError, match=r"no ImageList/TrainImagelist\.txt"):
        prepare("nuswide", tmp_path, tmp_path / "nuswide")


def test_repeating_it_writes_nothing_and_an_interruption_goes_on(trees, voc_archive, tmp_path, monkeypatch):
    root, copied, real = tmp_path / "voc", [], shutil.copyfileobj

    def interrupted(source, target):
        if len(copied) == 30:
            target.write(b"half of a fi")
            raise KeyboardInterrupt
        copied.append(real(source, target))

    facts = described(voc_archive)
    monkeypatch.setattr(shutil, "copyfileobj", interrupted)
    with pytest.raises(KeyboardInterrupt):
        prepare("voc2007", voc_archive.parent, root, archives=facts)
    assert len(files(root)) == 30
    monkeypatch.setattr(shutil, "copyfileobj", real)
    done = prepare("voc2007", voc_archive.parent, root, archives=facts).unpacked["VOCtrainval.tar"]
    assert (done.present, done.written) == (30, len(files(trees("voc2007"))) - 30)
    assert files(root) == files(trees("voc2007"))
    done = prepare("voc2007", voc_archive.parent, root, archives=facts).unpacked["VOCtrainval.tar"]
    assert done.written == 0


def test_what_is_there_is_never_overwritten(voc_archive, tmp_path):
    root = tmp_path / "voc"
    mine = root / "VOCdevkit" / "VOC2007" / "JPEGImages" / "000001.jpg"
    mine.parent.mkdir(parents=True)
    mine.write_text("mine")
    prepared = prepare("voc2007", voc_archive.parent, root, archives=described(voc_archive))
    assert mine.read_text() == "mine"
    assert prepared.exit_code == 3
    unpacked = {"a.tar": Unpacked(differing=["000001.jpg"])}
    assert Prepared("voc2007", str(root), unpacked, ()).exit_code == 1
    assert any("left as it is" in line and "000001.jpg" in line for line in prepared.lines())


def test_incomplete_and_damaged_downloads_are_refused_before_unpacking(voc_archive, tmp_path):
    [facts] = described(voc_archive)
    for change, message in (
        ({"num_bytes": facts.num_bytes + 1}, "not all of it was fetched"),
        ({"md5": "0" * 32}, "damaged; fetch it again"),
    ):
        with pytest.raises(DataError, match=message):
            prepare(
                "voc2007",
                voc_archive.parent,
                tmp_path / "voc",
                archives=[Archive(**{**vars(facts), **change})],
            )
    assert not (tmp_path / "voc").exists()


@pytest.mark.parametrize("kind", ["truncated tar", "truncated zip", "text"])
def test_archives_that_cannot_be_read(trees, tmp_path, kind):
    fetched = tmp_path / "fetched"
    fetched.mkdir()
    if kind == "truncated zip":
        path = zipped(fetched / "a.zip", trees("nuswide") / "ImageList", "ImageList")
    else:
        path = tar(fetched / "a.tar", trees("nuswide") / "Flickr", "Flickr")
    path.write_bytes(b"no archive" if kind == "text" else path.read_bytes()[: path.stat().st_size // 2])
    with pytest.raises(DataError, match=r"is damaged .*fetch it again"):
        prepare("nuswide", fetched, tmp_path / "nuswide")


def test_an_archive_with_a_password_is_said(trees, tmp_path):
    fetched = tmp_path / "fetched"
    fetched.mkdir()
    path = zipped(fetched / "a.zip", trees("nuswide") / "ImageList", "ImageList")
    content = bytearray(path.read_bytes())
    for mark, flags in ((b"PK\x03\x04", 6), (b"PK\x01\x02", 8)):
        place = -1
        while (place := content.find(mark, place + 1)) >= 0:
            content[place + flags] |= 1  # encrypted
    path.write_bytes(content)
    with pytest.raises(DataError, match=r"a\.zip cannot be unpacked \(.*password"):
        prepare("nuswide", fetched, tmp_path / "nuswide")


@pytest.mark.parametrize("name", ["../../VOC2007/evil.txt", "/VOC2007/evil.txt", "VOC2007/../../evil.txt"])
def test_members_that_lead_out_are_refused(tmp_path, name):
    with tarfile.open(tmp_path / "a.tar", "w") as archive:
        member = tarfile.TarInfo(name)
        member.size = 4
        archive.addfile(member, io.BytesIO(b"evil"))
    with pytest.raises(DataError, match="leads out"):
        prepare("voc2007", tmp_path, tmp_path / "inner" / "voc", archives=described(tmp_path / "a.tar"))
    assert not list(tmp_path.rglob("evil.txt"))


@pytest.mark.parametrize("kind", ["zip", "tar", "tar.gz"])
def test_an_archive_that_claims_more_than_any_holds_is_refused(kind, tmp_path, monkeypatch):
    """20 GB in a file of a few bytes, as one member or as many; nothing of the member is written."""
    monkeypatch.setattr("lsep_ml.data.prepare.LARGEST", 1_000_000)
    zeros, fetched = bytes(900_000), tmp_path / "fetched"
    for name, sizes, message in (
        ("one", [2_000_000], r"would be 2,000,000 bytes; no file of the published archives has more"),
        ("many", [900_000] * 40, r"100 times the archive's own size"),
    ):
        fetched.mkdir(exist_ok=True)
        path = fetched / f"{name}.{kind}"
        if kind == "zip":
            with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
                for number, size in enumerate(sizes):
                    archive.writestr(f"Flickr/{number}.jpg", (zeros * 3)[:size])
        else:
            with tarfile.open(path, "w:gz" if kind == "tar.gz" else "w") as archive:
                for number, size in enumerate(sizes):
                    member = tarfile.TarInfo(f"Flickr/{number}.jpg")
                    member.size = size
                    archive.addfile(member, io.BytesIO((zeros * 3)[:size]))
        root = tmp_path / f"root-{name}"
        if kind == "tar" and name == "many":  # which is as large as it claims to be
            assert unpack(path, root, lambda name: name).written == 40
        else:
            with pytest.raises(DataError, match=message):
                unpack(path, root, lambda name: name)
            assert sum(file.stat().st_size for file in root.rglob("*.jpg")) <= 36_000_000
        path.unlink()


def test_an_archive_that_the_disk_has_no_room_for_is_refused(tmp_path, monkeypatch):
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        archive.writestr("Flickr/a.jpg", bytes(100))
    monkeypatch.setattr(shutil, "disk_usage", lambda path: Free(99))
    with pytest.raises(DataError, match=r"would be 100 bytes, and .* has room for 99: make room"):
        unpack(tmp_path / "a.zip", tmp_path / "root", lambda name: name)
    assert not (tmp_path / "root").exists()


class Free(NamedTuple):
    free: int


def test_links_are_not_unpacked(tmp_path):
    with tarfile.open(tmp_path / "a.tar", "w") as archive:
        member = tarfile.TarInfo("VOC2007/link")
        member.type, member.linkname = tarfile.SYMTYPE, "/etc/passwd"
        archive.addfile(member)
    done = prepare("voc2007", tmp_path, tmp_path / "voc", archives=described(tmp_path / "a.tar")).unpacked[
        "a.tar"
    ]
    assert done.written == 0
    assert not (tmp_path / "voc").exists()


def test_nothing_to_prepare(tmp_path):
    with pytest.raises(DataError, match="has no archives to prepare; there are coco, nuswide, voc2007"):
        prepare("digits", tmp_path, tmp_path)
    with pytest.raises(DataError, match=r"--from .*nowhere: no such folder"):
        prepare("coco", tmp_path / "nowhere", tmp_path)
    with pytest.raises(DataError, match=r"no train2014.zip, val2014.zip"):
        prepare("coco", tmp_path, tmp_path)
