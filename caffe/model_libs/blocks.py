"""The convolution block that all bodies of `caffe.model_libs` are made of."""

from __future__ import annotations

from typing import Any

from caffe.errors import NetError
from caffe.net_spec import NetSpec
from caffe.net_spec import layers as L


def require(net: NetSpec, layer: str, what: str = "from_layer") -> None:
    """Raises NetError unless the net has a top of that name."""
    if layer not in net:
        raise NetError(f"{what} '{layer}' is not in the net; it has {', '.join(net.keys()) or 'no layers yet'}")


def UnpackVariable(var: Any, num: int) -> list[Any]:
    """`num` values: the list `var` itself, its only one, or the number `var`, repeated."""
    values = list(var) if isinstance(var, (list, tuple)) else [var]
    if len(values) not in (1, num):
        raise NetError(f"{var} has {len(values)} values; it must have 1 or {num}")
    return values if len(values) == num else values * num


def ConvBNLayer(
    net: NetSpec,
    from_layer: str,
    out_layer: str,
    use_bn: bool,
    use_relu: bool,
    num_output: int,
    kernel_size: Any,
    pad: Any,
    stride: Any,
    dilation: int = 1,
    use_scale: bool = True,
    lr_mult: float = 1,
    decay_mult: float = 1,
    conv_prefix: str = "",
    conv_postfix: str = "",
    bn_prefix: str = "",
    bn_postfix: str = "_bn",
    scale_prefix: str = "",
    scale_postfix: str = "_scale",
    bias_prefix: str = "",
    bias_postfix: str = "_bias",
    **bn_params: Any,
) -> None:
    """Adds a convolution, optionally with batch normalization (and Scale, or Bias without `use_scale`) and ReLU.

    Each layer's name is its prefix, `out_layer` and its postfix. `bn_params`: eps (0.001), moving_average_fraction
    (0.999), use_global_stats (false; true also freezes the scale and bias).
    """
    if use_bn:
        fields: dict[str, Any] = dict(
            param=[dict(lr_mult=lr_mult, decay_mult=decay_mult)],
            weight_filler=dict(type="gaussian", std=0.01),
            bias_term=False,
        )
    else:
        fields = dict(
            param=[dict(lr_mult=lr_mult, decay_mult=decay_mult), dict(lr_mult=2 * lr_mult, decay_mult=0)],
            weight_filler=dict(type="xavier"),
            bias_filler=dict(type="constant", value=0),
        )
    (kernel_h, kernel_w), (pad_h, pad_w), (stride_h, stride_w) = (
        UnpackVariable(value, 2) for value in (kernel_size, pad, stride)
    )
    if kernel_h == kernel_w:
        fields.update(kernel_size=kernel_h, pad=pad_h, stride=stride_h)
    else:
        fields.update(kernel_h=kernel_h, kernel_w=kernel_w, pad_h=pad_h, pad_w=pad_w)
        fields.update(stride_h=stride_h, stride_w=stride_w)
    if dilation > 1:
        fields["dilation"] = dilation
    conv = f"{conv_prefix}{out_layer}{conv_postfix}"
    net[conv] = L.Convolution(net[from_layer], num_output=num_output, **fields)

    if use_bn:
        fixed = bn_params.get("use_global_stats", False)
        statistics: dict[str, Any] = dict(param=[dict(lr_mult=0, decay_mult=0)] * 3, eps=bn_params.get("eps", 0.001))
        if fixed:
            statistics["use_global_stats"] = True
        else:
            statistics["moving_average_fraction"] = bn_params.get("moving_average_fraction", 0.999)
        norm = f"{bn_prefix}{out_layer}{bn_postfix}"
        net[norm] = L.BatchNorm(net[conv], in_place=True, **statistics)
        learned = dict(lr_mult=0 if fixed else lr_mult, decay_mult=0)
        if use_scale:
            net[f"{scale_prefix}{out_layer}{scale_postfix}"] = L.Scale(
                net[norm],
                in_place=True,
                bias_term=True,
                param=[learned, learned],
                filler=dict(type="constant", value=1),
                bias_filler=dict(type="constant", value=0),
            )
        else:
            net[f"{bias_prefix}{out_layer}{bias_postfix}"] = L.Bias(
                net[norm], in_place=True, param=[learned], filler=dict(type="constant", value=0)
            )
    if use_relu:
        net[f"{conv}_relu"] = L.ReLU(net[conv], in_place=True)
