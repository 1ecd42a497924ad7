"""create_list, get_image_size, create_label_map, create_annoset, download_voc, and the scripts around them."""

from __future__ import annotations

import functools
import hashlib
import http.server
import io
import json
import os
import shutil
import sys
import tarfile
import threading
from collections.abc import Iterator
from pathlib import Path

import cv2
import pytest

from caffe.cli import create_annoset, create_label_map, create_list, download_voc, get_image_size
from caffe.data.build.download import Archive, download, unpack
from caffe.data.label_map import LabelMap
from caffe.data.lmdb_source import LmdbSource
from caffe.errors import DataError
from tests.data.conftest import LABEL_MAP, photograph, voc_object, voc_xml
from tests.processes import run

SCRIPTS = Path(__file__).resolve().parents[3] / "scripts"


def voc(root: Path, name: str, **sets: list[str]) -> None:
    folder = root / name
    for part in ("JPEGImages", "Annotations", "ImageSets/Main"):
        (folder / part).mkdir(parents=True)
    for kind, names in sets.items():
        (folder / "ImageSets/Main" / f"{kind}.txt").write_text("".join(f"{each}\r\n" for each in names))
        for each in names:
            cv2.imwrite(str(folder / "JPEGImages" / f"{each}.jpg"), photograph(0, 20, 30 + int(each)))
            (folder / "Annotations" / f"{each}.xml").write_text(voc_xml(voc_object("cat", 1, 2, 3, 4)))


def test_voc_lists(tmp_path: Path) -> None:
    voc(tmp_path, "VOC2007", trainval=["1", "2"], test=["3", "4"])
    voc(tmp_path, "VOC2012", train=["5"], val=["6"], test=["7"])
    assert create_list.main([str(tmp_path), str(tmp_path / "out")]) == 0
    out = tmp_path / "out"
    trainval = (out / "trainval.txt").read_text().splitlines()
    assert sorted(trainval) == [
        "VOC2007/JPEGImages/1.jpg VOC2007/Annotations/1.xml", "VOC2007/JPEGImages/2.jpg VOC2007/Annotations/2.xml",
        "VOC2012/JPEGImages/5.jpg VOC2012/Annotations/5.xml", "VOC2012/JPEGImages/6.jpg VOC2012/Annotations/6.xml",
    ]  # fmt: skip
    assert (out / "test.txt").read_text().splitlines() == [
        "VOC2007/JPEGImages/3.jpg VOC2007/Annotations/3.xml", "VOC2007/JPEGImages/4.jpg VOC2007/Annotations/4.xml"
    ]  # fmt: skip
    assert (out / "test_name_size.txt").read_text() == "3 20 33\n4 20 34\n"
    assert create_list.main(["-seed=-1", str(tmp_path), str(tmp_path / "plain")]) == 0
    assert (tmp_path / "plain" / "trainval.txt").read_text().splitlines() == sorted(trainval)


