"""The MultiBoxLoss layer: the prototxt's options in the loss, and its errors. Numbers: tests/ops, tests/golden."""

from __future__ import annotations

import pytest
import torch
from google.protobuf import text_format

from caffe.engine.layer_types.multibox_loss import MultiBoxLoss
from caffe.errors import NetError
from caffe.ops.multibox_loss_options import MultiBoxLossOptions
from caffe.proto import caffe_pb2

LOSS, NORMALIZATION = caffe_pb2.MultiBoxLossParameter, caffe_pb2.LossParameter
SHAPES = [(2, 32), (2, 24), (1, 2, 32), (1, 1, 3, 8)]  # 8 priors, 3 classes


def param(text: str = "", loss: str = "num_classes: 3") -> caffe_pb2.LayerParameter:
    return text_format.Parse(
        f"name: 'mbox' type: 'MultiBoxLoss' {text} multibox_loss_param {{ {loss} }}", caffe_pb2.LayerParameter()
    )


def layer(text: str = "", loss: str = "num_classes: 3") -> MultiBoxLoss:
    made = MultiBoxLoss(param(text, loss), 0)
    made.setup(SHAPES)
    return made


def test_only_predictions_take_gradients_whatever_propagate_down_says() -> None:
    made = layer("propagate_down: true propagate_down: true propagate_down: true propagate_down: true")
    assert [made.takes_gradient(i) for i in range(4)] == [True, True, False, False]
    assert made.reshape(SHAPES) == [()]


def test_propagate_down_leaves_parts_out() -> None:
    options = MultiBoxLossOptions.of_layer(
        param("propagate_down: false propagate_down: true propagate_down: false propagate_down: false")
    )
    assert (options.with_loc, options.with_conf) == (False, True)
    plain = MultiBoxLossOptions.of_layer(param())
    assert (plain.with_loc, plain.with_conf) == (True, True)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", NORMALIZATION.VALID),
        ("loss_param { normalize: true }", NORMALIZATION.VALID),
        ("loss_param { normalize: false }", NORMALIZATION.BATCH_SIZE),
        ("loss_param { normalize: false normalization: FULL }", NORMALIZATION.FULL),
        ("loss_param { normalization: NONE }", NORMALIZATION.NONE),
    ],
)
def test_normalization(text: str, expected: int) -> None:
    assert MultiBoxLossOptions.of_layer(param(text)).normalization == expected


def test_no_background() -> None:
    options = MultiBoxLossOptions.of_layer(
        param(loss="num_classes: 2 conf_loss_type: LOGISTIC background_label_id: 4294967295")
    )
    assert options.background_label_id == -1


def test_suppression_only_where_nms_param_is() -> None:
    assert MultiBoxLossOptions.of_layer(param()).nms_threshold == 0
    options = MultiBoxLossOptions.of_layer(param(loss="num_classes: 3 nms_param { nms_threshold: 0.5 top_k: 7 }"))
    assert (options.nms_threshold, options.nms_top_k) == (0.5, 7)


@pytest.mark.parametrize(
    ("loss", "message"),
    [
        ("", "needs num_classes"),
        ("num_classes: 3 do_neg_mining: false", "contradicts mining_type: MAX_NEGATIVE"),
        ("num_classes: 3 do_neg_mining: true mining_type: NONE", "contradicts mining_type: NONE"),
        ("num_classes: 3 share_location: false", "needs share_location"),
    ],
)
def test_contradictions_name_the_layer(loss: str, message: str) -> None:
    with pytest.raises(NetError, match=f"layer 'mbox'.*{message}"):
        layer(loss=loss)


def test_counts_that_do_not_fit_name_the_layer_and_both_counts() -> None:
    with pytest.raises(
        NetError,
        match="layer 'mbox'.*8 priors × 3 classes make 24 scores per image, but there are 40, which is 5 classes",
    ):
        layer().reshape([(2, 32), (2, 40), (1, 2, 32), (1, 1, 3, 8)])


def test_logistic_without_mining_warns(capsys: pytest.CaptureFixture[str]) -> None:
    layer(loss="num_classes: 3 conf_loss_type: LOGISTIC mining_type: NONE")
    assert "Use a mining_type" in capsys.readouterr().err


def test_forward() -> None:
    loc, conf = torch.zeros(SHAPES[0], requires_grad=True), torch.zeros(SHAPES[1], requires_grad=True)
    prior = torch.tensor([[[0.1, 0.1, 0.5, 0.5] * 8, [0.1] * 32]])
    label = torch.tensor([[[[0, 1, 0, 0.1, 0.1, 0.5, 0.5, 0], [-1] * 8, [-1] * 8]]])
    loss = layer().forward(loc, conf, prior, label)
    # One object, all eight priors on it: eight positives, no negatives, each with a confidence loss of log 3.
    assert loss.item() == pytest.approx(1.0986123)
    loss.backward()
    assert conf.grad is not None
    assert conf.grad[0].tolist() == pytest.approx([1 / 24, -2 / 24, 1 / 24] * 8)
    assert not conf.grad[1].any()
