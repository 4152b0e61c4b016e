"""Labels beside images, in folders and in the JSON of tools: each format clean and with the quirks of its tool."""

import json
import os

import pytest
from own_trees import IMAGES, NAMES, SPLITS, TRUTH, labels_of, splits_of, unknown_of, write_images

from lsep_ml.data import DataError
from lsep_ml.data.sources.own import own_annotations
from lsep_ml.data.tree import read_text

ROWS = range(IMAGES)
FOLDERS = {"train": "train", "val": "valid", "test": "test"}


# ---- an annotation tool's JSON


def task(row, labels, annotations=1, **more):
    result = (
        [{"type": "choices", "from_name": "what", "value": {"choices": sorted(labels)}}] if labels else []
    )
    said = [{"id": row * 10 + n, "was_cancelled": False, "result": result} for n in range(annotations)]
    return {
        "id": row + 1,
        "data": {"image": f"/data/local-files/?d=images/{row}.png"},
        "annotations": said,
        **more,
    }


def write_tasks(root, tasks, name="export.json"):
    write_images(root)
    (root / name).write_text(json.dumps(tasks))
    return root


def test_choices(tmp_path):
    annotations = own_annotations(write_tasks(tmp_path, [task(r, TRUTH[r]) for r in ROWS]))
    assert annotations.label_names == NAMES
    assert labels_of(annotations) == TRUTH
    assert unknown_of(annotations) == {}
    assert annotations.format == "annotation tool's JSON (export.json)"


def test_cancelled_missing_and_drawn_annotations(tmp_path):
    tasks = [task(r, TRUTH[r]) for r in ROWS]
    tasks[1]["annotations"] = []
    tasks[2]["annotations"].insert(
        0, {"was_cancelled": True, "result": task(2, set(NAMES))["annotations"][0]["result"]}
    )
    tasks[3]["annotations"][0]["was_cancelled"] = True
    tasks[4]["annotations"][0]["result"] = [
        {"type": "rectanglelabels", "from_name": "what", "value": {"x": 1, "rectanglelabels": [name]}}
        for name in TRUTH[4]
    ]
    tasks[5]["data"]["image"] = "/data/upload/3/1a2b3c4d-5.png"
    tasks[6]["predictions"] = [{"result": task(6, set(NAMES))["annotations"][0]["result"]}]
    tasks[7]["annotations"][0]["result"].append(
        {"type": "textarea", "from_name": "note", "value": {"text": ["blurred"]}}
    )
    annotations = own_annotations(write_tasks(tmp_path, tasks))
    unknown = {1: set(NAMES), 3: set(NAMES)}
    assert labels_of(annotations) == {r: set() if r in unknown else TRUTH[r] for r in ROWS}
    assert unknown_of(annotations) == unknown
    assert annotations.dropped == {"cancelled annotations": 2}


def test_several_annotators(tmp_path):
    tasks = [task(r, TRUTH[r], annotations=3) for r in ROWS]
    choices = {"type": "choices", "from_name": "what", "value": {"choices": ["sofa"]}}
    tasks[0]["annotations"][1]["result"] = [choices]  # one of three
    del tasks[1]["annotations"][2]
    tasks[1]["annotations"][1]["result"] = []  # one of two
    root = write_tasks(tmp_path, tasks)
    union = own_annotations(root)
    assert labels_of(union)[0] == TRUTH[0] | {"sofa"}
    assert labels_of(union)[1] == TRUTH[1]
    assert any("30 images have several annotators: data.annotators=union" in note for note in union.notes)
    majority = own_annotations(root, annotators="majority")
    assert labels_of(majority)[0] == TRUTH[0]
    assert unknown_of(majority) == {1: TRUTH[1]}
    with pytest.raises(
        DataError, match=r"export.json, task 1: annotators differ: .*data.annotators=union or majority"
    ):
        own_annotations(root, annotators="refuse")


