"""Lines of the training log about a net's outputs, its batch, and the whole run."""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor

from caffe import log
from caffe.engine.net import Net
from caffe.runtime import runtime
from caffe.solver.number_format import loss_suffix, ostream_number


def log_outputs(net: Net, outputs: Mapping[str, Tensor]) -> dict[str, float]:
    """Logs every element of the training net's outputs; returns those of one element, by name."""
    weights, index = net.blob_loss_weights, 0
    single = {}
    for name in net.outputs:
        values = outputs[name].detach().float().reshape(-1).tolist()
        for value in values:
            suffix = loss_suffix(weights.get(name, 0.0), value)
            log.info("solver.cpp:259", f"    Train net output #{index}: {name} = {ostream_number(value)}{suffix}")
            index += 1
        if len(values) == 1:
            single[name] = values[0]
    return single


def log_batch(net: Net, steps: int) -> int:
    """Logs the number of records per update, which the published results depend on; returns it, 0 if unknown.

    `steps` is iter_size.
    """
    for layer in net.source_layers:
        shape = net.blobs[layer.param.top[0]].shape
        if shape:
            batch, ranks = shape[0], runtime.world_size
            if runtime.rank == 0:
                log.info(
                    log.here(),
                    f"Effective batch size: {batch * steps * ranks} "
                    f"(batch_size {batch} x iter_size {steps} x {ranks} device{'s' if ranks > 1 else ''})",
                )
            return int(batch * steps * ranks)
    return 0


def log_pace(iterations: int, seconds: float) -> None:
    """Logs how long a run took."""
    pace = f", {ostream_number(iterations / seconds)} a second" if seconds > 0 else ""
    minutes, rest = divmod(round(seconds), 60)
    log.info(log.here(), f"Trained {iterations} iterations in {minutes} min {rest} s{pace}.")
