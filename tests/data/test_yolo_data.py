"""AnnotatedData as MobileNet-YOLO's training nets use it: several sizes, YOLO's rows, and its random crops."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest
import torch

from caffe.data.augment.jitter import Jitter
from caffe.data.augment.resize_choice import ResizeChoice
from caffe.data.feed.yolo_label import YOLO_ROWS, yolo_label
from caffe.data.lmdb_source import LmdbWriter
from caffe.engine.net import Net
from caffe.errors import DataError, NetError, ProtoError
from caffe.proto import caffe_pb2
from caffe.proto.text import parse_text, to_text
from caffe.runtime import runtime
from tests.data.conftest import photograph
from tests.data.source_layers import TEST, annotated

SIZES = " ".join(f"resize_param {{ prob: {prob} height: {side} width: {side + 8} }}"
                 for prob, side in ((0.25, 32), (0.25, 48), (0.5, 64)))  # fmt: skip
WHOLE = "yolo_data_type: 1 yolo_data_jitter: 0"


@pytest.fixture(autouse=True)
def _process_state(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CAFFE_DATA_WORKERS", "0")
    monkeypatch.setattr(runtime, "seed", 7)


@pytest.fixture(scope="module")
def database(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three images: with a difficult and a plain box of one class, with a box of another, and with none."""
    path = tmp_path_factory.mktemp("lmdb") / "db"
    boxes = [[(1, 0.1, 0.2, 0.5, 0.4, True), (1, 0.25, 0.5, 0.75, 1.0, False)], [(3, 0.0, 0.0, 1.0, 0.5, False)], []]
    with LmdbWriter(path) as writer:
        for number, rows in enumerate(boxes):
            record = caffe_pb2.AnnotatedDatum(type=caffe_pb2.AnnotatedDatum.BBOX)
            record.datum.data = cv2.imencode(".png", photograph(number, 40, 50))[1].tobytes()
            record.datum.encoded = True
            for label, *corners, difficult in rows:
                group = record.annotation_group.add(group_label=int(label))
                box = group.annotation.add(instance_id=0).bbox
                box.xmin, box.ymin, box.xmax, box.ymax = corners
                box.difficult = bool(difficult)
            writer.put(f"{number:08d}_i{number}.png".encode(), record.SerializeToString())
    return path


def transform(text: str) -> caffe_pb2.TransformationParameter:
    net = parse_text(f"layer {{ transform_param {{ {text} }} }}", caffe_pb2.NetParameter(), "net.prototxt")
    return net.layer[0].transform_param


def test_text_gives_resize_param_several_times_and_keeps_the_first_where_scripts_look() -> None:
    param = transform(SIZES + " mirror: true")
    assert param.resize_param.height == 32
    assert [each.height for each in param.more_resizes] == [48, 64]
    net = caffe_pb2.NetParameter()
    net.layer.add().transform_param.CopyFrom(param)
    text = to_text(net)
    assert text.count("resize_param {") == 3
    assert "more" not in text
    assert parse_text(text, caffe_pb2.NetParameter(), "again") == net


def test_one_resize_param_is_what_it_was() -> None:
    param = transform("resize_param { height: 3 prob: 0.1 }")
    assert not param.more_resizes
    assert param.HasField("resize_param")
    with pytest.raises(ProtoError, match=r"'resize_param' is given twice; a DetectionEvaluateParameter has one"):
        parse_text(
            "layer { detection_evaluate_param { resize_param { } resize_param { } } }", caffe_pb2.NetParameter(), "net"
        )


def test_errors_in_a_further_size_keep_their_place_and_name() -> None:
    text = "layer { transform_param { resize_param { }\n  resize_param { heights: 2 }\n resize_param { width: x } } }"
    with pytest.raises(ProtoError) as caught:
        parse_text(text, caffe_pb2.NetParameter(), "net")
    assert str(caught.value).startswith(
        "net:2:18: unknown field 'heights' in 'resize_param' (ResizeParameter); did you mean 'height'?"
    )
    assert "more_resizes" not in str(caught.value)