def test_two_questions_are_refused_with_their_names(tmp_path):
    tasks = [task(r, TRUTH[r]) for r in ROWS]
    for one in tasks:
        one["annotations"][0]["result"].append({"from_name": "quality", "value": {"choices": ["good"]}})
    root = write_tasks(tmp_path, tasks)
    with pytest.raises(
        DataError, match=r"several questions have labels: quality, what; set data.labels=NAME"
    ):
        own_annotations(root)
    assert labels_of(own_annotations(root, labels="what")) == TRUTH


def test_the_short_export_is_a_table(tmp_path):
    records = []
    for r in ROWS:
        names = sorted(TRUTH[r])
        choice = {"choices": names} if len(names) > 1 else names[0] if names else None
        records.append(
            {"image": f"/data/local-files/?d=images/{r}.png", "id": r, "choice": choice, "annotator": 1}
        )
    annotations = own_annotations(write_tasks(tmp_path, records))
    assert labels_of(annotations) == TRUTH


# ---- text files of tags


@pytest.mark.parametrize("quirks", [False, True])
def test_a_text_file_of_tags_beside_every_image(tmp_path, quirks):
    write_images(tmp_path, "{}.png")
    for r in ROWS:
        text = ", ".join(sorted(TRUTH[r]))
        if quirks:
            text = "\ufeff" + text + ",\n" if TRUTH[r] else ""
        if TRUTH[r] or r % 2:
            (tmp_path / f"{r}.txt").write_text(text, encoding="utf-8")
    annotations = own_annotations(tmp_path)
    assert annotations.label_names == NAMES
    assert labels_of(annotations) == TRUTH
    assert unknown_of(annotations) == {}
    assert any("separated by ','" in note for note in annotations.notes)


@pytest.mark.parametrize("separator", [" ", "\n"])
def test_tags_separated_by_blanks_or_lines(tmp_path, separator):
    write_images(tmp_path)
    for r in ROWS:
        (tmp_path / f"images/{r}.txt").write_text(
            separator.join(n.replace(" ", "_") for n in sorted(TRUTH[r])) + "\n"
        )
    annotations = own_annotations(tmp_path)
    assert labels_of(annotations) == {r: {n.replace(" ", "_") for n in TRUTH[r]} for r in ROWS}


# ---- XML


def xml(names, filename, parts=False):
    part = "<part><name>head</name></part>" if parts else ""
    objects = "".join(f"<object><name>{name}</name>{part}<difficult>0</difficult></object>" for name in names)
    return f"<annotation><folder>x</folder><filename>{filename}</filename>{objects}</annotation>"


@pytest.mark.parametrize("quirks", [False, True])
def test_xml_an_image(tmp_path, quirks):
    for r in ROWS:
        folder = f"{FOLDERS[SPLITS[r]]}/" if quirks else ""
        where = folder if quirks else "Annotations/"
        write_images(tmp_path, f"{folder or 'JPEGImages/'}{{}}.jpg", range(r, r + 1))
        twice = [*sorted(TRUTH[r]), *sorted(TRUTH[r])]
        path = tmp_path / f"{where}{r}.xml"
        path.parent.mkdir(exist_ok=True)
        if TRUTH[r] or r % 2:
            path.write_text(xml(twice, f"somewhere/{r}.png" if quirks else f"{r}.jpg", parts=quirks))
    annotations = own_annotations(tmp_path)
    assert annotations.label_names == NAMES
    assert labels_of(annotations) == TRUTH
    assert splits_of(annotations) == (SPLITS if quirks else dict.fromkeys(ROWS, ""))


def test_damaged_xml_is_named(tmp_path):
    write_images(tmp_path, "{}.jpg")
    for r in ROWS:
        (tmp_path / f"{r}.xml").write_text(xml(TRUTH[r], f"{r}.jpg")[: 30 if r == 4 else None])
    with pytest.raises(DataError, match=r"4.xml: not XML: .*repair or remove it"):
        own_annotations(tmp_path)
    (tmp_path / "4.xml").write_text("<annotation><object></object></annotation>")
    with pytest.raises(DataError, match=r"4.xml: object 1 has no name"):
        own_annotations(tmp_path)


