"""Label files as tools and data portals write them, against the truth they were written from."""

import base64
import csv
import io
import json

import numpy as np
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


def in_splits(root, pattern):
    """Images in the folder of each split."""
    for r in ROWS:
        write_images(root, pattern.replace("SPLIT", FOLDERS[SPLITS[r]]), range(r, r + 1))


def boxes(row):
    return "".join(f"{number(name)} 0.5 0.5 0.1 0.1\n" for name in names(row))


def label_studio_presigned(root):
    """Images in cloud storage, whose addresses the tool hides in its own; choices of regions, and other answers."""
    write_images(root)
    tasks = []
    for r in ROWS:
        address = base64.b64encode(f"s3://bucket/images/{r}.png".encode()).decode()
        result = [{"from_name": "r", "type": "rating", "value": {"rating": 4}}]
        result += [
            {"from_name": "c", "type": "choices", "value": {"x": 1, "choices": [name]}} for name in names(r)
        ]
        result += [{"from_name": "c", "type": "rectangle", "value": {"x": 1, "width": 2}}]
        task = {
            "data": {"image": f"/tasks/{r}/resolve/?fileuri={address}"},
            "annotations": [{"result": result}],
        }
        tasks.append({"id": r, **task, "predictions": [7]})
    put(root, "export.json", tasks)


def label_studio_yolo(root):
    write_images(root, "images/{}.jpg")
    for r in ROWS:
        put(root, f"labels/{r}.txt", boxes(r))
    put(root, "classes.txt", "\n".join(NAMES))
    put(
        root,
        "notes.json",
        {"categories": [{"id": i, "name": name} for i, name in enumerate(NAMES)], "info": {}},
    )


def cvat_subsets(root):
    """Of a project, whose images say their subset; skeletons."""
    write_images(root)
    words = {"train": "Train", "val": "Validation", "test": "Test"}
    images = "".join(
        f'<image id="{r}" name="{r}.png" subset="{words[SPLITS[r]]}">'
        + "".join(f'<skeleton label="{n}"><points label="elbow" points="1,1"/></skeleton>' for n in names(r))
        + "</image>"
        for r in ROWS
    )
    put(root, "annotations.xml", f"<annotations><version>1.1</version>{images}</annotations>")


def labelme_xml_with_deleted_objects(root):
    write_images(root, "default/{}.jpg")
    for r in ROWS:
        objects = "".join(f"<object><name>{n}</name><deleted>0</deleted></object>" for n in names(r))
        gone = "<object><name>sofa</name><deleted>1</deleted></object>"
        put(root, f"default/{r}.xml", f"<annotation><filename>{r}.jpg</filename>{objects}{gone}</annotation>")


def voc_with_lists(root):
    write_images(root, "JPEGImages/{}.jpg")
    for r in ROWS:
        objects = "".join(
            f"<object><name>{n}</name><part><name>head</name></part></object>" for n in names(r)
        )
        put(
            root,
            f"Annotations/{r}.xml",
            f'<?xml version="1.0"?><annotation verified="yes">{objects}</annotation>',
        )
    for split in FOLDERS:
        put(root, f"ImageSets/Main/{split}.txt", "".join(f"{r}\n" for r in ROWS if SPLITS[r] == split))
    put(root, "ImageSets/Main/cat_train.txt", "0 -1\n")


def roboflow_coco(root):
    """With a category that is what the others belong to."""
    in_splits(root, "SPLIT/{}_jpg.jpg")
    categories = [{"id": 0, "name": "things", "supercategory": "none"}]
    categories += [{"id": number(n) + 1, "name": n, "supercategory": "things"} for n in NAMES]
    for split, folder in FOLDERS.items():
        rows = [r for r in ROWS if SPLITS[r] == split]
        images = [{"id": r, "file_name": f"{r}_jpg.jpg", "extra": {"name": "x"}} for r in rows]
        entries = [{"image_id": r, "category_id": number(n) + 1} for r in rows for n in names(r)]
        content = {"info": {}, "categories": categories, "images": images, "annotations": entries}
        put(root, f"{folder}/_annotations.coco.json", content)


