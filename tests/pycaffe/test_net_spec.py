"""Nets written with NetSpec equal existing prototxts."""

from __future__ import annotations

from typing import Any

import pytest

from caffe.errors import NetError
from caffe.net_spec import NetSpec, to_proto
from caffe.net_spec import layers as L
from caffe.net_spec import params as P
from caffe.proto import caffe_pb2
from caffe.proto.text import parse_text, to_text

XAVIER = dict(type="xavier")


def net_of(text: str) -> Any:
    return parse_text(text, caffe_pb2.NetParameter(), "text")


def lenet_tops() -> dict[str, Any]:
    n: dict[str, Any] = {}
    n["data"], n["label"] = L.DummyData(
        shape=[dict(dim=[8, 1, 28, 28]), dict(dim=[8])], transform_param=dict(scale=1.0 / 256), ntop=2
    )
    n["conv"] = L.Convolution(n["data"], kernel_size=5, num_output=20, weight_filler=XAVIER)
    n["pool"] = L.Pooling(n["conv"], kernel_size=2, stride=2, pool=P.Pooling.AVE)
    n["ip"] = L.InnerProduct(n["pool"], num_output=10, weight_filler=XAVIER)
    n["relu"] = L.ReLU(n["ip"], in_place=True, negative_slope=0.5)
    n["loss"] = L.SoftmaxWithLoss(n["relu"], n["label"], loss_weight=2)
    return n


def lenet_text(data: str, label: str, conv: str, pool: str, ip: str, relu: str, loss: str) -> str:
    return f"""
    layer {{ name: "{data}" type: "DummyData" top: "{data}" top: "{label}" transform_param {{ scale: 0.00390625 }}
            dummy_data_param {{ shape {{ dim: 8 dim: 1 dim: 28 dim: 28 }} shape {{ dim: 8 }} }} }}
    layer {{ name: "{conv}" type: "Convolution" bottom: "{data}" top: "{conv}"
            convolution_param {{ kernel_size: 5 num_output: 20 weight_filler {{ type: "xavier" }} }} }}
    layer {{ name: "{pool}" type: "Pooling" bottom: "{conv}" top: "{pool}"
            pooling_param {{ kernel_size: 2 stride: 2 pool: AVE }} }}
    layer {{ name: "{ip}" type: "InnerProduct" bottom: "{pool}" top: "{ip}"
            inner_product_param {{ num_output: 10 weight_filler {{ type: "xavier" }} }} }}
    layer {{ name: "{relu}" type: "ReLU" bottom: "{ip}" top: "{ip}" relu_param {{ negative_slope: 0.5 }} }}
    layer {{ name: "{loss}" type: "SoftmaxWithLoss" bottom: "{ip}" bottom: "{label}" top: "{loss}" loss_weight: 2 }}
    """


def test_names_are_the_attributes() -> None:
    n = NetSpec()
    for name, top in lenet_tops().items():
        n[name] = top
    assert n.to_proto() == net_of(lenet_text("data", "label", "conv", "pool", "ip", "relu", "loss"))


def test_names_made_up_are_type_and_number() -> None:
    expected = net_of(
        lenet_text("DummyData1", "DummyData2", "Convolution1", "Pooling1", "InnerProduct1", "ReLU1", "SoftmaxWithLoss1")
    )
    assert lenet_tops()["loss"].to_proto() == expected
    assert to_proto(lenet_tops()["loss"]) == expected


def test_unnamed_layers_between_named_ones_come_where_they_are_needed() -> None:
    n = NetSpec()
    n.data = L.Input(shape=dict(dim=[1, 3, 4, 4]))
    n.out = L.Power(L.Power(L.Power(n.data, scale=2), scale=3), scale=4)
    assert [(layer.name, list(layer.bottom)) for layer in n.to_proto().layer] == [
        ("data", []),
        ("Power1", ["data"]),
        ("Power2", ["Power1"]),
        ("out", ["Power2"]),
    ]


def test_two_tops_of_one_layer_share_it() -> None:
    data = L.DummyData(shape=dict(dim=3))
    net = to_proto(L.Power(data), L.Exp(data))
    assert [layer.type for layer in net.layer] == ["DummyData", "Power", "Exp"]


def test_layer_without_tops_is_named_as_assigned() -> None:
    n = NetSpec()
    n.data, n.data2 = L.DummyData(shape=dict(dim=3), ntop=2)
    n.quiet = L.Silence(n.data, ntop=0)
    n.quiet2 = L.Silence(n.data2, ntop=0)
    assert n.to_proto() == net_of(
        """layer { name: "data" type: "DummyData" top: "data" top: "data2" dummy_data_param { shape { dim: 3 } } }
           layer { name: "quiet" type: "Silence" bottom: "data" }
           layer { name: "quiet2" type: "Silence" bottom: "data2" }"""
    )
    data = L.DummyData(shape=dict(dim=3))
    assert to_proto(L.Silence(data, ntop=0)).layer[1].name == "Silence1"


