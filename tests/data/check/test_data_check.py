"""The check: clean trees pass, every kind of damage is found and named, counts are compared with what is
published."""

import io
import re
import shutil

import numpy as np
import pytest
from data_trees import random_labels, write_csv, write_image
from PIL import Image
from rich.console import Console

from lsep_ml.data import DataError
from lsep_ml.data.check.printed import print_report
from lsep_ml.data.check.verdict import Report, check
from lsep_ml.data.sources import sources
from lsep_ml.data.sources.nuswide.layouts import nuswide_annotations
from lsep_ml.data.sources.source import Archive, Finding, Published
from lsep_ml.data.sources.voc import CLASSES
from lsep_ml.data.sources.voc2007 import voc2007_annotations

NOTHING_PUBLISHED = Published()


def messages(report: Report) -> str:
    return "\n".join(f"{finding.severity}: {finding.message} {finding.items}" for finding in report.findings)


def printed(report: Report, **options) -> str:
    stream = io.StringIO()
    print_report(report, Console(file=stream, width=100), **options)
    return stream.getvalue()


@pytest.mark.parametrize("data", ["voc2007", "coco", "nuswide", "csv", "coco_json"])
def test_a_sound_tree_is_good(trees, data, tmp_path):
    report = check(data, trees(data), published=NOTHING_PUBLISHED, cache=tmp_path / "cache")
    never = [finding for finding in report.findings if "no positive" not in finding.message]
    assert never == []
    assert report.exit_code == 0
    assert f"python run.py data={data} data.root={trees(data)}" in report.verdict


def test_what_is_printed_of_a_tree_sends_nothing_to_the_terminal(tmp_path):
    root = tmp_path / "a\x1b[31m[bold]"
    said = printed(check("csv", root, cache=None))
    assert "\x1b" not in said
    assert said.count("a\\x1b[31m[bold]") == 2
    write_csv(root)
    table = root / "labels.csv"
    table.write_text(table.read_text().replace("apple", "[red]apple[/red]"))
    (root / "photos" / "000.jpg").unlink()
    said = printed(check("csv", root, cache=None))
    assert "\x1b" not in said
    assert "[red]apple[/red] " in said


def test_golden_counts_of_the_real_sets():
    voc, coco, nuswide = (sources()[name].published for name in ("voc2007", "coco", "nuswide"))
    assert list(voc.positives) == list(CLASSES)
    assert sum(voc.positives.values()) == 7306
    assert sum(voc.images.values()) == 9963
    assert sum(nuswide.images.values()) == 269_648
    assert coco.kept == 82_081 + 40_137
    assert all(re.fullmatch("[0-9a-f]{32}", archive.md5) for one in (voc, coco) for archive in one.archives)


def voc_facts(root) -> Published:
    """The tree's own counts as if they were published."""
    annotations = voc2007_annotations(root)
    train = annotations.targets[annotations.split_of == "train"].sum(axis=0)
    return Published(
        images={"train": 44, "test": 22}, positives=dict(zip(CLASSES, train.tolist(), strict=True)), kept=66
    )


def test_counts_that_agree_say_nothing(trees):
    assert check("voc2007", trees("voc2007"), published=voc_facts(trees("voc2007"))).findings == ()


def test_counts_that_differ_are_a_warning_that_says_how_far_off(trees):
    facts = voc_facts(trees("voc2007"))
    published = Published(
        images={**facts.images, "test": 20},
        positives={**facts.positives, "cat": facts.positives["cat"] + 4},
        kept=132,
    )
    report = check("voc2007", trees("voc2007"), published=published)
    [finding] = report.findings
    assert finding.severity == "warning"
    assert finding.message == "not the paper's protocol: 3 counts differ from the published ones"
    assert finding.items[0] == "22 test images, published 20 (+2, +10.0%)"
    assert finding.items[1] == "66 usable images with a label, published 132 (-66, -50.0%)"
    assert "training images with cat, published" in finding.items[2]
    assert report.exit_code == 0
    assert "not the paper's protocol" in report.verdict


def test_a_small_tree_against_the_real_counts(trees):
    report = check("coco", trees("coco"))
    assert "40 train images, published 82,783 (-82,743, -100.0%)" in messages(report)
    assert "37 train images with a label, published 82,081" in messages(report)
    assert report.exit_code == 0


