"""Every format from a folder as a tool leaves it, and what readers say about files that are wrong."""

from __future__ import annotations

import unicodedata
from collections.abc import Callable
from pathlib import Path

import cv2
import PIL.Image
import PIL.ImageOps
import pytest

from caffe.data.formats.dataset import Dataset
from caffe.data.formats.reading import FORMATS, read_dataset
from caffe.data.images import ImageFormat, read_image
from caffe.data.orientation import orientation_of, turned
from caffe.errors import DataError
from tests.data.conftest import photograph, voc_object, voc_xml
from tests.data.formats import made
from tests.pictures import read_picture

MAKERS: list[tuple[Callable[[Path], None], str]] = [
    (made.voc, "voc"), (made.yolo_beside, "yolo"), (made.yolo_parallel, "yolo"), (made.yolo_roboflow, "yolo"),
    (made.yolo_segments, "yolo"), (made.coco_roboflow, "coco"), (made.coco_cvat, "coco"),
    (made.coco_label_studio, "coco"), (made.coco_label_studio_uploads, "coco"),
    (made.coco_labelme2coco, "coco"), (made.coco_loose, "coco"), (made.csv, "csv"),
    (made.csv_headerless, "csv"), (made.labelme_json, "labelme"), (made.labelme_xml, "labelme_xml"),
    (made.cvat_images, "cvat"), (made.cvat_video, "cvat"),
]  # fmt: skip
#: formats that name the part of each image
DIVIDED = {made.yolo_parallel: "val", made.yolo_roboflow: "val", made.coco_roboflow: "test", made.csv: "test"}


def boxes(dataset: Dataset) -> list[list[tuple[str, float, float, float, float]]]:
    """The objects of each image, as `made.BOXES` gives them."""
    return [
        [(o.name, o.xmin, o.ymin, o.xmax, o.ymax) for o in sorted(image.objects, key=lambda o: o.name)]
        for image in dataset.images
    ]


@pytest.mark.parametrize(("make", "form"), MAKERS, ids=lambda value: getattr(value, "__name__", value))
def test_every_format_gives_the_same(make: Callable[[Path], None], form: str, tmp_path: Path) -> None:
    make(tmp_path)
    dataset = read_dataset(tmp_path)
    assert dataset.format == FORMATS[form]
    assert dataset.faults == []
    dataset.images.sort(key=lambda image: image.path.name)
    for found, wanted in zip(boxes(dataset), made.BOXES.values(), strict=True):
        assert [each[0] for each in found] == [each[0] for each in wanted]
        for one, other in zip(found, wanted, strict=True):
            assert one[1:] == pytest.approx(other[1:], abs=1e-3)
    assert [image.size for image in dataset.images] == [made.SIZE] * 2
    assert [image.part for image in dataset.images] == (["train", DIVIDED[make]] if make in DIVIDED else ["", ""])
    if form in ("yolo", "coco", "cvat"):
        assert [name for name in dataset.class_names if name != "animals"] == made.CLASSES


def test_shapes_without_area_are_counted(tmp_path: Path) -> None:
    made.labelme_json(tmp_path)
    assert read_dataset(tmp_path).notes == {"shapes without area (point), left out": 2}


# ---- which image an annotation means


def test_images_of_one_name_keep_their_boxes(tmp_path: Path) -> None:
    """Two endings in one folder, and the same name in two."""
    places = ["1.jpg", "1.png", "cam/1.jpg"]
    images = [{"id": index, "file_name": name} for index, name in enumerate(places)]
    objects = [
        {"image_id": index, "category_id": 5, "bbox": [index, index, 10, 10]} for index in range(len(places))
    ]  # fmt: skip
    for name in places:
        made.picture(tmp_path / "images" / name)
    made.text(
        tmp_path / "all.json", {"images": images, "annotations": objects, "categories": [{"id": 5, "name": "cat"}]}
    )
    found = {
        str(each.path.relative_to(tmp_path / "images")): each.objects[0].xmin for each in read_dataset(tmp_path).images
    }
    assert found == {"1.jpg": 0, "1.png": 1, "cam/1.jpg": 2}


def test_a_name_in_several_folders_goes_with_the_parallel_one(tmp_path: Path) -> None:
    for part, label in (("a", "cat"), ("b", "dog")):
        made.picture(tmp_path / "images" / part / "1.jpg")
        made.text(tmp_path / "xml" / part / "1.xml", voc_xml(voc_object(label, 1, 2, 3, 4)))
    found = {each.path.parent.name: each.objects[0].name for each in read_dataset(tmp_path).images}
    assert found == {"a": "cat", "b": "dog"}


