"""Label files as tools and data portals write them, against the truth they were written from."""

import csv
import io
import json

import pytest
from own_trees import IMAGES, NAMES, SPLITS, TRUTH, labels_of, splits_of, unknown_of, write_images

from lsep_ml.data import DataError
from lsep_ml.data.sources.own import own_annotations

ROWS = range(IMAGES)
FOLDERS = {"train": "train", "val": "valid", "test": "test"}


def names(row):
    return sorted(TRUTH[row])


def put(root, name, content):
    path = root / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(content if isinstance(content, str) else json.dumps(content), encoding="utf-8")


def table(root, name, rows, **options):
    text = io.StringIO()
    csv.writer(text, **options).writerows(rows)
    put(root, name, text.getvalue())


def number(name):
    return NAMES.index(name)


# ---- each writes images and labels below a folder


def cvat_tags(root):
    write_images(root)
    images = "".join(
        f'<image id="{r}" name="images/{r}.png" width="9" height="8">'
        + "".join(f'<tag label="{name}" source="manual"></tag>' for name in names(r))
        + "</image>"
        for r in ROWS
    )
    labels = "".join(f"<label><name>{name}</name><type>tag</type></label>" for name in NAMES)
    meta = f"<meta><job><labels>{labels}</labels></job></meta>"
    put(root, "annotations.xml", f"<annotations><version>1.1</version>{meta}{images}</annotations>")


def cvat_boxes(root):
    """Of a task, without a list of labels, with attributes whose values are no labels."""
    write_images(root, "{}.png")
    inner = '<attribute name="state">sofa</attribute>'
    images = "".join(
        f'<image id="{r}" name="{r}.png" width="9" height="8">'
        + "".join(
            f'<box label="{name}" xtl="1" ytl="1" xbr="3" ybr="3">{inner}</box>' * 2 for name in names(r)
        )
        + "</image>"
        for r in ROWS
    )
    put(root, "task/annotations.xml", f'<?xml version="1.0"?><annotations>{images}</annotations>')


def labelme_shapes(root):
    write_images(root, "{}.png")
    for r in ROWS:
        shapes = [
            {"label": name, "points": [[1, 1], [3, 3]], "shape_type": "rectangle"} for name in names(r)
        ] * 2
        if shapes or r % 2:
            put(root, f"{r}.json", {"version": "5", "flags": {}, "shapes": shapes, "imagePath": f"{r}.png"})


def labelme_flags(root):
    write_images(root, "{}.JPG")
    for r in ROWS:
        flags = {name: name in TRUTH[r] for name in NAMES}
        put(
            root,
            f"{r}.json",
            {"flags": flags, "shapes": [], "imagePath": f"..\\x\\{r}.JPG", "imageData": "A" * 50000},
        )


def via_regions(root):
    write_images(root, "{}.png")
    images = {
        f"{r}.png100": {
            "filename": f"{r}.png",
            "regions": [
                {"shape_attributes": {"name": "rect"}, "region_attributes": {"what": n}} for n in names(r)
            ],
            "file_attributes": {},
        }
        for r in ROWS
    }
    put(root, "via_export_json.json", images)


def via_project(root):
    """A saved project, with check boxes of the whole image."""
    write_images(root)
    images = {
        f"{r}.png-1": {
            "filename": f"images/{r}.png",
            "regions": {},
            "file_attributes": {"what": dict.fromkeys(names(r), True)},
        }
        for r in ROWS
    }
    put(root, "via_project.json", {"_via_settings": {}, "_via_img_metadata": images, "_via_attributes": {}})


def fiftyone_numbers(root):
    write_images(root, "data/{}.png")
    labels = {str(r): [number(name) for name in names(r)] for r in ROWS}
    put(root, "labels.json", {"classes": NAMES, "labels": labels})


def fiftyone_objects(root):
    """By absolute path, with confidences, one alone and none."""
    write_images(root, "photos/{}.png")
    labels = {}
    for r in ROWS:
        found = [{"label": name, "confidence": 0.5, "attributes": {"score": 1.5}} for name in names(r)]
        labels[str(root.absolute() / f"photos/{r}.png")] = found[0] if len(found) == 1 else found
    put(root, "labels.json", {"classes": NAMES, "labels": labels})


def openmmlab(root):
    write_images(root)
    images = [{"img_path": f"images/{r}.png", "gt_label": [number(name) for name in names(r)]} for r in ROWS]
    put(root, "train.json", {"metainfo": {"classes": NAMES}, "data_list": images})


def openmmlab_names(root):
    """Another key of the classes, paths of another machine."""
    write_images(root)
    images = [
        {"img_path": f"/somewhere/images/{r}.png", "gt_label": [number(n) for n in names(r)]} for r in ROWS
    ]
    put(root, "annotations/all.json", {"data_list": images, "metainfo": {"CLASSES": NAMES}})


