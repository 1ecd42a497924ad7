"""ImageDetector from Python: one image, many files, broken files, and the graph path with a recorder for the CPU."""

from __future__ import annotations

import re
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch

from caffe.data.slices import Slices
from caffe.engine.cuda_graph import GraphedForward
from caffe.engine.net import Net
from caffe.engine.weights import save
from caffe.errors import CaffeError, DataError
from caffe.image_detector import Detection, ImageDetector
from caffe.proto.text import to_text
from tests.narrow import narrow_deploy
from tests.pictures import read_picture
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
    image = read_picture(files[1])
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
    single = [detector.detect([read_picture(path)])[0] for path in files]
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


def test_arrays_are_the_same_detections(model: tuple[Path, Path], files: list[Path]) -> None:
    detector = ImageDetector(*model)
    for slices, threshold in ((None, 0.0), (None, 0.3), (None, 2.0), ("150x150", 0.3)):
        objects = detector.detect(files, threshold, slices=slices)
        arrays = detector.detect_arrays(files, threshold, slices=slices)
        assert [len(each) for each in objects] == [len(each) for each in arrays]
        assert bool(flat(objects)) == (threshold < 1)
        for found, rows in zip(objects, arrays, strict=True):
            assert rows.dtype == np.float64
            assert rows.shape == (len(found), 6)
            assert [[d.label, *d[2:]] for d in found] == rows.tolist()
        files_found = list(detector.detect_files(files, 2, threshold=threshold, slices=slices))
        files_arrays = list(detector.detect_files_arrays(files, 2, threshold=threshold, slices=slices))
        for (path, _, found), (other, _, rows) in zip(files_found, files_arrays, strict=True):
            assert path == other
            assert [[d.label, *d[2:]] for d in found] == rows.tolist()
    assert detector.detect_arrays([]) == []


def test_slices_find_what_their_pixels_give(model: tuple[Path, Path]) -> None:
    """Without merging the detections are those of the cut images, moved to their places."""
    image = np.random.default_rng(1).integers(0, 256, (300, 500, 3), np.uint8)
    detector = ImageDetector(*model)
    slices = Slices(300, 300, 0.2, whole=False, merge="iou", merge_threshold=1)
    (found,) = detector.detect([image], 0.05, slices=slices, batch_size=2)
    expected = []
    for left in (0, 200):
        (part,) = detector.detect([image[:, left : left + 300]], 0.05)
        expected += [d._replace(xmin=d.xmin + left, xmax=d.xmax + left) for d in part]
    same(found, sorted(expected, key=lambda d: -d.score))


def test_slices_of_files_are_those_of_arrays(model: tuple[Path, Path], tmp_path: Path) -> None:
    rng = np.random.default_rng(2)
    paths = [tmp_path / f"{width}.png" for width in (250, 400)]
    for path in paths:
        cv2.imwrite(str(path), rng.integers(0, 256, (200, int(path.stem), 3), np.uint8))
    detector = ImageDetector(*model)
    found = [each for *_, each in detector.detect_files(paths, 3, threshold=0.2, slices="150x150")]
    same(flat(found), flat(detector.detect(paths, 0.2, slices="150x150")))


def test_scale_and_device(model: tuple[Path, Path], files: list[Path]) -> None:
    with pytest.raises(CaffeError, match=r"device 'gpu': give cpu, cuda"):
        ImageDetector(*model, device="gpu")
    image = np.full((50, 50, 3), 90, np.uint8)
    one = ImageDetector(*model, mean=[0], scale=0.5, device="cpu").detect([image])
    other = ImageDetector(*model, mean=[0], device="cpu").detect([image // 2])
    same(flat(one), flat(other))
    with pytest.raises(CaffeError, match="detect takes a list"):
        ImageDetector(*model).detect(str(files[0]))


def test_layers_without_weights_are_named_and_filled(
    model: tuple[Path, Path], tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    deploy = narrow_deploy()
    for layer in deploy.layer:
        if layer.name == "conv1_1":
            layer.name = "another"
    (tmp_path / "deploy.prototxt").write_text(to_text(deploy))
    torch.manual_seed(0)
    detector = ImageDetector(tmp_path / "deploy.prototxt", model[1])
    assert re.search(r"1 layer is not in .*net\.caffemodel and keep.*: another\n", capfd.readouterr().err)
    whole = ImageDetector(*model)
    layers, others = ({step.layer.name: step.layer for step in d.net.steps} for d in (detector, whole))
    assert layers["another"].blobs[0].std() > 0
    torch.testing.assert_close(layers["conv1_2"].blobs[0], others["conv1_2"].blobs[0])


def test_fillers_are_not_drawn_where_weights_follow(model: tuple[Path, Path]) -> None:
    """They take longer than reading the weights, and would be overwritten."""
    before = torch.get_rng_state()
    ImageDetector(*model)
    assert torch.equal(torch.get_rng_state(), before)
    Net(narrow_deploy(), 1)
    assert not torch.equal(torch.get_rng_state(), before)


@pytest.mark.parametrize(
    ("image", "message"),
    [
        (None, "image 1 is None: cv2.imread returns None"),
        (torch.zeros(3, 8, 8), "image 1 is a Tensor; give a path, or a NumPy array"),
        (np.zeros((3, 8, 9), np.uint8), r"image 1 has shape \(3, 8, 9\); it must be H×W×3"),
        (np.zeros((0, 8, 3), np.uint8), r"image 1 has shape \(0, 8, 3\)"),
        (np.zeros((1, 8, 8, 3), np.uint8), r"image 1 has shape \(1, 8, 8, 3\)"),
        (np.zeros((8, 8, 3), np.float32), "image 1 has the type float32; it must be uint8, 0 to 255"),
    ],
)
def test_what_is_no_image(model: tuple[Path, Path], image: object, message: str) -> None:
    detector = ImageDetector(*model)
    with pytest.raises(DataError, match=message):
        detector.detect([np.zeros((8, 8, 3), np.uint8), image])  # type: ignore[list-item]


def test_gray_images_and_those_with_transparency(model: tuple[Path, Path]) -> None:
    detector = ImageDetector(*model)
    gray = np.random.default_rng(4).integers(0, 256, (60, 60), np.uint8)
    color = np.repeat(gray[:, :, None], 3, axis=2)
    images = [color, gray, gray[:, :, None], np.dstack([color, gray])]
    first, *others = [detector.detect([image])[0] for image in images]
    for other in others:
        same(first, other)
