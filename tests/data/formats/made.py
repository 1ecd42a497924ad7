"""Small data sets as annotation tools write them: two photographs, one with a cat and a dog, one with a cat."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import cv2

from tests.data.conftest import photograph, voc_object, voc_xml

#: (height, width) of every photograph
SIZE = (60, 80)
#: what every data set has: class and corners by image
BOXES = {
    "one": [("cat", 8.0, 6.0, 40.0, 30.0), ("dog", 20.0, 12.0, 76.0, 54.0)],
    "two": [("cat", 16.0, 15.0, 32.0, 45.0)],
}
CLASSES = ["cat", "dog"]


def picture(path: Path, seed: int = 0, size: tuple[int, int] = SIZE) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    cv2.imwrite(str(path), photograph(seed, *size))


def text(path: Path, content: str | object) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(content if isinstance(content, str) else json.dumps(content), encoding="utf-8")


def pictures(folder: Path) -> None:
    for seed, name in enumerate(BOXES):
        picture(folder / f"{name}.jpg", seed)


def voc(root: Path) -> None:
    """LabelImg: XML in one folder, images in another, no ImageSets."""
    pictures(root / "photos")
    for name, boxes in BOXES.items():
        xml = voc_xml(*(voc_object(*box) for box in boxes)).replace("<size>", f"<filename>{name}.jpg</filename><size>")
        text(root / "labels" / f"{name}.xml", xml)


def yolo_line(index: int, xmin: float, ymin: float, xmax: float, ymax: float) -> str:
    height, width = SIZE
    values = (xmin + xmax) / 2 / width, (ymin + ymax) / 2 / height, (xmax - xmin) / width, (ymax - ymin) / height
    return f"{index} {' '.join(f'{value:.6f}' for value in values)}\n"


def yolo_text(name: str) -> str:
    return "".join(yolo_line(CLASSES.index(label), *corners) for label, *corners in BOXES[name])


def yolo_beside(root: Path) -> None:
    """LabelImg in YOLO's mode: text beside the images, classes.txt among it."""
    pictures(root)
    for name in BOXES:
        text(root / f"{name}.txt", yolo_text(name))
    text(root / "classes.txt", "\n".join(CLASSES) + "\n")


def yolo_parallel(root: Path) -> None:
    """Ultralytics: images/train, labels/train, data.yaml with numbered names."""
    for name, part in zip(BOXES, ("train", "val"), strict=True):
        picture(root / "images" / part / f"{name}.jpg")
        text(root / "labels" / part / f"{name}.txt", yolo_text(name))
    text(root / "data.yaml", "path: .\ntrain: images/train\nval: images/val\nnames:\n  0: cat\n  1: dog\n")


def yolo_roboflow(root: Path) -> None:
    """Roboflow: train/images, train/labels, valid/…; names as a list."""
    for name, part in zip(BOXES, ("train", "valid"), strict=True):
        picture(root / part / "images" / f"{name}.jpg")
        text(root / part / "labels" / f"{name}.txt", yolo_text(name))
    text(root / "data.yaml", "train: ../train/images\nval: ../valid/images\nnc: 2\nnames: ['cat', 'dog']\n")


def yolo_segments(root: Path) -> None:
    """Outlines in place of boxes: the corners, and a point between them."""
    pictures(root / "images")
    height, width = SIZE
    for name, boxes in BOXES.items():
        lines = ""
        for label, xmin, ymin, xmax, ymax in boxes:
            points = (xmin, ymin), (xmax, ymin), (xmax, ymax), (xmin, (ymin + ymax) / 2)
            shares = " ".join(f"{x / width} {y / height}" for x, y in points)
            lines += f"{CLASSES.index(label)} {shares}\n"
        text(root / "labels" / f"{name}.txt", lines)
    text(root / "notes.json", {"categories": [{"id": 1, "name": "dog"}, {"id": 0, "name": "cat"}], "info": {}})