def mapping(root):
    write_images(root)
    put(root, "labels.json", {f"{r}.png": names(r) for r in ROWS})


def mapping_of_flags(root):
    write_images(root)
    put(root, "tags.json", {f"images/{r}.png": {name: int(name in TRUTH[r]) for name in NAMES} for r in ROWS})


def labelimg(root):
    write_images(root, "{}.jpg")
    for r in ROWS:
        put(root, f"{r}.txt", "".join(f"{number(name)} 0.5 0.5 0.1 0.1\n" for name in names(r)))
    put(root, "classes.txt", "\n".join(NAMES) + "\n")


def darknet(root):
    write_images(root, "obj_train_data/{}.jpg")
    for r in ROWS:
        put(
            root, f"obj_train_data/{r}.txt", "".join(f"{number(name)} 0.5 0.5 0.1 0.1\n" for name in names(r))
        )
    put(root, "obj.names", "\n".join(NAMES))


def roboflow_classes(root):
    for r in ROWS:
        write_images(root, f"{FOLDERS[SPLITS[r]]}/{{}}_jpg.jpg", range(r, r + 1))
    for split, folder in FOLDERS.items():
        rows = [
            [f"{r}_jpg.jpg", *(f" {int(n in TRUTH[r])}" for n in NAMES)] for r in ROWS if SPLITS[r] == split
        ]
        table(root, f"{folder}/_classes.csv", [["filename", *(f" {name}" for name in NAMES)], *rows])
    put(root, "README.roboflow.txt", "exported")


def hugging_face_objects(root):
    for r in ROWS:
        write_images(root, f"data/{SPLITS[r]}/{{}}.png", range(r, r + 1))
    for split in FOLDERS:
        lines = [
            json.dumps({"file_name": f"{r}.png", "objects": {"bbox": [[1, 1]] * len(TRUTH[r]), "categories": names(r)}})
            for r in ROWS
            if SPLITS[r] == split
        ]  # fmt: skip
        put(root, f"data/{split}/metadata.jsonl", "\n".join(lines))


def label_studio_csv(root):
    write_images(root)
    rows = [["annotation_id", "annotator", "choice", "created_at", "id", "image", "lead_time"]]
    for r in ROWS:
        cell = json.dumps({"choices": names(r)}) if len(TRUTH[r]) > 1 else "".join(names(r))
        rows.append([r + 1, 1, cell, "2024-01-01", r + 1, f"/data/upload/1/0a1b2c3d-{r}.png", 3.2])
    table(root, "project-1.csv", rows)


def label_studio_min(root):
    write_images(root)
    found = []
    for r in ROWS:
        one = {"image": f"/data/local-files/?d=images/{r}.png", "id": r + 1, "annotator": 1, "lead_time": 2.5}
        if TRUTH[r]:
            one["choice"] = {"choices": names(r)} if len(TRUTH[r]) > 1 else names(r)[0]
        found.append(one)
    put(root, "project.json", found)


def coco_with_captions(root):
    write_images(root, "val2017/{}.jpg")
    images = [{"id": 100 + r, "file_name": f"{r}.jpg"} for r in ROWS]
    entries = [
        {"image_id": 100 + r, "category_id": number(n) + 1, "iscrowd": 0} for r in ROWS for n in names(r)
    ]
    categories = [{"id": number(name) + 1, "name": name, "supercategory": "x"} for name in NAMES]
    put(
        root,
        "annotations/instances_val2017.json",
        {"images": images, "annotations": entries, "categories": categories},
    )
    captions = [{"id": r, "image_id": 100 + r, "caption": "a cat"} for r in ROWS]
    put(root, "annotations/captions_val2017.json", {"images": images, "annotations": captions})


def inaturalist(root):
    write_images(root, "train_mini/{}.jpg")
    images = [{"id": r, "file_name": f"train_mini/{r}.jpg", "license": 0, "rights_holder": "x"} for r in ROWS]
    pairs = [(r, name) for r in ROWS for name in names(r)]
    entries = [{"id": i, "image_id": r, "category_id": number(name)} for i, (r, name) in enumerate(pairs)]
    categories = [{"id": i, "name": name, "supercategory": "Plants"} for i, name in enumerate(NAMES)]
    put(
        root,
        "train_mini.json",
        {"info": {}, "images": images, "annotations": entries, "categories": categories},
    )


def kaggle_planet(root):
    write_images(root, "train-jpg/train_{}.jpg")
    rows = [[f"train_{r}", " ".join(name.replace(" ", "_") for name in names(r))] for r in ROWS]
    table(root, "train_v2.csv", [["image_name", "tags"], *rows])