def test_every_ten_batches_have_one_of_the_sizes(database: Path) -> None:
    source = annotated(database, SIZES, 2, annotated_param=WHOLE)
    shapes = [tuple(source.forward()[0].shape) for _ in range(60)]
    assert set(shapes) == {(2, 3, side, side + 8) for side in (32, 48, 64)}
    assert all(len(set(shapes[start : start + 10])) == 1 for start in range(0, 60, 10))
    assert source.reshape([])[0] == (2, 3, 32, 40)
    source.start_at(23)
    assert tuple(source.forward()[0].shape) == shapes[23]
    source.close()


@pytest.mark.parametrize("workers", ["0", "2"])
def test_a_record_in_place_of_a_bad_one_has_the_size_of_its_batch(
    database: Path, monkeypatch: pytest.MonkeyPatch, workers: str
) -> None:
    """The last record of every batch is damaged, and the one that follows it is the next batch's."""
    monkeypatch.setenv("CAFFE_DATA_WORKERS", workers)
    monkeypatch.setattr(runtime, "skip_bad_records", 1)
    source = annotated(database, SIZES, 3, annotated_param=WHOLE)
    whole = source._records.image_of

    def image_of(datum: object, index: int) -> object:
        if index == 2:
            raise DataError("damaged")
        return whole(datum, index)

    monkeypatch.setattr(source._records, "image_of", image_of)
    shapes = [tuple(source.forward()[0].shape) for _ in range(30)]
    assert len(set(shapes)) > 1
    source.close()


def test_sizes_are_drawn_by_their_probability() -> None:
    choice = ResizeChoice(transform(SIZES), "layer")
    drawn = [choice.of_batch(10 * group, 5).height for group in range(2000)]
    for height, share in ((32, 0.25), (48, 0.25), (64, 0.5)):
        assert abs(drawn.count(height) / 2000 - share) < 0.05
    never = ResizeChoice(
        transform("resize_param { prob: 0 height: 1 width: 1 } resize_param { height: 2 width: 2 }"), ""
    )
    assert {never.of_batch(10 * group, 5).height for group in range(200)} == {2}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("resize_param { height: 2 width: 2 } " * 2, "prob of its 2 resize_param must .* add up to 1; found 1, 1"),
        (SIZES + " resize_param { prob: -0.1 height: 2 width: 2 }", "at least 0 and add up to 1; found .*, -0.1"),
        (SIZES + " resize_param { prob: nan height: 2 width: 2 }", "found .*, nan"),
        (SIZES + " resize_param { prob: 0 width: 2 }", "needs a height and a width over 0; found 0 and 2"),
    ],
)
def test_sizes_that_cannot_be(text: str, message: str, database: Path) -> None:
    with pytest.raises(NetError, match=f"layer 'data' .AnnotatedData.: .*{message}"):
        annotated(database, text, annotated_param=WHOLE)


def test_labels_are_rows_of_class_center_and_size(database: Path) -> None:
    source = annotated(database, SIZES, 3, annotated_param=WHOLE)
    _, label = source.forward()
    assert tuple(label.shape) == source.reshape([])[1] == (3, 1, YOLO_ROWS, 5)
    expected = np.zeros((3, YOLO_ROWS, 5))
    expected[0, :2] = [[0, 0.3, 0.3, 0.4, 0.2], [0, 0.5, 0.75, 0.5, 0.5]]
    expected[1, 0] = [2, 0.5, 0.25, 1, 0.5]
    np.testing.assert_allclose(label[:, 0], expected, atol=1e-6)
    source.close()


def test_difficult_objects_may_be_left_out(database: Path) -> None:
    source = annotated(database, SIZES, 3, annotated_param=WHOLE + " train_diffcult: false")
    np.testing.assert_allclose(source.forward()[1][0, 0, :2], [[0, 0.5, 0.75, 0.5, 0.5], [0.0] * 5], atol=1e-6)
    source.close()


def test_more_boxes_than_there_are_rows(capfd: pytest.CaptureFixture[str]) -> None:
    rows = np.tile(np.array([[1, 0, 0, 0, 1, 1, 0]], np.float32), (YOLO_ROWS + 5, 1))
    rows[:, 0] = np.arange(len(rows))
    label = yolo_label([rows, rows[:0]], True, "data")
    assert label[0, 0, -1, 0] == YOLO_ROWS - 2
    assert not label[1].any()
    assert f"layer 'data': of an image's {YOLO_ROWS + 5} boxes, {YOLO_ROWS} are used" in capfd.readouterr().err


