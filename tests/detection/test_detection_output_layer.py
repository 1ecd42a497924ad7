"""The DetectionOutput layer around its op: what it checks, files, pictures, static shapes."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest
import torch

import caffe
from caffe.data.mean import Mean
from caffe.detection.visualize import images_of
from caffe.errors import NetError
from caffe.proto import caffe_pb2

PRIORS = 2


def net(folder: Path, settings: str = "", *, images: bool = False, conf: int = PRIORS * 3) -> caffe.Net:
    """Two priors, the halves of an image; class 1 in the left, class 2 in the right one."""
    data = "shape { dim: 1 dim: 3 dim: 32 dim: 64 }" if images else ""
    (folder / "net.prototxt").write_text(f"""
      layer {{ name: "in" type: "Input" top: "loc" top: "conf" top: "prior" {'top: "data"' if images else ""} input_param {{
        shape {{ dim: 1 dim: {PRIORS * 4} }} shape {{ dim: 1 dim: {conf} }} shape {{ dim: 1 dim: 2 dim: {PRIORS * 4} }}
        {data} }} }}
      layer {{ name: "found" type: "DetectionOutput" bottom: "loc" bottom: "conf" bottom: "prior"
        {'bottom: "data"' if images else ""} top: "out" transform_param {{ mean_value: 10 }}
        detection_output_param {{ num_classes: 3 confidence_threshold: 0.5 {settings} }} }}
    """)
    result = caffe.Net(str(folder / "net.prototxt"), caffe.TEST)
    if conf == PRIORS * 3:
        result.blobs["conf"].data[...] = [[0, 0.9, 0, 0, 0, 0.8]]
        result.blobs["prior"].data[0, 0] = [0, 0, 0.5, 1, 0.5, 0, 1, 1]
    return result


FOUND = np.array([[0, 1, 0.9, 0, 0, 0.5, 1], [0, 2, 0.8, 0.5, 0, 1, 1]], np.float32)


def test_rows(tmp_path: Path) -> None:
    np.testing.assert_array_equal(net(tmp_path).forward()["out"], FOUND[None, None])


def test_static_shape(tmp_path: Path) -> None:
    n = net(tmp_path)
    n.layer_dict["found"]._layer.static_shape = True
    rows = n.forward()["out"][0, 0]
    assert rows.shape == (4, 7)
    np.testing.assert_array_equal(rows[:2], FOUND)
    assert rows[2:].tolist() == [[0] + [-1] * 6] * 2


def test_counts_that_do_not_fit(tmp_path: Path) -> None:
    with pytest.raises(
        NetError,
        match=r"layer 'found' \(DetectionOutput\): Number of priors must match number of confidence predictions: "
        r"2 priors and num_classes: 3 take 6 values per image, 'conf' has 8, as for 4 classes",
    ):
        net(tmp_path, conf=8)
    with pytest.raises(NetError, match="Number of priors must match number of location predictions"):
        net(tmp_path, "share_location: false")


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ("nms_param { nms_threshold: -1 }", "nms_threshold must be non-negative"),
        ("nms_param { eta: 1.5 }", "eta must be over 0 and at most 1"),
        ("visualize: true", "visualize needs a fourth bottom"),
        ('save_output_param { output_directory: "x" label_map_file: "none" name_size_file: "y" }', "label map 'none'"),
    ],
)
def test_settings_that_do_not_fit(tmp_path: Path, settings: str, message: str) -> None:
    with pytest.raises(ValueError, match=rf"^layer 'found' \(DetectionOutput\): (?!layer).*{message}"):
        net(tmp_path, settings)


def test_result_files(tmp_path: Path) -> None:
    (tmp_path / "map").write_text("".join(f'item {{ name: "n{i}" label: {i} }}\n' for i in range(3)))
    (tmp_path / "sizes").write_text("a 10 20\nb 30 40\n")
    n = net(
        tmp_path,
        f'save_output_param {{ output_directory: "{tmp_path}/results" output_name_prefix: "det_" output_format: "VOC" '
        f'label_map_file: "{tmp_path}/map" name_size_file: "{tmp_path}/sizes" }}',
    )
    for _ in range(2):
        n.forward()
    assert (tmp_path / "results/det_n1.txt").read_text() == "a 0.9 0 0 10 10\nb 0.9 0 0 20 30\n"


@pytest.mark.parametrize("name", ["../n1", "/etc/n1", "a/b", "a\\000b", "n" * 300, ".."])
def test_names_that_leave_the_output_directory(tmp_path: Path, name: str) -> None:
    items = f'item {{ name: "{name}" label: 1 }} item {{ name: "n2" label: 2 }}'
    (tmp_path / "map").write_text(f'item {{ name: "n0" label: 0 }} {items}')
    (tmp_path / "sizes").write_text("a 10 20\n")
    settings = f'label_map_file: "{tmp_path}/map" name_size_file: "{tmp_path}/sizes" output_name_prefix: "det_"'
    if name == "..":
        settings = settings.replace("det_", "../")
    with pytest.raises(NetError, match="would not be in output_directory: names in label map '.*map' and"):
        net(tmp_path, f'save_output_param {{ output_directory: "{tmp_path}/results" {settings} }}')
    assert not (tmp_path / "results").exists()


def test_video_of_what_it_sees(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("DISPLAY", raising=False)
    monkeypatch.delenv("WAYLAND_DISPLAY", raising=False)
    n = net(tmp_path, f'visualize: true save_file: "{tmp_path}/found.avi"', images=True)
    for _ in range(3):
        n.forward()
    del n
    import gc

    gc.collect()
    video = cv2.VideoCapture(str(tmp_path / "found.avi"))
    frames = []
    while (frame := video.read())[0]:
        frames.append(frame[1])
    assert len(frames) == 3
    assert frames[0].shape == (32, 64, 3)
    assert frames[0].max() > 100  # boxes on a picture of gray level 10


def test_images_of_a_net_input() -> None:
    param = caffe_pb2.TransformationParameter(scale=0.5, mean_value=[1, 2, 3])
    pixels = np.arange(24, dtype=np.uint8).reshape(1, 2, 4, 3)
    data = (pixels - np.array([1, 2, 3], np.float32)).transpose(0, 3, 1, 2) * np.float32(0.5)
    np.testing.assert_array_equal(images_of(data.astype(np.float32), Mean(param, "test"), param.scale), pixels)


def test_no_gradient_reaches_it(tmp_path: Path) -> None:
    layer = net(tmp_path).layer_dict["found"]._layer
    assert not any(layer.takes_gradient(i) for i in range(3))
    assert not layer(*(torch.zeros(1, 8), torch.ones(1, 6), torch.zeros(1, 2, 8))).requires_grad
