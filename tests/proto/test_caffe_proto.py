"""caffe.proto against the wire table and against its compiled form."""

from __future__ import annotations

import ast
import copy
import csv
import pickle
import re
from pathlib import Path

import pytest
from google.protobuf import descriptor_pb2

from caffe.proto import caffe_pb2

FOLDER = Path(caffe_pb2.__file__).parent
F = descriptor_pb2.FieldDescriptorProto
TYPES = {number: name.removeprefix("TYPE_").lower() for name, number in F.Type.items()}
LABELS = {number: name.removeprefix("LABEL_").lower() for name, number in F.Label.items()}


#: what public forks of Caffe add to the SSD branch's messages; their own messages follow the mark in caffe.proto
OF_FORKS = {
    ("LayerParameter", "swish_param"),
    ("LayerParameter", "clip_param"),
    ("LayerParameter", "reorg_param"),
    ("LayerParameter", "upsample_param"),
    ("LayerParameter", "bn_param"),
    ("LayerParameter", "shuffle_channel_param"),
    ("LayerParameter", "relu6_param"),
    ("LayerParameter", "box_annotator_ohem_param"),
    ("LayerParameter", "psroi_pooling_param"),
    ("LayerParameter", "interp_param"),
    ("LayerParameter", "roi_pooling_param"),
    ("LayerParameter", "smooth_l1_loss_param"),
    ("LayerParameter", "proposal_param"),
    ("LayerParameter", "region_loss_param"),
    ("LayerParameter", "yolo_detection_output_param"),
    ("LayerParameter", "yolov3_detection_output_param"),
    ("LayerParameter", "dense_image_data_param"),
    ("LayerParameter", "yolov3_param"),
    ("LayerParameter", "box_output_param"),
    ("LayerParameter", "box_group_output_param"),
    ("LayerParameter", "bbox_reg_param"),
    ("LayerParameter", "decode_bbox_param"),
    ("LayerParameter", "scale_route_param"),
    ("LayerParameter", "image_gt_data_param"),
    ("LayerParameter", "detection_loss_param"),
    ("LayerParameter", "detection_accuracy_param"),
    ("LayerParameter", "detection_group_loss_param"),
    ("LayerParameter", "detection_group_accuracy_param"),
    ("LayerParameter", "proposal_target_param"),
    ("LayerParameter", "detection_data_param"),
    ("LayerParameter", "eval_data_param"),
    ("LayerParameter", "hard_mining_param"),
    ("LayerParameter", "frcnn_output_param"),
    ("LayerParameter", "center_loss_param"),
    ("LayerParameter", "imresize_param"),
    ("LayerParameter", "nms_param"),
    ("LayerParameter", "roi_warping_param"),
    ("LayerParameter", "focal_loss_param"),
    ("LayerParameter", "deformable_convolution_param"),
    ("LayerParameter", "modulated_deformable_convolution_param"),
    ("MultiBoxLossParameter.ConfLossType", "FOCALLOSS"),
    ("LayerParameter", "seg_accuracy_param"),
    ("LayerParameter", "flip_param"),
    ("LayerParameter", "inner_distance_param"),
    ("LayerParameter", "normalize_param"),
    ("LayerParameter", "general_contrastive_loss_param"),
    ("LayerParameter", "general_triplet_loss_param"),
    ("LayerParameter", "channel_scale_param"),
    ("LayerParameter", "label_specific_add_param"),
    ("LayerParameter", "margin_inner_product_param"),
    ("LayerParameter", "mask_resize_param"),
    ("PriorBoxParameter", "width"),
    ("PriorBoxParameter", "height"),
    ("LayerParameter", "selu_param"),
    ("LayerParameter", "selu_dropout_param"),
    ("InnerProductParameter", "normalize"),
    ("ScaleParameter", "min_value"),
    ("ScaleParameter", "max_value"),
    ("ParameterParameter", "blob_filler"),
    ("SoftmaxParameter", "normalize_type"),
    ("AccuracyParameter", "min_is_better"),
    ("ImageDataParameter", "ignore_label"),
    ("ImageDataParameter", "label_type"),
    ("ImageDataParameter", "normalize"),
    ("ImageDataParameter.LabelType", "NONE"),
    ("ImageDataParameter.LabelType", "IMAGE"),
    ("ImageDataParameter.LabelType", "PIXEL"),
    ("TransformationParameter", "scale_factors"),
    ("TransformationParameter", "more_resizes"),
    ("AnnotatedDataParameter", "yolo_data_type"),
    ("AnnotatedDataParameter", "yolo_data_jitter"),
    ("AnnotatedDataParameter", "train_diffcult"),
    ("PriorBoxParameter", "denser_prior_boxes"),
    ("MultiBoxLossParameter", "objectness_score"),
    ("DetectionOutputParameter", "objectness_score"),
    ("DropoutParameter", "sample_weights_test"),
    ("LossParameter", "weight_by_label_freqs"),
    ("LossParameter", "class_weighting"),
    ("PoolingParameter", "round_mode"),
    ("PoolingParameter", "ceil_mode"),
    ("DropoutParameter", "scale_train"),
    ("LossParameter", "pre_fixed_normalizer"),
    ("LossParameter.NormalizationMode", "PRE_FIXED"),
    ("PoolingParameter.RoundMode", "CEIL"),
    ("PoolingParameter.RoundMode", "FLOOR"),
}
MARK = "// ==== Layers of other forks ===="


