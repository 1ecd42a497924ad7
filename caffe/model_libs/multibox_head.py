"""SSD's prediction layers and default boxes on any blobs."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from caffe.errors import NetError
from caffe.model_libs.blocks import ConvBNLayer, require
from caffe.net_spec import NetSpec
from caffe.net_spec import layers as L


def _as_list(value: Any) -> list[Any]:
    return list(value) if isinstance(value, (list, tuple)) else [value]


def CreateMultiBoxHead(
    net: NetSpec,
    data_layer: str = "data",
    num_classes: int = 0,
    from_layers: Sequence[str] = (),
    use_objectness: bool = False,
    normalizations: Sequence[float] = (),
    use_batchnorm: bool = True,
    lr_mult: float = 1,
    use_scale: bool = True,
    min_sizes: Sequence[Any] = (),
    max_sizes: Sequence[Any] = (),
    prior_variance: Sequence[float] = (0.1,),
    aspect_ratios: Sequence[Any] = (),
    steps: Sequence[Any] = (),
    img_height: int = 0,
    img_width: int = 0,
    share_location: bool = True,
    flip: bool = True,
    clip: bool = True,
    offset: float = 0.5,
    inter_layer_depth: Sequence[int] = (),
    kernel_size: Any = 1,
    pad: Any = 0,
    conf_postfix: str = "",
    loc_postfix: str = "",
    **bn_param: Any,
) -> list[Any]:
    """Adds prediction layers to each of `from_layers`, and concatenates them.

    Lists have one entry per source, or are empty: `normalizations` (initial scale of an L2 normalization before the
    predictions, -1 for none), `min_sizes`, `max_sizes`, `aspect_ratios` (a number or a list each), `steps`,
    `inter_layer_depth` (channels of a 3 × 3 convolution before the predictions, 0 for none).
    Returns the tops mbox_loc, mbox_conf, mbox_priorbox and, with `use_objectness`, mbox_objectness.
    """
    if not num_classes or num_classes < 0:
        raise NetError(f"CreateMultiBoxHead: num_classes is {num_classes}; give the number of classes, with background")
    require(net, data_layer, "data_layer")
    for name, values, needed in (
        ("min_sizes", min_sizes, True),
        ("max_sizes", max_sizes, False),
        ("normalizations", normalizations, False),
        ("aspect_ratios", aspect_ratios, False),
        ("steps", steps, False),
        ("inter_layer_depth", inter_layer_depth, False),
    ):
        if len(values) != len(from_layers) and (needed or values):
            raise NetError(f"CreateMultiBoxHead: {len(values)} {name} for {len(from_layers)} from_layers")

    joined: dict[str, list[Any]] = {"loc": [], "conf": [], "priorbox": [], "objectness": []}

    def predict(blob: str, what: str, postfix: str, channels: int) -> None:
        name = f"{blob}_mbox_{what}{postfix}"
        ConvBNLayer(
            net,
            blob,
            name,
            use_bn=use_batchnorm,
            use_relu=False,
            lr_mult=lr_mult,
            num_output=channels,
            kernel_size=kernel_size,
            pad=pad,
            stride=1,
            **bn_param,
        )
        net[f"{name}_perm"] = L.Permute(net[name], order=[0, 2, 3, 1])
        net[f"{name}_flat"] = L.Flatten(net[f"{name}_perm"], axis=1)
        joined[what].append(net[f"{name}_flat"])

    for i, blob in enumerate(from_layers):
        require(net, blob)
        if normalizations and normalizations[i] != -1:
            normalized = f"{blob}_norm"
            net[normalized] = L.Normalize(
                net[blob],
                scale_filler=dict(type="constant", value=normalizations[i]),
                across_spatial=False,
                channel_shared=False,
            )
            blob = normalized
        if inter_layer_depth and inter_layer_depth[i] > 0:
            inner = f"{blob}_inter"
            ConvBNLayer(
                net,
                blob,
                inner,
                use_bn=use_batchnorm,
                use_relu=True,
                lr_mult=lr_mult,
                num_output=inter_layer_depth[i],
                kernel_size=3,
                pad=1,
                stride=1,
                **bn_param,
            )
            blob = inner

        min_size = _as_list(min_sizes[i])
        max_size = _as_list(max_sizes[i]) if max_sizes else []
        if max_size and len(max_size) != len(min_size):
            raise NetError(f"CreateMultiBoxHead: '{blob}' has {len(min_size)} min sizes and {len(max_size)} max sizes")
        ratios = _as_list(aspect_ratios[i]) if aspect_ratios else []
        boxes = len(min_size) * ((2 if max_size else 1) + len(ratios) * (2 if flip else 1))

        predict(blob, "loc", loc_postfix, boxes * 4 * (1 if share_location else num_classes))
        predict(blob, "conf", conf_postfix, boxes * num_classes)
        fields: dict[str, Any] = dict(min_size=min_size, clip=clip, variance=list(prior_variance), offset=offset)
        if max_size:
            fields["max_size"] = max_size
        if ratios:
            fields.update(aspect_ratio=ratios, flip=flip)
        if steps and steps[i]:
            fields["step"] = steps[i]
        if img_height and img_width:
            fields.update(
                dict(img_size=img_height) if img_height == img_width else dict(img_h=img_height, img_w=img_width)
            )
        net[f"{blob}_mbox_priorbox"] = L.PriorBox(net[blob], net[data_layer], **fields)
        joined["priorbox"].append(net[f"{blob}_mbox_priorbox"])
        if use_objectness:
            predict(blob, "objectness", "", boxes * 2)

    wanted = ["loc", "conf", "priorbox"] + ["objectness"] * use_objectness
    for what in wanted:
        net[f"mbox_{what}"] = L.Concat(*joined[what], axis=2 if what == "priorbox" else 1)
    return [net[f"mbox_{what}"] for what in wanted]
