"""The layers after the predictions: the loss in training; scores, boxes and their evaluation in testing."""

from __future__ import annotations

from typing import Any

from caffe.net_spec import NetSpec
from caffe.net_spec import layers as L
from caffe.net_spec import params as P
from caffe.proto import caffe_pb2

BACKGROUND = 0


def multibox_loss(net: NetSpec, num_classes: int) -> None:
    """Adds `mbox_loss`: an object matches its best box and all over 0.5; three negatives per positive, hardest first."""
    net.mbox_loss = L.MultiBoxLoss(
        net.mbox_loc,
        net.mbox_conf,
        net.mbox_priorbox,
        net.label,
        include=dict(phase=caffe_pb2.TRAIN),
        propagate_down=[True, True, False, False],
        loss_param=dict(normalization=P.Loss.VALID),
        multibox_loss_param=dict(
            loc_loss_type=P.MultiBoxLoss.SMOOTH_L1,
            conf_loss_type=P.MultiBoxLoss.SOFTMAX,
            loc_weight=1,
            num_classes=num_classes,
            share_location=True,
            match_type=P.MultiBoxLoss.PER_PREDICTION,
            overlap_threshold=0.5,
            use_prior_for_matching=True,
            background_label_id=BACKGROUND,
            use_difficult_gt=True,
            neg_pos_ratio=3,
            neg_overlap=0.5,
            code_type=P.PriorBox.CENTER_SIZE,
            ignore_cross_boundary_bbox=False,
            mining_type=P.MultiBoxLoss.MAX_NEGATIVE,
        ),
    )


def detection_output(net: NetSpec, num_classes: int, save: dict[str, Any] | None = None) -> None:
    """Adds `detection_out`, rows of image, label, score, xmin, ymin, xmax, ymax; `save` is its save_output_param."""
    net.mbox_conf_reshape = L.Reshape(net.mbox_conf, shape=dict(dim=[0, -1, num_classes]))
    net.mbox_conf_softmax = L.Softmax(net.mbox_conf_reshape, axis=2)
    net.mbox_conf_flatten = L.Flatten(net.mbox_conf_softmax, axis=1)
    fields: dict[str, Any] = dict(
        num_classes=num_classes,
        share_location=True,
        background_label_id=BACKGROUND,
        nms_param=dict(nms_threshold=0.45, top_k=400),
        code_type=P.PriorBox.CENTER_SIZE,
        keep_top_k=200,
        confidence_threshold=0.01,
    )
    if save is not None:
        fields["save_output_param"] = save
    net.detection_out = L.DetectionOutput(
        net.mbox_loc,
        net.mbox_conf_flatten,
        net.mbox_priorbox,
        include=dict(phase=caffe_pb2.TEST),
        detection_output_param=fields,
    )


def detection_evaluate(net: NetSpec, num_classes: int, name_size_file: str) -> None:
    """Adds `detection_eval`, from which the solver computes the AP of each class."""
    net.detection_eval = L.DetectionEvaluate(
        net.detection_out,
        net.label,
        include=dict(phase=caffe_pb2.TEST),
        detection_evaluate_param=dict(
            num_classes=num_classes,
            background_label_id=BACKGROUND,
            overlap_threshold=0.5,
            evaluate_difficult_gt=False,
            name_size_file=name_size_file,
        ),
    )
