"""The kinds of input that are fuzzed: valid samples, and the function of the project that reads them.

To add a kind, write a function that returns samples and one that reads a file of that kind as the project does and uses
the result (a view that is never read proves nothing), and add both to KINDS.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache, partial
from pathlib import Path

import numpy as np

from caffe.data.image_list import read_labels, read_pairs
from caffe.proto import caffe_pb2
from caffe.proto.binary import read_binary
from caffe.proto.solver_state import SolverState, read_solver_state, write_solver_state
from caffe.proto.text import read_net, read_solver, to_text
from caffe.proto.upgrade import upgrade_net
from caffe.proto.weights import read_weights, write_weights
from tests.data.formats import made
from tests.fuzz import data_kinds, format_kinds, net_kinds, result_kinds, store_kinds, weight_kinds
from tests.fuzz.document_mutate import Change, changed_json, changed_xml
from tests.fuzz.mutate import mutated


@dataclass(frozen=True)
class Kind:
    """`samples()` are valid inputs; `read(path)` reads a file as the project does, and returns or raises CaffeError.

    `names_file` is False for readers whose callers add the file's name to the error.
    """

    samples: Callable[[], Sequence[bytes]]
    read: Callable[[Path], object]
    suffix: str = ""
    names_file: bool = True
    #: makes an input of the samples, in place of mutations of their bytes
    change: Change = mutated
    #: seconds of processor time that a case may take
    seconds: float = 1.0


def _written(name: str, write: Callable[[Path], None]) -> bytes:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / name
        write(path)
        return path.read_bytes()


_NET = b"""name: "net"  # a comment
input: "data" input_shape { dim: 1 dim: 3 dim: 8 dim: 8 }
layer { name: 'data' type: "AnnotatedData" top: "data" top: "label" include { phase: TRAIN stage: "a" }
  transform_param { mean_value: [104, 117, 123] resize_param { prob: 1 interp_mode: LINEAR } }
  data_param { source: "lmdb" batch_size: 4 backend: LMDB }
  annotated_data_param { batch_sampler { sampler { min_scale: 0.3 max_scale: 1.0 } max_sample: 1 } } }
layer { name: "conv1" type: "Convolution" bottom: "data" top: "conv1" param { lr_mult: 1 decay_mult: 1 }
  convolution_param { num_output: 8 pad: 1 kernel_size: 3 weight_filler { type: "xavier" } } blobs { data: [1.5, -2e-3] } }
layer < name: "prior\\"\\n\\303\\251" type: "PriorBox" bottom: "conv1" bottom: "data" top: "prior"
  prior_box_param { min_size: 12 aspect_ratio: 2 flip: true variance: 0.1 step: 8 } >
"""
_V1 = b"""name: "old" input: "x" input_dim: 1 input_dim: 3 input_dim: 8 input_dim: 8 force_backward: true
layers { name: "d" type: DATA top: "d" data_param { source: "s" scale: 0.5 mirror: true } }
layers { name: "c" type: CONVOLUTION bottom: "d" top: "c" blobs_lr: 1 blobs_lr: 2 weight_decay: 1 param: "w"
  convolution_param { num_output: 4 kernel_size: 3 } }