def roboflow_darknet(root):
    in_splits(root, "SPLIT/{}_jpg.jpg")
    for r in ROWS:
        put(root, f"{FOLDERS[SPLITS[r]]}/{r}_jpg.txt", boxes(r))
    for folder in FOLDERS.values():
        put(root, f"{folder}/_darknet.labels", "\n".join(NAMES))
    put(root, "README.roboflow.txt", "exported")


def yolo_lists(root):
    write_images(root)
    for r in ROWS:
        put(root, f"labels/{r}.txt", boxes(r))
    for split in FOLDERS:
        put(root, f"{split}.txt", "".join(f"./images/{r}.png\n" for r in ROWS if SPLITS[r] == split))
    put(root, "data.yaml", f"path: .\ntrain: train.txt\nval: val.txt\ntest: test.txt\nnames: {list(NAMES)}\n")


def yolo_years(root):
    for r in ROWS:
        folder = f"{SPLITS[r]}2017"
        write_images(root, f"images/{folder}/{{}}.jpg", range(r, r + 1))
        put(root, f"labels/{folder}/{r}.txt", boxes(r))
    put(root, "coco128.yaml", f"train: images/train2017\nnames: {list(NAMES)}\n")


def celeba(root):
    """-1 where the label is absent."""
    write_images(root, "img_align_celeba/img_align_celeba/{}.jpg")
    rows = [[f"{r}.jpg", *(1 if name in TRUTH[r] else -1 for name in NAMES)] for r in ROWS]
    table(root, "list_attr_celeba.csv", [["image_id", *NAMES], *rows])


def chest_x_rays_by_study(root):
    """Names without a suffix, below a name that is none of an image."""
    write_images(root, "train/s.{}.jpg")
    rows = [[f"s.{r}", *(int(name in TRUTH[r]) for name in NAMES), f"p{r % 9}"] for r in ROWS]
    table(root, "train.csv", [["StudyInstanceUID", *NAMES, "PatientID"], *rows])


def crosses(root):
    write_images(root)
    rows = [[f"{r}.png", *("x" if name in TRUTH[r] else "" for name in NAMES)] for r in ROWS]
    table(root, "labels.csv", [["image", *NAMES], *rows])


def excel_with_its_delimiter(root):
    write_images(root)
    lines = ["sep=;", ";".join(["image", *NAMES])]
    lines += [";".join([f"{r}.png", *(str(int(name in TRUTH[r])) for name in NAMES)]) for r in ROWS]
    put(root, "labels.csv", "\r\n".join(lines))


def blank_lines_above(root):
    write_images(root)
    put(root, "labels.csv", "\n\nimage,labels\n" + "".join(f"{r}.png,{'|'.join(names(r))}\n\n" for r in ROWS))


def pandas_lines(root):
    write_images(root)
    put(root, "labels.json", "\n".join(json.dumps({"image": f"{r}.png", "labels": names(r)}) for r in ROWS))


def exiftool(root):
    """One keyword is a text, several are a list, none is no entry."""
    write_images(root, "{}.jpg")
    found = [names(r)[0] if len(TRUTH[r]) == 1 else names(r) for r in ROWS]
    rows = [{"SourceFile": f"./{r}.jpg", **({"Keywords": found[r]} if found[r] else {})} for r in ROWS]
    put(root, "keywords.json", rows)


def tables_named_by_split(root):
    """The separator shows in all of them together."""
    write_images(root)
    for split, word in {"train": "train", "val": "validation", "test": "test"}.items():
        rows = [
            [f"{r}.png", " ".join(n.replace(" ", "_") for n in names(r))] for r in ROWS if SPLITS[r] == split
        ]
        table(root, f"labels/{word}-tags_v2.csv", [["image", "tags"], *rows])