def messages_of_forks() -> set[str]:
    """The messages behind the mark in caffe.proto."""
    before, mark, after = (FOLDER / "caffe.proto").read_text().partition(MARK)
    assert before
    assert mark
    return set(re.findall(r"^message (\w+)", after, re.MULTILINE))


def is_of_a_fork(row: tuple[str, ...]) -> bool:
    return (row[1], row[3]) in OF_FORKS or row[1].partition(".")[0] in messages_of_forks()


def compiled() -> descriptor_pb2.FileDescriptorProto:
    files = descriptor_pb2.FileDescriptorSet.FromString((FOLDER / "caffe.desc").read_bytes())
    (file,) = files.file
    return file


def enum_rows(prefix: str, enums: list[descriptor_pb2.EnumDescriptorProto]) -> set[tuple[str, ...]]:
    return {("enum", prefix + e.name, str(v.number), v.name, "", "", "", "") for e in enums for v in e.value}


def rows_of(file: descriptor_pb2.FileDescriptorProto) -> set[tuple[str, ...]]:
    rows = enum_rows("", list(file.enum_type))
    for message in file.message_type:
        assert not message.nested_type
        assert not message.extension
        rows |= enum_rows(f"{message.name}.", list(message.enum_type))
        for field in message.field:
            type_ = field.type_name.removeprefix(".caffe.") or TYPES[field.type]
            packed = "packed" if field.options.packed else ""
            default = field.default_value if field.HasField("default_value") else ""
            label = LABELS[field.label]
            rows.add(("field", message.name, str(field.number), field.name, label, type_, default, packed))
    return rows


def as_number(row: tuple[str, ...]) -> tuple[str, ...]:
    """`row` with a float's default in one spelling: protoc writes 0.0 as 0."""
    if row[5] in ("float", "double") and row[6]:
        return (*row[:6], repr(float(row[6])), row[7])
    return row


def test_every_field_and_enum_is_that_of_the_wire_table(shared: Path) -> None:
    with open(shared / "spec/caffe-wire-format.tsv", newline="") as file:
        table = {tuple(row) for row in list(csv.reader(file, delimiter="\t"))[1:]}
    assert len(table) > 700
    ours = {as_number(row) for row in rows_of(compiled()) if not is_of_a_fork(row)}
    theirs = {as_number((*row, *[""] * (8 - len(row)))) for row in table}
    assert ours - theirs == set()
    assert theirs - ours == set()


def test_fields_of_forks_take_no_number_of_the_ssd_branch() -> None:
    rows = rows_of(compiled())
    assert len({row for row in rows if is_of_a_fork(row)}) > 60
    taken = [(row[1], row[2]) for row in rows]
    assert len(taken) == len(set(taken))
    names = {(row[1], row[3]) for row in rows}
    assert names >= OF_FORKS


def declared(stub: Path) -> set[str]:
    """The names that a stub declares; releases of protoc differ in how they write it."""
    found = set()
    for node in ast.walk(ast.parse(stub.read_text())):
        if isinstance(node, ast.ClassDef):
            names = [n.target.id for n in node.body if isinstance(n, ast.AnnAssign) and isinstance(n.target, ast.Name)]
            found |= {f"{node.name}.{name}" for name in names}
    return found


def test_what_is_loaded_is_compiled_from_caffe_proto(tmp_path: Path) -> None:
    protoc = pytest.importorskip("grpc_tools.protoc")
    arguments = [f"--proto_path={FOLDER}", f"--descriptor_set_out={tmp_path / 'd'}", f"--pyi_out={tmp_path}"]
    assert protoc.main(["protoc", *arguments, "caffe.proto"]) == 0, "run make proto"
    file = descriptor_pb2.FileDescriptorSet.FromString((tmp_path / "d").read_bytes()).file[0]
    assert file == compiled(), "run make proto"
    assert declared(tmp_path / "caffe_pb2.pyi") == declared(FOLDER / "caffe_pb2.pyi"), "run make proto"


def test_messages_are_copied_and_pickled() -> None:
    net = caffe_pb2.NetParameter(name="n")
    net.layer.add(name="l").convolution_param.pad.append(3)
    assert pickle.loads(pickle.dumps(net)) == net
    assert copy.deepcopy(net.layer[0]) == net.layer[0]
    assert caffe_pb2.NetParameter.__module__ == "caffe.proto.caffe_pb2"


def test_the_module_looks_like_a_generated_one() -> None:
    assert {"NetParameter", "Phase", "TRAIN", "TEST", "DESCRIPTOR"} <= set(dir(caffe_pb2))
    assert (caffe_pb2.TRAIN, caffe_pb2.TEST) == (0, 1)
    assert caffe_pb2.Phase.Name(1) == "TEST"
    assert caffe_pb2.PoolingParameter.PoolMethod.Value("AVE") == caffe_pb2.PoolingParameter.AVE == 1
    assert caffe_pb2.BlobProto.DATA_FIELD_NUMBER == 5
    with pytest.raises(AttributeError, match="NetParam"):
        getattr(caffe_pb2, "NetParam")  # noqa: B009  (the checker knows that there is none)
