"""Classifier, the windowed Detector and their commands, on a net whose scores show its input."""

from __future__ import annotations

import csv
from pathlib import Path
from typing import Any

import cv2
import h5py
import numpy as np
import pytest

import caffe
from caffe import layers as L
from caffe import params as P
from caffe.cli import classify, detect
from caffe.errors import CaffeError

rng = np.random.default_rng(0)


@pytest.fixture
def model(tmp_path: Path) -> tuple[str, str]:
    """A net on 8 × 8 images: class 0 is the mean of its first channel, classes 1 and 2 of the others."""
    n = caffe.NetSpec()
    n.data = L.Input(shape=dict(dim=[4, 3, 8, 8]))
    n.pool = L.Pooling(n.data, pool=P.Pooling.AVE, global_pooling=True)
    n.prob = L.InnerProduct(n.pool, num_output=3)
    path, weights = str(tmp_path / "deploy.prototxt"), str(tmp_path / "net.caffemodel")
    Path(path).write_text(str(n.to_proto()))
    net = caffe.Net(path, caffe.TEST)
    net.params["prob"][0].data[...] = np.eye(3)
    net.params["prob"][1].data[...] = 0
    net.save(weights)
    return path, weights


def test_center(model: tuple[str, str]) -> None:
    images = [rng.random((12, 10, 3)).astype(np.float32) for _ in range(5)]
    classifier = caffe.Classifier(*model, image_dims=(12, 10), mean=np.array([10.0, 20, 30]), raw_scale=255,
                                  channel_swap=(2, 1, 0), input_scale=0.1)  # fmt: skip
    expected = [(image[2:10, 1:9].mean(axis=(0, 1))[::-1] * 255 - [10, 20, 30]) * 0.1 for image in images]
    np.testing.assert_allclose(classifier.predict(images, oversample=False), expected, rtol=1e-4)


def test_ten_crops(model: tuple[str, str]) -> None:
    images = [rng.random((9, 11, 3)).astype(np.float32) for _ in range(2)]
    classifier = caffe.Classifier(*model, image_dims=[9, 11])
    expected = [caffe.io.oversample([image], (8, 8)).mean(axis=(0, 1, 2)) for image in images]
    np.testing.assert_allclose(classifier.predict(images), expected, rtol=1e-5)


def test_images_are_resized_to_the_input_by_default(model: tuple[str, str]) -> None:
    image = np.tile(rng.random(3).astype(np.float32), (30, 20, 1))
    np.testing.assert_allclose(caffe.Classifier(*model).predict([image], False), [image[0, 0]], rtol=1e-5)


@pytest.fixture
def photograph(tmp_path: Path) -> tuple[str, Any]:
    path = str(tmp_path / "image.png")
    pixels = rng.integers(0, 256, size=(40, 60, 3), dtype=np.uint8)
    cv2.imwrite(path, pixels)
    return path, pixels[:, :, ::-1].astype(np.float32) / 255


def test_windows(model: tuple[str, str], photograph: tuple[str, Any]) -> None:
    path, image = photograph
    windows = [[0, 0, 8, 8], [10, 20, 18, 28], [5, 5, 37, 37]]
    found = caffe.Detector(*model).detect_windows([(path, windows)])
    assert [row["window"] for row in found] == windows
    assert {row["filename"] for row in found} == {path}
    for row, (y0, x0, y1, x1) in list(zip(found, windows, strict=True))[:2]:
        np.testing.assert_allclose(row["prediction"], image[y0:y1, x0:x1].mean(axis=(0, 1)), rtol=1e-4)


def test_no_windows(model: tuple[str, str]) -> None:
    assert caffe.Detector(*model).detect_windows([]) == []


def test_context_is_the_surroundings(model: tuple[str, str]) -> None:
    """With 2 of 8 pixels on each side for context, a window of 7 + 1 rows covers those within 8 of its center."""
    image = np.broadcast_to(np.arange(40, dtype=np.float32)[:, None, None], (40, 60, 3))
    detector = caffe.Detector(*model, context_pad=2)
    crop = detector.crop(image, np.array([16, 20, 23, 27]))
    expected = caffe.io.resize_image(image[12:28, 16:32], (8, 8))
    assert crop.shape == (8, 8, 3)
    np.testing.assert_allclose(crop[:, 0, 0], expected[:, 0, 0], atol=0.6)


