"""ResNet-101 and ResNet-152."""

from __future__ import annotations

from typing import Any

from caffe.model_libs.blocks import ConvBNLayer
from caffe.net_spec import NetSpec
from caffe.net_spec import layers as L
from caffe.net_spec import params as P


def ResBody(
    net: NetSpec,
    from_layer: str,
    block_name: str,
    out2a: int,
    out2b: int,
    out2c: int,
    stride: int,
    use_branch1: bool,
    dilation: int = 1,
    kernel: int = 1,
    pad: int = 0,
    lr_mult: float = 1,
    decay_mult: float = 1,
    **bn_param: Any,
) -> None:
    """Adds one residual block, `res<block_name>`: 1 × 1, 3 × 3, 1 × 1 convolutions beside the identity or branch1.

    `kernel` and `pad` are those of the first convolution of both sides. They and the multipliers are of DSSD's fork.
    """

    def conv(bottom: str, branch: str, relu: bool, **fields: Any) -> str:
        ConvBNLayer(
            net,
            bottom,
            branch,
            use_bn=True,
            use_relu=relu,
            conv_prefix=f"res{block_name}_",
            bn_prefix=f"bn{block_name}_",
            bn_postfix="",
            scale_prefix=f"scale{block_name}_",
            scale_postfix="",
            lr_mult=lr_mult,
            decay_mult=decay_mult,
            **fields,
            **bn_param,
        )
        return f"res{block_name}_{branch}"

    shortcut = from_layer
    first = dict(kernel_size=kernel, pad=pad, stride=stride)
    if use_branch1:
        shortcut = conv(from_layer, "branch1", False, num_output=out2c, **first)
    branch = conv(from_layer, "branch2a", True, num_output=out2a, **first)
    branch = conv(branch, "branch2b", True, num_output=out2b, kernel_size=3, pad=dilation, stride=1, dilation=dilation)
    branch = conv(branch, "branch2c", False, num_output=out2c, kernel_size=1, pad=0, stride=1)
    net[f"res{block_name}"] = L.Eltwise(net[shortcut], net[branch])
    net[f"res{block_name}_relu"] = L.ReLU(net[f"res{block_name}"], in_place=True)


def _resnet_body(
    net: NetSpec, from_layer: str, blocks: tuple[int, int], use_pool5: bool, use_dilation_conv5: bool, **bn_param: Any
) -> NetSpec:
    """conv1 to res5c; `blocks`: how many blocks follow the first one of conv3 and of conv4."""
    ConvBNLayer(
        net,
        from_layer,
        "conv1",
        use_bn=True,
        use_relu=True,
        num_output=64,
        kernel_size=7,
        pad=3,
        stride=2,
        bn_prefix="bn_",
        bn_postfix="",
        scale_prefix="scale_",
        scale_postfix="",
        **bn_param,
    )
    net.pool1 = L.Pooling(net.conv1, pool=P.Pooling.MAX, kernel_size=3, stride=2)
    conv5 = dict(stride=1, dilation=2) if use_dilation_conv5 else dict(stride=2, dilation=1)
    stages = (
        (64, ["2a", "2b", "2c"], dict(stride=1, dilation=1)),
        (128, ["3a", *(f"3b{i}" for i in range(1, blocks[0] + 1))], dict(stride=2, dilation=1)),
        (256, ["4a", *(f"4b{i}" for i in range(1, blocks[1] + 1))], dict(stride=2, dilation=1)),
        (512, ["5a", "5b", "5c"], conv5),
    )
    bottom = "pool1"
    for width, names, size in stages:
        for name in names:
            first = name == names[0]
            stride = size["stride"] if first else 1
            ResBody(net, bottom, name, width, width, 4 * width, stride, first, size["dilation"], **bn_param)
            bottom = f"res{name}"
    if use_pool5:
        net.pool5 = L.Pooling(net.res5c, pool=P.Pooling.AVE, global_pooling=True)
    return net


def ResNet101Body(
    net: NetSpec, from_layer: str, use_pool5: bool = True, use_dilation_conv5: bool = False, **bn_param: Any
) -> NetSpec:
    """Adds ResNet-101, conv1 to res5c and, with `use_pool5`, the global average pool5."""
    return _resnet_body(net, from_layer, (3, 22), use_pool5, use_dilation_conv5, **bn_param)


def ResNet152Body(
    net: NetSpec, from_layer: str, use_pool5: bool = True, use_dilation_conv5: bool = False, **bn_param: Any
) -> NetSpec:
    """Adds ResNet-152, conv1 to res5c and, with `use_pool5`, the global average pool5."""
    return _resnet_body(net, from_layer, (7, 35), use_pool5, use_dilation_conv5, **bn_param)
