"""MDSSD300 training, batch 32, bf16, data in device memory: its share of the matrix rate, and MultiBoxLoss's share.

A step is forward, loss, backward and update, and counts as three forward passes.
"""

from __future__ import annotations

import torch
from google.protobuf import text_format
from on_gpu import FORWARD_OPERATIONS, begin, milliseconds, training_batch, training_net
from report import write_result

from caffe.engine import acceleration
from caffe.engine.layer_types.multibox_loss import MultiBoxLoss
from caffe.engine.net import Net
from caffe.proto import caffe_pb2
from caffe.solver.graphed_step import GraphedStep
from caffe.solver.updates import rule_for

SOLVER = 'type: "SGD" momentum: 0.9 weight_decay: 0.0005'
#: small: weights are random, and the time does not depend on it
RATE = 1e-6
#: whether a step is a CUDA graph, tuned, compiled
WAYS = ((False, False, False), (True, False, False), (True, True, False), (True, False, True), (True, True, True))


def main() -> None:
    batch, rate, figures = begin(__doc__, "MDSSD300 training")
    for graph, tuned, compiled in WAYS:
        acceleration.use("bf16", compile=compiled, tune=tuned)
        net = training_net("MDSSD300", batch)
        took = step_time(net, training_batch(net), graph)
        loss = loss_time(net, training_batch(net))
        share = 3 * batch * FORWARD_OPERATIONS / (took / 1e3) / rate
        name = ", ".join(["CUDA graph"] * graph + ["tuned"] * tuned + ["compiled"] * compiled) or "as it is"
        print(f"{name}: {took:.1f} ms per step, {batch / took * 1e3:.0f} images a second")
        print(f"{name}: {share:.1%} of the matrix rate (goal: over 62%)")
        print(f"{name}: MultiBoxLoss {loss / took:.1%} of the step (goal: under 5%)", flush=True)
        figures[name] = {"ms": took, "of matrix rate": share, "MultiBoxLoss's share": loss / took}
        del net
        torch.cuda.empty_cache()
    acceleration.use()
    write_result("gpu_training", figures)


def step_time(net: Net, batch: dict[str, torch.Tensor], graph: bool) -> float:
    param = text_format.Parse(SOLVER, caffe_pb2.SolverParameter())
    rule = rule_for("SGD")(param, net.learnable_params, net.params_lr, net.params_weight_decay)
    if graph:
        step = GraphedStep(net, rule)
        return milliseconds(lambda: step.run([batch], RATE, 0), rounds=20)

    def one_by_one() -> None:
        for parameter in net.learnable_params:
            parameter.grad = None
        net(batch)[0].backward()
        rule.apply(RATE, 0)

    return milliseconds(one_by_one, rounds=20)


def loss_time(net: Net, batch: dict[str, torch.Tensor]) -> float:
    """Forward and backward of the loss layer alone, on the net's own predictions."""
    step = next(step for step in net.steps if isinstance(step.layer, MultiBoxLoss))
    with torch.no_grad():
        blobs = net(batch, keep=step.bottoms)[1]
    loc, conf, prior, label = (blobs[name].float().contiguous() for name in step.bottoms)
    loc.requires_grad_()
    conf.requires_grad_()
    return milliseconds(lambda: torch.autograd.grad(step.layer(loc, conf, prior, label), [loc, conf]), rounds=20)


if __name__ == "__main__":
    main()