def test_a_folder_of_the_same_name_elsewhere(tmp_path: Path) -> None:
    for place in ("raw/anna", "raw/ben", "prepared/train"):
        made.picture(tmp_path / place / "1.jpg")
    made.text(tmp_path / "labels/ben/boxes.csv", "filename,xmin,ymin,xmax,ymax,class\n1.jpg,1,2,3,4,cat\n")
    assert [each.path for each in read_dataset(tmp_path).images] == [tmp_path / "raw/ben/1.jpg"]


def test_an_ambiguous_name_is_a_fault(tmp_path: Path) -> None:
    for ending in ("jpg", "png"):
        made.picture(tmp_path / f"1.{ending}")
    made.text(tmp_path / "1.xml", voc_xml(voc_object("cat", 1, 2, 3, 4)))
    with pytest.raises(DataError, match=r"1\.xml: image '1' may be '1\.jpg' or '1\.png'; rename one of them"):
        read_dataset(tmp_path)
    made.text(tmp_path / "1.xml", "<annotation><filename>1.png</filename></annotation>")
    assert [each.path.name for each in read_dataset(tmp_path).images] == ["1.png"]


def test_names_of_other_machines(tmp_path: Path) -> None:
    """Backslashes, addresses, other cases, another ending than the image now has."""
    references = ["C:\\data\\one.jpg", "http://host:8080/data/upload/3/b%20c.jpg?d=1", "IMG_7.JPG", "four.bmp"]
    for name in ("one.jpg", "b c.jpg", "img_7.jpg", "four.jpg"):
        made.picture(tmp_path / name)
    rows = "".join(f'"{reference}",1,2,3,4\n' for reference in references)
    made.text(tmp_path / "boxes.csv", f"path,x1,y1,x2,y2\n{rows}")
    dataset = read_dataset(tmp_path)
    assert sorted(each.path.name for each in dataset.images) == ["b c.jpg", "four.jpg", "img_7.jpg", "one.jpg"]
    assert {each.objects[0].name for each in dataset.images} == {"object"}


def test_the_format_of_most_images_is_used(tmp_path: Path) -> None:
    made.voc(tmp_path)
    made.text(tmp_path / "extra.csv", "filename,xmin,ymin,xmax,ymax,class\none.jpg,1,2,3,4,bird\n")
    dataset = read_dataset(tmp_path)
    assert dataset.format == "VOC XML"
    assert dataset.remarks == ["CSV of 1 image is not used; -format csv uses it"]
    assert read_dataset(tmp_path, form="csv").images[0].objects[0].name == "bird"


def test_images_without_annotation(tmp_path: Path) -> None:
    made.voc(tmp_path)
    made.picture(tmp_path / "photos/three.jpg")
    dataset = read_dataset(tmp_path)
    assert len(dataset.images) == 2
    assert dataset.remarks == ["images without annotation, left out: 1 (photos/three.jpg)"]
    kept = read_dataset(tmp_path, keep_unannotated=True)
    assert [len(each.objects) for each in kept.images] == [2, 0, 1]


def test_the_output_and_hidden_files_are_not_read(tmp_path: Path) -> None:
    made.voc(tmp_path)
    made.picture(tmp_path / "out/JPEGImages/one.jpg")
    made.picture(tmp_path / ".cache/one.jpg")
    made.text(tmp_path / "labels/._one.xml", "what a file system adds")
    (tmp_path / "loop").symlink_to(tmp_path)
    assert len(read_dataset(tmp_path, without=[tmp_path / "out"]).images) == 2


# ---- sizes


def test_boxes_of_an_image_that_was_resized(tmp_path: Path) -> None:
    made.picture(tmp_path / "1.jpg", size=(30, 40))
    made.text(tmp_path / "1.xml", voc_xml(voc_object("cat", 8, 6, 40, 30)))  # of 80 × 60
    dataset = read_dataset(tmp_path)
    assert dataset.images[0].size == (30, 40)
    assert boxes(dataset) == [[("cat", 4, 3, 20, 15)]]
    assert "1" not in dataset.notes
    assert [*dataset.notes.values()] == [1]