def kaggle_posters(root):
    write_images(root, "Images/tt{}.jpg")
    rows = [[f"tt{r}", str(names(r)), *(int(name in TRUTH[r]) for name in NAMES)] for r in ROWS]
    table(root, "train.csv", [["Id", "Genre", *NAMES], *rows])


def german_spreadsheet(root):
    write_images(root)
    rows = [[f"images/{r}.png", *("WAHR" if name in TRUTH[r] else "FALSCH" for name in NAMES)] for r in ROWS]
    put(root, "labels.csv", "\ufeff")
    text = io.StringIO()
    csv.writer(text, delimiter=";").writerows([["Datei", *NAMES], *rows])
    put(root, "labels.csv", "\ufeff" + text.getvalue())


def written_by_r(root):
    write_images(root)
    rows = [
        [r + 1, f"images/{r}.png", *("TRUE" if name in TRUTH[r] else "FALSE" for name in NAMES)] for r in ROWS
    ]
    table(root, "labels.csv", [["", "file", *NAMES], *rows], quoting=csv.QUOTE_NONNUMERIC)


def numbered_columns(root):
    write_images(root)
    rows = [[f"images/{r}.png", *(names(r) + [""] * 4)[:4], 20 + r] for r in ROWS]
    table(root, "labels.csv", [["image", "label_1", "label_2", "label_3", "label_4", "age"], *rows])


TOOLS = (
    cvat_tags, cvat_boxes, labelme_shapes, labelme_flags, via_regions, via_project, fiftyone_numbers, fiftyone_objects,
    openmmlab, openmmlab_names, mapping, mapping_of_flags, labelimg, darknet, roboflow_classes, hugging_face_objects,
    label_studio_csv, label_studio_min, coco_with_captions, inaturalist, kaggle_planet, kaggle_posters,
    german_spreadsheet, written_by_r, numbered_columns,
)  # fmt: skip


@pytest.mark.parametrize("write", TOOLS, ids=lambda write: write.__name__)
def test_tools(tmp_path, write):
    write(tmp_path)
    annotations = own_annotations(tmp_path)
    assert {
        row: {name.replace("_", " ") for name in found} for row, found in labels_of(annotations).items()
    } == TRUTH
    assert unknown_of(annotations) == {}
    divided = write in (roboflow_classes, hugging_face_objects)
    assert splits_of(annotations) == (SPLITS if divided else dict.fromkeys(ROWS, ""))


def test_images_that_nobody_looked_at_are_unknown(tmp_path):
    fiftyone_numbers(tmp_path)
    content = json.loads((tmp_path / "labels.json").read_text())
    content["labels"]["3"] = None
    put(tmp_path, "labels.json", content)
    assert unknown_of(own_annotations(tmp_path)) == {3: set(NAMES)}


