"""A net without its data: layers that read files become Input layers of the shape that their batches would have."""

from __future__ import annotations

from typing import Any

from caffe.data.feed.yolo_label import YOLO_ROWS
from caffe.proto import caffe_pb2

#: images in a batch, unless the layer has fewer
_BATCH = 2
#: height and width where the net does not say them: its records would
_SIDE = 224
#: likewise for DenseImageData, whose nets unpool to sizes that they give as numbers: those of SegNet's images
_SEGNET = (360, 480)
#: boxes in a batch of AnnotatedData
_BOXES = 4
#: the layers whose labels are images
_DENSE = {"DenseImageData", "ImageLabelmapData", "ImageSegData"}
#: the layers that read files, and the field with the size of their batches
_READERS = {
    "AnnotatedData": "data_param",
    "Data": "data_param",
    "DenseImageData": "dense_image_data_param",
    "DetectionData": "detection_data_param",
    "EvalData": "eval_data_param",
    "HDF5Data": "hdf5_data_param",
    "ImageData": "image_data_param",
    "ImageGtData": "image_gt_data_param",
    "ImageLabelmapData": "image_data_param",
    "ImageSegData": "image_data_param",
    "MemoryData": "memory_data_param",
    "VideoData": "data_param",
    "WindowData": "window_data_param",
}
#: of these, those of MS-CNN and Cascade R-CNN: how many values a row of their objects has; the field with the pixels per
#: cell of their label maps
_OBJECT_READERS = {"DetectionData": (8, "stride"), "EvalData": (8, ""), "ImageGtData": (7, "downsample_rate")}


def without_files(net: Any) -> Any:
    """A copy of a NetParameter that reads no data, and whose detection layers read and write no files.

    A batch is of two images at most. An image has the size that the layer gives it, else 224 × 224 (in DenseImageData
    360 × 480, as SegNet's), and three channels unless the layer makes it gray.
    """
    copy = caffe_pb2.NetParameter()
    copy.CopyFrom(net)
    del copy.layer[:]
    for layer in net.layer:
        if layer.type in _READERS and not layer.bottom:
            copy.layer.append(_input(layer))
            continue
        own = copy.layer.add()
        own.CopyFrom(layer)
        if own.type == "DetectionOutput":
            own.detection_output_param.ClearField("save_output_param")
            own.detection_output_param.ClearField("visualize")
        elif own.type == "FrcnnOutput":
            own.frcnn_output_param.ClearField("save_output_param")
        elif own.type == "DetectionEvaluate":
            own.detection_evaluate_param.ClearField("name_size_file")
    return copy


def _input(layer: Any) -> Any:
    """The Input layer that stands in for a layer that reads files."""
    stand_in = caffe_pb2.LayerParameter(name=layer.name, type="Input", top=layer.top)
    stand_in.include.extend(layer.include)
    stand_in.exclude.extend(layer.exclude)
    if layer.HasField("phase"):
        stand_in.phase = layer.phase
    param = getattr(layer, _READERS[layer.type])
    batch = max(1, min(_BATCH, param.batch_size or _BATCH))
    height, width = _size(layer)
    data = [batch, _channels(layer), height, width]
    if layer.type in _OBJECT_READERS:
        for shape in [data, *_object_tops(layer, param, batch, height, width)]:
            stand_in.input_param.shape.add(dim=shape)
        return stand_in
    label = [batch]
    if layer.type == "AnnotatedData":
        yolo = layer.annotated_data_param.yolo_data_type == 1
        label = [batch, 1, YOLO_ROWS, 5] if yolo else [1, 1, _BOXES, 8]
    elif layer.type in _DENSE:
        divided = layer.dense_image_data_param.label_divide_factor or 1
        label = [batch, 1, height // divided, width // divided]
    for number in range(len(layer.top)):
        sizes = layer.type == "ImageSegData" and number == 2  # of the images
        stand_in.input_param.shape.add(dim=[batch, 1, 1, 2] if sizes else label if number else data)
    return stand_in


def _object_tops(layer: Any, param: Any, batch: int, height: int, width: int) -> list[list[int]]:
    """The shapes of the tops after the data: label maps, and rows of objects."""
    row, stride = _OBJECT_READERS[layer.type]
    strides = getattr(param, stride) if stride else ()
    maps = [[batch, 6, *(max(1, round(side / pixels)) for side in (height, width))] for pixels in strides if pixels]
    return [*maps, [1, row, 1, 1], [batch, 2, 1, 1]][: len(layer.top) - 1]


def _size(layer: Any) -> tuple[int, int]:
    """The height and width of the layer's images in the net."""
    transform, images, dense = layer.transform_param, layer.image_data_param, layer.dense_image_data_param
    objects, detection, test = layer.image_gt_data_param, layer.detection_data_param, layer.eval_data_param
    pairs = [
        (detection.crop_height, detection.crop_width),
        (detection.crop_long_size, detection.crop_short_size),
        (detection.resize_height, detection.resize_width),
        (_multiple(detection.long_size), _multiple(detection.short_size)),
        (test.resize_height, test.resize_width),
        (_multiple(test.long_size), _multiple(test.short_size)),
        (objects.crop_height, objects.crop_width),
        (objects.resize_height, objects.resize_width),
        (dense.crop_height, dense.crop_width),
        (transform.crop_size, transform.crop_size),
        (transform.crop_h, transform.crop_w),
        (layer.data_param.crop_size,) * 2,
        (images.crop_size,) * 2,
        (layer.window_data_param.crop_size,) * 2,
        (transform.resize_param.height, transform.resize_param.width),
        (images.new_height, images.new_width),
        (dense.new_height, dense.new_width),
        (layer.memory_data_param.height, layer.memory_data_param.width),
    ]
    unknown = _SEGNET if layer.type == "DenseImageData" else (_SIDE, _SIDE)
    return next(((high, wide) for high, wide in pairs if high and wide), unknown)


def _multiple(side: int) -> int:
    """The nearest multiple of 32, as DetectionData takes it."""
    return (side + 16) // 32 * 32


def _channels(layer: Any) -> int:
    if layer.type == "MemoryData" and layer.memory_data_param.channels:
        return int(layer.memory_data_param.channels)
    gray = layer.transform_param.force_gray or not (
        layer.image_data_param.is_color and layer.dense_image_data_param.is_color
    )
    return 1 if gray else 3
