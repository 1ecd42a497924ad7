"""A real trained detector from elsewhere (../shared/data/facedetect): nets, weights, solver, answers."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

import caffe
from caffe.proto.text import read_solver
from tests.pictures import read_picture

NAME = "yufacedetectnet-open-v2"


@pytest.fixture
def folder(shared: Path) -> Path:
    return shared / "data" / "facedetect"


@pytest.fixture
def net(folder: Path) -> caffe.Net:
    return caffe.Net(str(folder / f"{NAME}.prototxt"), caffe.TEST, weights=str(folder / f"{NAME}.caffemodel"))


def relative_error(ours: NDArray[np.float32], theirs: NDArray[np.float32]) -> float:
    return float(np.linalg.norm(ours.astype("f8") - theirs)) / float(np.linalg.norm(theirs))


def test_answers_are_the_original_s(net: caffe.Net, folder: Path) -> None:
    reference = np.load(folder / f"{NAME}.reference.npz")
    net.forward(data=reference["input"])
    for name in reference.files:
        if name != "input":
            assert net.blobs[name].data.size == reference[name].size
            assert relative_error(net.blobs[name].data, reference[name].reshape(net.blobs[name].shape)) < 1e-5, name


def test_the_training_net_s_other_layers_are_skipped_and_named(folder: Path, capfd: pytest.CaptureFixture[str]) -> None:
    caffe.Net(str(folder / f"{NAME}.prototxt"), caffe.TEST, weights=str(folder / f"{NAME}.caffemodel"))
    assert "Ignoring source layer mbox_loss" in capfd.readouterr().err


def test_fields_and_policies_of_another_fork_are_warnings(folder: Path, capfd: pytest.CaptureFixture[str]) -> None:
    solver = read_solver(folder / f"{NAME}.solver.prototxt")
    assert solver.max_iter == 200000
    assert solver.lr_policy == "poly"
    assert "store_blobs_in_old_format" in capfd.readouterr().err


def test_faces_are_found(net: caffe.Net, folder: Path) -> None:
    image = read_picture(folder / "faces.jpg")
    net.blobs["data"].reshape(1, 3, *image.shape[:2])
    blob = image.astype(np.float32).transpose(2, 0, 1) - np.array([[[103.94]], [[116.78]], [[123.68]]], np.float32)
    rows = net.forward(data=blob[None])["detection_out"][0, 0]
    sure = rows[rows[:, 2] > 0.6]
    assert len(sure) >= 1
    assert ((sure[:, 5] - sure[:, 3]) * image.shape[1] > 10).all()


def test_opencv_s_importer_agrees(net: caffe.Net, folder: Path) -> None:
    reference = np.load(folder / f"{NAME}.reference.npz")
    net.forward(data=reference["input"])
    ours = net.blobs["detection_out"].data[0, 0]
    peer = cv2.dnn.readNetFromCaffe(str(folder / f"{NAME}.prototxt"), str(folder / f"{NAME}.caffemodel"))
    peer.setInput(reference["input"])
    theirs = peer.forward("detection_out")[0, 0]
    ours, theirs = ours[ours[:, 2] > 0.05], theirs[theirs[:, 2] > 0.05]
    assert len(ours) == len(theirs)
    np.testing.assert_allclose(ours[:, 2:], theirs[:, 2:], atol=1e-4)
