"""ImageDetector from Python: one image, many files, broken files, and the graph path with a recorder for the CPU."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest
import torch

from caffe.engine.cuda_graph import GraphedForward
from caffe.engine.net import Net
from caffe.engine.weights import save
from caffe.errors import DataError
from caffe.image_detector import Detection, ImageDetector
from caffe.proto.text import to_text
from tests.narrow import narrow_deploy
from tests.recording import CpuRecorder


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    folder = tmp_path_factory.mktemp("model")
    torch.manual_seed(0)
    (folder / "deploy.prototxt").write_text(to_text(narrow_deploy()))
    net = Net(narrow_deploy(), 1)
    for step in net.steps:
        if step.layer.name.endswith("_mbox_conf"):
            step.layer.blobs[0].data *= 4  # so that images differ in what is found
    save(net, folder / "net.caffemodel")
    return folder / "deploy.prototxt", folder / "net.caffemodel"


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    folder = tmp_path_factory.mktemp("images")
    rng = np.random.default_rng(0)
    paths = []
    for i in range(5):
        path = folder / f"{i}.png"
        cv2.imwrite(str(path), rng.integers(0, 256, (20 + 10 * i, 60, 3), np.uint8))
        paths.append(path)
    return paths


def flat(found: list[list[Detection]]) -> list[Detection]:
    return [d for each in found for d in each]


def same(a: list[Detection], b: list[Detection]) -> None:
    assert len(a) == len(b) > 0
    for x, y in zip(a, b, strict=True):
        assert x.label == y.label
        np.testing.assert_allclose(
            [x.score, x.xmin, x.ymin, x.xmax, x.ymax], [y.score, y.xmin, y.ymin, y.xmax, y.ymax], rtol=1e-4, atol=1e-2
        )


def test_as_the_layers_say_it(model: tuple[Path, Path], files: list[Path]) -> None:
    """Against the net, run by hand on a blob made by hand."""
    image = cv2.imread(str(files[1]))
    blob = cv2.resize(image, (300, 300)).astype(np.float32).transpose(2, 0, 1)[None] - np.array(
        [104, 117, 123], np.float32
    ).reshape(1, 3, 1, 1)
    detector = ImageDetector(*model)
    (found,) = detector.detect([image])
    net = Net(narrow_deploy(), 1)
    for mine, theirs in zip(net.parameters(), detector.net.parameters(), strict=True):
        mine.data = theirs.data
    with torch.no_grad():
        rows = net({"data": torch.from_numpy(blob)})[1]["detection_out"][0, 0]
    rows = rows[rows[:, 2].argsort(descending=True, stable=True)]
    assert len(found) == len(rows) > 10
    np.testing.assert_allclose([d.score for d in found], rows[:, 2], rtol=1e-5)
    assert [d.label for d in found] == rows[:, 1].int().tolist()
    np.testing.assert_allclose([d.xmin for d in found], rows[:, 3] * image.shape[1], atol=1e-3)
    np.testing.assert_allclose([d.ymax for d in found], rows[:, 6] * image.shape[0], atol=1e-3)


@pytest.mark.parametrize("graph", [False, True])
def test_batches_give_what_single_images_give(model: tuple[Path, Path], files: list[Path], graph: bool) -> None:
    detector = ImageDetector(*model)
    single = [detector.detect([cv2.imread(str(path))])[0] for path in files]
    recorder = CpuRecorder()
    if graph:
        detector._graphed = GraphedForward(detector.net, recorder)
    found = list(detector.detect_files(files, 2))
    assert [path for path, *_ in found] == files
    assert [image.shape[0] for _, image, _ in found] == [20, 30, 40, 50, 60]
    same(flat([detections for *_, detections in found]), flat(single))
    assert recorder.warm_ups == (2 if graph else 0), "the last, shorter batch needs no new recording"


def test_broken_files_are_raised_or_reported(
    model: tuple[Path, Path], files: list[Path], tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    broken, missing = tmp_path / "broken.jpg", tmp_path / "missing.jpg"
    broken.write_bytes(b"\xff\xd8\xff no image")
    paths = [files[0], broken, files[1], missing]
    detector = ImageDetector(*model)
    capfd.readouterr()
    with pytest.raises(DataError, match=r"broken\.jpg: cannot decode"):
        list(detector.detect_files(paths, 2))
    found = list(detector.detect_files(paths, 2, on_error="skip"))
    assert [path for path, *_ in found] == [files[0], files[1]]
    log = capfd.readouterr().err
    assert "broken.jpg: cannot decode" in log
    assert "missing.jpg: cannot read" in log


@pytest.mark.gpu
@pytest.mark.usefixtures("nets_on_gpu")
def test_graph_on_a_gpu(model: tuple[Path, Path], files: list[Path]) -> None:
    graphed, plain = ImageDetector(*model), ImageDetector(*model, graph=False)
    for batch in (1, 2):
        same(
            flat([d for *_, d in graphed.detect_files(files, batch)]),
            flat([d for *_, d in plain.detect_files(files, batch)]),
        )