def _turned(path: Path) -> None:
    """A photograph stored 80 wide and 60 high, shown 60 wide and 80 high."""
    from PIL import Image

    exif = Image.Exif()
    exif[0x0112] = 6
    Image.fromarray(photograph(0)[:, :, ::-1]).save(path, exif=exif)
    assert read_picture(path, cv2.IMREAD_COLOR | cv2.IMREAD_IGNORE_ORIENTATION).shape == (60, 80, 3)


def test_shares_are_of_the_turned_photograph(tmp_path: Path) -> None:
    _turned(tmp_path / "1.jpg")
    made.text(tmp_path / "1.txt", "0 0.5 0.25 0.5 0.5\n")
    dataset = read_dataset(tmp_path)
    assert dataset.images[0].size == (80, 60)
    assert boxes(dataset) == [[("class_0", 15, 0, 45, 40)]]
    assert len(dataset.remarks) == 1


@pytest.mark.parametrize("sides", [(60, 80), (80, 60)])
def test_pixels_keep_the_frame_of_their_size(sides: tuple[int, int], tmp_path: Path) -> None:
    """An annotation's size tells whether it is of the stored or of the turned photograph."""
    _turned(tmp_path / "1.jpg")
    size = f"<size><width>{sides[1]}</width><height>{sides[0]}</height></size>"
    made.text(tmp_path / "1.xml", voc_xml(voc_object("cat", 1, 2, 3, 4), size=size))
    dataset = read_dataset(tmp_path)
    assert dataset.images[0].size == sides
    assert boxes(dataset) == [[("cat", 1, 2, 3, 4)]]


# ---- details of formats


def test_voc_variants(tmp_path: Path) -> None:
    """Part boxes, bndbox before name, corners in other orders, a turned box, floats."""
    box = "<bndbox><ymax>{}</ymax><xmin>{}</xmin><ymin>{}</ymin><xmax>{}</xmax></bndbox>"
    part = f"<part><name>head</name>{box.format(9, 9, 1, 1)}</part>"
    objects = [
        f"<object>{box.format('40.5', 10, 20, 30)}{part}<name> cat </name><difficult>1</difficult></object>",
        f"<object><name>dog</name>{box.format(5, 60, 50, 2)}</object>",
        "<object><name>dog</name><robndbox><cx>40</cx><cy>30</cy><w>20</w><h>10</h><angle>1.5707963</angle>"
        "</robndbox></object>",
        f"<object><name>line</name>{box.format(5, 5, 5, 9)}</object>",
    ]
    made.picture(tmp_path / "1.jpg")
    made.text(tmp_path / "1.xml", voc_xml(*objects))
    dataset = read_dataset(tmp_path)
    cat, dog, turned = dataset.images[0].objects
    assert (cat.name, cat.xmin, cat.ymin, cat.xmax, cat.ymax, cat.difficult) == ("cat", 10, 20, 30, 40.5, True)
    assert (dog.xmin, dog.ymin, dog.xmax, dog.ymax) == (2, 5, 60, 50)
    assert (turned.xmin, turned.ymin, turned.xmax, turned.ymax) == pytest.approx((35, 20, 45, 40), abs=1e-3)
    assert dataset.notes == {
        "boxes with exchanged corners, put in order": 1, "boxes without area, left out": 1
    }  # fmt: skip


@pytest.mark.parametrize("encoding", ["gbk", "latin-1"])
def test_bytes_that_nothing_uses(encoding: str, tmp_path: Path) -> None:
    """A path in another encoding than the file claims, and a bare ampersand."""
    word = "文件夹" if encoding == "gbk" else "façade"
    made.picture(tmp_path / "1.jpg")
    xml = voc_xml(voc_object("cat", 1, 2, 3, 4)).replace("<size>", f"<path>C:/{word} & co/1.jpg</path><size>")
    (tmp_path / "1.xml").write_bytes(f'<?xml version="1.0" encoding="utf-8"?>\n{xml}'.encode(encoding))
    assert boxes(read_dataset(tmp_path)) == [[("cat", 1, 2, 3, 4)]]
    (tmp_path / "1.xml").write_bytes(xml.replace("cat", word).encode(encoding))
    with pytest.raises(DataError, match=r"1\.xml: not well-formed XML"):
        read_dataset(tmp_path)


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16", "cp1252"])
def test_text_as_editors_and_spreadsheets_write_it(encoding: str, tmp_path: Path) -> None:
    """Byte-order marks, UTF-16 as PowerShell writes it, and Windows' own encoding, with lines that end in CR LF."""
    made.picture(tmp_path / "yolo/Vögel 1.jpg")
    made.picture(tmp_path / "csv/Vögel 1.jpg")
    rows = "filename\tclass\txmin\tymin\txmax\tymax\r\nVögel 1.jpg\tKäfer\t1,5\t2\t30\t40\r\n"
    (tmp_path / "csv/export.tsv").write_bytes(rows.encode(encoding))
    (tmp_path / "yolo/Vögel 1.txt").write_bytes("1 0.5 0.5 0.5 0.5\r\n".encode(encoding))
    (tmp_path / "yolo/data.yaml").write_bytes("names:\r\n  0: Hund\r\n  1: Käfer\r\n".encode(encoding))
    assert boxes(read_dataset(tmp_path / "csv")) == [[("Käfer", 1.5, 2, 30, 40)]]
    assert boxes(read_dataset(tmp_path / "yolo")) == [[("Käfer", 20, 15, 60, 45)]]
    (tmp_path / "yolo/data.yaml").unlink()
    (tmp_path / "yolo/classes.txt").write_bytes("Hund\r\nKäfer\r\n".encode(encoding))
    assert boxes(read_dataset(tmp_path / "yolo")) == [[("Käfer", 20, 15, 60, 45)]]