# ---- detection text files


def boxes(row, polygons=False):
    ends = "0.1 0.1 0.9 0.1 0.9 0.9" if polygons else "0.5 0.5 0.2 0.2"
    return "".join(f"{NAMES.index(name)} {ends}\n" * 2 for name in sorted(TRUTH[row]))


@pytest.mark.parametrize("quirks", [False, True])
def test_detection_text_files(tmp_path, quirks):
    for r in ROWS:
        split = FOLDERS[SPLITS[r]]
        images, labels = (
            (f"{split}/images", f"{split}/labels") if quirks else (f"images/{split}", f"labels/{split}")
        )
        write_images(tmp_path, f"{images}/{{}}.jpg", range(r, r + 1))
        if TRUTH[r]:
            (tmp_path / labels).mkdir(parents=True, exist_ok=True)
            (tmp_path / labels / f"{r}.txt").write_text(boxes(r, polygons=quirks))
    names = json.dumps(list(NAMES)) if quirks else "".join(f"\n  {n}: {name}" for n, name in enumerate(NAMES))
    (tmp_path / "data.yaml").write_text(f"path: ..\ntrain: ../train/images\nnc: 4\nnames: {names}\n")
    annotations = own_annotations(tmp_path)
    assert annotations.label_names == NAMES
    assert labels_of(annotations) == TRUTH
    assert splits_of(annotations) == SPLITS


def test_a_class_that_has_no_name_is_refused_with_its_line(tmp_path):
    write_images(tmp_path, "images/{}.jpg")
    (tmp_path / "labels").mkdir()
    (tmp_path / "labels" / "3.txt").write_text("0 0.5 0.5 0.1 0.1\n7 0.5 0.5 0.1 0.1\n")
    (tmp_path / "data.yaml").write_text("names: [cat, dog]\n")
    with pytest.raises(DataError, match=r"3.txt, line 2: class '7' is not one of the 2 in data.yaml"):
        own_annotations(tmp_path)
    for odd in ("1.7", "-1", "inf", "cat"):
        (tmp_path / "labels" / "3.txt").write_text(f"{odd} 0.5 0.5 0.1 0.1\n")
        with pytest.raises(DataError, match=rf"3.txt, line 1: class '{odd}' is not one of the 2"):
            own_annotations(tmp_path)


def test_names_of_classes_are_texts_whatever_yaml_makes_of_them(tmp_path):
    write_images(tmp_path, "images/{}.jpg", range(2))
    (tmp_path / "labels").mkdir()
    (tmp_path / "labels" / "1.txt").write_text("0 0.5 0.5 0.1 0.1\n2.0 0.5 0.5 0.1 0.1\n")
    (tmp_path / "data.yaml").write_text("names: [no, yes, 007]\n")
    annotations = own_annotations(tmp_path)
    assert annotations.label_names == ("no", "yes", "007")
    assert labels_of(annotations) == {0: set(), 1: {"no", "007"}}


def test_classes_in_a_list_where_the_first_images_have_no_object(tmp_path):
    write_images(tmp_path, "{}.jpg")
    for r in ROWS:
        (tmp_path / f"{r}.txt").write_text("1 0.5 0.5 0.1 0.1\n" if r == 9 else "")
    (tmp_path / "classes.txt").write_text("cat\ndog\n")
    assert labels_of(own_annotations(tmp_path)) == {r: {"dog"} if r == 9 else set() for r in ROWS}


# ---- one folder a label


