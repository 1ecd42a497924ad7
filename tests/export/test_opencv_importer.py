"""OpenCV's Caffe importer as a second opinion on the generated deploy nets and the weights we write."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import torch
from google.protobuf import text_format
from numpy.typing import NDArray

from caffe.engine.net import Net
from caffe.engine.weights import save
from prototxt_gen.mdssd300 import MDSSD300
from prototxt_gen.network import Network
from prototxt_gen.ssd512 import SSD512
from tests.narrow import CLASSES, narrow_deploy

Array = NDArray[np.float32]
BLOBS = ("mbox_loc", "mbox_conf_flatten", "mbox_priorbox", "detection_out")


def answers(param: Any, folder: Path, size: int) -> tuple[dict[str, Array], dict[str, Array]]:
    """Ours and OpenCV's blobs of the net with random weights and a likely background, on a random image."""
    torch.manual_seed(1)
    net = Net(param, phase=1)
    for step in net.steps:
        if step.layer.name.endswith("_mbox_conf"):
            step.layer.blobs[1].data.view(-1, CLASSES)[:, 0] += 2
    model, weights = folder / "deploy.prototxt", folder / "net.caffemodel"
    model.write_text(text_format.MessageToString(param))
    save(net, weights)
    image = np.random.default_rng(0).normal(0, 50, (1, 3, size, size)).astype(np.float32)
    with torch.inference_mode():
        blobs = net({"data": torch.from_numpy(image)}, keep=BLOBS)[1]
    peer = cv2.dnn.readNetFromCaffe(str(model), str(weights))
    peer.setInput(image, "data")
    return {name: blobs[name].numpy() for name in BLOBS}, {
        name: np.asarray(value) for name, value in zip(BLOBS, peer.forward(BLOBS), strict=True)
    }


def whole_sizes(param: Any) -> Any:
    """The net with the sizes of default boxes truncated to whole pixels, as in Caffe."""
    whole = type(param).FromString(param.SerializeToString())
    for layer in whole.layer:
        for sizes in (layer.prior_box_param.min_size, layer.prior_box_param.max_size):
            sizes[:] = [int(size) for size in sizes]
    return whole


@pytest.mark.parametrize("network", [MDSSD300, SSD512], ids=lambda network: network.name)
def test_predictions_and_detections_agree(network: Network, tmp_path: Path) -> None:
    ours, theirs = answers(whole_sizes(narrow_deploy(network)), tmp_path, network.size)
    for name in BLOBS[:3]:
        a, b = ours[name].reshape(-1), theirs[name].reshape(-1)
        assert np.linalg.norm(a - b) < 1e-5 * np.linalg.norm(b), name
    a, b = ours["detection_out"][0, 0], theirs["detection_out"][0, 0]
    assert len(a) == len(b) > 50
    # OpenCV orders equal scores differently, and a tie decides which of two boxes stays: a few may have no match.
    like = (abs(a[:, None, 1:3] - b[None, :, 1:3]) < 1e-4).all(2) & (abs(a[:, None, 3:] - b[None, :, 3:]) < 1e-3).all(2)
    assert like.any(1).mean() > 0.98


def test_caffe_cuts_sizes_of_default_boxes_to_whole_pixels_and_opencv_does_not(tmp_path: Path) -> None:
    ours, theirs = (
        blobs["mbox_priorbox"][0, 0].reshape(-1, 4) for blobs in answers(narrow_deploy(SSD512), tmp_path, 512)
    )
    first = slice(0, 1)  # conv4_3's square of min_size 35.84
    np.testing.assert_allclose((ours[first, 2] - ours[first, 0]) * 512, 35, rtol=1e-5)
    np.testing.assert_allclose(
        (theirs.reshape(-1, 4)[first, 2] - theirs.reshape(-1, 4)[first, 0]) * 512, 35.84, rtol=1e-5
    )
