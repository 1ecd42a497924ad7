"""The lines of a training's log about its batches, its outputs and its end."""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor

from caffe import log
from caffe.engine.net import Net
from caffe.runtime import runtime
from caffe.solver.number_format import loss_suffix, ostream_number


def log_outputs(net: Net, outputs: Mapping[str, Tensor]) -> None:
    """Logs every value of the training net's output blobs."""
    index = 0
    for name in net.outputs:
        for value in outputs[name].detach().float().reshape(-1).tolist():
            suffix = loss_suffix(net.blob_loss_weights.get(name, 0.0), value)
            log.info("solver.cpp:259", f"    Train net output #{index}: {name} = {ostream_number(value)}{suffix}")
            index += 1


def log_batch(net: Net, iter_size: int) -> None:
    """Logs the number of records per update, which the published results depend on."""
    for layer in net.source_layers:
        shape = net.blobs[layer.param.top[0]].shape
        if shape:
            batch, ranks = shape[0], runtime.world_size
            log.info(
                log.here(),
                f"Effective batch size: {batch * iter_size * ranks} "
                f"(batch_size {batch} x iter_size {iter_size} x {ranks} device{'s' if ranks > 1 else ''})",
            )
            return


def log_pace(iterations: int, seconds: float) -> None:
    """Logs how many iterations were trained, how long they took, and how many that is a second."""
    pace = f", {ostream_number(iterations / seconds)} a second" if seconds > 0 else ""
    minutes, rest = divmod(round(seconds), 60)
    log.info(log.here(), f"Trained {iterations} iterations in {minutes} min {rest} s{pace}.")
