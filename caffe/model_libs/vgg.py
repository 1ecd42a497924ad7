"""VGG-16 and the network of Zeiler and Fergus, from conv1 to fc7."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from caffe.model_libs.blocks import require
from caffe.net_spec import NetSpec
from caffe.net_spec import layers as L
from caffe.net_spec import params as P

_LEARNED: dict[str, Any] = {
    "param": [dict(lr_mult=1, decay_mult=1), dict(lr_mult=2, decay_mult=0)],
    "weight_filler": dict(type="xavier"),
    "bias_filler": dict(type="constant", value=0),
}
_FROZEN: dict[str, Any] = {**_LEARNED, "param": [dict(lr_mult=0, decay_mult=0), dict(lr_mult=0, decay_mult=0)]}


def _freeze(net: NetSpec, names: Sequence[str]) -> None:
    for name in names:
        if name in net:
            net.update(name, _FROZEN)


def _classifier_layers(net: NetSpec, bottom: str, dropout: bool) -> None:
    """fc6 and fc7 as they were before SSD: inner products of 4096."""
    for number in (6, 7):
        net[f"fc{number}"] = L.InnerProduct(net[bottom], num_output=4096)
        bottom = _relu_and_dropout(net, number, dropout)


def _relu_and_dropout(net: NetSpec, number: int, dropout: bool) -> str:
    net[f"relu{number}"] = L.ReLU(net[f"fc{number}"], in_place=True)
    if dropout:
        net[f"drop{number}"] = L.Dropout(net[f"relu{number}"], dropout_ratio=0.5, in_place=True)
    return f"relu{number}"


def _convolutional_fc(net: NetSpec, bottom: str, dropout: bool, **fc6: Any) -> None:
    """fc6 as a convolution with the given fields, and fc7 as a 1 × 1 convolution with the same number of outputs."""
    net.fc6 = L.Convolution(net[bottom], **fc6, **_LEARNED)
    bottom = _relu_and_dropout(net, 6, dropout)
    net.fc7 = L.Convolution(net[bottom], num_output=fc6["num_output"], kernel_size=1, **_LEARNED)
    _relu_and_dropout(net, 7, dropout)


def ZFNetBody(
    net: NetSpec,
    from_layer: str,
    need_fc: bool = True,
    fully_conv: bool = False,
    reduced: bool = False,
    dilated: bool = False,
    dropout: bool = True,
    need_fc8: bool = False,
    freeze_layers: Sequence[str] = (),
) -> NetSpec:
    """Adds the network of Zeiler and Fergus, conv1 to fc7 (`need_fc`) or fc8 and prob (`need_fc8`)."""
    require(net, from_layer)
    norm = dict(local_size=3, alpha=0.00005, beta=0.75, norm_region=P.LRN.WITHIN_CHANNEL, engine=P.LRN.CAFFE)
    bottom = from_layer
    for number, (channels, kernel, pad) in enumerate(((96, 7, 3), (256, 5, 2)), start=1):
        net[f"conv{number}"] = L.Convolution(
            net[bottom], num_output=channels, pad=pad, kernel_size=kernel, stride=2, **_LEARNED
        )
        net[f"relu{number}"] = L.ReLU(net[f"conv{number}"], in_place=True)
        net[f"norm{number}"] = L.LRN(net[f"relu{number}"], **norm)
        bottom = f"pool{number}"
        net[bottom] = L.Pooling(net[f"norm{number}"], pool=P.Pooling.MAX, pad=1, kernel_size=3, stride=2)
    for number, channels in ((3, 384), (4, 384), (5, 256)):
        net[f"conv{number}"] = L.Convolution(net[bottom], num_output=channels, pad=1, kernel_size=3, **_LEARNED)
        bottom = f"relu{number}"
        net[bottom] = L.ReLU(net[f"conv{number}"], in_place=True)

    if need_fc:
        net.pool5 = L.Pooling(net.relu5, pool=P.Pooling.MAX, pad=1, kernel_size=3, stride=1 if dilated else 2)
        if not fully_conv:
            _classifier_layers(net, "pool5", dropout)
        elif dilated and reduced:
            _convolutional_fc(net, "pool5", dropout, num_output=1024, pad=5, kernel_size=3, dilation=5)
        elif dilated:
            _convolutional_fc(net, "pool5", dropout, num_output=4096, pad=5, kernel_size=6, dilation=2)
        elif reduced:
            _convolutional_fc(net, "pool5", dropout, num_output=1024, pad=2, kernel_size=3, dilation=2)
        else:
            _convolutional_fc(net, "pool5", dropout, num_output=4096, pad=2, kernel_size=6)
    if need_fc8:
        last = net[net.keys()[-1]]
        if fully_conv:
            net.fc8 = L.Convolution(last, num_output=1000, kernel_size=1, **_LEARNED)
        else:
            net.fc8 = L.InnerProduct(last, num_output=1000)
        net.prob = L.Softmax(net.fc8)
    _freeze(net, freeze_layers)
    return net


def VGGNetBody(
    net: NetSpec,
    from_layer: str,
    need_fc: bool = True,
    fully_conv: bool = False,
    reduced: bool = False,
    dilated: bool = False,
    nopool: bool = False,
    dropout: bool = True,
    freeze_layers: Sequence[str] = (),
    dilate_pool4: bool = False,
) -> NetSpec:
    """Adds VGG-16, conv1_1 to fc7 (`need_fc`). SSD's backbone is fully_conv, reduced, dilated and without dropout.

    fully_conv: fc6 and fc7 are convolutions. reduced: they have 1024 outputs, and fc6 is 3 × 3. dilated: pool5 keeps
    the resolution and fc6 is dilated. nopool: a convolution of stride 2 replaces each pooling. dilate_pool4: like
    dilated, for pool4.
    """
    require(net, from_layer)
    bottom, dilation = from_layer, 1
    for block, (channels, count) in enumerate(((64, 2), (128, 2), (256, 3), (512, 3), (512, 3)), start=1):
        for i in range(1, count + 1):
            fields: dict[str, Any] = dict(num_output=channels, pad=1, kernel_size=3)
            if block == 5:
                fields.update(pad=dilation, dilation=dilation)
            net[f"conv{block}_{i}"] = L.Convolution(net[bottom], **fields, **_LEARNED)
            bottom = f"relu{block}_{i}"
            net[bottom] = L.ReLU(net[f"conv{block}_{i}"], in_place=True)
        if block == 5 and not need_fc:
            break
        keeps_size = dilated if block == 5 else dilate_pool4 and block == 4 and not nopool
        if nopool:
            name = f"conv{block}_{count + 1}"
            net[name] = L.Convolution(
                net[bottom], num_output=channels, pad=1, kernel_size=3, stride=1 if keeps_size else 2, **_LEARNED
            )
        else:
            name = f"pool{block}"
            size = dict(kernel_size=3, stride=1, pad=1) if keeps_size else dict(kernel_size=2, stride=2)
            net[name] = L.Pooling(net[bottom], pool=P.Pooling.MAX, **size)
        bottom = name
        if block == 4 and keeps_size:
            dilation = 2

    if need_fc and fully_conv:
        kernel, outputs = (3, 1024) if reduced else (7, 4096)
        if dilated:
            dilation *= 6 if reduced else 2
        elif reduced:
            dilation *= 3
        _convolutional_fc(
            net,
            bottom,
            dropout,
            num_output=outputs,
            pad=dilation * (kernel - 1) // 2,
            kernel_size=kernel,
            dilation=dilation,
        )
    elif need_fc:
        _classifier_layers(net, bottom, dropout)
    _freeze(net, freeze_layers)
    return net
