"""`caffe test`: scores a net with given weights on the data that its prototxt names."""

from __future__ import annotations

import sys
from collections.abc import Sequence

from caffe import log
from caffe.cli import devices
from caffe.cli.flags import WEIGHTS, FlagParser, run
from caffe.cli.net_flags import (
    PHASES,
    accelerate,
    accept_unused,
    add_acceleration,
    add_net_state,
    build_trained_net,
    set_up_log,
)
from caffe.errors import CaffeError, EndOfData

EXAMPLES = """\
examples:
  caffe test -model test.prototxt -weights x_iter_120000.caffemodel -iterations 619 -gpu 0

Every output of the net is averaged over the iterations. For a DetectionEvaluate layer's output the result is the mean
average precision. Choose -iterations so that iterations x batch_size is the number of test images.
"""


def parser() -> FlagParser:
    """The command's flags."""
    p = FlagParser("caffe test", description="Score a model.", epilog=EXAMPLES)
    p.flag("model", default="", help="the net's prototxt")
    p.flag("weights", aliases=WEIGHTS, default="", help="trained weights (.caffemodel), separated by ','")
    p.flag("iterations", default=50, type=int, help="the number of batches to run")
    p.flag("gpu", default="", help="run on this GPU; default: the CPU")
    p.flag("ap_version", default="Integral", help="how average precision is computed: 11point, MaxIntegral or Integral")
    add_net_state(p)
    add_acceleration(p)
    p.max_pixels()
    accept_unused(p)
    return p


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the command; its exit status."""
    return run("caffe test", _command, argv)


def _command(argv: Sequence[str]) -> int:
    flags = parser().parse_args(argv)
    set_up_log(flags)
    if not flags.model:
        raise CaffeError("need a model definition to score: give -model test.prototxt")
    if not flags.weights:
        raise CaffeError("need model weights to score: give -weights x.caffemodel")
    if flags.iterations < 1:
        raise CaffeError(f"-iterations is {flags.iterations}; it must be at least 1")
    import torch

    from caffe.data.feed.memory import keep_freed_memory
    from caffe.engine.prepack import prepack
    from caffe.solver.number_format import loss_suffix, ostream_number
    from caffe.solver.progress import Progress
    from caffe.solver.scores import ClassificationScores, DetectionScores

    devices.use_one(flags.gpu)
    accelerate(flags)
    keep_freed_memory()
    net = build_trained_net(flags, PHASES["TEST"])
    net.inference_steps = prepack(net)
    log.info("caffe.cpp:285", f"Running for {flags.iterations} iterations.")
    evaluations = {top for step in net.steps if step.layer.evaluates_detections for top in step.tops}
    detections = DetectionScores([o for o in net.outputs if o in evaluations], flags.ap_version, per_class=True)
    averages = ClassificationScores([o for o in net.outputs if o not in evaluations], net.blob_loss_weights)
    total, done = 0.0, 0
    try:
        with torch.no_grad(), Progress(flags.iterations, unit="batch") as progress:
            for i in range(flags.iterations):
                try:
                    loss, outputs = net()
                except EndOfData as end:
                    if not done:
                        raise
                    log.info(log.here(), f"Finished: {end}.")
                    break
                done += 1
                total += float(loss)
                averages.add(outputs)
                detections.add(outputs)
                for name in averages.outputs:
                    for value in outputs[name].reshape(-1).tolist():
                        log.info("caffe.cpp:308", f"Batch {i}, {name} = {ostream_number(value)}")
                progress.advance()
    finally:
        net.close()
    log.info("caffe.cpp:313", f"Loss: {ostream_number(total / done)}")
    for name, mean in averages.means().items():
        for value in mean.tolist():
            suffix = loss_suffix(net.blob_loss_weights[name], value)
            log.info("caffe.cpp:325", f"{name} = {ostream_number(value)}{suffix}")
    for name, value in detections.report().items():
        log.info("caffe.cpp:325", f"{name} = {ostream_number(value)}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
