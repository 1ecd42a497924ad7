from __future__ import annotations

from pathlib import Path

import pytest

from caffe.data.label_map import LabelMap
from caffe.errors import DataError

MODELS = Path(__file__).resolve().parents[2] / "models"


def test_voc_and_coco_have_their_classes_in_order() -> None:
    voc = LabelMap.read(MODELS / "labelmap_voc.prototxt")
    assert voc.num_classes == 21
    assert voc.names[1] == "aeroplane"
    assert voc.names[20] == "tvmonitor"
    assert voc.names[1:] == sorted(voc.names[1:])
    coco = LabelMap.read(MODELS / "labelmap_coco.prototxt")
    assert coco.num_classes == 81
    # COCO's category ids skip numbers; labels do not
    assert coco.label_of("13") == 12
    assert coco.display_name_of(12) == "stop sign"
    assert coco.label_of("90") == 80
    assert coco.label_of("12") is None


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", "has no item"),
        ("item { name: 'a' }", "needs a name and a label"),
        ("item { label: 1 }", "needs a name and a label"),
        ("item { name: 'a' label: -1 }", "label -1 of 'a'"),
        ("item { name: 'a' label: 2000000000 }", "2000000000"),
        ("item { name: 'a' label: 1 } item { name: 'a' label: 2 }", "name 'a' is given to label 1 and 2"),
        ("item { name: 'a' label: 1 } item { name: 'b' label: 1 }", "label 1 is given to 'a' and 'b'"),
        ("layer { name: 'data' }", "not a LabelMap prototxt"),
        ("item { name: 'a' label: 'one' }", "not a LabelMap prototxt"),
        ("item {" * 5000, "not a LabelMap prototxt"),
    ],
)
def test_bad_label_maps_are_told(tmp_path: Path, text: str, says: str) -> None:
    path = tmp_path / "map.prototxt"
    path.write_text(text)
    with pytest.raises(DataError, match=r"map\.prototxt") as error:
        LabelMap.read(path)
    assert says in str(error.value)


def test_two_names_may_share_a_label_where_it_is_not_checked(tmp_path: Path) -> None:
    path = tmp_path / "map.prototxt"
    path.write_text("item { name: 'cat' label: 1 } item { name: 'kitten' label: 1 }")
    assert LabelMap.read(path, strict=False).label_of("kitten") == 1


def test_missing_and_binary_files(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="cannot read label map"):
        LabelMap.read(tmp_path / "none.prototxt")
    binary = tmp_path / "binary"
    binary.write_bytes(bytes(range(256)))
    with pytest.raises(DataError, match="not a text file"):
        LabelMap.read(binary)