def test_jitter_leaves_out_no_more_than_it_may() -> None:
    jitter = Jitter(0.4, "layer")
    rng = np.random.default_rng(1)
    crops = [jitter.crop(rng, keep_aspect=False) for _ in range(4000)]
    cut = np.array([crop for crop in crops if crop is not None])
    assert abs(1 - len(cut) / 4000 - 0.2) < 0.03
    assert (cut[:, :2] >= 0).all()
    assert (cut[:, 2:] <= 1 + 1e-6).all()
    sides = cut[:, 2:] - cut[:, :2]
    assert sides.min() >= 0.6 - 1e-6
    assert abs((sides[:, 0] < 0.8).mean() - 0.75 / 2) < 0.03  # 3 of 4 crops may leave out more than half of it
    square = [crop for _ in range(100) if (crop := jitter.crop(rng, keep_aspect=True)) is not None]
    np.testing.assert_allclose([c[2] - c[0] for c in square], [c[3] - c[1] for c in square], atol=1e-6)


def test_which_layers_have_jitter(database: Path) -> None:
    """By default those with YOLO's rows alone, in both phases; a batch sampler takes its place."""
    for text, phase, crops in (
        ("", TEST, False), ("yolo_data_type: 1", TEST, True), ("yolo_data_jitter: 0.5", 0, True), (WHOLE, 0, False),
        ("yolo_data_type: 1 batch_sampler { max_sample: 1 max_trials: 1 }", 0, False),
    ):  # fmt: skip
        size = "resize_param { height: 40 width: 50 }"
        source = annotated(database, size, 1, phase, text)
        images = [source.forward()[0] for _ in range(30)]
        differ = any(not np.array_equal(images[i], images[i - 3]) for i in range(3, 30))
        assert differ == crops, text
        source.close()


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("yolo_data_type: 2", "yolo_data_type is 2; it must be 0 .* or 1"),
        ("yolo_data_jitter: 1", "yolo_data_jitter must be from 0 to below 1, not 1"),
        ("yolo_data_type: 1 yolo_data_jitter: -0.5", "from 0 to below 1, not -0.5"),
    ],
)
def test_settings_that_cannot_be(text: str, message: str, database: Path) -> None:
    with pytest.raises(NetError, match=message):
        annotated(database, SIZES, annotated_param=text)


def test_a_net_with_several_sizes_learns_its_boxes(database: Path) -> None:
    """The data layer, a map and its loss together, as in MobileNet-YOLO's training nets; sizes change on the way."""
    text = f"""
      layer {{ name: "data" type: "AnnotatedData" top: "data" top: "label"
        transform_param {{ scale: 0.004 {SIZES} }} data_param {{ source: "{database}" batch_size: 3 backend: LMDB }}
        annotated_data_param {{ {WHOLE} }} }}
      layer {{ name: "conv" type: "Convolution" bottom: "data" top: "map"
        convolution_param {{ num_output: 16 kernel_size: 8 stride: 8 weight_filler {{ type: "xavier" }} }} }}
      layer {{ name: "loss" type: "Yolov3" bottom: "map" bottom: "label" top: "loss" yolov3_param {{ num_class: 3 num: 2
        biases: [24, 12, 30, 30, 60, 30, 90, 90] mask: [1, 2] anchors_scale: 8 coord_scale: 1 thresh: 0.6 }} }}"""
    net = Net(parse_text(text, caffe_pb2.NetParameter(), "net"), 0)
    optimizer = torch.optim.Adam(net.learnable_params, 0.02)
    losses, sizes = [], set()
    for _ in range(60):
        optimizer.zero_grad()
        batch = net.next_batch()
        loss, _ = net(batch)
        loss.backward()
        optimizer.step()
        losses.append(float(loss.detach()))
        sizes.add(tuple(batch["data"].shape[2:]))
    net.close()
    assert len(sizes) > 1
    assert sum(losses[-10:]) < 0.3 * sum(losses[:10])
