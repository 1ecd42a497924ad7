"""convert_annoset: the database it leaves, and everything it refuses."""

from __future__ import annotations

import resource
import signal
from pathlib import Path

import numpy as np
import pytest

from caffe.cli.convert_annoset import main
from caffe.data.images import decode_datum
from caffe.data.lmdb_source import LmdbSource
from tests.data.conftest import Folder, photograph, voc_object, voc_xml
from tests.processes import python

CAT = voc_object("cat", 8, 6, 40, 30)


def test_bytes_are_the_originals(shared: Path, tmp_path: Path) -> None:
    run = shared / "golden" / "train_run"
    assert main([
        "-anno_type=detection", f"-label_map_file={run / 'labelmap_bccd.prototxt'}", "-encoded", "-encode_type=jpg",
        f"{shared / 'data' / 'bccd'}/", str(run / "list.txt"), str(tmp_path / "db"),
    ]) == 0  # fmt: skip
    ours, theirs = LmdbSource(tmp_path / "db"), LmdbSource(run / "lmdb")
    assert [ours.key(i) for i in range(len(ours))] == [theirs.key(i) for i in range(len(theirs))]
    for i in range(len(theirs)):
        assert ours.value(i) == theirs.value(i)


def test_records_and_report(folder: Folder, capfd: pytest.CaptureFixture[str]) -> None:
    folder.add("a", voc_xml(CAT, voc_object("dog", 0, 0, 100, 20)))
    folder.add("b", voc_xml())
    folder.add("c", voc_xml(voc_object("cat", 5, 5, 5, 9)))
    folder.write_list("\r\n")
    assert main(folder.arguments()) == 0
    source = LmdbSource(folder.root / "db")
    assert [source.key(i) for i in range(3)] == ["00000000_a.jpg", "00000001_b.jpg", "00000002_c.jpg"]
    record = source.annotated_datum(0)
    assert record.datum.data == (folder.root / "a.jpg").read_bytes()
    assert (record.datum.height, record.datum.width, record.datum.channels) == (60, 80, 3)
    said = capfd.readouterr().err
    for words in ("boxes without area: 1", "boxes that reach beyond", "images without boxes, 1 of 3: b.jpg", "2 Cat"):
        assert words in said


def test_all_faults_at_once_and_nothing_written(folder: Folder, capsys: pytest.CaptureFixture[str]) -> None:
    folder.add("a", voc_xml(CAT))
    folder.add("b", voc_xml(CAT, voc_object("cow", 1, 2, 3, 4)))
    folder.add("c", voc_xml(voc_object("17", 1, 2, 3, 4)))
    folder.add("d", "<annotation><object>")
    folder.add("e", voc_xml(CAT))
    (folder.root / "e.jpg").write_bytes(b"not a picture")
    folder.lines.append("gone.jpg gone.xml")
    assert main(folder.arguments()) == 1
    said = capsys.readouterr().err
    for words in (
        "6 faults", f"{folder.root}/b.xml: object 2 ('cow'): unknown name 'cow'", "c.xml: object 1 ('17')",
        "d.xml: not well-formed XML", "e.jpg: cannot decode", "gone.jpg: cannot read", "gone.xml: cannot read",
        "Known names", "'dog'",
    ):  # fmt: skip
        assert words in said
    assert sorted(path.name for path in folder.root.iterdir() if path.is_dir()) == []


def test_many_lines_go_through_processes(folder: Folder) -> None:
    folder.add("a", voc_xml(CAT))
    folder.lines *= 70
    assert main(folder.arguments("-encode_type=png")) == 0
    source = LmdbSource(folder.root / "db")
    assert len(source) == 70
    assert source.annotated_datum(69).datum.data[:4] == b"\x89PNG"


def test_redo_replaces_and_only_then(folder: Folder, capsys: pytest.CaptureFixture[str]) -> None:
    folder.add("a", voc_xml(CAT))
    assert main(folder.arguments()) == 0
    folder.add("b", voc_xml(CAT))
    assert main(folder.arguments()) == 1
    assert "-redo" in capsys.readouterr().err
    assert len(LmdbSource(folder.root / "db")) == 1
    assert main(folder.arguments("-redo")) == 0
    assert len(LmdbSource(folder.root / "db")) == 2
    assert [path.name for path in folder.root.iterdir() if path.is_dir()] == ["db"]


def test_raw_gray_resized(folder: Folder) -> None:
    folder.add("a", voc_xml(CAT))
    assert main(folder.arguments("-noencoded", "-encode_type=", "-gray", "-resize_width=8", "-resize_height=6")) == 0
    datum = LmdbSource(folder.root / "db").annotated_datum(0).datum
    assert (datum.channels, datum.height, datum.width, len(datum.data), datum.encoded) == (1, 6, 8, 48, False)


def test_min_and_max_dim(folder: Folder) -> None:
    folder.add("a", voc_xml(CAT))
    sizes = {"-min_dim=90": (90, 120), "-max_dim=40": (30, 40), "-min_dim=90 -max_dim=100": (75, 100)}
    for flags, size in sizes.items():
        assert main(folder.arguments("-redo", *flags.split())) == 0
        record = LmdbSource(folder.root / "db").annotated_datum(0)
        assert (record.datum.height, record.datum.width) == size
        # boxes are normalized, so resizing does not move them
        assert record.annotation_group[0].annotation[0].bbox.xmin == pytest.approx(0.1)


