"""Nets that are made to start from trained weights, and what shows that they are."""

from __future__ import annotations

from caffe import log
from caffe.engine.net import Net

#: a net with more convolutions and no normalization hardly trains from random weights; VGG-16 has 13 of them
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
    frozen, statistics, convolutions, normalized = [], [], [], False
    for step in net.steps:
        layer = step.layer
        if layer.type_name == "BatchNorm":
            normalized = True
            if layer.param.batch_norm_param.use_global_stats:
                statistics.append(layer.name)
        elif layer.type_name in ("Convolution", "InnerProduct") and len(layer.blobs):
            convolutions.append(layer.name)
            # a layer that shares its weights has none of its own in the table
            if all(rates.get(id(blob), 1) == 0 for blob in layer.blobs):
                frozen.append(layer.name)
    if frozen:
        return f"these layers have lr_mult: 0, so they will stay random: {_some(frozen)}"
    if statistics:
        return f"these layers use stored statistics (use_global_stats), of which there are none: {_some(statistics)}"
    if len(convolutions) > _DEEPEST and not normalized:
        return (
            f"its {len(convolutions)} layers with weights have no normalization between them; such a net (VGG-16, SSD) "
            "learns little from random weights"
        )
    return None


def _some(names: list[str]) -> str:
    return ", ".join(names[:3]) + (f" and {len(names) - 3} more" if len(names) > 3 else "")
