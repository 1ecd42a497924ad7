"""Nets that are made to start from trained weights, and what shows that they are."""

from __future__ import annotations

from caffe import log
from caffe.engine.layer import Layer
from caffe.engine.net import Net

#: nets with more layers with weights, and no batch normalization, hardly train from random ones; VGG-16 has 13
#: convolutions
_DEEPEST = 12


def warn_if_from_scratch(net: Net) -> None:
    """Warns if a training net, whose weights are all random, is made for fine-tuning."""
    if reason := made_for_fine_tuning(net):
        log.warning(
            log.here(),
            f"Training starts from random weights, but {reason}. Give trained ones with -weights (docs/own_dataset.md "
            "says where they come from), or -snapshot to resume",
        )


def made_for_fine_tuning(net: Net) -> str | None:
    """Returns what shows that a training net expects trained weights, in words; None if nothing does."""
    rates = dict(zip(map(id, net.learnable_params), net.params_lr, strict=True))
    frozen, statistics, weighted, normalized = [], [], [], False
    for layer in (step.layer for step in net.steps if len(step.layer.blobs)):
        if not layer.learns:
            normalized = True  # its blobs are statistics of the data
            if layer.param.batch_norm_param.use_global_stats:
                statistics.append(layer.name)
        elif any(blob.dim() > 1 for blob in layer.blobs):
            weighted.append(layer.name)
            # a layer that shares its weights has none of its own in the table
            if all(rates.get(id(blob), 1) == 0 for blob in layer.blobs) and _needs_training(layer):
                frozen.append(layer.name)
    if frozen:
        return f"these layers have lr_mult: 0, so they will stay as they are initialized: {_some(frozen)}"
    if statistics:
        return f"these layers use stored statistics (use_global_stats), of which there are none: {_some(statistics)}"
    if len(weighted) > _DEEPEST and not normalized:
        return (
            f"it has {len(weighted)} layers with weights and no batch normalization between them; such a net (VGG-16, SSD) "
            "usually needs trained weights"
        )
    return None


def _needs_training(layer: Layer) -> bool:
    """Whether the filler of a layer's weights is not one that makes them useful at once, as for upsampling."""
    param = layer.param
    own = param.convolution_param if param.HasField("convolution_param") else param.inner_product_param
    return own.weight_filler.type != "bilinear" and not own.weight_filler.value


def _some(names: list[str]) -> str:
    return ", ".join(names[:3]) + (f" and {len(names) - 3} more" if len(names) > 3 else "")