layers { name: "b" type: SOFTMAX_LOSS bottom: "c" bottom: "d" }
"""
_V0 = b"""name: "older" input: "x" input_dim: 1 input_dim: 3 input_dim: 8 input_dim: 8
layers { layer { name: "p" type: "padding" pad: 2 } bottom: "x" top: "p" }
layers { layer { name: "c" type: "conv" num_output: 4 kernelsize: 5 stride: 2 group: 1 } bottom: "p" top: "c" }
"""
_SOLVER = b"""net: "train_val.prototxt"
test_iter: 100 test_interval: 500 base_lr: 0.01 momentum: .9 lr_policy: "multistep" stepvalue: 80000 stepvalue: 100000
solver_mode: GPU snapshot_prefix: "snap/net" store_blobs_in_old_format: true foo { a: [1, 2] b: "}" } solver_type: ADAM
train_state { level: 1 stage: "x" }
"""


def _small_net() -> tuple[caffe_pb2.NetParameter, list[list[np.ndarray]]]:
    net = caffe_pb2.NetParameter(name="small")
    net.layer.add(name="data", type="Input", top=["x"])
    net.layer.add(name="ip", type="InnerProduct", bottom=["x"], top=["y"]).inner_product_param.num_output = 2
    net.layer.add(name="scale/a", type="Scale", bottom=["y"], top=["y"], phase=caffe_pb2.TEST)
    rng = np.random.default_rng(0)
    return net, [[], [rng.normal(size=(2, 30)).astype("f4"), np.zeros(2, "f4")], [np.ones((), "f4")]]


@cache
def weights() -> list[bytes]:
    """Current, V1 and V0 weights; packed and double numbers; both kinds of shape; diffs."""
    net, blobs = _small_net()
    old = caffe_pb2.NetParameter(name="old")
    v1 = old.layers.add(name="fc", type=caffe_pb2.V1LayerParameter.INNER_PRODUCT)
    v1.blobs.add(num=1, channels=1, height=2, width=3, data=range(6), diff=range(6))
    v0 = old.layers.add().layer
    v0.name, v0.type = "conv1", "conv"
    v0.blobs.add(num=2, channels=1, height=1, width=1, double_data=[1, 2])
    unpacked = b"".join(b"\x2d" + np.float32(v).tobytes() for v in range(6)) + b"\x3a\x02\x08\x06"
    layer = b"\x0a\x01l\x3a" + bytes([len(unpacked)]) + unpacked
    return [
        _written("w", lambda path: write_weights(path, net, blobs)),
        _written("w", lambda path: write_weights(path, net, blobs, diffs=blobs)),
        old.SerializeToString(),
        b"\xa2\x06" + bytes([len(layer)]) + layer,
    ]


@cache
def weights_hdf5() -> list[bytes]:
    net, blobs = _small_net()
    writers = [partial(write_weights, net=net, blobs=blobs, diffs=diffs) for diffs in (None, blobs)]
    return [_written("w.h5", writer) for writer in writers]


def _state() -> SolverState:
    return SolverState(120, "net_iter_120.caffemodel", [np.arange(12, dtype="f4").reshape(3, 4), np.ones(2, "f4")], 1)


@cache
def solver_states() -> list[bytes]:
    return [_written("s", lambda path: write_solver_state(path, _state()))]


@cache
def solver_states_hdf5() -> list[bytes]:
    return [_written("s.h5", lambda path: write_solver_state(path, _state()))]


@cache
def means() -> list[bytes]:
    blob = caffe_pb2.BlobProto(num=1, channels=3, height=2, width=2, data=range(12))
    return [blob.SerializeToString()]


def _read_weights(path: Path) -> float:
    return sum(float(np.sum(blob, dtype="f8")) for layer in read_weights(path) for blob in layer.blobs + layer.diffs)


def _read_solver_state(path: Path) -> float:
    return sum(float(np.sum(array, dtype="f8")) for array in read_solver_state(path).history)


def _read_binary_net(path: Path) -> str:
    net = read_binary(path, caffe_pb2.NetParameter())
    upgrade_net(net, str(path))
    return to_text(net)


def _folder(form: str, suffix: str, change: Change, *makers: Callable[[Path], None], name: str = "") -> Kind:
    """A folder of annotations in one of caffe.data.formats; `name` as for `format_kinds.read_format`."""
    samples = format_kinds.samples_of(name or f"*{suffix}", *makers)
    return Kind(samples, format_kinds.read_format(form, name), suffix, names_file=False, change=change)


KINDS: dict[str, Kind] = {
    "net": Kind(lambda: [_NET, _V1, _V0], lambda path: to_text(read_net(path)), ".prototxt"),
    "solver": Kind(lambda: [_SOLVER], lambda path: to_text(read_solver(path)), ".prototxt"),
    "weights": Kind(weights, _read_weights, ".caffemodel"),
    "weights_hdf5": Kind(weights_hdf5, _read_weights, ".caffemodel.h5"),
    "solver_state": Kind(solver_states, _read_solver_state, ".solverstate"),
    "solver_state_hdf5": Kind(solver_states_hdf5, _read_solver_state, ".solverstate.h5"),
    "binary_net": Kind(weights, _read_binary_net, ".caffemodel"),
    "mean": Kind(means, data_kinds.read_mean, ".binaryproto"),
    "datum": Kind(data_kinds.datums, data_kinds.read_datum),
    "annotated_datum": Kind(data_kinds.annotated_datums, data_kinds.read_annotated_datum),
    "label_map": Kind(lambda: [data_kinds.LABELS], data_kinds.read_label_map, ".prototxt"),
    "xml": Kind(lambda: [data_kinds.XML], data_kinds.read_annotation("xml"), ".xml", names_file=False),
    "json": Kind(lambda: [data_kinds.JSON], data_kinds.read_annotation("json"), ".json", names_file=False),
    "txt": Kind(lambda: [data_kinds.TXT], data_kinds.read_annotation("txt"), ".txt", names_file=False),
    "pairs": Kind(lambda: [data_kinds.PAIRS], read_pairs, ".txt"),
    "image": Kind(store_kinds.images, store_kinds.read_image, names_file=False),
    "lmdb": Kind(store_kinds.databases, store_kinds.read_database, names_file=False, change=store_kinds.changed_pages),
    "coco": Kind(lambda: [store_kinds.COCO], store_kinds.split_coco, ".json"),
    "load_state": Kind(
        store_kinds.states, store_kinds.load_state, ".solverstate", names_file=False, change=store_kinds.changed_state
    ),
    "run_net": Kind(
        net_kinds.nets, net_kinds.run_net, ".prototxt", names_file=False, change=net_kinds.changed, seconds=5
    ),
    "export_net": Kind(
        net_kinds.exportable_nets,
        net_kinds.export_net,
        ".prototxt",
        names_file=False,
        change=net_kinds.changed,
        seconds=5,
    ),
    "labels": Kind(lambda: [data_kinds.IMAGES_AND_LABELS], read_labels, ".txt"),
    "safetensors": Kind(
        weight_kinds.safetensors_files,
        weight_kinds.read_safetensors,
        ".safetensors",
        change=weight_kinds.changed_safetensors,
    ),
    "pytorch": Kind(
        weight_kinds.checkpoints, weight_kinds.read_pytorch, ".pth", change=weight_kinds.changed_checkpoint
    ),
    "keras": Kind(weight_kinds.keras_files, weight_kinds.read_keras_weights, ".h5"),
    "voc_folder": _folder("voc", ".xml", changed_xml, made.voc),
    "labelme_xml_folder": _folder("labelme_xml", ".xml", changed_xml, made.labelme_xml),
    "cvat_folder": _folder("cvat", ".xml", changed_xml, made.cvat_images, made.cvat_video),
    "coco_folder": _folder("coco", ".json", changed_json, made.coco_cvat, made.coco_label_studio, made.coco_loose),
    "labelme_folder": _folder("labelme", ".json", changed_json, made.labelme_json),
    "csv_folder": _folder("csv", ".csv", mutated, made.csv, made.csv_headerless),
    "yolo_folder": _folder("yolo", ".txt", mutated, made.yolo_parallel, made.yolo_segments),
    "yolo_yaml": _folder("yolo", ".yaml", mutated, made.yolo_parallel, made.yolo_roboflow, name="data.yaml"),
    "yolo_notes": _folder("yolo", ".json", changed_json, made.yolo_segments, name="notes.json"),
    "boxes_file": Kind(result_kinds.boxes_files, result_kinds.measure_boxes, ".json", change=changed_json),
    "checksums": Kind(result_kinds.checksum_files, result_kinds.resume, ".sha256", names_file=False),
    "best": Kind(lambda: [result_kinds.BEST], result_kinds.read_best, ".json", change=changed_json),
    "voc_results": Kind(lambda: [result_kinds.VOC_RESULTS], result_kinds.score_voc, ".txt", names_file=False),
    "coco_results": Kind(lambda: [result_kinds.COCO_RESULTS], result_kinds.score_coco, ".json", change=changed_json),
    "coco_instances": Kind(
        lambda: [result_kinds.COCO_INSTANCES],
        result_kinds.score_against_coco,
        ".json",
        names_file=False,
        change=changed_json,
    ),
    "name_sizes": Kind(lambda: [result_kinds.NAME_SIZES], result_kinds.read_name_size, ".txt"),
    "windows": Kind(lambda: [result_kinds.WINDOWS], result_kinds.read_window_file, ".txt"),
    "objects": Kind(lambda: [result_kinds.OBJECTS], result_kinds.read_object_file, ".txt"),
    "similar": Kind(lambda: [result_kinds.SIMILAR], result_kinds.read_similar, ".txt"),
    "metrics": Kind(lambda: [result_kinds.METRICS], result_kinds.read_run("log/metrics.csv"), ".csv", names_file=False),
    "log": Kind(lambda: [result_kinds.LOG], result_kinds.read_run("log/caffe.INFO"), ".log", names_file=False),
    "reach": Kind(
        lambda: [result_kinds.REACH],
        result_kinds.read_run("boxes/reach.json"),
        ".json",
        names_file=False,
        change=changed_json,
    ),
    "speed": Kind(lambda: [result_kinds.SPEED], result_kinds.read_speed, ".json", change=changed_json),
}