def test_fields_of_the_layer_itself() -> None:
    n = NetSpec()
    n.data = L.Input(name="in", shape=dict(dim=[1, 3, 4, 4]))
    n.conv = L.Convolution(
        n.data,
        num_output=2,
        kernel_size=[3, 1],
        param=[dict(lr_mult=1, decay_mult=1), dict(lr_mult=2, decay_mult=0)],
        include=dict(phase=caffe_pb2.Phase.Value("TRAIN")),
        propagate_down=[False],
    )
    assert n.to_proto() == net_of(
        """layer { name: "in" type: "Input" top: "data" input_param { shape { dim: 1 dim: 3 dim: 4 dim: 4 } } }
           layer { name: "conv" type: "Convolution" bottom: "data" top: "conv" include { phase: TRAIN }
                   param { lr_mult: 1 decay_mult: 1 } param { lr_mult: 2 decay_mult: 0 } propagate_down: false
                   convolution_param { num_output: 2 kernel_size: 3 kernel_size: 1 } }"""
    )


def test_whole_messages_nested() -> None:
    """As in SSD's CreateAnnotatedDataLayer: lists of dicts of dicts, and one empty sampler."""
    data, _ = L.AnnotatedData(
        name="data",
        annotated_data_param=dict(label_map_file="map", batch_sampler=[{}, dict(sampler=dict(min_scale=0.5))]),
        data_param=dict(batch_size=2, backend=P.Data.LMDB),
        transform_param=dict(resize_param=dict(interp_mode=[P.Resize.LINEAR, P.Resize.AREA])),
        ntop=2,
    )
    assert data.to_proto() == net_of(
        """layer { name: "data" type: "AnnotatedData" top: "AnnotatedData1" top: "AnnotatedData2"
             transform_param { resize_param { interp_mode: LINEAR interp_mode: AREA } }
             data_param { batch_size: 2 backend: LMDB }
             annotated_data_param {
               label_map_file: "map" batch_sampler { } batch_sampler { sampler { min_scale: 0.5 } } } }"""
    )


def test_several_resize_param() -> None:
    """As MobileNet-YOLO's training nets have them."""
    data, _ = L.AnnotatedData(
        name="data", ntop=2, transform_param=dict(resize_param=[dict(height=1), dict(height=2), dict(height=3)])
    )
    made = data.to_proto()
    assert to_text(made).count("resize_param {") == 3
    assert made == net_of(
        """layer { name: "data" type: "AnnotatedData" top: "AnnotatedData1" top: "AnnotatedData2" transform_param {
             resize_param { height: 1 } resize_param { height: 2 } resize_param { height: 3 } } }"""
    )


@pytest.mark.parametrize(
    ("kind", "message"),
    [
        ("Deconvolution", "convolution_param"),
        ("DeformableConvolution", "deformable_convolution_param"),
        ("ModulatedDeformableConvolution", "modulated_deformable_convolution_param"),
    ],
)
def test_convolutions_take_their_fields_directly_and_as_a_message(kind: str, message: str) -> None:
    data = L.Input(shape=dict(dim=[1, 1, 2, 2]))
    direct = getattr(L, kind)(data, num_output=4, kernel_size=2, stride=2)
    whole = getattr(L, kind)(data, **{message: dict(num_output=4, kernel_size=2, stride=2)})
    assert direct.to_proto() == whole.to_proto()


def test_update_replaces_fields_and_adds_them() -> None:
    n = NetSpec()
    n.data = L.Input(shape=dict(dim=[1, 1, 2, 2]))
    n.conv = L.Convolution(n.data, num_output=4, kernel_size=3)
    n.update("conv", dict(num_output=5, dilation=6))
    conv = n.to_proto().layer[1].convolution_param
    assert (conv.num_output, list(conv.dilation), list(conv.kernel_size)) == (5, [6], [3])


def test_keys_vals_delete() -> None:
    n = NetSpec()
    n.b = L.Input()
    n["a"] = L.Power(n.b)
    assert n.keys() == ["b", "a"]
    assert n.vals() == [n.b, n["a"]]
    del n["a"]
    assert n.keys() == ["b"]
    assert "b" in n
    assert "a" not in n


def test_whole_floats_fill_integer_fields() -> None:
    assert L.Pooling(L.Input(), kernel_size=6 / 2).to_proto().layer[1].pooling_param.kernel_size == 3
    with pytest.raises(NetError, match=r"layer 'Pooling1' \(Pooling\): field 'kernel_size'"):
        L.Pooling(L.Input(), kernel_size=2.5).to_proto()


def test_text_reads_back() -> None:
    net = lenet_tops()["loss"].to_proto()
    assert net_of(str(net)) == net


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda: L.Convolution(L.Input(), num_outputs=3).to_proto(), r"'num_outputs' \(did you mean 'num_output'\?\)"),
        (lambda: L.Convolution(L.Input(), weight_filler=dict(typ="x")).to_proto(), r"no field 'typ' .*'type'"),
        (lambda: L.Convolution(L.Input(), num_output="many").to_proto(), "layer 'Convolution1'.*'num_output'"),
        (lambda: L.ReLU(L.DummyData(ntop=2)), "bottom 0 is a tuple of 2"),
        (lambda: L.ReLU("data"), "bottom 0 is of type str"),
        (lambda: NetSpec().__setattr__("data", L.DummyData(ntop=2)), "'data' is assigned a tuple of 2"),
    ],
)
def test_mistakes_are_named(build: Any, message: str) -> None:
    with pytest.raises(NetError, match=message):
        build()


def test_missing_names() -> None:
    n = NetSpec()
    n.conv1 = L.Input()
    assert not hasattr(n, "conv2")
    with pytest.raises(KeyError, match="no top 'conv2'; did you mean 'conv1'"):
        n["conv2"]
    with pytest.raises(AttributeError, match="no message PoolinParameter"):
        _ = P.Poolin.MAX