def test_chest_x_rays_of_two_portals(tmp_path):
    """CheXpert's columns with nothing and -1; NIH's cells with "No Finding", patients and a column without a name."""
    root = tmp_path / "chexpert"
    rows = [["Path", "Sex", "Age", "Frontal/Lateral", "AP/PA", "No Finding", *NAMES]]
    for r in ROWS:
        name = f"train/patient{r:05d}/study1/view{r}.jpg"
        write_images(root, f"train/patient{r:05d}/study1/view{{}}.jpg", range(r, r + 1))
        values = ["1.0" if label in TRUTH[r] else "0.0" if r % 2 else "" for label in NAMES]
        values[0] = "-1.0" if r == 4 else values[0]
        rows.append(
            [f"CheXpert-v1.0/{name}", "Male", 60, "Frontal", "AP", "" if TRUTH[r] else "1.0", *values]
        )
    table(root, "train.csv", rows)
    annotations = own_annotations(root, none_label=["No Finding"])
    assert labels_of(annotations) == {r: TRUTH[r] - ({"cat"} if r == 4 else set()) for r in ROWS}
    unknown = {r: set(NAMES) - TRUTH[r] if r % 2 == 0 else set() for r in ROWS}
    unknown[4] |= {"cat"}
    assert unknown_of(annotations) == {r: found for r, found in unknown.items() if found}
    root = tmp_path / "nih"
    write_images(root, "images_001/images/{}_000.png")
    for r in ROWS:
        (root / f"images_001/images/{r}_000.png").rename(root / f"images_001/images/{r}.png")
    header = [
        "Image Index",
        "Finding Labels",
        "Follow-up #",
        "Patient ID",
        "Patient Age",
        "OriginalImage[Width",
        "",
    ]
    table(root, "Data_Entry_2017.csv", [
        header, *([f"{r}.png", "|".join(names(r)) or "No Finding", r, r // 2, "058Y", 2682, ""] for r in ROWS)
    ])  # fmt: skip
    annotations = own_annotations(root)
    assert labels_of(annotations) == TRUTH
    assert len(set(annotations.groups.tolist())) == IMAGES / 2


def test_open_images_verified_labels(tmp_path):
    write_images(tmp_path, "train/{}.jpg")
    asked = {r: {NAMES[r % 4], NAMES[(r + 2) % 4]} for r in ROWS}
    rows = [["ImageID", "Source", "LabelName", "Confidence"]]
    rows += [
        [r, "verification", f"/m/{number(n)}", int(n in TRUTH[r])] for r in ROWS for n in sorted(asked[r])
    ]
    table(tmp_path, "train-annotations-human-imagelabels.csv", rows)
    annotations = own_annotations(tmp_path)
    assert annotations.label_names == tuple(f"/m/{n}" for n in range(4))
    assert labels_of(annotations) == {r: {f"/m/{number(n)}" for n in TRUTH[r] & asked[r]} for r in ROWS}
    assert sum(map(len, unknown_of(annotations).values())) == 2 * IMAGES


def test_via_tables_name_their_column(tmp_path):
    write_images(tmp_path, "{}.png")
    rows = [
        [
            "filename",
            "file_attributes",
            "region_count",
            "region_id",
            "region_shape_attributes",
            "region_attributes",
        ]
    ]
    for r in ROWS:
        found = [json.dumps({"class": name}) for name in names(r)] or ["{}"]
        rows += [[f"{r}.png", "{}", len(found), i, '{"name":"rect"}', cell] for i, cell in enumerate(found)]
    table(tmp_path, "via_export_csv.csv", rows)
    with pytest.raises(
        DataError, match=r"'region_attributes' could each hold the labels; set data.labels=NAME"
    ):
        own_annotations(tmp_path)
    assert labels_of(own_annotations(tmp_path, labels="region_attributes")) == TRUTH


REFUSED = {
    "a table without a header": (
        lambda root: table(root, "labels.csv", [[f"images/{r}.png", "|".join(names(r))] for r in ROWS]),
        r"labels.csv: no header: its first line names an image, 'images/0.png'; put a line",
    ),
    "a class of FiftyOne's that there is none of": (
        lambda root: put(root, "labels.json", {"classes": ["a"], "labels": {"0": [0], "1": [3]}}),
        r"labels.json, '1': class 3 is not one of the 1",
    ),
    "FiftyOne's list": (
        lambda root: put(root, "labels.json", {"classes": ["a"], "labels": [1]}),
        "labels is a JSON list, not an object of images",
    ),
    "OpenMMLab's class": (
        lambda root: put(
            root, "a.json", {"metainfo": {"classes": ["a"]}, "data_list": [{"img_path": "x", "gt_label": [7]}]}
        ),
        r"a.json, image 1: .*class 7 is not one of the 1",
    ),
    "a video of CVAT": (
        lambda root: put(root, "a.xml", "<annotations><track id='0' label='cat'></track></annotations>"),
        "tracks of a video; export it as CVAT for images",
    ),
    "damaged XML of CVAT": (
        lambda root: put(root, "a.xml", "<annotations><image"),
        "a.xml: not XML: .*repair or remove",
    ),
    "an image of CVAT without a name": (
        lambda root: put(root, "a.xml", "<annotations><image id='1'/></annotations>"),
        "a.xml: image 1 has no name",
    ),
    "a label that is none": (
        lambda root: put(root, "a.json", {"0.png": [["cat"], True]}),
        "a.json, '0.png': True is not a label",
    ),
    "damaged JSON": (lambda root: put(root, "a.json", '{"0.png": ["cat"'), "a.json: not JSON"),
    "VIA without a file's name": (
        lambda root: put(root, "a.json", {"x": {"filename": "0.png", "regions": []}, "y": {"regions": []}}),
        "a.json, 'y': no filename",
    ),
}  # fmt: skip


@pytest.mark.parametrize(("write", "message"), REFUSED.values(), ids=REFUSED)
def test_refused(tmp_path, write, message):
    write(write_images(tmp_path))
    with pytest.raises(DataError, match=message):
        own_annotations(tmp_path)


def test_a_shape_without_a_label_is_refused(tmp_path):
    write_images(tmp_path, "{}.png")
    put(tmp_path, "0.json", {"shapes": [{"label": ""}], "imagePath": "0.png"})
    with pytest.raises(DataError, match=r"0.json: a shape has no label; give it one"):
        own_annotations(tmp_path)


def test_a_class_without_a_name_in_a_list_of_classes_is_refused(tmp_path):
    labelimg(tmp_path)
    put(tmp_path, "classes.txt", "cat\ndog\n")
    with pytest.raises(DataError, match=r"class '[23]' is not one of the 2 in classes.txt"):
        own_annotations(tmp_path)