def datumaro(root):
    write_images(root, "images/default/{}.png")
    items = [
        {
            "id": f"{r}", "image": {"path": f"{r}.png", "size": [8, 9]}, "attr": {"frame": r},
            "annotations": [
                {"id": 0, "type": "label", "attributes": {}, "group": 0, "label_id": number(name)} for name in names(r)
            ],
        }
        for r in ROWS
    ]  # fmt: skip
    labels = [{"name": name, "parent": "", "attributes": []} for name in NAMES]
    categories = {"label": {"labels": labels, "attributes": ["occluded"]}, "points": {"items": []}}
    content = {"info": {}, "categories": categories, "items": items}
    put(root, "annotations/default.json", content)


def datumaro_subsets(root):
    """Names that all subsets have, without a path or a suffix, boxes beside captions, parts with labels."""
    for split, folder in FOLDERS.items():
        rows = [r for r in ROWS if SPLITS[r] == split]
        write_images(root, f"images/{folder}/{{}}.png", rows)
        items = []
        for r in rows:
            boxes = [{"type": "bbox", "label_id": number(n), "bbox": [1, 1, 2, 2]} for n in names(r)] * 2
            caption = {"type": "caption", "label_id": None, "caption": "sofa"}
            for box in boxes:
                box["elements"] = [{"type": "points", "label_id": 3}]
            items.append({"id": f"{r}", "media": {"path": ""}, "annotations": [*boxes, caption]})
        labels = {"label_groups": [], "labels": [{"name": name} for name in NAMES]}
        content = {"dm_format_version": "1.0", "categories": {"label": labels}, "items": items}
        put(root, f"annotations/{folder}.json", "\ufeff" + json.dumps(content, indent=1))


def supervisely_tags(root):
    write_images(root, "ds0/img/{}.jpg")
    tags = [{"name": name, "value_type": "none", "color": "#000000"} for name in NAMES]
    put(root, "meta.json", {"classes": [], "tags": tags, "projectType": "images"})
    for r in ROWS:
        tags = [{"name": name, "value": None, "labelerLogin": "sofa"} for name in names(r)]
        size = {"height": 8, "width": 9}
        put(root, f"ds0/ann/{r}.jpg.json", {"description": "", "tags": tags, "size": size, "objects": []})


def supervisely_objects(root):
    """A data set a split, files without the image's suffix, masks beside the images, numbers as values."""
    for split, folder in FOLDERS.items():
        rows = [r for r in ROWS if SPLITS[r] == split]
        write_images(root, f"{folder}/img/{{}}.png", rows)
        write_images(root, f"{folder}/seg/{{}}.png", rows[:2])
        for r in rows:
            inner = [{"name": "occluded", "value": None}]
            objects = [{"classTitle": n, "geometryType": "bitmap", "tags": inner} for n in names(r)[1:]] * 2
            tags = [{"name": name, "value": 3} for name in names(r)[:1]]
            content = {"size": {"height": 8, "width": 9}, "tags": tags, "objects": objects}
            put(root, f"{folder}/ann/{r}.json", content)


def spreadsheet_in_utf_16(root):
    table(write_images(root), "labels.csv", [["image", "étiquettes"], *rows_of_cells(";")], delimiter="\t")
    path = root / "labels.csv"
    path.write_bytes(path.read_text().replace("étiquettes", "labels").encode("utf-16"))


def big_end_first(root):
    """With blank lines and cells of nothing at the end of a line."""
    table(
        write_images(root),
        "labels.csv",
        [["image", "labels"], *rows_of_cells("|")],
        lineterminator="\r\n\r\n",
    )
    path = root / "labels.csv"
    path.write_bytes(b"\xfe\xff" + path.read_bytes().decode().encode("utf-16-be"))


def rows_of_cells(separator):
    return [[f"images/{r}.png", separator.join(names(r))] for r in ROWS]


