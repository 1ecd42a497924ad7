"""The original's answers on seeded inputs, through `import caffe`: every case of tests/golden/answers and beyond."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import cv2
import lmdb
import numpy as np
import pytest
from numpy.typing import NDArray

import caffe
from caffe.proto import caffe_pb2
from tests.golden.cases import ANSWERS, WHOLE_SET, case_files
from tests.golden.select_answers import SHARES


@pytest.fixture(params=["cpu", pytest.param("gpu", marks=pytest.mark.gpu)], autouse=True)
def _mode(request: pytest.FixtureRequest) -> Iterator[None]:
    if request.param == "gpu":
        caffe.set_mode_gpu()
    yield
    caffe.set_mode_cpu()


def cases(kind: str) -> list[Any]:
    """The case files of a kind; one skipped parameter where there are none."""
    files = case_files(kind)
    if not files:
        return [pytest.param(None, marks=pytest.mark.skip(reason="needs the reference answers in ../shared"))]
    return [pytest.param(f, id=f.stem) for f in files]


class Case:
    """One reference case: its net, built in a phase, and its arrays."""

    def __init__(self, file: Path, folder: Path) -> None:
        self.arrays = np.load(file)
        self.meta = json.loads(str(self.arrays["meta"]))
        self.text = str(self.arrays["prototxt"])
        self.folder = folder

    def __getitem__(self, name: str) -> NDArray[np.float32]:
        return np.asarray(self.arrays[name], np.float32)

    def net(self, phase: int) -> caffe.Net:
        path = self.folder / "net.prototxt"
        path.write_text(self.text)
        return caffe.Net(str(path), phase)


def feed(net: caffe.Net, **arrays: NDArray[np.float32]) -> None:
    for name, array in arrays.items():
        net.blobs[name].data[...] = array


def assert_close(ours: NDArray[Any], theirs: NDArray[Any], tolerance: float = 1e-5) -> None:
    """Relative error in the 2-norm, as defined in the folder's README."""
    ours, theirs = np.asarray(ours, np.float64), np.asarray(theirs, np.float64)
    assert ours.size == theirs.size
    assert np.isfinite(ours).all()
    error = float(np.linalg.norm(ours.ravel() - theirs.ravel())) / max(float(np.linalg.norm(theirs)), 1e-6)
    assert error <= tolerance


@pytest.mark.parametrize("file", cases("multibox_loss"))
def test_multibox_loss(file: Path, tmp_path: Path) -> None:
    case = Case(file, tmp_path)
    net = case.net(caffe.TRAIN)
    feed(net, loc_in=case["loc"], conf_in=case["conf"], prior=case["prior"], label=case["label"])
    net.forward()
    assert_close(net.blobs["mbox_loss"].data, case["loss"])
    net.blobs["mbox_loss"].diff[...] = case.meta["loss_weight"]
    net.backward()
    assert_close(net.blobs["loc"].diff, case["loc_diff"])
    assert_close(net.blobs["conf"].diff, case["conf_diff"])


def in_order(rows: NDArray[np.float32]) -> NDArray[np.float32]:
    """Rows by image, label, falling score, xmin: the original leaves the order of equal scores open."""
    return rows[np.lexsort((rows[:, 3], -np.round(rows[:, 2], 6), rows[:, 1], rows[:, 0]))]


@pytest.mark.parametrize("file", cases("detection_output"))
def test_detection_output(file: Path, tmp_path: Path) -> None:
    case = Case(file, tmp_path)
    net = case.net(caffe.TEST)
    feed(net, loc=case["loc"], conf=case["conf"], prior=case["prior"])
    net.forward()
    ours = net.blobs["detection_out"].data
    assert ours.shape == case["detection_out"].shape
    assert_close(in_order(ours[0, 0]), in_order(case["detection_out"][0, 0]))


@pytest.mark.parametrize("file", cases("prior_box"))
def test_prior_box(file: Path, tmp_path: Path) -> None:
    case = Case(file, tmp_path)
    net = case.net(caffe.TEST)
    net.forward()
    assert_close(net.blobs["p"].data, case["prior"])


@pytest.mark.parametrize("file", cases("normalize"))
def test_normalize(file: Path, tmp_path: Path) -> None:
    case = Case(file, tmp_path)
    net = case.net(caffe.TRAIN)
    feed(net, x=case["x"])
    net.params["n"][0].data[...] = case["scale"]
    net.forward()
    assert_close(net.blobs["n"].data, case["y"])
    net.blobs["n"].diff[...] = case["top_diff"]
    net.backward()
    assert_close(net.blobs["x"].diff, case["x_diff"])
    assert_close(net.params["n"][0].diff, case["scale_diff"])


@pytest.mark.parametrize("file", cases("detection_evaluate"))
def test_detection_evaluate(file: Path, tmp_path: Path) -> None:
    case = Case(file, tmp_path)
    net = case.net(caffe.TEST)
    feed(net, det=case["det"], label=case["label"])
    net.forward()
    assert net.blobs["e"].shape == case["detection_eval"].shape
    assert_close(net.blobs["e"].data, case["detection_eval"])


