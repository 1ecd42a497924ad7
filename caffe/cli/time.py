"""`caffe time`: how long each layer of a net takes, forward and backward."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from time import perf_counter
from typing import TYPE_CHECKING

from caffe import log
from caffe.cli import devices
from caffe.cli.flags import WEIGHTS, FlagParser, run
from caffe.cli.net_flags import PHASES, accept_unused, add_net_state, build_trained_net, set_up_log
from caffe.errors import CaffeError

if TYPE_CHECKING:
    from caffe.engine.net import Net

EXAMPLES = """\
examples:
  caffe time -model deploy.prototxt -phase TEST -gpu 0
  caffe time -model train.prototxt -iterations 10

Each layer is run and waited for, so the sum is more than the time of a training step, in which the device works ahead.
With -phase TEST, the average inference pass follows: the whole net at once, without gradients, with its weights laid
out for the device, as `caffe test` and ssd_detect run it.
"""


def parser() -> FlagParser:
    """The command's flags."""
    p = FlagParser("caffe time", description="Benchmark model execution time.", epilog=EXAMPLES)
    p.flag("model", default="", help="the net's prototxt")
    p.flag(
        "weights",
        aliases=WEIGHTS,
        default="",
        help="weights to time with (detection layers depend on them); default: the fillers'",
    )
    p.flag("phase", default="TRAIN", help="TRAIN or TEST")
    p.flag("iterations", default=50, type=int, help="the number of iterations to run")
    p.flag("gpu", default="", help="run on this GPU; default: the CPU")
    add_net_state(p)
    p.max_pixels()
    accept_unused(p)
    return p


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the command; its exit status."""
    return run("caffe time", _command, argv)


def _command(argv: Sequence[str]) -> int:
    flags = parser().parse_args(argv)
    set_up_log(flags)
    if not flags.model:
        raise CaffeError("need a model definition to time: give -model deploy.prototxt")
    if flags.phase not in PHASES:
        raise CaffeError(f"-phase is '{flags.phase}'; it must be TRAIN or TEST")
    if flags.iterations < 1:
        raise CaffeError(f"-iterations is {flags.iterations}; it must be at least 1")
    from caffe.data.feed.memory import keep_freed_memory
    from caffe.solver.number_format import ostream_number

    devices.use_one(flags.gpu)
    keep_freed_memory()
    net = build_trained_net(flags, PHASES[flags.phase])
    names, last = net.layer_names, len(net.layers) - 1
    log.info("caffe.cpp:355", "Performing Forward")
    loss = net.forward_layers()
    log.info("caffe.cpp:360", f"Initial loss: {ostream_number(loss)}")
    log.info("caffe.cpp:361", "Performing Backward")
    net.backward_layers()
    log.info("caffe.cpp:369", "*** Benchmark begins ***")
    log.info("caffe.cpp:370", f"Testing for {flags.iterations} iterations.")
    forward, backward = [0.0] * len(names), [0.0] * len(names)
    began = perf_counter()
    for j in range(flags.iterations):
        iteration = perf_counter()
        for i in range(last + 1):
            forward[i] += _milliseconds(net.forward_layers, i, i)
        for i in range(last, -1, -1):
            backward[i] += _milliseconds(net.backward_layers, i, i)
        took = ostream_number((perf_counter() - iteration) * 1e3)
        log.info("caffe.cpp:398", f"Iteration: {j + 1} forward-backward time: {took} ms.")
    total = (perf_counter() - began) * 1e3
    inference = _inference(net, flags.iterations) if net.phase == PHASES["TEST"] else None
    net.close()
    log.info("caffe.cpp:401", "Average time per layer: ")
    for name, there, back in zip(names, forward, backward, strict=True):
        log.info("caffe.cpp:404", f"{name:>10}\tforward: {ostream_number(there / flags.iterations)} ms.")
        log.info("caffe.cpp:407", f"{name:>10}\tbackward: {ostream_number(back / flags.iterations)} ms.")
    log.info("caffe.cpp:412", f"Average Forward pass: {ostream_number(sum(forward) / flags.iterations)} ms.")
    log.info("caffe.cpp:414", f"Average Backward pass: {ostream_number(sum(backward) / flags.iterations)} ms.")
    log.info("caffe.cpp:416", f"Average Forward-Backward: {ostream_number(total / flags.iterations)} ms.")
    if inference is not None:
        log.info(log.here(), f"Average Inference pass: {ostream_number(inference)} ms.")
    log.info("caffe.cpp:418", f"Total Time: {ostream_number(total)} ms.")
    log.info("caffe.cpp:419", "*** Benchmark ends ***")
    return 0


def _inference(net: Net, iterations: int) -> float:
    """The average time of a pass without gradients and with weights that do not change, in milliseconds."""
    import torch

    from caffe.engine.prepack import prepack

    net.inference_steps = prepack(net)
    with torch.no_grad():
        net()  # the first pass lays the weights out
        devices.synchronize()
        began = perf_counter()
        for _ in range(iterations):
            net()
        devices.synchronize()
    return (perf_counter() - began) * 1e3 / iterations


def _milliseconds(work: Callable[[int, int], object], start: int, end: int) -> float:
    began = perf_counter()
    work(start, end)
    devices.synchronize()
    return (perf_counter() - began) * 1e3


if __name__ == "__main__":
    sys.exit(main())
