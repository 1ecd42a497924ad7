"""The data sets of the experiment on small objects, in VOC's layout, and the checksums of their sources."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from caffe.detection import voc
from caffe.errors import DataError
from experiments.small_objects import get_data, voc_layout


def picture(folder: Path, name: str) -> Path:
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(name.encode())
    return path


def test_deeppcb(tmp_path: Path) -> None:
    source = tmp_path / "source"
    for name in ("00041000", "00041001", "12000000"):
        picture(source, f"PCBData/g/{name}_test.jpg")
        picture(source, f"PCBData/g/{name}_temp.jpg")
        boxes = source / "PCBData" / "g_not" / f"{name}.txt"
        boxes.parent.mkdir(exist_ok=True)
        boxes.write_text("466 441 493 470 3\n1 2 3 4 6\n")
    for name, images in (("trainval.txt", ("00041000", "00041001")), ("test.txt", ("12000000",))):
        (source / "PCBData" / name).write_text("\n".join(f"g/{i}.jpg g_not/{i}.txt" for i in images))
    voc_layout.convert("deeppcb", source, tmp_path / "out")
    assert (tmp_path / "out/ImageSets/Main/trainval.txt").read_text() == "00041000\n00041001\n"
    assert (tmp_path / "out/JPEGImages/12000000.jpg").read_bytes() == b"PCBData/g/12000000_test.jpg"
    found = voc.read_ground_truth(tmp_path / "out/Annotations", tmp_path / "out/ImageSets/Main/test.txt")
    assert found.classes == ["mousebite", "pin-hole"]
    assert found.objects["mousebite"]["12000000"].boxes.tolist() == [[466, 441, 493, 470]]
    (source / "PCBData/g_not/12000000.txt").write_text("466 441 493\n")
    with pytest.raises(DataError, match="is not the published data set 'deeppcb'"):
        voc_layout.convert("deeppcb", source, tmp_path / "again")


def xml(name: str) -> str:
    box = "<xmin>1</xmin><ymin>2.5</ymin><xmax>3</xmax><ymax>4</ymax>"
    size = "<size><width>225</width><height>219</height></size>"
    return f"<annotation>{size}<object><name>{name}</name><bndbox>{box}</bndbox></object></annotation>"


def test_cells_in_order_without_copies(tmp_path: Path) -> None:
    """100 images in five blocks of 20, the last for testing. Numbers are sorted as numbers, and a copy is left out."""
    folder = tmp_path / "source" / "Original Dataset"
    names = [*(f"c ({i})" for i in range(1, 61)), *(f"image_{i}" for i in range(1, 41))]
    for name in names:
        picture(folder, f"{name}.png")
        (folder / f"{name}.xml").write_text(xml("Living Cell"))
    picture(folder, "image_77.png").write_bytes(b"image_3.png")
    (folder / "image_77.xml").write_text(xml("Dead Cell"))
    voc_layout.convert("cells", tmp_path / "source", tmp_path / "out")
    training = (tmp_path / "out/ImageSets/Main/trainval.txt").read_text().split()
    test = (tmp_path / "out/ImageSets/Main/test.txt").read_text().split()
    assert training[:2] == ["c_0001", "c_0002"]
    assert test == [f"image_{i:04}" for i in range(21, 41)]
    assert len(training) == 80
    assert "<name>living_cell</name>" in (tmp_path / "out/Annotations/c_0001.xml").read_text()
    assert "<ymin>2.5</ymin>" in (tmp_path / "out/Annotations/c_0001.xml").read_text()


def test_blocks_of_frames_are_apart() -> None:
    frames = [voc_layout.Picture(f"{i}", Path(), 1, 1, []) for i in range(60)]
    training, test = (list(map(int, (p.name for p in part))) for part in voc_layout.by_blocks(frames, block=6, gap=2))
    assert test == [*range(24, 30), *range(54, 60)]
    assert training == [*range(22), *range(32, 52)]
    assert min(abs(a - b) for a in training for b in test) == 3


def test_names_are_escaped() -> None:
    text = voc_layout.annotation(
        voc_layout.Picture("a", Path("a.jpg"), 3, 2, [voc_layout.Item("<b> & c", (1, 2, 3, 4))])
    )
    assert "<name>&lt;b&gt; &amp; c</name>" in text


def test_the_checksum_is_of_paths_and_contents(tmp_path: Path) -> None:
    picture(tmp_path, "A/x.txt")
    picture(tmp_path, "LICENSE")
    picture(tmp_path, "unused.txt")
    before = get_data.tree_sha256(tmp_path, ("A", "LICENSE"))
    (tmp_path / "unused.txt").write_text("changed")
    assert get_data.tree_sha256(tmp_path, ("LICENSE", "A")) == before
    (tmp_path / "A/x.txt").rename(tmp_path / "A/y.txt")
    moved = get_data.tree_sha256(tmp_path, ("A", "LICENSE"))
    (tmp_path / "A/y.txt").write_text("changed")
    assert len({before, moved, get_data.tree_sha256(tmp_path, ("A", "LICENSE"))}) == 3


def test_another_tree_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ["bccd", str(tmp_path / "data"), "--source", str(tmp_path)]
    assert get_data.main(arguments) == 1
    assert "has no 'BCCD': it is not the tree of Shenggan/BCCD_Dataset" in capsys.readouterr().err
    picture(tmp_path, "BCCD/x")
    picture(tmp_path, "LICENSE")
    assert get_data.main(arguments) == 1
    assert re.search(r"their SHA-256 is [0-9a-f]{64}, but should be b5fa7e32", capsys.readouterr().err)
    assert not (tmp_path / "data" / "bccd").exists()


def test_bccd_is_the_published_one(shared: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert get_data.main(["bccd", str(tmp_path), "--source", str(shared / "data" / "bccd")]) == 0
    found = voc.read_ground_truth(tmp_path / "bccd/Annotations", tmp_path / "bccd/ImageSets/Main/test.txt")
    assert (len(found.images), found.count("Platelets")) == (72, 69)
    assert get_data.main(["bccd", str(tmp_path), "--source", "nowhere"]) == 0
    assert "already exists" in capsys.readouterr().out