def parameters(case: Case) -> Iterator[tuple[str, int]]:
    # BatchNorm's statistics are not weights: the case starts from their initial values
    if '"BatchNorm"' not in case.text:
        for name in case.arrays.files:
            if name.startswith("param") and not name.endswith("_diff"):
                yield name, int(name.removeprefix("param"))


@pytest.mark.parametrize("file", cases("layer"))
def test_layer(file: Path, tmp_path: Path) -> None:
    case = Case(file, tmp_path)
    net = case.net(caffe.TRAIN)
    feed(net, x=case["x"])
    for name, i in parameters(case):
        net.params["l"][i].data[...] = case[name]
    net.forward()
    assert_close(net.blobs["y"].data, case["y"])
    if "top_diff" in case.arrays.files:
        net.blobs["y"].diff[...] = case["top_diff"]
        net.backward()
        assert_close(net.blobs["x"].diff, case["x_diff"])
        for name, i in parameters(case):
            if case[f"{name}_diff"].any():
                assert_close(net.params["l"][i].diff, case[f"{name}_diff"])


@pytest.mark.parametrize("file", cases("transform"))
def test_transform(file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    case = Case(file, tmp_path)
    monkeypatch.chdir(WHOLE_SET / "train_run")
    net = case.net(caffe.TEST)
    net.forward()
    assert_close(net.blobs["label"].data, case["label"])
    ours, theirs = net.blobs["data"].data, case["data"]
    assert ours.shape == theirs.shape
    gray_levels = np.abs(ours - theirs)
    # the decoders of two OpenCV versions differ by a level here and there
    assert gray_levels.mean() < 0.5
    assert np.percentile(gray_levels, 99) <= 3


BOXES = np.load(ANSWERS / "boxes_of_transforms.npz")


@pytest.mark.parametrize("name", [name for name in BOXES.files if name.startswith("prototxt_")])
def test_boxes_of_transforms(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The labels of the transform cases, with black images in the photographs' place."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "labelmap_bccd.prototxt").write_text(str(BOXES["label_map"]))
    with lmdb.open("lmdb") as environment, environment.begin(write=True) as transaction:
        for index in range(2):
            record = caffe_pb2.AnnotatedDatum.FromString(BOXES[f"record_{index}"].tobytes())
            image = np.zeros((record.datum.height, record.datum.width, 3), np.uint8)
            record.datum.data, record.datum.encoded = cv2.imencode(".png", image)[1].tobytes(), True
            transaction.put(f"{index:08d}".encode(), record.SerializeToString())
    (tmp_path / "net.prototxt").write_text(str(BOXES[name]))
    net = caffe.Net("net.prototxt", caffe.TEST)
    net.forward()
    case = name.removeprefix("prototxt_")
    assert net.blobs["data"].shape == (*BOXES[f"shape_{case}"],)
    assert net.blobs["label"].shape == BOXES[f"label_{case}"].shape
    assert_close(net.blobs["label"].data, BOXES[f"label_{case}"])


def test_the_selection_is_of_every_kind_small_and_unchanged() -> None:
    files = sorted(ANSWERS.glob("*.npz"))
    kinds = {file.stem.rpartition("_")[0] for file in files}
    assert kinds == {*SHARES, "boxes_of"}
    assert sum(file.stat().st_size for file in files) <= 1_000_000
    table = (ANSWERS / "README.md").read_text()
    for kind in SHARES:
        assert f"| `{kind}_*` | {sum(file.stem.startswith(f'{kind}_') for file in files)} |" in table
    for file in files:
        whole = WHOLE_SET / file.name
        if whole.exists():
            ours, theirs = np.load(file), np.load(whole)
            assert ours.files == theirs.files
            for name in ours.files:
                assert ours[name].dtype == theirs[name].dtype
                np.testing.assert_array_equal(ours[name], theirs[name])


@pytest.mark.parametrize("file", cases("solver"))
def test_solver(file: Path, tmp_path: Path) -> None:
    case = Case(file, tmp_path)
    (tmp_path / "net.prototxt").write_text(case.text)
    solver_file = tmp_path / "solver.prototxt"
    solver_file.write_text(f'net: "{tmp_path}/net.prototxt" {case.meta["solver"]}')
    solver = caffe.get_solver(str(solver_file))
    feed(solver.net, x=case["x"], t=case["t"])
    for name in case.arrays.files:
        if name.endswith("_init"):
            layer, i, _ = name.split("_")
            solver.net.params[layer][int(i)].data[...] = case[name]
    losses = []
    for _ in range(12):
        solver.step(1)
        losses.append(float(np.asarray(solver.net.blobs["loss"].data).reshape(-1)[0]))
    assert_close(np.array(losses), case["losses"])
    for name in case.arrays.files:
        if name.endswith("_final"):
            layer, i, _ = name.split("_")
            assert_close(solver.net.params[layer][int(i)].data, case[name])