def test_voc_faults_all_at_once(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    voc(tmp_path, "mine", trainval=["1", "2"])
    (tmp_path / "mine/JPEGImages/1.jpg").unlink()
    (tmp_path / "mine/Annotations/2.xml").unlink()
    assert create_list.main([str(tmp_path), str(tmp_path / "out")]) == 1
    said = capsys.readouterr().err
    assert "2 faults" in said
    assert "no image '1'" in said
    assert "no annotation '2.xml'" in said
    assert not (tmp_path / "out").exists()
    assert create_list.main(["-datasets=other", str(tmp_path), str(tmp_path / "out")]) == 1
    assert "['mine']" in capsys.readouterr().err
    assert create_list.main([str(tmp_path / "none"), str(tmp_path / "out")]) == 1


def test_coco_lists(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    images = [{"id": 9, "file_name": "000009.jpg", "height": 20, "width": 30}, {"id": 4, "file_name": "000004.jpg", "height": 20, "width": 30}]  # fmt: skip  # noqa: E501
    objects = [{"id": 1, "image_id": 9, "category_id": 17, "bbox": [1, 2, 3, 4], "iscrowd": 1, "segmentation": []}]
    (tmp_path / "instances_val.json").write_text(json.dumps({"images": images, "annotations": objects}))
    flags = ["-coco_instances=instances_val.json", str(tmp_path), str(tmp_path / "out")]
    assert create_list.main(flags) == 1
    assert "no image 'val/000009.jpg'" in capsys.readouterr().err
    (tmp_path / "val").mkdir()
    for image in images:
        cv2.imwrite(str(tmp_path / "val" / str(image["file_name"])), photograph(0, 20, 30))
    assert create_list.main(flags) == 0
    assert (tmp_path / "out/val.txt").read_text().splitlines()[0] == "val/000009.jpg Annotations/val/000009.json"
    assert (tmp_path / "out/val_name_size.txt").read_text() == "9 20 30\n4 20 30\n"
    (tmp_path / "map").write_text('item { name: "17" label: 1 display_name: "cat" }')
    assert create_annoset.main([
        "--anno-type=detection", "--label-type=json", f"--label-map-file={tmp_path / 'map'}", "--encoded",
        str(tmp_path), str(tmp_path / "out/val.txt"), str(tmp_path / "db"), str(tmp_path / "examples"),
    ]) == 0  # fmt: skip
    source = LmdbSource(tmp_path / "examples/db")
    assert source.annotated_datum(0).annotation_group[0].annotation[0].bbox.difficult
    assert not source.annotated_datum(1).annotation_group


def test_coco_as_tools_write_it(tmp_path: Path) -> None:
    """Folders in file_name, floats and text as numbers, no sizes, one name with two endings; the categories as labels."""
    names = ["cam/1.jpg", "1.jpg", "1.png"]
    for name in names:
        (tmp_path / "all" / name).parent.mkdir(parents=True, exist_ok=True)
        cv2.imwrite(str(tmp_path / "all" / name), photograph(0, 20, 30))
    images = [{"id": number, "file_name": name} for number, name in zip((7.0, "8", 9), names, strict=True)]
    objects = [{"image_id": number, "category_id": 3.0, "bbox": [number, 2, 3, 4]} for number in (7, 8, 9)]
    categories = [{"id": 3, "name": "cat"}, {"id": 1, "name": "dog"}]
    document = {"images": images, "annotations": objects, "categories": categories}
    (tmp_path / "all.json").write_text(json.dumps(document))
    out = tmp_path / "out"
    assert create_list.main(["-coco_instances=all.json", str(tmp_path), str(out)]) == 0
    assert (out / "all.txt").read_text().splitlines() == [
        "all/cam/1.jpg Annotations/all/cam/1.json", "all/1.jpg Annotations/all/1.jpg.json",
        "all/1.png Annotations/all/1.png.json",
    ]  # fmt: skip
    assert (out / "all_name_size.txt").read_text() == "7 20 30\n8 20 30\n9 20 30\n"
    labels = LabelMap.read(out / "all_labelmap.prototxt")
    assert (labels.label_of("3"), labels.display_name_of(2)) == (1, "dog")
    assert create_annoset.main([
        "--anno-type=detection", "--label-type=json", f"--label-map-file={out / 'all_labelmap.prototxt'}", "--encoded",
        "--encode-type=png", str(tmp_path), str(out / "all.txt"), str(tmp_path / "db"), str(tmp_path),
    ]) == 0  # fmt: skip
    source = LmdbSource(tmp_path / "db")
    lefts = [source.annotated_datum(i).annotation_group[0].annotation[0].bbox.xmin for i in range(3)]
    assert lefts == pytest.approx([7 / 30, 8 / 30, 9 / 30])


@pytest.mark.parametrize(
    ("image", "annotation", "wanted"),
    [
        ({"id": "img1", "file_name": "1.jpg"}, {}, "images[0] (id img1) has no number as id"),
        ({"id": 1}, {}, "images[0] (id 1) has no file_name"),
        ({"id": 1, "file_name": "../1.jpg"}, {}, "images[0] (id 1): file_name '../1.jpg' is not a path"),
        ({"id": 1, "file_name": "cam/" + "a" * 251}, {}, "is longer than 250 bytes"),
        ({"id": 1, "file_name": "\ud800.jpg"}, {}, "has half of a surrogate pair"),
        ({"id": 1, "file_name": "my 1.jpg"}, {}, "images[0] (id 1): file_name 'my 1.jpg' has a blank"),
        ({"id": 1, "file_name": "1.jpg"}, {}, "images[0] (id 1) has no height and width, and"),
        ({"id": 1, "file_name": "1.jpg", "height": 2, "width": 2}, {"image_id": 2}, "annotations[0] has image_id 2"),
        ({"id": 1, "file_name": "1.jpg", "height": 2, "width": 2}, {}, "annotations[0] has no number as image_id"),
    ],
)  # fmt: skip
def test_coco_faults_name_the_entry(
    image: dict[str, object], annotation: dict[str, object], wanted: str, tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    (tmp_path / "x.json").write_text(json.dumps({"images": [image], "annotations": [annotation]}))
    assert create_list.main(["-coco_instances=x.json", str(tmp_path), str(tmp_path / "out")]) == 1
    assert wanted in capsys.readouterr().err
    assert not (tmp_path / "Annotations").exists()


@pytest.mark.parametrize("content", ["[]", "{}", '{"images": [{"id": 1}]}', '{"images": [], "annotations": [{}]}', "{"])
def test_hostile_coco(tmp_path: Path, content: str, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "instances_x.json").write_text(content)
    assert create_list.main(["-coco_instances=instances_x.json", str(tmp_path), str(tmp_path / "out")]) == 1
    assert "instances_x.json" in capsys.readouterr().err


def test_get_image_size(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    cv2.imwrite(str(tmp_path / "a.png"), photograph(0, 7, 9))
    (tmp_path / "list").write_text("a.png 0\n")
    (tmp_path / "ids").write_text("a 42\n")
    where = [str(tmp_path), str(tmp_path / "list"), str(tmp_path / "sizes")]
    assert get_image_size.main(where) == 0
    assert (tmp_path / "sizes").read_text() == "a 7 9\n"
    assert get_image_size.main([f"-name_id_file={tmp_path / 'ids'}", *where]) == 0
    assert (tmp_path / "sizes").read_text() == "42 7 9\n"
    (tmp_path / "list").write_text("a.png 0\nb.png 0\n")
    assert get_image_size.main(where) == 1
    assert "b.png: cannot read" in capsys.readouterr().err
    assert (tmp_path / "sizes").read_text() == "42 7 9\n"


def test_create_label_map(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    names, output = tmp_path / "names", tmp_path / "map"
    names.write_text("cat\ndog\n")
    assert create_label_map.main(["-include_background", str(names), str(output)]) == 0
    assert LabelMap.read(output).names == ["none_of_the_above", "cat", "dog"]
    names.write_text("17,3,the cat\n18,5,the dog\n")
    assert create_label_map.main(["-delimiter=,", str(names), str(output)]) == 0
    assert LabelMap.read(output).display_name_of(5) == "the dog"
    names.write_text("cat 1\ndog\nowl x\n")
    assert create_label_map.main([str(names), str(output)]) == 1
    assert "names:2: 1 fields" in capsys.readouterr().err
    names.write_text("cat 1\ndog 1\n")
    assert create_label_map.main([str(names), str(output)]) == 1
    assert LabelMap.read(output).display_name_of(5) == "the dog"


def test_create_annoset_links_and_never_replaces_a_database(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    voc(tmp_path, "mine", trainval=["1"])
    (tmp_path / "map").write_text(LABEL_MAP)
    (tmp_path / "list").write_text("mine/JPEGImages/1.jpg mine/Annotations/1.xml\n")
    arguments = [
        "--anno-type=detection", f"--label-map-file={tmp_path / 'map'}", "--redo", "--encoded", "--encode-type=jpg",
        str(tmp_path), str(tmp_path / "list"), str(tmp_path / "dbs/db"), str(tmp_path / "examples"),
    ]  # fmt: skip
    for _ in range(2):
        assert create_annoset.main(arguments) == 0
        assert (tmp_path / "examples/db").is_symlink()
        assert len(LmdbSource(tmp_path / "examples/db")) == 1
    (tmp_path / "examples/db").unlink()
    (tmp_path / "examples/db").mkdir()
    assert create_annoset.main(arguments) == 1
    assert "is not a link" in capsys.readouterr().err


# ---- download_voc


class _Server(http.server.BaseHTTPRequestHandler):
    content = b""
    resumes = True
    breaks_off = False

    def do_GET(self) -> None:
        start = 0
        wanted = self.headers.get("Range")
        if wanted and self.resumes:
            start = int(wanted.removeprefix("bytes=").rstrip("-"))
        if start >= len(self.content) > 0:
            self.send_error(416)
            return
        self.send_response(206 if start else 200)
        self.send_header("Content-Length", str(len(self.content) - start))
        self.end_headers()
        body = self.content[start:]
        self.wfile.write(body[: len(body) // 2] if self.breaks_off else body)

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def server() -> Iterator[tuple[str, type[_Server]]]:
    handler = type("Handler", (_Server,), {})
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(handler)) as running:
        threading.Thread(target=running.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{running.server_address[1]}", handler
        running.shutdown()


def tar_of(*members: tuple[str, bytes | None]) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as tar:
        for name, content in members:
            info = tarfile.TarInfo(name)
            if content is None:
                info.type, info.linkname = tarfile.SYMTYPE, "/etc/passwd"
            info.size = len(content or b"")
            tar.addfile(info, io.BytesIO(content or b""))
    return buffer.getvalue()


@pytest.mark.parametrize("resumes", [True, False])
def test_a_broken_download_goes_on(tmp_path: Path, server: tuple[str, type[_Server]], resumes: bool) -> None:
    url, handler = server
    handler.content, handler.resumes, handler.breaks_off = os.urandom(50_000), resumes, True
    archive = Archive("voc/x.tar", hashlib.md5(handler.content).hexdigest())
    with pytest.raises(DataError, match="Run this again to resume it"):
        download(archive, url, tmp_path)
    assert (tmp_path / "x.tar.part").stat().st_size == 25_000
    handler.breaks_off = False
    assert download(archive, url, tmp_path).read_bytes() == handler.content
    assert [path.name for path in tmp_path.iterdir()] == ["x.tar"]
    # a second time there is nothing to do
    handler.content = b""
    download(archive, url, tmp_path)


def test_a_wrong_sum_is_not_kept(tmp_path: Path, server: tuple[str, type[_Server]]) -> None:
    url, handler = server
    handler.content = b"another file"
    with pytest.raises(DataError, match="x.tar: what .* sent has MD5"):
        download(Archive("x.tar", "0" * 32), url, tmp_path)
    assert not list(tmp_path.iterdir())


def test_unreachable_and_missing(tmp_path: Path, server: tuple[str, type[_Server]], capsys: pytest.CaptureFixture[str]) -> None:  # fmt: skip  # noqa: E501
    assert download_voc.main(["-server=http://127.0.0.1:9", str(tmp_path)]) == 1
    said = capsys.readouterr().err
    assert "cannot reach http://127.0.0.1:9" in said
    assert "VOCtrainval_06-Nov-2007.tar" in said
    with pytest.raises(SystemExit):
        download_voc.main(["-years=1999", str(tmp_path)])


def test_unpack_is_safe_and_done_once(tmp_path: Path) -> None:
    path = tmp_path / "a.tar"
    path.write_bytes(tar_of(("VOCdevkit/VOC2007/x.txt", b"x"), ("VOCdevkit/y.txt", b"y")))
    unpack(path, tmp_path / "out")
    assert (tmp_path / "out/VOCdevkit/VOC2007/x.txt").read_bytes() == b"x"
    (tmp_path / "out/VOCdevkit/y.txt").unlink()
    unpack(path, tmp_path / "out")
    assert not (tmp_path / "out/VOCdevkit/y.txt").exists()
    for number, hostile in enumerate([("../evil", b"x"), ("/tmp/evil", b"x"), ("link", None)]):
        path = tmp_path / f"evil{number}.tar"
        path.write_bytes(tar_of(hostile))
        with pytest.raises(DataError, match="not a plain file below its directory"):
            unpack(path, tmp_path / "out")
    assert not (tmp_path / "evil").exists()
    path.write_bytes(path.read_bytes()[:300])
    with pytest.raises(DataError, match="cannot unpack"):
        unpack(path, tmp_path / "out")


# ---- scripts


def test_lists_to_databases_by_script(tmp_path: Path) -> None:
    voc(tmp_path, "VOC2007", trainval=["1"], test=["2"])
    (tmp_path / "map").write_text(LABEL_MAP)
    assert create_list.main([str(tmp_path), str(tmp_path / "lists")]) == 0
    checkout = tmp_path / "checkout"  # for the links in its examples/
    shutil.copytree(SCRIPTS, checkout / "scripts")
    run(
        [checkout / "scripts/create_data.sh", "-n", "own", "-r", tmp_path, "-l", tmp_path / "lists",
         "-m", tmp_path / "map", "-a", "--paste-small 1 --small-side=9"],
        env={"PYTHON": sys.executable}, check=True,
    )  # fmt: skip
    for subset in ("trainval", "test"):
        assert len(LmdbSource(checkout / "examples/own" / f"own_{subset}_lmdb")) == 1
        # -a is for training data alone
        listed = tmp_path / "own" / "lmdb" / f"own_{subset}_lmdb_pasted.txt"
        assert listed.exists() == (subset == "trainval")
