"""From the prototxt to the list of layers that run: which layers a NetState keeps, and where blobs are split.

Both follow Caffe's net.cpp and insert_splits.cpp, including names, because weights, logs and pycaffe show them.
"""

from __future__ import annotations

from collections import Counter
from typing import Any

from caffe import log
from caffe.errors import NetError
from caffe.proto import caffe_pb2
from caffe.runtime import runtime


def filter_net(net: Any) -> Any:
    """The NetParameter with only the layers whose include or exclude rules meet `net.state`."""
    kept = caffe_pb2.NetParameter()
    kept.CopyFrom(net)
    del kept.layer[:]
    for layer in net.layer:
        if len(layer.include) and len(layer.exclude):
            raise NetError(f"layer '{layer.name}': specify either include rules or exclude rules, not both")
        if len(layer.include):
            included = any(_meets(net.state, rule, layer.name) for rule in layer.include)
        else:
            included = not any(_meets(net.state, rule, layer.name) for rule in layer.exclude)
        if included:
            kept.layer.add().CopyFrom(layer)
    return kept


def _meets(state: Any, rule: Any, layer_name: str) -> bool:
    """Whether a NetState meets one NetStateRule: phase, level range, all its stages and none of its not_stages."""
    where = f"specified by a rule in layer {layer_name}"
    broken = None
    if rule.HasField("phase") and rule.phase != state.phase:
        broken = ("net.cpp:322", f"The NetState phase ({state.phase}) differed from the phase ({rule.phase}) {where}")
    elif rule.HasField("min_level") and state.level < rule.min_level:
        broken = (
            "net.cpp:332",
            f"The NetState level ({state.level}) is above the min_level ({rule.min_level}) {where}",
        )
    elif rule.HasField("max_level") and state.level > rule.max_level:
        broken = (
            "net.cpp:342",
            f"The NetState level ({state.level}) is above the max_level ({rule.max_level}) {where}",
        )
    else:
        missing = [s for s in rule.stage if s not in state.stage]
        unwanted = [s for s in rule.not_stage if s in state.stage]
        if missing:
            broken = ("net.cpp:358", f"The NetState did not contain stage '{missing[0]}' {where}")
        elif unwanted:
            broken = ("net.cpp:374", f"The NetState contained a not_stage '{unwanted[0]}' {where}")
    if broken and runtime.rank == 0:
        log.info(*broken)
    return broken is None


def split_layer_name(layer: str, blob: str, top: int) -> str:
    """The name of the Split layer behind a layer's top number `top`, as the original's SplitLayerName."""
    return f"{blob}_{layer}_{top}_split"


def split_blob_name(layer: str, blob: str, top: int, split: int) -> str:
    """The name of that layer's top number `split`, as the original's SplitBlobName."""
    return f"{blob}_{layer}_{top}_split_{split}"


def insert_splits(net: Any, whole: Any = None) -> Any:
    """The NetParameter with a Split layer after every top that more than one reader uses.

    A reader is a bottom of a later layer, or a loss weight on the top. Afterwards every blob is read at most once, so a
    gradient is a sum only in a Split layer. `whole` is the net with all layers that its rules have left out, for errors.
    """
    source: dict[tuple[int, int], tuple[int, int]] = {}  # (layer, bottom) -> the (layer, top) it reads
    readers: Counter[tuple[int, int]] = Counter()
    loss_weight: dict[tuple[int, int], float] = {}
    last_top: dict[str, tuple[int, int]] = {}
    for i, layer in enumerate(net.layer):
        for j, bottom in enumerate(layer.bottom):
            if bottom not in last_top:
                raise NetError(_unknown_bottom(layer, j, last_top, net, whole or net))
            source[i, j] = last_top[bottom]
            readers[last_top[bottom]] += 1
        for j, top in enumerate(layer.top):
            last_top[top] = (i, j)
        for j in range(min(len(layer.loss_weight), len(layer.top))):
            key = last_top[layer.top[j]]
            loss_weight[key] = layer.loss_weight[j]
            readers[key] += bool(layer.loss_weight[j])

    split = caffe_pb2.NetParameter()
    split.CopyFrom(net)
    del split.layer[:]
    used: Counter[tuple[int, int]] = Counter()
    for i, original in enumerate(net.layer):
        layer = split.layer.add()
        layer.CopyFrom(original)
        for j, bottom in enumerate(original.bottom):
            key = source[i, j]
            if readers[key] > 1:
                layer.bottom[j] = split_blob_name(net.layer[key[0]].name, bottom, key[1], used[key])
                used[key] += 1
        for j, top in enumerate(original.top):
            if readers[i, j] > 1:
                weight = loss_weight.get((i, j), 0.0)
                splitter = split.layer.add(name=split_layer_name(original.name, top, j), type="Split", bottom=[top])
                splitter.top.extend(split_blob_name(original.name, top, j, k) for k in range(readers[i, j]))
                if weight:
                    # the loss is the reader of the first split
                    splitter.loss_weight.extend([weight] + [0.0] * (readers[i, j] - 1))
                    del layer.loss_weight[:]
                    used[i, j] += 1
    return split


def _unknown_bottom(layer: Any, index: int, known: dict[str, tuple[int, int]], net: Any, whole: Any) -> str:
    import difflib

    bottom = layer.bottom[index]
    near = difflib.get_close_matches(bottom, known, n=1)
    hint = f" Did you mean '{near[0]}'?" if near else ""
    if not any(bottom in each.top for each in net.layer):
        left_out = next((each for each in whole.layer if bottom in each.top), None)
        hint = _why_left_out(left_out, whole.state) if left_out is not None else hint
    return (
        f"Unknown bottom blob '{bottom}' (layer '{layer.name}', bottom index {index}): "
        f"no earlier layer has a top with that name.{hint}"
    )


def _why_left_out(layer: Any, state: Any) -> str:
    """Why a layer is not part of the net in a NetState, as a sentence."""
    here = caffe_pb2.Phase.Name(state.phase)
    phases = [caffe_pb2.Phase.Name(rule.phase) for rule in layer.include if rule.HasField("phase")]
    if phases and here not in phases:
        found, wanted = (
            ("the training net's", "a deploy or test") if here == "TEST" else ("the test net's", "a training")
        )
        return (
            f" Layer '{layer.name}' has one, but only in phase {phases[0]}, and this is phase {here}: is this {found} "
            f"prototxt, where {wanted} prototxt should be?"
        )
    stages = ", ".join(state.stage) or "none"
    return f" Layer '{layer.name}' has one, but its rules leave it out in phase {here}, level {state.level}, stages: {stages}."