TOOLS = (
    cvat_tags, cvat_boxes, labelme_shapes, labelme_flags, via_regions, via_project, fiftyone_numbers, fiftyone_objects,
    openmmlab, openmmlab_names, mapping, mapping_of_flags, labelimg, darknet, roboflow_classes, hugging_face_objects,
    label_studio_csv, label_studio_min, coco_with_captions, inaturalist, kaggle_planet, kaggle_posters,
    german_spreadsheet, written_by_r, numbered_columns, label_studio_presigned, label_studio_yolo, cvat_subsets,
    labelme_xml_with_deleted_objects, voc_with_lists, roboflow_coco, roboflow_darknet, yolo_lists, yolo_years, celeba,
    chest_x_rays_by_study, crosses, excel_with_its_delimiter, blank_lines_above, pandas_lines, exiftool,
    tables_named_by_split, datumaro, datumaro_subsets, supervisely_tags, supervisely_objects, spreadsheet_in_utf_16,
    big_end_first,
)  # fmt: skip
DIVIDED = (
    roboflow_classes, hugging_face_objects, cvat_subsets, voc_with_lists, roboflow_coco, roboflow_darknet, yolo_lists,
    yolo_years, tables_named_by_split, datumaro_subsets, supervisely_objects,
)  # fmt: skip


@pytest.mark.parametrize("write", TOOLS, ids=lambda write: write.__name__)
def test_tools(tmp_path, write):
    write(tmp_path)
    annotations = own_annotations(tmp_path)
    assert {
        row: {name.replace("_", " ") for name in found} for row, found in labels_of(annotations).items()
    } == TRUTH
    assert unknown_of(annotations) == {}
    divided = write in DIVIDED
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


def test_names_that_every_folder_has_lie_in_the_folder_beside_them(tmp_path):
    """As a camera trap's."""
    rows = [["RootFolder", "File", "RelativePath", "DeleteFlag", "Species"]]
    for r in ROWS:
        name = f"IMG_{r // 3}.png"
        (write_images(tmp_path, f"cam{r % 3}/{{}}.png", range(r, r + 1)) / f"cam{r % 3}/{r}.png").rename(
            tmp_path / f"cam{r % 3}/{name}"
        )
        rows.append(["survey", name, f"cam{r % 3}", "false", ", ".join(names(r))])
    table(tmp_path, "TimelapseData.csv", rows)
    annotations = own_annotations(tmp_path)
    assert annotations.image_ids.tolist() == [f"cam{r % 3}/IMG_{r // 3}.png" for r in ROWS]
    assert [set(np.array(NAMES)[row == 1].tolist()) for row in annotations.targets] == list(TRUTH.values())
    assert "images lie in the folders of column 'RelativePath'" in annotations.notes


def test_a_tree_of_labels_is_named_by_its_paths(tmp_path):
    write_images(tmp_path)
    tasks = []
    for r in ROWS:
        value = {"taxonomy": [["thing", name] for name in names(r)]}
        result = [{"from_name": "t", "type": "taxonomy", "value": value}] if TRUTH[r] else []
        tasks.append({"data": {"image": f"{r}.png"}, "annotations": [{"result": result}]})
    put(tmp_path, "export.json", tasks)
    assert labels_of(own_annotations(tmp_path)) == {r: {f"thing/{name}" for name in TRUTH[r]} for r in ROWS}


def test_labels_that_nobody_chose(tmp_path):
    """They come back with the labelling configuration beside the export, or by `data.label_names`."""
    label_studio_presigned(tmp_path)
    choices = "".join(f'<Choice value="{name}"/>' for name in ("sofa", "zebra", "dog", "potted plant"))
    choices += '<Choice value="x" alias="cat"/>'
    view = f'<View><Image name="i" value="$image"/><Choices name="c" toName="i">{choices}</Choices></View>'
    put(tmp_path, "labels.config.xml", view)
    annotations = own_annotations(tmp_path)
    assert annotations.label_names == ("sofa", "zebra", "dog", "potted plant", "cat")
    assert labels_of(annotations) == TRUTH
    assert any(
        "offers 1 labels that no image has, which are kept: zebra" in note for note in annotations.notes
    )
    named = own_annotations(tmp_path, label_names=["zebra", *NAMES])
    assert named.label_names == ("zebra", *NAMES)
    assert labels_of(named) == TRUTH
    with pytest.raises(
        DataError, match=r"data.label_names: 2 labels of images are not among them: dog, sofa; add"
    ):
        own_annotations(tmp_path, label_names=["cat", "potted plant"])