@pytest.mark.parametrize("link", [os.symlink, os.link], ids=["links", "hard links"])
def test_links_in_several_folders_are_several_labels(tmp_path, link):
    for r in ROWS:
        names = sorted(TRUTH[r]) or ["nothing here"]
        first = tmp_path / names[0] / f"{r}.png"
        write_images(tmp_path, names[0] + "/{}.png", range(r, r + 1))
        for name in names[1:]:
            (tmp_path / name).mkdir(exist_ok=True)
            link(first, tmp_path / name / f"{r}.png")
    annotations = own_annotations(tmp_path)
    assert labels_of(annotations) == {r: TRUTH[r] or {"nothing here"} for r in ROWS}
    assert len(annotations) == IMAGES


def test_a_link_to_nothing_is_an_image_that_is_missing(tmp_path):
    write_images(write_images(tmp_path, "cat/{}.png", range(2)), "dog/{}.png", range(2, 4))
    (tmp_path / "dog/9.png").symlink_to(tmp_path / "gone.png")
    assert labels_of(own_annotations(tmp_path)) == {
        0: {"cat"},
        1: {"cat"},
        2: {"dog"},
        3: {"dog"},
        9: {"dog"},
    }


def test_folders_of_labels_in_the_splits(tmp_path):
    for r in ROWS:
        write_images(tmp_path, f"{FOLDERS[SPLITS[r]]}/{NAMES[r % 4]}/{{}}.JPG", range(r, r + 1))
    (tmp_path / "train" / ".DS_Store").write_bytes(b"x")
    (tmp_path / "__MACOSX" / "train" / "owl").mkdir(parents=True)
    (tmp_path / "__MACOSX" / "train" / "owl" / "._0.JPG").write_bytes(b"x")
    annotations = own_annotations(tmp_path)
    assert labels_of(annotations) == {r: {NAMES[r % 4]} for r in ROWS}
    assert splits_of(annotations) == SPLITS


def test_junk_is_no_image_and_names_without_suffix_are(tmp_path):
    write_images(tmp_path, "a/{}", range(15))
    write_images(tmp_path, "b/{}.JPeG", range(15, 30))
    for name in ("a/._3.jpg", "a/Thumbs.db", "b/desktop.ini", "b/.hidden.png", "a/notes"):
        (tmp_path / name).write_bytes(b"nothing")
    annotations = own_annotations(tmp_path)
    assert sorted(labels_of(annotations)) == list(ROWS)
    assert annotations.label_names == ("a", "b")


# ---- COCO and LVIS


def coco(rows=ROWS, text_ids=False, quirks=False):
    key = (lambda number: f"id-{number}") if text_ids else (lambda number: number)
    images = [{"id": key(100 + r), "file_name": f"{r}.png", "width": 9, "height": 8} for r in rows]
    if quirks:
        images = [
            {"id": i["id"], "coco_url": f"http://images.example.org/train/{i['file_name']}"} for i in images
        ]
    annotations = [
        {
            "image_id": key(100 + r),
            "category_id": key(NAMES.index(n) + 1),
            **({} if quirks else {"id": 10 * r + k}),
        }
        for r in rows
        for k, n in enumerate(sorted(TRUTH[r]))
    ]
    categories = [{"id": key(n + 1), "name": name} for n, name in enumerate(NAMES)]
    return {"images": images, "annotations": annotations, "categories": categories}


@pytest.mark.parametrize(("text_ids", "quirks"), [(False, False), (True, False), (False, True), (True, True)])
def test_coco(tmp_path, text_ids, quirks):
    write_images(tmp_path)
    text = json.dumps(coco(text_ids=text_ids, quirks=quirks))
    (tmp_path / "annotations.json").write_text(text, encoding="utf-8-sig" if quirks else "utf-8")
    annotations = own_annotations(tmp_path)
    assert annotations.label_names == NAMES
    assert labels_of(annotations) == TRUTH


