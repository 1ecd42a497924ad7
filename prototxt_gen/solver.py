"""The solver: SGD with the paper's schedule, tested by mean average precision."""

from __future__ import annotations

from typing import Any

from caffe.proto import caffe_pb2
from prototxt_gen.network import FINE_TUNING
from prototxt_gen.settings import Settings


def file_name(kind: str, settings: Settings) -> str:
    """The name of a file of this training: train.prototxt, or train_ft.prototxt for the second one."""
    return f"{kind}_{FINE_TUNING}.prototxt" if settings.training == FINE_TUNING else f"{kind}.prototxt"


def solver(settings: Settings) -> Any:
    """A SolverParameter for the nets in `settings.output`."""
    proto = caffe_pb2.SolverParameter(
        train_net=f"{settings.output}/{file_name('train', settings)}",
        test_net=[f"{settings.output}/test.prototxt"],
        # a whole pass over the test images
        test_iter=[-(-settings.num_test_images // settings.test_batch)],
        test_interval=settings.test_interval,
        test_initialization=False,
        eval_type="detection",
        ap_version="11point",
        show_per_class_result=True,
        type=settings.solver_type,
        base_lr=settings.base_lr,
        momentum=0.9,
        weight_decay=0.0005,
        lr_policy="multistep",
        gamma=0.1,
        stepvalue=settings.steps,
        max_iter=settings.max_iter,
        iter_size=settings.iter_size,
        display=10,
        average_loss=10,
        snapshot=settings.snapshot,
        snapshot_prefix=settings.snapshot_prefix,
        snapshot_after_train=True,
        solver_mode=caffe_pb2.SolverParameter.GPU if settings.gpus else caffe_pb2.SolverParameter.CPU,
    )
    if settings.gpus:
        proto.device_id = settings.gpus[0]
    if settings.solver_type == "Adam":
        proto.momentum2 = 0.999
    if settings.random_seed is not None:
        proto.random_seed = settings.random_seed
    return proto