def test_several_tables_by_name(tmp_path):
    write_images(tmp_path)
    for name, rows in {"a.csv": ROWS[:10], "b.csv": ROWS[10:]}.items():
        table(tmp_path, name, [["image", "labels"], *([f"{r}.png", "|".join(names(r))] for r in rows)])
    with pytest.raises(
        DataError, match=r"several files .*data.file=\[FILES\] to those that hold them together"
    ):
        own_annotations(tmp_path)
    annotations = own_annotations(tmp_path, file=["a.csv", "b.csv"])
    assert labels_of(annotations) == TRUTH
    assert set(splits_of(annotations).values()) == {""}
    for name, rows in {"1/train.csv": ROWS[:10], "2/the-test.csv": ROWS[10:]}.items():
        table(tmp_path, name, [["labels", "image"], *(["|".join(names(r)), f"{r}.png"] for r in rows)])
    annotations = own_annotations(tmp_path, file=["1/train.csv", "2/the-test.csv"])
    assert labels_of(annotations) == TRUTH
    assert splits_of(annotations) == {r: "train" if r < 10 else "test" for r in ROWS}


def test_a_table_of_a_split_without_labels_is_left_out_and_counted(tmp_path):
    write_images(write_images(tmp_path, "train/{}.jpg"), "test/{}.jpg", range(100, 103))
    rows = [[f"{r}.jpg", *(int(name in TRUTH[r]) for name in NAMES)] for r in ROWS]
    table(tmp_path, "train.csv", [["image", *NAMES], *rows])
    table(tmp_path, "test.csv", [["image"], *([f"{r}.jpg"] for r in range(100, 103))])
    annotations = own_annotations(tmp_path)
    assert labels_of(annotations) == TRUTH
    assert annotations.dropped == {"in a table without labels": 3}
    assert "no column of test.csv holds labels: its 3 rows are left out" in annotations.notes


def test_a_column_that_is_empty_in_one_split_is_unknown_there(tmp_path):
    """As in CheXpert's valid.csv."""
    for split, rows in {"train": ROWS[:20], "valid": ROWS[20:]}.items():
        write_images(tmp_path, f"{split}/{{}}.jpg", rows)
        cells = []
        for r in rows:
            sofa = int("sofa" in TRUTH[r]) if r < 20 else ""
            cells.append([f"x/{split}/{r}.jpg", *(int(name in TRUTH[r]) for name in NAMES[:3]), sofa])
        table(tmp_path, f"{split}.csv", [["Path", *NAMES], *cells])
    annotations = own_annotations(tmp_path)
    assert labels_of(annotations) == {r: TRUTH[r] - ({"sofa"} if r >= 20 else set()) for r in ROWS}
    assert unknown_of(annotations) == {r: {"sofa"} for r in ROWS[20:]}


def test_images_in_no_list_of_a_split_are_left_out_and_counted(tmp_path):
    voc_with_lists(tmp_path)
    put(tmp_path, "ImageSets/Main/train.txt", "0\n1\n")
    annotations = own_annotations(tmp_path)
    assert splits_of(annotations) == {r: s for r, s in SPLITS.items() if s != "train" or r < 2}
    assert annotations.dropped == {"in no split": 16}
    assert labels_of(annotations) == {r: TRUTH[r] for r in splits_of(annotations)}
    assert labels_of(own_annotations(tmp_path, split="none")) == TRUTH


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


def test_several_attributes_of_via_are_refused_with_their_names(tmp_path):
    via_regions(tmp_path)
    path = tmp_path / "via_export_json.json"
    content = json.loads(path.read_text())
    for image in content.values():
        image["file_attributes"] = {"caption": "a nice day", "public_domain": "", "boxes": {"x": False}}
    put(tmp_path, path.name, content)
    with pytest.raises(
        DataError, match=r"several attributes have values: caption, what; set data.labels=NAME"
    ):
        own_annotations(tmp_path)
    assert labels_of(own_annotations(tmp_path, labels="what")) == TRUTH
    with pytest.raises(
        DataError, match=r"data.labels=public_domain: no attribute of .*; there are caption, what"
    ):
        own_annotations(tmp_path, labels="public_domain")


