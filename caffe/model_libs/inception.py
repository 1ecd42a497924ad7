"""Inception v3 in NetSpec, for `caffe.model_libs`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from caffe.model_libs.blocks import ConvBNLayer
from caffe.net_spec import NetSpec
from caffe.net_spec import layers as L
from caffe.net_spec import params as P

Layers = Sequence[dict[str, Any]]


def InceptionTower(net: NetSpec, from_layer: str, tower_name: str, layer_params: Layers, **bn_param: Any) -> Any:
    """Stacks layers, each named `<tower_name>/<name>`: a pooling if the name says pool, else a convolution."""
    for params in layer_params:
        fields = {key: value for key, value in params.items() if key != "name"}
        layer = f"{tower_name}/{params['name']}"
        if "pool" in layer:
            net[layer] = L.Pooling(net[from_layer], **fields)
        else:
            ConvBNLayer(net, from_layer, layer, use_bn=True, use_relu=True, use_scale=False, **fields, **bn_param)
        from_layer = layer
    return net[from_layer]


def _conv(channels: int, kernel: int | tuple[int, int] = 1, pad: Any = None, stride: int = 1) -> dict[str, Any]:
    """A convolution that keeps the size unless `pad` says otherwise."""
    if isinstance(kernel, tuple):
        same = [(k - 1) // 2 for k in kernel]
        return dict(num_output=channels, kernel_size=list(kernel), pad=same, stride=[stride, stride])
    return dict(num_output=channels, kernel_size=kernel, pad=(kernel - 1) // 2 if pad is None else pad, stride=stride)


def _named(*layers: dict[str, Any]) -> list[dict[str, Any]]:
    """Convolutions named conv, conv_1, conv_2, …; poolings pool."""
    named: list[dict[str, Any]] = []
    count = 0
    for layer in layers:
        if "pool" in layer:
            named.append(dict(name="pool", **layer))
        else:
            named.append(dict(name=f"conv_{count}" if count else "conv", **layer))
            count += 1
    return named


_AVERAGE = dict(pool=P.Pooling.AVE, kernel_size=3, pad=1, stride=1)
_HIGHEST = dict(pool=P.Pooling.MAX, kernel_size=3, pad=1, stride=1)
_HALVE = dict(pool=P.Pooling.MAX, kernel_size=3, pad=0, stride=2)
_HALF = dict(pad=0, stride=2)


def _mixed_blocks() -> dict[str, list[tuple[str, Layers]]]:
    """The towers of each block that is only concatenated: (name after the block's, layers)."""
    blocks: dict[str, list[tuple[str, Layers]]] = {}
    for name, pooled in (("mixed", 32), ("mixed_1", 64), ("mixed_2", 64)):
        blocks[name] = [
            ("", _named(_conv(64))),
            ("/tower", _named(_conv(48), _conv(64, 5))),
            ("/tower_1", _named(_conv(64), _conv(96, 3), _conv(96, 3))),
            ("/tower_2", _named(_AVERAGE, _conv(pooled))),
        ]
    blocks["mixed_3"] = [
        ("", _named(_conv(384, 3, **_HALF))),
        ("/tower", _named(_conv(64), _conv(96, 3), _conv(96, 3, **_HALF))),
        ("", _named(_HALVE)),
    ]
    for name, n in (("mixed_4", 128), ("mixed_5", 160), ("mixed_6", 160), ("mixed_7", 192)):
        wide, tall = (1, 7), (7, 1)
        blocks[name] = [
            ("", _named(_conv(192))),
            ("/tower", _named(_conv(n), _conv(n, wide), _conv(192, tall))),
            ("/tower_1", _named(_conv(n), _conv(n, tall), _conv(n, wide), _conv(n, tall), _conv(192, wide))),
            ("/tower_2", _named(_AVERAGE, _conv(192))),
        ]
    blocks["mixed_8"] = [
        ("/tower", _named(_conv(192), _conv(320, 3, **_HALF))),
        ("/tower_1", _named(_conv(192), _conv(192, (1, 7)), _conv(192, (7, 1)), _conv(192, 3, **_HALF))),
        ("", _named(_HALVE)),
    ]
    return blocks


def InceptionV3Body(net: NetSpec, from_layer: str, output_pred: bool = False, **bn_param: Any) -> NetSpec:
    """Adds Inception v3, conv to mixed_10/join and, with `output_pred`, its classifier of 1008 outputs."""
    stem = (
        ("conv", _conv(32, 3, **_HALF)),
        ("conv_1", _conv(32, 3, pad=0)),
        ("conv_2", _conv(64, 3)),
        ("pool", _HALVE),
        ("conv_3", _conv(80)),
        ("conv_4", _conv(192, 3, pad=0)),
        ("pool_1", _HALVE),
    )
    for name, fields in stem:
        if "pool" in fields:
            net[name] = L.Pooling(net[from_layer], **fields)
        else:
            ConvBNLayer(net, from_layer, name, use_bn=True, use_relu=True, use_scale=False, **fields, **bn_param)
        from_layer = name
    for block, towers in _mixed_blocks().items():
        tops = [InceptionTower(net, from_layer, block + tower, layers, **bn_param) for tower, layers in towers]
        from_layer = f"{block}/join"
        net[from_layer] = L.Concat(*tops, axis=1)
    for block, pooling in (("mixed_9", _AVERAGE), ("mixed_10", _HIGHEST)):
        tops = [InceptionTower(net, from_layer, block, _named(_conv(320)), **bn_param)]
        for tower, layers in (("tower", _named(_conv(384))), ("tower_1", _named(_conv(448), _conv(384, 3)))):
            name = f"{block}/{tower}"
            InceptionTower(net, from_layer, name, layers, **bn_param)
            tops.append(_split_in_two(net, f"{name}/{layers[-1]['name']}", f"{name}/mixed", **bn_param))
        tops.append(InceptionTower(net, from_layer, f"{block}/tower_2", _named(pooling, _conv(192)), **bn_param))
        from_layer = f"{block}/join"
        net[from_layer] = L.Concat(*tops, axis=1)
    if output_pred:
        net.pool_3 = L.Pooling(net[from_layer], pool=P.Pooling.AVE, kernel_size=8, pad=0, stride=1)
        net.softmax = L.InnerProduct(net.pool_3, num_output=1008)
        net.softmax_prob = L.Softmax(net.softmax)
    return net


def _split_in_two(net: NetSpec, from_layer: str, name: str, **bn_param: Any) -> Any:
    """A 1 × 3 and a 3 × 1 convolution of one blob, concatenated."""
    wide = InceptionTower(net, from_layer, name, [dict(name="conv", **_conv(384, (1, 3)))], **bn_param)
    tall = InceptionTower(net, from_layer, name, [dict(name="conv_1", **_conv(384, (3, 1)))], **bn_param)
    net[name] = L.Concat(wide, tall, axis=1)
    return net[name]