@pytest.mark.parametrize(("place", "names"), [
    ("{}/_annotations.coco.json", ("train", "valid", "test")),
    ("annotations/instances_{}2017.json", ("train", "val", "test")),
])  # fmt: skip
def test_a_coco_file_a_split(tmp_path, place, names):
    for name, split in zip(names, ("train", "val", "test"), strict=True):
        rows = [r for r in ROWS if SPLITS[r] == split]
        for r in rows:
            write_images(tmp_path / name, "{}.png", range(r, r + 1))
        path = tmp_path / place.format(name)
        path.parent.mkdir(exist_ok=True)
        path.write_text(json.dumps(coco(rows)))
    annotations = own_annotations(tmp_path)
    assert labels_of(annotations) == TRUTH
    assert splits_of(annotations) == SPLITS


def test_lvis(tmp_path):
    write_images(tmp_path)
    content = coco(quirks=True)
    absent, vague = {}, {}
    for r, image in enumerate(content["images"]):
        others = [name for name in NAMES if name not in TRUTH[r]]
        absent[r], vague[r] = set(others[:1]), set(others[1:2])
        image["neg_category_ids"] = [NAMES.index(name) + 1 for name in absent[r]]
        image["not_exhaustive_category_ids"] = [NAMES.index(name) + 1 for name in vague[r]]
    (tmp_path / "lvis_v1.json").write_text(json.dumps(content))
    annotations = own_annotations(tmp_path)
    assert labels_of(annotations) == TRUTH
    unknown = {r: set(NAMES) - TRUTH[r] - absent[r] for r in ROWS}
    assert unknown_of(annotations) == {r: names for r, names in unknown.items() if names}
    assert annotations.format == "LVIS JSON (lvis_v1.json)"


def test_lvis_of_before_with_ids_of_text_and_images_without_lists(tmp_path):
    """Images with file names of another set, of which some have no list; categories with synsets and frequencies."""
    write_images(tmp_path, "val2014/{}.png")
    content = coco(text_ids=True)
    absent = {}
    for r, image in enumerate(content["images"]):
        image["file_name"] = f"COCO/val2014/{r}.png"
        others = [name for name in NAMES if name not in TRUTH[r]]
        absent[r] = set(others[:2]) if r % 3 else set()
        if r % 3:
            image["neg_category_ids"] = [f"id-{NAMES.index(name) + 1}" for name in others[:2]]
            image["not_exhaustive_category_ids"] = []
    for category in content["categories"]:
        category |= {"synset": f"{category['name']}.n.01", "frequency": "f", "image_count": 3}
    (tmp_path / "lvis_v0.5_val.json").write_text(json.dumps(content))
    annotations = own_annotations(tmp_path)
    assert labels_of(annotations) == TRUTH
    unknown = {r: set(NAMES) - TRUTH[r] - absent[r] for r in ROWS}
    assert unknown_of(annotations) == {r: names for r, names in unknown.items() if names}


REFUSED = {
    "no name": (lambda c: c["categories"][1].update(name=None), "category with id 2 has the name None"),
    "a name twice": (lambda c: c["categories"][1].update(name="cat"), "category name 'cat' is listed twice"),
    "an id twice": (lambda c: c["images"][1].update(id=100), "image id 100 is listed twice"),
    "an unknown image": (
        lambda c: c["annotations"][2].update(image_id=7),
        "annotation 3: unknown image_id 7",
    ),
    "an unknown category": (
        lambda c: c["annotations"][2].update(category_id=9),
        "annotation 3: unknown category_id 9",
    ),
    "no file name": (lambda c: c["images"][4].pop("file_name"), "image 5, id 104: no file_name"),
    "no categories": (lambda c: c.update(categories={}), "no list of categories"),
}


@pytest.mark.parametrize(("damage", "message"), REFUSED.values(), ids=REFUSED)
def test_coco_refused(tmp_path, damage, message):
    write_images(tmp_path)
    content = coco()
    damage(content)
    (tmp_path / "annotations.json").write_text(json.dumps(content))
    with pytest.raises(DataError, match=message):
        own_annotations(tmp_path)