def test_unknown_is_said_of_the_first_image_of_an_object_too(tmp_path):
    write_images(tmp_path)
    put(tmp_path, "labels.json", {f"{r}.png": names(r) if r else None for r in ROWS})
    assert unknown_of(own_annotations(tmp_path)) == {0: set(NAMES)}


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
    "line ends of old Macs": (
        lambda root: put(root, "labels.csv", "image,labels\r0.png,cat\r1.png,dog"),
        "its lines end as those of old Macs do",
    ),
    "a table that names no image": (
        lambda root: put(root, "labels.csv", "ID,Label\nx_cat,1\nx_dog,0\n"),
        r"labels.csv: none of its columns \('ID', 'Label'\) names images here; set data.image=NAME",
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
    "a table in latin-1": (
        lambda root: (root / "labels.csv").write_bytes("image,labels\n0.png,café\n".encode("latin-1")),
        r"labels.csv, line 2: byte 0xe9 is not UTF-8; save the file as UTF-8",
    ),
    "half of UTF-16": (
        lambda root: (root / "labels.csv").write_bytes("image,labels\n0.png,a".encode("utf-16")[:-1]),
        r"labels.csv, line 2: byte 0x61 is not UTF-16-LE",
    ),
    "Datumaro without names": (
        lambda root: put(root, "a.json", {"categories": {"label": {}}, "items": []}),
        "a.json: no list of names in categories.label.labels",
    ),
    "a label of Datumaro that there is none of": (
        lambda root: put(
            root, "a.json",
            {"categories": {"label": {"labels": [{"name": "a"}]}},
             "items": [{"id": "0", "annotations": [{"label_id": 4}]}]},
        ),
        "a.json: annotation 1: unknown category_id 4",
    ),
    "scores in the place of labels": (
        lambda root: table(
            root, "labels.csv", [["image", "cat", "dog"], *([f"{r}.png", 0.1 * r, 0.2] for r in range(5))]
        ),
        r"'cat' \(numbers that are not 0 and 1\).*scores are no labels: write 1 where they are high enough",
    ),
    "damaged JSON": (lambda root: put(root, "a.json", '{"0.png": ["cat"'), "a.json: not JSON"),
    "VIA's regions that are none": (
        lambda root: put(root, "a.json", {"0.png": {"filename": "0.png", "regions": ["x"]}}),
        "a.json: begins as VIA's JSON, and goes on otherwise",
    ),
    "an annotation that is none": (
        lambda root: put(root, "a.json", [{"data": {"image": "0.png"}, "annotations": [5]}]),
        "a.json: begins as annotation tool's JSON, and goes on otherwise",
    ),
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


def test_tags_of_supervisely_that_have_a_value(tmp_path):
    supervisely_tags(tmp_path)
    tags = [{"name": "weather", "value": "rain"}, {"name": "cars", "value": 3}, "plain"]
    put(tmp_path, "ds0/ann/0.jpg.json", {"tags": tags, "size": {}, "objects": []})
    assert labels_of(own_annotations(tmp_path))[0] == {"weather: rain", "cars", "plain"}
    put(tmp_path, "ds0/ann/1.jpg.json", {"tags": [], "size": {}, "objects": [{"classTitle": ""}]})
    with pytest.raises(DataError, match=r"1.jpg.json: an object has no classTitle, or a tag no name"):
        own_annotations(tmp_path)


def test_scores_beside_labels_are_said(tmp_path):
    rows = [[f"{r}.png", name, 0.3 + 0.01 * r] for r in ROWS for name in names(r)]
    table(write_images(tmp_path), "labels.csv", [["image", "label", "Score"], *rows])
    notes = own_annotations(tmp_path).notes
    assert any(
        "'Score' holds numbers that are not 0 and 1" in note and "remove the rows" in note for note in notes
    )