def test_check_size(folder: Folder, capsys: pytest.CaptureFixture[str]) -> None:
    folder.add("a", voc_xml(CAT))
    folder.add("b", voc_xml(CAT), image=photograph(1, 50, 50))
    assert main(folder.arguments("-check_size")) == 1
    assert "b.jpg: is 50 × 50 × 3, but the first image is 80 × 60 × 3" in capsys.readouterr().err


def test_classification_and_shuffle(folder: Folder) -> None:
    for number in range(8):
        folder.add(f"i{number}", "")
    folder.lines = [f"i{number}.jpg {number}" for number in range(8)]
    flags = ["-shuffle", "-seed=3", "-encode_type=png", f"{folder.root}/", folder.write_list(), str(folder.root / "db")]
    assert main(flags) == 0
    source = LmdbSource(folder.root / "db")
    labels = [source.annotated_datum(i).datum.label for i in range(8)]
    assert sorted(labels) == list(range(8))
    assert labels != list(range(8))
    assert not source.annotated_datum(0).HasField("type")
    image = decode_datum(source.annotated_datum(0).datum, "record")
    assert np.abs(image.astype(int) - photograph(labels[0])).mean() < 5


@pytest.mark.parametrize(
    ("flags", "says"),
    [
        (["-backend=leveldb"], "backend 'leveldb' is not supported"),
        (["-label_map_file="], "needs -label_map_file"),
        (["-label_map_file=/nowhere/map"], "cannot read label map"),
        (["-encode_type=doc"], "cannot encode as 'doc'"),
    ],
)
def test_bad_flags(folder: Folder, capsys: pytest.CaptureFixture[str], flags: list[str], says: str) -> None:
    folder.add("a", voc_xml(CAT))
    assert main(folder.arguments(*flags)) == 1
    assert says in capsys.readouterr().err
    assert not (folder.root / "db").exists()


@pytest.mark.parametrize("content", [b"", b"\n \n", b"a.jpg\n", b"a.jpg b.xml c.xml\n", bytes(range(256))])
def test_bad_lists(folder: Folder, capsys: pytest.CaptureFixture[str], content: bytes) -> None:
    arguments = folder.arguments()
    (folder.root / "list.txt").write_bytes(content)
    assert main(arguments) == 1
    assert "list" in capsys.readouterr().err


def test_no_space_left(folder: Folder) -> None:
    """A limit on file sizes stands in for a full disk: LMDB sees a write fail in the same place."""
    folder.add("a", voc_xml(CAT))
    folder.lines *= 60

    def limit() -> None:
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (30_000, 30_000))

    done = python("-m", "caffe.cli.convert_annoset", *folder.arguments(), before=limit)
    assert done.returncode == 1
    assert "no space left for" in done.stderr
    assert "Traceback" not in done.stderr
    assert [path.name for path in folder.root.iterdir() if path.is_dir()] == []


def test_slices_hold_the_objects_that_they_show(folder: Folder) -> None:
    """An image of 60 × 80 in slices of 40 × 40: `cat` is whole in one, `dog` is half in two, and the corner is empty."""
    folder.add("a", voc_xml(CAT, voc_object("dog", 30, 30, 50, 40)))
    folder.write_list()
    assert main([*folder.arguments(), "-slices=40x40", "-slice_overlap=0", "-slice_visible=0.5"]) == 0
    source = LmdbSource(folder.root / "db")
    keys = [source.key(i) for i in range(len(source))]
    assert keys == [
        "00000000_a.jpg_0_0",
        "00000001_a.jpg_40_0",
        "00000002_a.jpg_0_20",
        "00000003_a.jpg_40_20",
        "00000004_a.jpg",
    ]
    whole = decode_datum(source.annotated_datum(4).datum, "whole").astype(int)
    for index, (left, top) in enumerate(((0, 0), (40, 0), (0, 20), (40, 20))):
        record = source.annotated_datum(index)
        part = decode_datum(record.datum, "part").astype(int)
        assert part.shape == (40, 40, 3)
        assert np.abs(part - whole[top : top + 40, left : left + 40]).mean() < 12  # JPEG, twice
        boxes = [
            [a.bbox.xmin * 40 + left, a.bbox.ymin * 40 + top, a.bbox.xmax * 40 + left, a.bbox.ymax * 40 + top]
            for group in record.annotation_group
            for a in group.annotation
        ]
        dog = [max(30, left), 30, min(50, left + 40), 40]
        expected = [[8, 6, 40, 30], dog] if (left, top) == (0, 0) else [dog]
        np.testing.assert_allclose(boxes, expected, atol=1e-4)


def test_slices_that_show_too_little_of_an_object(folder: Folder, capsys: pytest.CaptureFixture[str]) -> None:
    folder.add("a", voc_xml(voc_object("dog", 30, 30, 50, 40)))
    folder.write_list()
    assert main([*folder.arguments(), "-slices=40x40", "-slice_overlap=0", "-slice_visible=0.6", "-noslice_whole"]) == 1
    assert "no slice shows enough of an object" in capsys.readouterr().err
    assert not (folder.root / "db").exists()


def test_slices_without_a_size_are_refused(folder: Folder, capsys: pytest.CaptureFixture[str]) -> None:
    folder.add("a", voc_xml(CAT))
    folder.write_list()
    assert main([*folder.arguments(), "-slices=AUTO"]) == 1
    assert "give HxW here" in capsys.readouterr().err


def test_paths_that_begin_with_a_slash_are_below_the_root(folder: Folder) -> None:
    folder.add("a", voc_xml(CAT))
    folder.lines = ["/a.jpg /a.xml"]
    folder.write_list()
    assert main(folder.arguments()) == 0
    assert LmdbSource(folder.root / "db").annotated_datum(0).datum.data == (folder.root / "a.jpg").read_bytes()