def coco_document(file_names: dict[str, str], first_category: int = 1) -> dict[str, list[dict[str, Any]]]:
    images: list[dict[str, Any]] = []
    annotations: list[dict[str, Any]] = []
    for index, (name, boxes) in enumerate(BOXES.items(), 1):
        if name not in file_names:
            continue
        images.append({"id": index, "file_name": file_names[name], "height": SIZE[0], "width": SIZE[1]})
        for label, xmin, ymin, xmax, ymax in boxes:
            annotations.append({
                "id": len(annotations) + 1, "image_id": index, "category_id": first_category + CLASSES.index(label),
                "bbox": [xmin, ymin, xmax - xmin, ymax - ymin], "area": 1, "iscrowd": 0, "segmentation": [],
            })  # fmt: skip
    categories: list[dict[str, Any]] = [
        {"id": first_category + index, "name": label, "supercategory": ""} for index, label in enumerate(CLASSES)
    ]
    return {"images": images, "annotations": annotations, "categories": categories}


def coco_roboflow(root: Path) -> None:
    """A file per part beside its images, and a first category that no object has."""
    for name, part in zip(BOXES, ("train", "test"), strict=True):
        picture(root / part / f"{name}_jpg.rf.0123456789abcdef.jpg")
        document = coco_document({name: f"{name}_jpg.rf.0123456789abcdef.jpg"})
        document["categories"].insert(0, {"id": 0, "name": "animals", "supercategory": "none"})
        text(root / part / "_annotations.coco.json", document)


def coco_cvat(root: Path) -> None:
    """annotations/instances_default.json, images with folders, attributes."""
    pictures(root / "images" / "cam 1")
    document = coco_document({name: f"cam 1/{name}.jpg" for name in BOXES})
    for each in document["annotations"]:
        each["attributes"] = {"occluded": False, "rotation": 0.0}
    text(root / "annotations" / "instances_default.json", document)


def coco_label_studio(root: Path) -> None:
    """result.json beside images/, file names with the exporting machine's separators, categories from 0."""
    pictures(root / "images")
    text(root / "result.json", coco_document({name: f"images\\{name}.jpg" for name in BOXES}, 0))


def coco_label_studio_uploads(root: Path) -> None:
    """label-studio-converter 0.0.59 with --image-dir: its images, named as the server named them; ids from 0."""
    pictures(root / "images")
    document = coco_document({name: f"/data/upload/1/{name}.jpg" for name in BOXES}, 0)
    for image in document["images"]:
        image["id"] = int(str(image["id"])) - 1
    for index, each in enumerate(document["annotations"]):
        each |= {"id": index, "image_id": int(str(each["image_id"])) - 1, "ignore": 0}
    text(root / "result.json", json.dumps(document, indent=2).replace("/", "\\/"))


def coco_labelme2coco(root: Path) -> None:
    """labelme2coco 0.2.6: whole paths of the machine that exported, outlines with a box."""
    pictures(root / "photos")
    document = coco_document({name: f"/home/me/photos/{name}.jpg" for name in BOXES}, 0)
    for each in document["annotations"]:
        x, y, width, height = each["bbox"]
        each["segmentation"] = [[x, y, x + width, y, x + width, y + height]]
    text(root / "dataset.json", document)


def coco_loose(root: Path) -> None:
    """Identifiers as text and as floats, no sizes, outlines without boxes."""
    pictures(root)
    document = coco_document({name: f"{name}.jpg" for name in BOXES})
    for image in document["images"]:
        image["id"] = f"image {image['id']}"
        del image["height"], image["width"]
    for each in document["annotations"]:
        each["image_id"] = f"image {each['image_id']}"
        each["category_id"] = float(each["category_id"])
        x, y, width, height = each.pop("bbox")
        each["segmentation"] = [[x, y, x + width, y, x + width, y + height]]
    text(root / "export.json", document)


def csv(root: Path) -> None:
    """TensorFlow's columns, in another order, in a file per part."""
    for name, part in zip(BOXES, ("train", "test"), strict=True):
        picture(root / "images" / f"{name}.jpg")
        rows = [
            f"{label},{xmax},{xmin},{ymin},{ymax},80,{name}.jpg,60" for label, xmin, ymin, xmax, ymax in BOXES[name]
        ]
        text(root / f"{part}_labels.csv", "class,xmax,xmin,ymin,ymax,Width,Filename,height\n" + "\n".join(rows))


