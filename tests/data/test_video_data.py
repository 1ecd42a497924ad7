"""VideoData, on a video that is written here."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import torch

from caffe.cli import caffe
from caffe.errors import DataError, EndOfData, NetError
from caffe.proto import caffe_pb2
from tests.data.source_layers import TEST, layer

FRAMES = 7
NO_WEIGHTS = caffe_pb2.NetParameter(layer=[caffe_pb2.LayerParameter(name="mean", type="Reduction")])


@pytest.fixture
def video(tmp_path: Path) -> Path:
    """Seven frames of 32 × 24, each in its own gray: 20, 50, 80, …"""
    path = tmp_path / "grays.avi"
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*"MJPG"), 10, (32, 24))
    for number in range(FRAMES):
        writer.write(np.full((24, 32, 3), 20 + 30 * number, np.uint8))
    writer.release()
    return path


def video_layer(path: object, batch: int = 1, skip: int = 0, more: str = "", tops: str = 'top: "data"') -> Any:
    return layer(
        f"""name: "data" type: "VideoData" {tops} data_param {{ batch_size: {batch} }}
        video_data_param {{ video_type: VIDEO video_file: "{path}" skip_frames: {skip} }} {more}""",
        TEST,
    )


def grays(data: torch.Tensor) -> list[int]:
    return [round(float(value)) for value in data.mean((1, 2, 3))]


def near(found: list[int], wanted: list[int]) -> bool:
    return len(found) == len(wanted) and bool((np.abs(np.subtract(found, wanted)) <= 2).all())


def test_every_frame_in_its_order_then_the_end(video: Path) -> None:
    source = video_layer(video)
    assert source.reshape([]) == [(1, 3, 24, 32)]
    found = [grays(source()[0])[0] for _ in range(FRAMES)]
    assert near(found, [20 + 30 * number for number in range(FRAMES)])
    with pytest.raises(EndOfData, match=f"grays.avi' has ended after {FRAMES} frames"):
        source()


def test_batches_labels_and_skipped_frames(video: Path) -> None:
    source = video_layer(video, batch=2, skip=1, tops='top: "data" top: "label"')
    data, label = source()
    assert near(grays(data), [50, 110])  # one frame is skipped before each that is used
    assert label.tolist() == [0, 0]
    assert source.record_keys() == ["frame 1", "frame 3"]
    with pytest.raises(EndOfData):
        source()  # a single frame is left


def test_starts_where_it_is_told(video: Path) -> None:
    source = video_layer(video)
    source()
    source.start_at(4)
    assert near(grays(source()[0]), [140])
    source.start_at(0)
    assert near(grays(source()[0]), [20])


def test_transformations(video: Path) -> None:
    more = "transform_param { mean_value: 20 scale: 0.5 resize_param { resize_mode: WARP height: 12 width: 12 } }"
    source = video_layer(video, more=more)
    source()
    data = source()[0]
    assert data.shape == (1, 3, 12, 12)
    assert near(grays(data), [15])


@pytest.mark.parametrize("content", [None, b"no video"])
def test_what_is_no_video(tmp_path: Path, content: bytes | None) -> None:
    path = tmp_path / "x.avi"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises((NetError, DataError), match="x.avi' cannot be opened"):
        video_layer(path)


def test_needs_a_file() -> None:
    with pytest.raises(NetError, match="video_file"):
        layer(
            'name: "data" type: "VideoData" top: "data" data_param { batch_size: 1 } video_data_param { video_type: VIDEO }',
            TEST,
        )


def test_caffe_test_ends_with_the_video(video: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    model = tmp_path / "net.prototxt"
    model.write_text(f"""
    layer {{ name: "data" type: "VideoData" top: "data" data_param {{ batch_size: 1 }}
      video_data_param {{ video_type: VIDEO video_file: "{video}" }} }}
    layer {{ name: "mean" type: "Reduction" bottom: "data" top: "mean" reduction_param {{ operation: MEAN }} }}""")
    weights = tmp_path / "none.caffemodel"
    weights.write_bytes(NO_WEIGHTS.SerializeToString())
    assert caffe.main(["test", "-model", str(model), "-weights", str(weights), "-iterations", "100000"]) == 0
    log = capfd.readouterr().err
    assert f"has ended after {FRAMES} frames" in log
    assert float(log.rsplit("mean = ", 1)[1].split()[0]) == pytest.approx(110, abs=2)