def test_bad_images_are_errors_with_their_names(copies):
    root = copies("voc2007")
    images = root / "VOCdevkit" / "VOC2007" / "JPEGImages"
    (images / "000001.jpg").unlink()
    (images / "000003.jpg").write_bytes(b"")
    content = (images / "000005.jpg").read_bytes()
    (images / "000005.jpg").write_bytes(content[: len(content) // 2])
    (images / "000007.jpg").write_text("<html>")
    report = check("voc2007", root, published=NOTHING_PUBLISHED)
    assert report.exit_code == 3
    assert (
        Finding("error", "1 of 66 listed images are missing", ("JPEGImages/000001.jpg",)) in report.findings
    )
    [broken] = [finding for finding in report.findings if "cannot be used" in finding.message]
    assert broken.message == "3 images cannot be used"
    assert [item.split(":")[0] for item in broken.items] == [f"JPEGImages/00000{n}.jpg" for n in (3, 5, 7)]
    assert "data.on_bad_image=drop" in report.verdict


def test_missing_images_of_nuswide_are_expected(copies):
    root = copies("nuswide")
    next((root / "Flickr" / "actor").iterdir()).unlink()
    report = check("nuswide", root, published=Published(missing_expected=True, kept=76))
    assert "warning: 1 of 80 listed images are missing" in messages(report)
    assert "warning: not the paper's protocol" in messages(report)
    assert report.exit_code == 0


def test_copies_tiny_images_and_leaks_are_found(copies):
    root = copies("csv")
    photos = root / "photos"
    shutil.copy(photos / "000.jpg", photos / "001.jpg")
    shutil.copy(photos / "000.jpg", photos / "004.jpg")  # 004 is a test image
    write_image(photos / "010.jpg", seed=1)
    Image.new("RGB", (16, 20)).save(photos / "011.jpg")
    same = ", ".join(f"photos/{name}.jpg" for name in ("000", "001", "004"))
    report = check("csv", root)
    assert report.findings == (
        Finding(
            "warning",
            "1 images are smaller than 32 pixels: placeholders, not photographs?",
            ("photos/011.jpg: 20 x 16",),
        ),
        Finding("warning", "2 files are exact copies of another listed image", (same,)),
        Finding("warning", "1 pictures are in more than one of train, val and test", (same,)),
    )
    assert report.exit_code == 0
    assert "with warnings" in report.verdict


def test_labels_without_positives_are_named(trees):
    annotations = nuswide_annotations(trees("nuswide_lists"))
    never = annotations.targets[annotations.split_of == "train"].sum(axis=0) == 0
    report = check("nuswide", trees("nuswide_lists"), published=NOTHING_PUBLISHED)
    found = [finding for finding in report.findings if "no positive to train on" in finding.message]
    expected = tuple(np.array(annotations.label_names)[never].tolist())
    assert [finding.items for finding in found] == ([expected] if expected else [])


def test_label_lists_and_xml_are_compared(copies):
    root = copies("voc2007")
    folder = root / "VOCdevkit" / "VOC2007" / "Annotations"
    (folder / "000001.xml").unlink()
    (folder / "000003.xml").write_text("<annotation>")
    text = (folder / "000005.xml").read_text()
    (folder / "000005.xml").write_text(re.sub("<name>.*?</name>", "<name>unicorn</name>", text, count=1))
    [finding] = check("voc2007", root, published=NOTHING_PUBLISHED).findings
    assert finding.severity == "warning"
    assert finding.message.startswith("3 files in Annotations/")
    assert "unicorn" in finding.items[2]


def test_archives_are_verified_where_they_are(copies):
    root = copies("voc2007")
    (root / "a.tar").write_bytes(b"abc")
    md5 = "900150983cd24fb0d6963f7d28e17f72"  # RFC 1321, of "abc"
    archives = (Archive("a.tar", 3, md5), Archive("absent.tar", 5, md5))
    assert check("voc2007", root, published=Published(archives=archives)).findings == ()
    archives = (Archive("a.tar", 4, md5),)
    assert "3 bytes instead of 4" in messages(check("voc2007", root, published=Published(archives=archives)))
    report = check("voc2007", root, published=Published(archives=(Archive("a.tar", 3, "0" * 32),)))
    assert f"md5 {md5} instead of" in messages(report)
    assert report.exit_code == 3


def test_a_broken_structure_is_an_error_not_an_exception(trees, tmp_path):
    report = check("voc2007", tmp_path)
    assert report.exit_code == 1
    assert "no ImageSets/Main/trainval.txt" in messages(report)
    assert report.statistics is None
    assert "broken" in printed(report)
    with pytest.raises(DataError, match=r"no data set 'digits' to check; there are .*voc2007"):
        check("digits", tmp_path)


def test_statistics_against_loops(tmp_path):
    report = check("csv", write_csv(tmp_path))
    statistics, targets = report.statistics, random_labels(60, 5, seed=5)
    assert statistics.images == {"test": 12, "train": 42, "val": 6}
    for labels, number in enumerate(statistics.labels_per_image):
        assert number == sum(1 for row in targets if sum(row) == labels)
    for i in range(5):
        for j in range(5):
            assert statistics.together[i, j] == sum(1 for row in targets if row[i] and row[j])
    assert sum(counts[2] for counts in statistics.positives.values()) == targets[:, 2].sum()
    assert statistics.mean_labels == pytest.approx(targets.sum() / 60)
    first, second, number, lift = statistics.most_together(1)[0]
    i, j = (statistics.label_names.index(name) for name in (first, second))
    assert number == max(statistics.together[a, b] for a in range(5) for b in range(a))
    assert lift == pytest.approx(number / 60 / (targets[:, i].mean() * targets[:, j].mean()))


def test_unknown_entries_are_counted(tmp_path):
    report = check("csv", write_csv(tmp_path, columns=True))
    unknown = (np.random.default_rng(6).random((60, 5)) < 0.1) & (random_labels(60, 5, seed=5) == 0)
    assert report.statistics.unknown == unknown.sum() > 0
    assert f"{unknown.sum()} entries unknown" in printed(report)


def test_the_printed_report(copies):
    root = copies("voc2007")
    for number in range(1, 31, 2):
        (root / "VOCdevkit" / "VOC2007" / "JPEGImages" / f"{number:06d}.jpg").unlink()
    report = check("voc2007", root)
    text = printed(report)
    for expected in (
        "Labels per image",
        "tvmonitor",
        "Labels seen together most",
        "error: 15 of 66 listed images",
    ):
        assert expected in text
    assert "... and 5 more" in text
    assert "000029.jpg" not in text
    assert "000029.jpg" in printed(report, all_items=True)
    assert "broken: repair" in text


def test_options_of_the_source_are_passed_on(copies):
    root = copies("csv")
    (root / "labels.csv").rename(root / "other.csv")
    assert check("csv", root, labels="other.csv").exit_code == 0
