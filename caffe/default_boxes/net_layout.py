"""The default boxes of a net, from its PriorBox layers."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from caffe import log
from caffe.default_boxes.layout import SAME_RATIO, Layout, Shapes, Source
from caffe.errors import NetError
from caffe.proto import caffe_pb2
from caffe.proto.text import read_net

_Resize = caffe_pb2.ResizeParameter


def read_layout(path: str | Path) -> Layout:
    """Reads the layout of a train, test or deploy prototxt. Its data does not need to exist.

    Only the layers that the PriorBox layers depend on are built, to get the sizes of the maps. Raises NetError for a
    net without PriorBox layers, without a fixed input size, or with a resize mode that keeps the aspect ratio of images.
    """
    from caffe.engine.net import Net
    from caffe.engine.net_rules import filter_net

    path = str(path)
    hidden = set(log.hidden_files)
    log.hidden_files.update(("net.cpp", "layer_factory.hpp", "upgrade_proto.cpp"))
    try:
        param = read_net(path)
        param.state.phase = caffe_pb2.TRAIN
        if not any(layer.type == "PriorBox" for layer in filter_net(param).layer):
            param.state.phase = caffe_pb2.TEST
        layers = _leading_to_priors(filter_net(param).layer, path)
        stub = caffe_pb2.NetParameter(name=param.name, state=param.state)
        for layer in layers:
            stub.layer.add().CopyFrom(_light(layer, path))
        net = Net(stub, param.state.phase)
        shapes = {name: tuple(blob.shape) for name, blob in net.blobs.items()}
        return _layout(param.name or Path(path).stem, layers, shapes, path)
    finally:
        log.hidden_files.clear()
        log.hidden_files.update(hidden)


def _leading_to_priors(layers: Sequence[Any], path: str) -> list[Any]:
    """Returns the PriorBox layers and the layers that their bottoms depend on, in the order of the net."""
    kept, wanted = [], set[str]()
    for layer in reversed(layers):
        if layer.type == "PriorBox" or wanted.intersection(layer.top):
            kept.append(layer)
            wanted.update(layer.bottom)
    if not wanted:
        raise NetError(f"'{path}' has no PriorBox layer, so it has no default boxes; -net needs the prototxt of an SSD")
    return kept[::-1]


def _light(layer: Any, path: str) -> Any:
    """Returns a copy of the layer that is cheap to set up: it opens no data and initializes no weights at random."""
    if layer.bottom or layer.type in ("Input", "DummyData"):
        light = caffe_pb2.LayerParameter()
        light.CopyFrom(layer)
        for field in ("convolution_param", "inner_product_param"):
            if light.HasField(field):
                getattr(light, field).ClearField("weight_filler")
        return light
    resize = layer.transform_param.resize_param
    if not layer.transform_param.HasField("resize_param") or not (resize.height and resize.width):
        raise NetError(
            f"'{path}': layer '{layer.name}' ({layer.type}) does not resize its images to a fixed size, so the "
            "default boxes have none; give a prototxt whose data layer has a resize_param, or the deploy.prototxt"
        )
    if resize.resize_mode != _Resize.WARP:
        raise NetError(
            f"'{path}': layer '{layer.name}' has resize_mode {_Resize.Resize_mode.Name(resize.resize_mode)}; only "
            "WARP, which resizes every image to the size of the input, is supported"
        )
    light = caffe_pb2.LayerParameter(name=layer.name, type="Input", top=layer.top)
    for top in range(len(layer.top)):
        light.input_param.shape.add(dim=[1, 3, resize.height, resize.width] if top == 0 else [1, 1, 1, 8])
    return light


def _layout(network: str, layers: Sequence[Any], shapes: dict[str, tuple[int, ...]], path: str) -> Layout:
    sources, sizes = [], set[tuple[int, int]]()
    for layer in layers:
        if layer.type != "PriorBox":
            continue
        param = layer.prior_box_param
        if param.denser_prior_boxes:
            raise NetError(
                f"'{path}': layer '{layer.name}' has denser_prior_boxes (of TextBoxes), which is not supported"
            )
        rows, columns = shapes[layer.bottom[0]][2:]
        image = shapes[layer.bottom[1]][2:]
        height = param.img_h or param.img_size or image[0]
        width = param.img_w or param.img_size or image[1]
        sizes.add((height, width))
        boxes = Shapes(
            tuple(round(size, 4) for size in param.min_size),
            tuple(round(size, 4) for size in param.max_size),
            _different(param.aspect_ratio, param.flip),
            param.flip,
        )
        step_h, step_w = (
            float(own or param.step or image_side / cells)
            for own, image_side, cells in ((param.step_h, height, rows), (param.step_w, width, columns))
        )
        source = Source(layer.bottom[0], rows, columns, step_h, step_w, boxes, float(param.offset), bool(param.clip))
        sources.append(source)
    if len(sizes) > 1:
        raise NetError(f"'{path}': its PriorBox layers have different image sizes: {sorted(sizes)}")
    height, width = sizes.pop()
    return Layout(network, height, width, tuple(sources))


def _different(ratios: Sequence[float], flip: bool) -> tuple[float, ...]:
    """Returns the ratios without those that PriorBox skips as duplicates."""
    kept: list[float] = []
    seen = [1.0]
    for ratio in ratios:
        if all(abs(ratio - other) >= SAME_RATIO for other in seen):
            kept.append(round(ratio, 6))
            seen += [ratio, 1 / ratio] if flip else [ratio]
    return tuple(kept)
