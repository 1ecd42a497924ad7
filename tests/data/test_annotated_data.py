"""AnnotatedData: the original's answers, order and random numbers, ranks, workers, and what it refuses."""

from __future__ import annotations

import multiprocessing
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np
import pytest

from caffe.data.lmdb_source import LmdbWriter
from caffe.errors import DataError, NetError
from caffe.proto import caffe_pb2
from caffe.runtime import runtime
from tests.data.conftest import photograph
from tests.data.source_layers import TEST, TRAIN, annotated, batches, layer
from tests.processes import running

PLAIN = "resize_param { height: 60 width: 80 }"
BOXES = [(0.1, 0.1, 0.5, 0.5), (0.4, 0.3, 0.9, 0.8)]


@pytest.fixture(autouse=True)
def _process_state(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setenv("CAFFE_DATA_WORKERS", "0")
    monkeypatch.setattr(runtime, "seed", 7)
    monkeypatch.setattr(runtime, "rank", 0)
    monkeypatch.setattr(runtime, "world_size", 1)
    yield
    assert not [child for child in multiprocessing.active_children() if child.name.startswith("data ")]


def write(path: Path, count: int = 6, *, boxes: int = 2, size: tuple[int, int] = (60, 80), **changes: bytes) -> Path:
    """A database of photographs; `changes` replaces the encoded image of record iN."""
    with LmdbWriter(path) as writer:
        for number in range(count):
            record = caffe_pb2.AnnotatedDatum(type=caffe_pb2.AnnotatedDatum.BBOX)
            data = cv2.imencode(".png", photograph(number, *size))[1].tobytes()
            record.datum.data = changes.get(f"i{number}", data)
            record.datum.encoded = True
            record.datum.channels, record.datum.height, record.datum.width = 3, *size
            record.datum.label = number
            for index, corners in enumerate(BOXES[:boxes]):
                group = record.annotation_group.add(group_label=index + 1)
                box = group.annotation.add(instance_id=0).bbox
                box.xmin, box.ymin, box.xmax, box.ymax = corners
            writer.put(f"{number:08d}_i{number}.png".encode(), record.SerializeToString())
    return path


@pytest.fixture(scope="module")
def database(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write(tmp_path_factory.mktemp("lmdb") / "db")


def golden() -> list[str]:
    folder = Path(__file__).resolve().parents[3] / "shared" / "golden"
    return sorted(path.name for path in folder.glob("transform_*.npz")) or ["absent"]


@pytest.mark.parametrize("name", golden())
def test_the_originals_answers(shared: Path, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    answer = np.load(shared / "golden" / name)
    monkeypatch.chdir(shared / "golden" / "train_run")
    source = layer(str(answer["prototxt"]).split("{", 1)[1].rsplit("}", 1)[0], TEST)
    ((data, label),) = batches(source, 1)
    assert source.shapes[0] == data.shape == answer["data"].shape
    assert np.abs(data - answer["data"]).max() <= 1
    assert np.abs(data - answer["data"]).mean() < 0.05
    np.testing.assert_array_equal(label, answer["label"])


def test_shapes_at_set_up_are_the_first_records(shared: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As the original's log has them: Top shape: 4 3 96 128, Top shape: 1 1 19 8."""
    source = annotated(shared / "golden/train_run/lmdb", "resize_param { height: 96 width: 128 }", 4, TRAIN, "")
    assert source.shapes == [(4, 3, 96, 128), (1, 1, 19, 8)]


def test_records_come_in_order_and_wrap(database: Path) -> None:
    source = annotated(database, PLAIN, 4, TEST, "")
    images = np.concatenate([data for data, _ in batches(source, 3)])
    for place in range(12):
        np.testing.assert_array_equal(images[place], photograph(place % 6).transpose(2, 0, 1))
    assert source.record_keys() == [f"{number:08d}_i{number}.png" for number in (2, 3, 4, 5)]


def test_label_rows(database: Path) -> None:
    ((_, label),) = batches(annotated(database, PLAIN, 2, TEST, ""), 1)
    assert label.shape == (1, 1, 4, 8)
    np.testing.assert_allclose(label[0, 0, :, :3], [[0, 1, 0], [0, 2, 0], [1, 1, 0], [1, 2, 0]])
    np.testing.assert_allclose(label[0, 0, :2, 3:7], BOXES, rtol=1e-6)


def test_a_batch_without_boxes_has_one_row_of_minus_one(tmp_path: Path) -> None:
    source = annotated(write(tmp_path / "db", boxes=0), batch=2)
    for data, label in batches(source, 4):
        assert np.isfinite(data).all()
        np.testing.assert_array_equal(label, np.full((1, 1, 1, 8), -1))
    assert source.shapes[1] == (1, 1, 1, 8)


def test_the_stream_is_a_function_of_seed_epoch_and_index(database: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The same for any number of workers, and from any start."""
    reference = batches(annotated(database), 7)
    for workers in ("1", "3"):
        monkeypatch.setenv("CAFFE_DATA_WORKERS", workers)
        source = annotated(database)
        for (data, label), (want, want_label) in zip(batches(source, 7), reference, strict=True):
            np.testing.assert_array_equal(data, want)
            np.testing.assert_array_equal(label, want_label)
        source.start_at(2)
        np.testing.assert_array_equal(batches(source, 1)[0][0], reference[2][0])
        source.close()
        source.close()
    # record 0 of the first and of a later epoch: augmented differently
    assert (reference[0][0][0] != reference[3][0][0]).any()
    monkeypatch.setattr(runtime, "seed", 8)
    assert (batches(annotated(database), 1)[0][0] != reference[0][0]).any()


def test_ranks_take_turns_record_by_record(database: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = np.concatenate([data for data, _ in batches(annotated(database, batch=4), 3)])
    monkeypatch.setattr(runtime, "world_size", 2)
    for rank in (0, 1):
        monkeypatch.setattr(runtime, "rank", rank)
        part = np.concatenate([data for data, _ in batches(annotated(database, batch=3), 2)])
        np.testing.assert_array_equal(part, whole[rank::2])
    # each rank tests alone, on everything
    tested = batches(annotated(database, PLAIN, 1, TEST, ""), 1)[0][0]
    np.testing.assert_array_equal(tested[0], photograph(0).transpose(2, 0, 1))


def test_rand_skip_leaves_out_the_same_records_for_a_seed(database: Path) -> None:
    first = [annotated(database, PLAIN, 1, TRAIN, "", more="rand_skip: 5") for _ in range(2)]
    keys = []
    for source in first:
        batches(source, 1)
        keys.append(source.record_keys())
    assert keys[0] == keys[1]


def test_classification_records_have_their_label(tmp_path: Path) -> None:
    with LmdbWriter(tmp_path / "db") as writer:
        for number in range(3):
            record = caffe_pb2.AnnotatedDatum()
            record.datum.CopyFrom(caffe_pb2.Datum(channels=3, height=2, width=2, data=bytes(range(12)), label=number))
            writer.put(f"{number:08d}".encode(), record.SerializeToString())
    ((data, label),) = batches(annotated(tmp_path / "db", "", 3, TEST, ""), 1)
    assert label.shape == (3, 1, 1, 1)
    np.testing.assert_array_equal(label.ravel(), [0, 1, 2])
    np.testing.assert_array_equal(data[0], np.arange(12).reshape(3, 2, 2))


def test_one_top_is_data_alone(database: Path) -> None:
    source = annotated(database, tops=1)
    assert len(source.shapes) == 1
    assert len(batches(source, 1)[0]) == 1


def test_gray_images_are_coloured_where_the_record_says_so(tmp_path: Path) -> None:
    gray = cv2.imencode(".png", photograph(0)[:, :, 0])[1].tobytes()
    data, _ = batches(annotated(write(tmp_path / "db", 2, i1=gray), PLAIN, 2, TEST, ""), 1)[0]
    np.testing.assert_array_equal(data[1, 0], data[1, 2])


# ---- what goes wrong


@pytest.mark.parametrize("workers", ["0", "2"])
def test_a_corrupt_image_names_its_record(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, workers: str) -> None:
    monkeypatch.setenv("CAFFE_DATA_WORKERS", workers)
    source = annotated(write(tmp_path / "db", i4=b"\xff\xd8 no picture"), batch=2)
    batches(source, 2)
    with pytest.raises(DataError, match=r"db', record '00000004_i4\.png': cannot decode the image"):
        source()


def test_a_killed_worker_ends_the_run(database: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CAFFE_DATA_WORKERS", "2")
    source = annotated(database)
    batches(source, 1)
    victim = next(child for child in multiprocessing.active_children() if child.name == "data 1")
    assert victim.pid is not None
    os.kill(victim.pid, signal.SIGKILL)
    with pytest.raises(DataError, match=r"record '.*': the data worker was killed by SIGKILL.*CAFFE_DATA_WORKERS"):
        batches(source, 20)


def test_sizes_that_differ_within_a_batch(tmp_path: Path) -> None:
    other = cv2.imencode(".png", photograph(0, 50, 70))[1].tobytes()
    with pytest.raises(DataError, match=r"i1.png': its data is 3 × 50 × 70.*resize_param"):
        annotated(write(tmp_path / "db", 2, i1=other), "", 2, TEST, "")()


@pytest.mark.parametrize(
    ("transform", "annotated_param", "more", "says"),
    [
        ("resize_param { height: 0 width: 80 }", "", "", "height and a width over 0"),
        ("resize_param { resize_mode: FIT_SMALL_SIZE height: 60 width: 60 }", "", "", "batch_size must be 1"),
        ("force_color: true force_gray: true", "", "", "both force_color and force_gray"),
        ("crop_h: 5", "", "", "crop_h and crop_w together"),
        ("expand_param { max_expand_ratio: 0.5 }", "", "", "max_expand_ratio >= 1"),
        ("distort_param { contrast_prob: 1 contrast_lower: 2 contrast_upper: 1 }", "", "", "contrast_lower"),
        ("distort_param { hue_prob: 1 hue_delta: -3 }", "", "", "hue_delta >= 0"),
        ("noise_param { saltpepper: true }", "", "", "saltpepper without a value"),
        ("mean_file: 'm' mean_value: 1", "", "", "both mean_file and mean_value"),
        ("mean_file: '/nowhere/mean'", "", "", "cannot read mean_file"),
        ("", "batch_sampler { sampler { min_scale: 0 } }", "", "min_scale"),
        ("", "batch_sampler { sampler { max_scale: 2 } }", "", "max_scale <= 1"),
        ("", "batch_sampler { sampler { min_aspect_ratio: 3 } }", "", "max_aspect_ratio"),
        ("", "", "backend: LEVELDB", "LEVELDB is not supported"),
        ("", "", "", "batch_size over 0"),
        ("crop_size: 90", "", "", "crop of 90 × 90 from an image of 80 × 60"),
        ("mean_value: 1 mean_value: 2", "", "", "2 mean_value for images of 3 channels"),
    ],
)
def test_settings_that_cannot_be(database: Path, transform: str, annotated_param: str, more: str, says: str) -> None:
    with pytest.raises((NetError, DataError), match="data") as error:
        annotated(database, transform, 0 if "batch_size over" in says else 2, TRAIN, annotated_param, more)()
    assert says in str(error.value)


def test_mean_file_of_another_size(database: Path, tmp_path: Path) -> None:
    blob = caffe_pb2.BlobProto(num=1, channels=3, height=4, width=5, data=[0.0] * 60)
    path = tmp_path / "mean.binaryproto"
    path.write_bytes(blob.SerializeToString())
    with pytest.raises(DataError, match=r"mean.binaryproto' is 5 × 4, but the image is 80 × 60"):
        annotated(database, f"mean_file: '{path}'", 1, TEST, "")()


@pytest.mark.parametrize("value", ["many", "-1", "1.5", "100000"])
def test_number_of_workers_that_is_none(database: Path, monkeypatch: pytest.MonkeyPatch, value: str) -> None:
    monkeypatch.setenv("CAFFE_DATA_WORKERS", value)
    with pytest.raises(DataError, match="CAFFE_DATA_WORKERS"):
        annotated(database)


def test_missing_source_names_the_layer(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="layer 'data'.*no database at"):
        annotated(tmp_path / "none")


CHILD = """
import os, signal, sys, threading, time
from caffe.runtime import runtime
from tests.data.source_layers import annotated
runtime.seed = 1
source = annotated(sys.argv[1])
source()
print("running", flush=True)
{then}
"""


@pytest.mark.parametrize(
    ("then", "sent", "status"),
    [
        ("while True: source()", signal.SIGINT, -signal.SIGINT),
        ("while True: source()", signal.SIGKILL, -signal.SIGKILL),
        ("raise SystemExit(3)", None, 3),
    ],
)
def test_no_process_is_left_behind(database: Path, then: str, sent: int | None, status: int) -> None:
    """Ctrl-C to the whole group, a kill of the main process alone, an exit without closing."""
    environment = {"CAFFE_DATA_WORKERS": "2", "GLOG_minloglevel": "3"}
    command: list[str | Path] = [sys.executable, "-c", CHILD.format(then=then), database]
    with running(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL) as child:
        assert child.stdout is not None
        assert child.stdout.readline() == "running\n"
        if sent == signal.SIGINT:
            os.killpg(child.pid, signal.SIGINT)
        elif sent is not None:
            child.send_signal(sent)
        assert child.wait(30) == status
        deadline = time.monotonic() + 10
        while time.monotonic() < deadline:
            try:
                os.killpg(child.pid, 0)
            except ProcessLookupError:
                return
            time.sleep(0.05)
        pytest.fail("a data worker outlived its run")