def test_accents_as_macos_takes_them_apart(tmp_path: Path) -> None:
    """File names of one spelling in annotations of the other; classes of both spellings are one."""
    apart, together = (unicodedata.normalize(form, "Vögel é") for form in ("NFD", "NFC"))
    assert apart != together
    made.picture(tmp_path / f"{apart}.jpg")
    made.picture(tmp_path / "2.jpg")
    made.text(tmp_path / "boxes.csv", "filename,xmin,ymin,xmax,ymax,class\n"
              f"{together}.jpg,1,2,3,4,{together}\n2.jpg,1,2,3,4,{apart}\n")  # fmt: skip
    dataset = read_dataset(tmp_path)
    assert {each.name for image in dataset.images for each in image.objects} == {together}
    made.text(tmp_path / f"{together}.txt", "0 0.5 0.5 0.5 0.5\n")
    assert len(read_dataset(tmp_path, form="yolo").images) == 1


def test_names_that_differ_in_case(tmp_path: Path) -> None:
    made.picture(tmp_path / "A.jpg")
    made.picture(tmp_path / "a.jpg")
    if len({*tmp_path.iterdir()}) < 2:
        pytest.skip("needs a file system that tells A from a")
    made.text(tmp_path / "x.csv", "filename,xmin,ymin,xmax,ymax,class\nA.jpg,1,2,3,4,up\na.jpg,5,6,7,8,low\n")
    found = {image.path.name: image.objects[0].name for image in read_dataset(tmp_path).images}
    assert found == {"A.jpg": "up", "a.jpg": "low"}


def test_class_numbers_with_gaps(tmp_path: Path) -> None:
    made.pictures(tmp_path / "images")
    made.text(tmp_path / "labels/one.txt", "2 0.5 0.5 0.5 0.5\n")
    made.text(tmp_path / "labels/two.txt", "1 0.5 0.5 0.5 0.5\n")
    made.text(tmp_path / "data.yaml", "path: ../datasets/pets\nnames: {0: cat, 2: dog}\n")
    dataset = read_dataset(tmp_path)
    assert dataset.class_names == ["cat", "dog"]
    assert [each[0][0] for each in boxes(dataset)] == ["dog"]
    assert dataset.faults == [
        "labels/two.txt: line 1: there is no class 1; data.yaml names the classes 0 to 2 without 1"
    ]


def test_tables_with_spaces_and_quotes(tmp_path: Path) -> None:
    made.picture(tmp_path / "1.jpg")
    made.text(tmp_path / "x.csv", 'filename, xmin, ymin, xmax, ymax, class\n1.jpg, 1, 2, 3, 4, "cat, big"\n')
    assert boxes(read_dataset(tmp_path)) == [[("cat, big", 1, 2, 3, 4)]]


@pytest.mark.parametrize(
    ("name", "content", "wanted"),
    [
        ("1.txt", "0 0,5 0,5 0,2 0,2", "1.txt: line 1: expected 'class cx cy width height', five numbers, found '0 0,5"),
        ("1.txt", "cat 0.5 0.5 0.2 0.2", "found 'cat 0.5 0.5 0.2 0.2'"),
        ("x.csv", "image,x,y,width,height\n1.jpg,1,2,3,4", "x.csv: a table needs the columns filename, xmin, .*; its "
         "first line: image, x, y, width, height"),
        ("x.csv", "", "its first line: empty"),
    ],
)  # fmt: skip
def test_a_refusal_names_what_is_almost_right(name: str, content: str, wanted: str, tmp_path: Path) -> None:
    made.picture(tmp_path / "1.jpg")
    made.text(tmp_path / name, content)
    with pytest.raises(DataError, match=wanted):
        read_dataset(tmp_path)


