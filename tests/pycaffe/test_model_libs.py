"""Nets built with caffe.model_libs, as SSD's example scripts build them."""

from __future__ import annotations

from typing import Any

import pytest

import caffe
from caffe.errors import NetError
from caffe.model_libs import *  # noqa: F403  (as the scripts do)
from caffe.model_libs import (
    ConvBNLayer,
    CreateAnnotatedDataLayer,
    CreateMultiBoxHead,
    InceptionV3Body,
    L,
    P,
    ResNet101Body,
    ResNet152Body,
    UnpackVariable,
    VGGNetBody,
    ZFNetBody,
    caffe_pb2,
)
from tests.prototxt_gen.shape_calculation import calculate
from tests.prototxt_gen.sources import generated


def image_net(size: int = 300) -> caffe.NetSpec:
    net = caffe.NetSpec()
    net.data = L.Input(shape=dict(dim=[1, 3, size, size]))
    return net


def ssd300() -> Any:
    """The training net of SSD300 for VOC, step by step as the scripts of the SSD branch make it."""
    net = caffe.NetSpec()
    net.data, net.label = CreateAnnotatedDataLayer(
        "trainval_lmdb",
        batch_size=8,
        train=True,
        output_label=True,
        label_map_file="labelmap.prototxt",
        transform_param={"mirror": True, "mean_value": [104, 117, 123], "expand_param": {"prob": 0.5}},
        batch_sampler=[{"sampler": {}, "max_trials": 1, "max_sample": 1}],
    )
    VGGNetBody(net, from_layer="data", fully_conv=True, reduced=True, dilated=True, dropout=False)
    from_layer = net.keys()[-1]
    extra = (("6", 256, 512, 1, 2), ("7", 128, 256, 1, 2), ("8", 128, 256, 0, 1), ("9", 128, 256, 0, 1))
    for number, narrow, wide, pad, stride in extra:
        ConvBNLayer(net, from_layer, f"conv{number}_1", False, True, narrow, 1, 0, 1, lr_mult=1)
        ConvBNLayer(net, f"conv{number}_1", f"conv{number}_2", False, True, wide, 3, pad, stride, lr_mult=1)
        from_layer = f"conv{number}_2"
    tops = CreateMultiBoxHead(
        net,
        data_layer="data",
        from_layers=["conv4_3", "fc7", "conv6_2", "conv7_2", "conv8_2", "conv9_2"],
        use_batchnorm=False,
        min_sizes=[30.0, 60.0, 111.0, 162.0, 213.0, 264.0],
        max_sizes=[60.0, 111.0, 162.0, 213.0, 264.0, 315.0],
        aspect_ratios=[[2], [2, 3], [2, 3], [2, 3], [2], [2]],
        steps=[8, 16, 32, 64, 100, 300],
        normalizations=[20, -1, -1, -1, -1, -1],
        num_classes=21,
        share_location=True,
        flip=True,
        clip=False,
        prior_variance=[0.1, 0.1, 0.2, 0.2],
        kernel_size=3,
        pad=1,
        lr_mult=1,
    )
    net["mbox_loss"] = L.MultiBoxLoss(
        *tops,
        net.label,
        multibox_loss_param=dict(num_classes=21, loc_weight=1.0),
        loss_param=dict(normalization=P.Loss.VALID),
        include=dict(phase=caffe_pb2.Phase.Value("TRAIN")),
        propagate_down=[True, True, False, False],
    )
    return net.to_proto()


def test_ssd300_is_the_generated_one() -> None:
    """Compared with models/SSD300/VOC: names, connections, sizes, boxes and learning rates."""
    built = ssd300()
    expected = generated("SSD300", "VOC", "train")
    for a, b in zip(built.layer, expected.layer, strict=True):
        assert (a.name, a.type, a.bottom, a.top, a.include) == (b.name, b.type, b.bottom, b.top, b.include)
        assert (a.param, a.propagate_down) == (b.param, b.propagate_down)
        assert (a.prior_box_param, a.norm_param) == (b.prior_box_param, b.norm_param)
        assert (a.convolution_param.weight_filler, a.permute_param) == (
            b.convolution_param.weight_filler,
            b.permute_param,
        )
    assert calculate(built, 1, 300) == calculate(expected, 1, 300)