def test_outside_the_image_is_the_mean(model: tuple[str, str]) -> None:
    mean = np.array([51.0, 102.0, 153.0])
    detector = caffe.Detector(*model, context_pad=2, mean=mean, raw_scale=255, channel_swap=(2, 1, 0))
    crop = detector.crop(np.ones((40, 60, 3), dtype=np.float32), np.array([0, 0, 7, 7]))
    np.testing.assert_allclose(crop[0, 0], mean[::-1] / 255, rtol=1e-6)
    np.testing.assert_allclose(crop[-1, -1], 1)
    # the net's input: nothing of the mean is left
    assert detector.transformer.preprocess("data", crop)[:, 0, 0] == pytest.approx(0, abs=1e-4)


def test_window_off_the_image(model: tuple[str, str]) -> None:
    with pytest.raises(CaffeError, match="is outside its image of 40 x 60"):
        caffe.Detector(*model, context_pad=2).crop(np.ones((40, 60, 3)), np.array([90, 90, 99, 99]))


def test_selective_search_is_not_ours(model: tuple[str, str]) -> None:
    with pytest.raises(CaffeError, match="needs the package selective_search_ijcv_with_python"):
        caffe.Detector(*model).detect_selective_search(["image.png"])


def test_classify_command(model: tuple[str, str], photograph: tuple[str, Any], tmp_path: Path) -> None:
    net = ["--model_def", model[0], "--pretrained_model", model[1], "--raw_scale", "1", "--images_dim", "8,8"]
    for source in (photograph[0], str(tmp_path)):
        out = tmp_path / "scores.npy"
        assert classify.main([source, str(out), "--center_only", "--ext", "png", *net]) == 0
        expected = caffe.Classifier(*model, channel_swap=(2, 1, 0)).predict([photograph[1]], False)
        np.testing.assert_allclose(np.load(out), expected, rtol=1e-5)


def test_classify_mistakes(model: tuple[str, str], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    net = ["--model_def", model[0], "--pretrained_model", model[1]]
    np.save(tmp_path / "objects.npy", np.array([{}], dtype=object), allow_pickle=True)
    for source, message in (("objects.npy", "not a .npy file of numbers"), ("", "no file with extension .jpg")):
        assert classify.main([str(tmp_path / source), str(tmp_path / "out.npy"), *net]) == 1
        assert message in capsys.readouterr().err
    assert not (tmp_path / "out.npy").exists()


def test_detect_command(model: tuple[str, str], photograph: tuple[str, Any], tmp_path: Path) -> None:
    path, image = photograph
    (tmp_path / "windows.csv").write_text(f"filename,xmin,ymin,xmax,ymax\n{path},20,10,28,18\n{path},0,0,8,8\n")
    net = ["--model_def", model[0], "--pretrained_model", model[1], "--crop_mode", "list", "--raw_scale", "1"]
    net += ["--context_pad", "0", "--channel_swap", "0,1,2"]
    expected = [image[10:18, 20:28].mean(axis=(0, 1)), image[:8, :8].mean(axis=(0, 1))]

    assert detect.main([str(tmp_path / "windows.csv"), str(tmp_path / "out.csv"), *net]) == 0
    with open(tmp_path / "out.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["ymin"] for row in rows] == ["10", "0"]
    np.testing.assert_allclose([[float(row[f"class{k}"]) for k in range(3)] for row in rows], expected, rtol=1e-4)

    assert detect.main([str(tmp_path / "windows.csv"), str(tmp_path / "out.h5"), *net]) == 0
    with h5py.File(tmp_path / "out.h5") as h5:
        np.testing.assert_array_equal(h5["window"], [[10, 20, 18, 28], [0, 0, 8, 8]])
        np.testing.assert_allclose(h5["prediction"], expected, rtol=1e-4)
        assert h5["filename"].asstr()[0] == path


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("filename,xmin,ymin,xmax\n", "the first line does not have the columns ymax"),
        ("filename,xmin,ymin,xmax,ymax\na.png,1,2,3\n", "line 2: a window needs four numbers"),
        (
            "filename,xmin,ymin,xmax,ymax\na.png,1,2,1,5\n",
            "line 2: window [2, 1, 5, 1] (ymin, xmin, ymax, xmax) is empty",
        ),
    ],
)
def test_detect_mistakes(
    text: str, message: str, model: tuple[str, str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "windows.csv").write_text(text)
    flags = ["--model_def", model[0], "--pretrained_model", model[1], "--crop_mode", "list"]
    assert detect.main([str(tmp_path / "windows.csv"), str(tmp_path / "out.csv"), *flags]) == 1
    assert message in capsys.readouterr().err
