"""The public names of the original's Python package and of its compiled module, `caffe._caffe`, exist here."""

from __future__ import annotations

import importlib
from pathlib import Path

import numpy as np
import pytest

import caffe

NAMES = {
    "caffe": "Net SGDSolver NesterovSolver AdaGradSolver RMSPropSolver AdaDeltaSolver AdamSolver set_mode_cpu "
    "set_mode_gpu set_device Layer get_solver layer_type_list set_random_seed __version__ TRAIN TEST Classifier Detector "
    "io layers params NetSpec to_proto",
    "caffe._caffe": "__version__ set_mode_cpu set_mode_gpu set_random_seed set_device layer_type_list Net Blob Layer "
    "LayerParameter Solver SGDSolver NesterovSolver AdaGradSolver RMSPropSolver AdaDeltaSolver AdamSolver get_solver "
    "BlobVec RawBlobVec LayerVec StringVec IntVec DtypeVec NetVec BoolVec",
    "caffe.pycaffe": "Net",
    "caffe.io": "blobproto_to_array array_to_blobproto arraylist_to_blobprotovector_str "
    "blobprotovector_str_to_arraylist array_to_datum datum_to_array Transformer load_image resize_image oversample",
    "caffe.net_spec": "param_name_dict to_proto assign_proto Top Function NetSpec Layers Parameters layers params",
    "caffe.classifier": "Classifier",
    "caffe.detector": "Detector",
    "caffe.draw": "get_pooling_types_dict get_edge_label get_layer_label choose_color_by_layertype get_pydot_graph "
    "draw_net draw_net_to_file",
    "caffe.coord_map": "conv_params crop_params UndefinedMapException coord_map AxisMismatchException compose inverse "
    "coord_map_from_to crop",
    "caffe.model_libs": "check_if_exist make_if_not_exist UnpackVariable ConvBNLayer ResBody InceptionTower "
    "CreateAnnotatedDataLayer ZFNetBody VGGNetBody ResNet101Body ResNet152Body InceptionV3Body CreateMultiBoxHead",
}
MEMBERS = {
    "Net": "_forward _backward reshape clear_param_diffs copy_from share_with _blob_loss_weights _bottom_ids _top_ids "
    "_blobs layers _blob_names _layer_names _inputs _outputs _set_input_arrays save save_hdf5 load_hdf5 blobs "
    "blob_loss_weights params forward backward forward_all forward_backward_all set_input_arrays _batch inputs outputs "
    "top_names bottom_names",
    "Blob": "shape num channels height width count reshape data diff",
    "Layer": "setup reshape type",
    "Solver": "net test_nets iter add_callback solve step restore snapshot",
    "BlobVec": "add_blob append extend __getitem__ __len__",
}


@pytest.mark.parametrize("module", NAMES)
def test_modules(module: str) -> None:
    found = importlib.import_module(module)
    assert [name for name in NAMES[module].split() if not hasattr(found, name)] == []


@pytest.mark.parametrize("kind", MEMBERS)
def test_members(kind: str) -> None:
    found = getattr(caffe._caffe, kind)
    assert [name for name in MEMBERS[kind].split() if not hasattr(found, name)] == []


NET = """
layer { name: "d" type: "Input" top: "d" input_param { shape { dim: 2 dim: 4 } } }
layer { name: "ip" type: "InnerProduct" bottom: "d" top: "ip" inner_product_param { num_output: 4 } }
layer { name: "loss" type: "SigmoidCrossEntropyLoss" bottom: "ip" bottom: "d" top: "one" }
layer { name: "sig" type: "Sigmoid" bottom: "ip" top: "sig" }
layer { name: "loss" type: "EuclideanLoss" bottom: "sig" bottom: "d" top: "two" }
"""


def test_parameters_are_a_blob_vec(tmp_path: Path) -> None:
    (tmp_path / "net.prototxt").write_text(NET)
    net = caffe.Net(str(tmp_path / "net.prototxt"), caffe.TEST)
    assert type(net.params["ip"]) is caffe._caffe.BlobVec
    assert type(net.layers[1].blobs) is caffe._caffe.BlobVec
    assert isinstance(net.outputs, caffe._caffe.StringVec)


def test_two_layers_of_one_name(tmp_path: Path) -> None:
    """Both run; by name, the first layer is meant, and the parameters of each stay its own."""
    ip = 'bottom: "ip" top: "sig" inner_product_param { num_output: 4 weight_filler { type: "xavier" } }'
    text = NET.replace('name: "sig" type: "Sigmoid" bottom: "ip" top: "sig"', f'name: "ip" type: "InnerProduct" {ip}')
    (tmp_path / "net.prototxt").write_text(text)
    net = caffe.Net(str(tmp_path / "net.prototxt"), caffe.TRAIN)
    net.blobs["d"].data[...] = 0.5
    assert set(net.forward()) == {"one", "two"}
    first, second = (layer.blobs for layer in net.layers if layer.type == "InnerProduct")
    assert not np.array_equal(first[0].data, second[0].data)
    net.save(str(tmp_path / "net.caffemodel"))
    again = caffe.Net(str(tmp_path / "net.prototxt"), caffe.TRAIN, weights=str(tmp_path / "net.caffemodel"))
    assert again._layer_index("ip") == 2