def test_star_import_gives_what_the_scripts_use() -> None:
    for name in ("L", "P", "caffe_pb2", "caffe", "os", "check_if_exist", "make_if_not_exist", "ZFNetBody"):
        assert name in caffe.model_libs.__all__
        assert hasattr(caffe.model_libs, name)


def layers(net: caffe.NetSpec) -> dict[str, Any]:
    return {layer.name: layer for layer in net.to_proto().layer}


@pytest.mark.parametrize(
    ("options", "fc6", "last"),
    [
        (dict(), None, "drop7"),
        (dict(dropout=False), None, "relu7"),
        (dict(need_fc=False), "absent", "relu5_3"),
        (dict(fully_conv=True), (4096, 7, 1, 3), "drop7"),
        (dict(fully_conv=True, reduced=True), (1024, 3, 3, 3), "drop7"),
        (dict(fully_conv=True, dilated=True), (4096, 7, 2, 6), "drop7"),
        (dict(fully_conv=True, reduced=True, dilated=True), (1024, 3, 6, 6), "drop7"),
        (dict(fully_conv=True, reduced=True, dilated=True, dilate_pool4=True), (1024, 3, 12, 12), "drop7"),
    ],
)
def test_vgg(options: dict[str, Any], fc6: Any, last: str) -> None:
    net = VGGNetBody(image_net(), "data", **options)
    found = layers(net)
    assert list(found)[-1] == last
    if fc6 == "absent":
        assert "fc6" not in found
        assert "pool5" not in found
    elif fc6 is None:
        assert found["fc6"].inner_product_param.num_output == 4096
    else:
        p = found["fc6"].convolution_param
        assert (p.num_output, p.kernel_size[0], p.dilation[0], p.pad[0]) == fc6


def test_vgg_without_pooling() -> None:
    found = layers(VGGNetBody(image_net(), "data", nopool=True, fully_conv=True))
    assert not any(layer.type == "Pooling" for layer in found.values())
    assert [list(found[name].convolution_param.stride) for name in ("conv1_3", "conv4_4", "conv5_4")] == [[2]] * 3


@pytest.mark.parametrize("body", [VGGNetBody, ZFNetBody])
def test_frozen_layers(body: Any) -> None:
    name = "conv1_1" if body is VGGNetBody else "conv1"
    found = layers(body(image_net(), "data", freeze_layers=[name, "no_such_layer"]))
    assert [(p.lr_mult, p.decay_mult) for p in found[name].param] == [(0, 0), (0, 0)]
    assert [p.lr_mult for p in found["conv2_1" if body is VGGNetBody else "conv2"].param] == [1, 2]


def test_zf() -> None:
    found = layers(ZFNetBody(image_net(), "data", fully_conv=True, reduced=True, dilated=True, need_fc8=True))
    assert (found["fc6"].convolution_param.dilation[0], found["pool5"].pooling_param.stride) == (5, 1)
    assert list(found)[-2:] == ["fc8", "prob"]


@pytest.mark.parametrize(("body", "convolutions"), [(ResNet101Body, 104), (ResNet152Body, 155)])
def test_resnet(body: Any, convolutions: int) -> None:
    found = layers(body(image_net(), "data", use_dilation_conv5=True))
    kinds = [layer.type for layer in found.values()]
    assert kinds.count("Convolution") == kinds.count("BatchNorm") == kinds.count("Scale") == convolutions
    assert list(found["res2a"].bottom) == ["res2a_branch1", "res2a_branch2c"]
    assert list(found["res2b"].bottom) == ["res2a", "res2b_branch2c"]
    p = found["res5b_branch2b"].convolution_param
    assert (p.dilation[0], p.pad[0]) == (2, 2)
    assert "bn_conv1" in found
    assert "scale5c_branch2c" in found
    assert list(found)[-1] == "pool5"