def test_nothing_is_known_of_images_without_annotations(tmp_path):
    write_images(tmp_path)
    content = coco()
    half = {**content, "images": content["images"][10:]}
    content["images"] = content["images"][:10]
    ids = {image["id"] for image in content["images"]}
    content["annotations"] = [one for one in content["annotations"] if one["image_id"] in ids]
    (tmp_path / "instances_train.json").write_text(json.dumps(content))
    (tmp_path / "image_info_test.json").write_text(json.dumps({**half, "annotations": None}))
    annotations = own_annotations(tmp_path)
    assert unknown_of(annotations) == {r: set(NAMES) for r in ROWS[10:]}
    assert labels_of(annotations) == {r: TRUTH[r] if r < 10 else set() for r in ROWS}
    assert any("image_info_test.json: no annotations" in note for note in annotations.notes)


def test_category_ids_of_mixed_types_are_said(tmp_path):
    write_images(tmp_path)
    content = coco()
    last = content["categories"][-1]["id"]
    content["categories"][-1]["id"] = str(last)
    (tmp_path / "annotations.json").write_text(json.dumps(content))
    notes = own_annotations(tmp_path).notes
    assert any("category ids of different types" in note and f"'{last}'" in note for note in notes)


# ---- which format


def test_nothing_is_refused_with_what_is_there(tmp_path):
    (tmp_path / "notes.md").write_text("x")
    with pytest.raises(
        DataError, match=r"nothing that could hold labels among its 1 files \(notes.md\), 0 of them images"
    ):
        own_annotations(tmp_path)
    with pytest.raises(DataError, match="no such folder"):
        own_annotations(tmp_path / "no")


def test_pipes_and_links_to_nothing_are_no_labels(tmp_path):
    rows = "".join(f"images/{r}.png,{'|'.join(TRUTH[r])}\n" for r in ROWS)
    (write_images(tmp_path) / "labels.csv").write_text("image,labels\n" + rows)
    for suffix in ("csv", "parquet", "json", "jsonl", "xml", "yaml"):
        (tmp_path / f"gone.{suffix}").symlink_to(tmp_path / "nothing")
        os.mkfifo(tmp_path / f"pipe.{suffix}")
    assert labels_of(own_annotations(tmp_path)) == TRUTH
    (tmp_path / "labels.csv").unlink()
    with pytest.raises(DataError, match=r"nothing that could hold labels .* no such file"):
        own_annotations(tmp_path)


def test_a_text_that_the_system_refuses_to_look_at_is_an_error_of_the_data(tmp_path):
    with pytest.raises(DataError, match=r"\.csv: File name too long"):
        read_text(tmp_path / f"{'x' * 300}.csv")


def test_two_formats_are_refused_with_their_files(tmp_path):
    write_images(tmp_path)
    (tmp_path / "annotations.json").write_text(json.dumps(coco()))
    (tmp_path / "labels.csv").write_text("image,labels\n0.png,cat|dog\n")
    with pytest.raises(
        DataError, match=r"labels.csv \(table\); annotations.json \(COCO-style JSON\); set data.file=FILE"
    ):
        own_annotations(tmp_path)
    assert labels_of(own_annotations(tmp_path, file="annotations.json")) == TRUTH


def test_images_that_are_not_listed_are_said(tmp_path):
    write_images(tmp_path)
    (tmp_path / "labels.csv").write_text("image,labels\n0.png,cat|dog\n1.png,cat\n")
    notes = own_annotations(tmp_path).notes
    assert any(
        "28 images below the folder have no labels listed and are left out: images/10.png" in note
        for note in notes
    )


def test_tables_that_name_no_image_are_no_tables(tmp_path):
    write_images(tmp_path)
    (tmp_path / "labels.csv").write_text("image,labels\n0.png,cat|dog\n1.png,cat\n")
    (tmp_path / "classes.csv").write_text("number,meaning\n0,cat\n1,dog\n")
    assert labels_of(own_annotations(tmp_path)) == {0: {"cat", "dog"}, 1: {"cat"}}