@pytest.mark.parametrize("orientation", [2, 5, 6, 8])
@pytest.mark.parametrize("suffix", ["jpg", "png", "webp", "tif"])
def test_orientation_tags_in_every_format(suffix: str, orientation: int, tmp_path: Path) -> None:
    """The size that shares are of is that of the image as it is drawn upright."""
    exif = PIL.Image.Exif()
    exif[0x0112] = orientation
    PIL.Image.new("RGB", (80, 60)).save(tmp_path / f"1.{suffix}", exif=exif)
    made.text(tmp_path / "1.txt", "0 0.5 0.25 0.5 0.5\n")
    (image,) = read_dataset(tmp_path).images
    with PIL.Image.open(image.path) as opened:
        width, height = PIL.ImageOps.exif_transpose(opened).size
    assert image.size == (height, width) == ((80, 60) if orientation > 4 else (60, 80))
    data = image.path.read_bytes()
    decoded = read_image(image.path, ImageFormat())[1]
    assert turned(decoded, orientation_of(data)).shape[:2] == image.size


def test_objects_in_several_files_are_used_once(tmp_path: Path) -> None:
    made.csv(tmp_path)
    rows = [(tmp_path / f"{part}_labels.csv").read_text().partition("\n")[2] for part in ("train", "test")]
    made.text(tmp_path / "all.csv", "class,xmax,xmin,ymin,ymax,width,filename,height\n" + "\n".join(rows))
    dataset = read_dataset(tmp_path)
    assert [len(each.objects) for each in dataset.images] == [2, 1]
    assert [each.part for each in dataset.images] == ["train", "test"]


def test_shares_in_a_table(tmp_path: Path) -> None:
    made.picture(tmp_path / "a.jpg")
    made.text(tmp_path / "boxes.csv", "ImageID;LabelName;XMin;XMax;YMin;YMax\na;cat;0.1;0.5;0;1\n")
    assert boxes(read_dataset(tmp_path)) == [[("cat", 8, 0, 40, 60)]]


def test_a_crowd_is_difficult_and_masks_have_boxes(tmp_path: Path) -> None:
    made.picture(tmp_path / "a.jpg")
    counts = [60 * 10 + 5, 20] + [40, 20] * 9 + [60 * 80 - (60 * 10 + 5 + 20 + 60 * 9)]
    made.text(tmp_path / "a.json", {
        "images": [{"id": 7.0, "file_name": "a.jpg", "height": 60, "width": 80}],
        "annotations": [{"image_id": "7", "category_id": 1, "iscrowd": 1,
                         "segmentation": {"size": [60, 80], "counts": counts}}],
        "categories": [{"id": "1", "name": "cat"}],
    })  # fmt: skip
    (image,) = read_dataset(tmp_path).images
    (cat,) = image.objects
    assert (cat.xmin, cat.ymin, cat.xmax, cat.ymax, cat.difficult) == (10, 5, 20, 25, True)


def test_turned_and_round_shapes_of_cvat(tmp_path: Path) -> None:
    made.picture(tmp_path / "a.jpg")
    shapes = (
        '<box label="cat" xtl="30" ytl="25" xbr="50" ybr="35" rotation="90"/>'
        '<ellipse label="cat" cx="40" cy="30" rx="10" ry="5"/>'
        '<mask label="cat" rle="1" left="3" top="4" width="5" height="6"/>'
        '<cuboid label="cat" xtl1="1" ytl1="2" xbr1="9" ybr1="9" xtl2="3" ytl2="1" xbr2="12" ybr2="8"/>'
        '<tag label="indoors"/>'
    )
    made.text(tmp_path / "annotations.xml", f'<annotations><image name="a.jpg">{shapes}</image></annotations>')
    found = [each[1:] for each in boxes(read_dataset(tmp_path))[0]]
    assert found == [pytest.approx(box) for box in ((35, 20, 45, 40), (30, 25, 50, 35), (3, 4, 8, 10), (1, 1, 12, 9))]