def test_inception() -> None:
    found = layers(InceptionV3Body(image_net(), "data", output_pred=True))
    assert list(found)[-1] == "softmax_prob"
    assert len(found["mixed_10/join"].bottom) == 4
    p = found["mixed_4/tower/conv_1"].convolution_param
    assert (p.kernel_h, p.kernel_w, p.pad_h, p.pad_w) == (1, 7, 0, 3)
    assert found["mixed/conv_bias"].type == "Bias"
    assert found["mixed_10/tower_2/pool"].pooling_param.pool == P.Pooling.MAX


def test_batch_normalized_convolution() -> None:
    net = image_net()
    ConvBNLayer(net, "data", "c", True, True, 8, [1, 3], [0, 1], 2, eps=0.01, use_global_stats=True)
    conv, norm, scale, relu = list(net.to_proto().layer)[1:]
    assert (conv.convolution_param.kernel_h, conv.convolution_param.kernel_w) == (1, 3)
    assert not conv.convolution_param.bias_term
    assert (norm.name, scale.name, relu.name) == ("c_bn", "c_scale", "c_relu")
    assert [p.lr_mult for p in norm.param] == [0, 0, 0]
    assert [p.lr_mult for p in scale.param] == [0, 0]
    assert norm.batch_norm_param.use_global_stats
    assert all(list(layer.top) == ["c"] for layer in (conv, norm, scale, relu))


def head(**options: Any) -> dict[str, Any]:
    net = image_net()
    net.a = L.Convolution(net.data, num_output=4, kernel_size=3)
    defaults: dict[str, Any] = dict(num_classes=5, from_layers=["a"], min_sizes=[30], use_batchnorm=False)
    CreateMultiBoxHead(net, **{**defaults, **options})
    return layers(net)


@pytest.mark.parametrize(
    ("options", "boxes"),
    [
        (dict(), 1),
        (dict(max_sizes=[60]), 2),
        (dict(aspect_ratios=[2]), 3),
        (dict(aspect_ratios=[[2, 3]], flip=False), 3),
        (dict(max_sizes=[[60, 90]], min_sizes=[[30, 60]], aspect_ratios=[[2, 3]]), 12),
    ],
)
def test_channels_of_the_head(options: dict[str, Any], boxes: int) -> None:
    found = head(**options)
    assert found["a_mbox_loc"].convolution_param.num_output == 4 * boxes
    assert found["a_mbox_conf"].convolution_param.num_output == 5 * boxes


def test_other_parts_of_the_head() -> None:
    found = head(share_location=False, use_objectness=True, inter_layer_depth=[16], img_height=300, img_width=200)
    assert found["a_inter_mbox_loc"].convolution_param.num_output == 4 * 5
    assert found["a_inter"].convolution_param.num_output == 16
    assert list(found["mbox_objectness"].bottom) == ["a_inter_mbox_objectness_flat"]
    p = found["a_inter_mbox_priorbox"].prior_box_param
    assert (p.img_h, p.img_w, p.HasField("img_size")) == (300, 200, False)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (dict(num_classes=0), "num_classes is 0"),
        (dict(min_sizes=[30, 60]), "2 min_sizes for 1 from_layers"),
        (dict(max_sizes=[30, 60]), "2 max_sizes for 1 from_layers"),
        (dict(max_sizes=[[30, 60]]), "'a' has 1 min sizes and 2 max sizes"),
        (dict(from_layers=["b"]), "from_layer 'b' is not in the net; it has data, a"),
        (dict(data_layer="image"), "data_layer 'image' is not in the net"),
        (dict(kernel_size=[1, 2, 3]), r"\[1, 2, 3\] has 3 values; it must have 1 or 2"),
    ],
)
def test_mistakes(options: dict[str, Any], message: str) -> None:
    with pytest.raises(NetError, match=message):
        head(**options)


def test_unpack_variable() -> None:
    assert UnpackVariable(3, 2) == UnpackVariable([3], 2) == [3, 3]
    assert UnpackVariable([3, 4], 2) == [3, 4]