def csv_headerless(root: Path) -> None:
    """RetinaNet: path, corners, class."""
    pictures(root / "images")
    rows = [
        f"images/{name}.jpg,{xmin},{ymin},{xmax},{ymax},{label}"
        for name, boxes in BOXES.items() for label, xmin, ymin, xmax, ymax in boxes
    ]  # fmt: skip
    text(root / "annotations.csv", "\n".join(rows) + "\n")


def labelme_json(root: Path) -> None:
    """A rectangle drawn from its lower right corner, a polygon, a circle."""
    pictures(root)
    for name, boxes in BOXES.items():
        shapes: list[dict[str, Any]] = []
        for label, xmin, ymin, xmax, ymax in boxes:
            kind, points = "rectangle", [[xmax, ymax], [xmin, ymin]]
            if label == "dog":
                kind, points = "polygon", [[xmin, ymin], [xmax, ymax], [(xmin + xmax) / 2, ymax]]
            shapes.append({"label": label, "points": points, "shape_type": kind, "group_id": None, "flags": {}})
        shapes.append({"label": "nose", "points": [[3, 3]], "shape_type": "point", "flags": {}})
        document: dict[str, Any] = {"version": "5.4.1", "flags": {}, "shapes": shapes, "imagePath": f"..\\images\\{name}.jpg",
                    "imageData": None, "imageHeight": 60, "imageWidth": 80}  # fmt: skip
        text(root / f"{name}.json", document)


def labelme_xml(root: Path) -> None:
    """The web version: Images/<collection>, Annotations/<collection>; a deleted object."""
    pictures(root / "Images" / "pets")
    for name, boxes in BOXES.items():
        objects = ""
        for label, xmin, ymin, xmax, ymax in [*boxes, ("ghost", 1, 1, 2, 2)]:
            points = "".join(
                f"<pt><x>{x}</x><y>{y}</y></pt>" for x, y in ((xmin, ymin), (xmax, ymin), (xmax, ymax), (xmin, ymax))
            )
            deleted = int(label == "ghost")
            objects += (
                f"<object><name> {label}\n</name><deleted>{deleted}</deleted><polygon>{points}</polygon></object>"
            )
        size = "<imagesize><nrows>60</nrows><ncols>80</ncols></imagesize>"
        xml = f"<annotation><filename>{name}.jpg</filename><folder>pets</folder>{objects}{size}</annotation>"
        text(root / "Annotations" / "pets" / f"{name}.xml", xml)


def _cvat(images: str, labels: str = "<label><name>cat</name></label><label><name>dog</name></label>") -> str:
    meta = f"<meta><task><labels>{labels}</labels>"
    meta += "<original_size><width>80</width><height>60</height></original_size></task></meta>"
    return f'<?xml version="1.0" encoding="utf-8"?>\n<annotations><version>1.1</version>{meta}{images}</annotations>'


def cvat_images(root: Path) -> None:
    """CVAT for images: boxes, a polygon, a point."""
    pictures(root / "images")
    entries = ""
    for index, (name, boxes) in enumerate(BOXES.items()):
        shapes = '<points label="cat" points="1,1"></points>'
        for label, xmin, ymin, xmax, ymax in boxes:
            if label == "dog":
                shapes += f'<polygon label="dog" points="{xmin},{ymin};{xmax},{ymin};{xmax},{ymax}"></polygon>'
            else:
                shapes += f'<box label="cat" occluded="0" xtl="{xmin}" ytl="{ymin}" xbr="{xmax}" ybr="{ymax}"></box>'
        entries += f'<image id="{index}" name="{name}.jpg" width="80" height="60">{shapes}</image>'
    text(root / "annotations.xml", _cvat(entries))


def cvat_video(root: Path) -> None:
    """CVAT for video: tracks over frames, one of which has left the picture."""
    tracks = ""
    for index, (name, boxes) in enumerate(BOXES.items()):
        picture(root / "images" / f"frame_{index:06d}.jpg")
        for label, xmin, ymin, xmax, ymax in boxes:
            box = f'occluded="0" keyframe="1" xtl="{xmin}" ytl="{ymin}" xbr="{xmax}" ybr="{ymax}" z_order="0"'
            gone = f'<box frame="{1 - index}" outside="1" {box}></box>'
            tracks += f'<track id="{name}" label="{label}"><box frame="{index}" outside="0" {box}></box>{gone}</track>'
    text(root / "annotations.xml", _cvat(tracks))
