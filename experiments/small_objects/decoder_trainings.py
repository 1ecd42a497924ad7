"""Trains a small DSSD and its controls with several learning rates, to see which of them begin to learn.

The network is DSSD321's in small: an input of 161 pixels, three residual blocks instead of 23 in conv4, four
deconvolution modules, an eighth of the channels. Its images are crops of half the side, so objects have the size that
they have in DSSD321. One training takes a minute or two. The input is a directory of run.py or of compare_networks.sh
for circuit boards (deeppcb), whose LMDB is used. The table shows the mean loss of the last 50 iterations.
"""

from __future__ import annotations

import argparse
import re
import sys
from collections.abc import Sequence
from dataclasses import replace
from fractions import Fraction
from pathlib import Path
from typing import Any

sys.path.append(str(Path(__file__).resolve().parent.parent.parent))

from caffe.cli.flags import run
from caffe.data.label_map import LabelMap
from caffe.default_boxes.layout import Shapes
from caffe.errors import CaffeError
from caffe.files import write_text
from caffe.net_spec import NetSpec
from caffe.proto import caffe_pb2
from caffe.proto.text import to_text
from caffe.solver.log_reader import read_training_log
from experiments.small_objects.commands import Commands
from experiments.small_objects.decoder_control import CONTROLS
from experiments.small_objects.normalization import normalized
from prototxt_gen.data import train_data
from prototxt_gen.detection import multibox_loss
from prototxt_gen.dssd321 import DSSD321
from prototxt_gen.layers import Width
from prototxt_gen.multibox_head import Source, multibox_head
from prototxt_gen.network import WHOLE
from prototxt_gen.resnet import DeconvolutionModule, ExtraBlock, ResNetNetwork
from prototxt_gen.ssd321 import RATIOS, SSD321

#: how many of the last iterations the table's loss is the mean of
_LAST = 50
_WIDTH = Width(Fraction(1, 8))
_STEPS, _KERNELS = (8, 16, 32, 54, 161), (5, 5, 3, 3, 3)
#: default boxes for the defects of circuit boards on the first two sources, and larger ones on the others
_BOXES = (
    Shapes((16, 19), (28, 33), (1.5,)),
    Shapes((35,), (86,), (1.5, 2.5)),
    Shapes((86,), (), ()),
    Shapes((110,), (), ()),
    Shapes((140,), (), ()),
)


def _sources(names: Sequence[str]) -> tuple[Source, ...]:
    described = zip(names, _STEPS, _KERNELS, strict=True)
    return tuple(Source(name, RATIOS, step=step, residual=256, kernel=kernel) for name, step, kernel in described)


SMALL_SSD = replace(
    SSD321,
    size=161,
    extra=(ExtraBlock("6", 2, 2), ExtraBlock("7", 3, 1), ExtraBlock("8", 3, 1)),  # 10 → 5 → 3 → 1
    sources=_sources(("res3b3_relu", "res5c_relu", "res6_relu", "res7_relu", "res8_relu")),
)
_DECODER = (
    DeconvolutionModule("7", "res7_relu", 3, 1),  # 1 → 3
    DeconvolutionModule("6", "res6_relu", 3, 1),  # 3 → 5
    DeconvolutionModule("5", "res5c_relu", 2, 2),  # 5 → 10
    DeconvolutionModule("3", "res3b3_relu", 2, 2),  # 10 → 20
)
SMALL_DSSD = replace(
    DSSD321,
    size=161,
    extra=SMALL_SSD.extra,
    decoder=_DECODER,
    sources=_sources([*(module.top for module in reversed(_DECODER)), "res8_relu"]),
)
#: what can be trained
NETWORKS = ("ssd", "dssd", *(f"dssd-{control}" for control in CONTROLS))


def small_net(name: str, lmdb: Path, labels: Path) -> Any:
    """Returns the training net of one of NETWORKS, which reads `lmdb` with the label map `labels`."""
    network: ResNetNetwork = SMALL_SSD if name == "ssd" else SMALL_DSSD
    classes = len(LabelMap.read(labels).items)
    spec = NetSpec()
    train_data(
        spec, network.size, source=str(lmdb), batch_size=8, label_map=str(labels), augmentation="mirror"
    )  # fmt: skip
    network.add_body(spec, _WIDTH, WHOLE)
    multibox_head(spec, network.sources, _BOXES, classes, network.head, _WIDTH, centered=True)
    multibox_loss(spec, classes)
    net = without_blocks(normalized(spec.to_proto()))
    net.name = f"small_{name}"
    data = net.layer[0]
    sampler = data.annotated_data_param.batch_sampler.add(max_sample=1, max_trials=1).sampler
    sampler.min_scale = sampler.max_scale = 0.5
    data.transform_param.emit_constraint.emit_type = caffe_pb2.EmitConstraint.CENTER
    if control := name.partition("-")[2]:
        CONTROLS[control](net)
    return net


def without_blocks(net: Any) -> Any:
    """Returns a net without the residual blocks 4b3 to 4b22."""
    removed = re.compile(r"(res|bn|scale)4b([3-9]|1\d|2[0-2])(_|$)")
    result = caffe_pb2.NetParameter(layer=[layer for layer in net.layer if not removed.match(layer.name)])
    for layer in result.layer:
        layer.bottom[:] = ["res4b2" if bottom == "res4b22" else bottom for bottom in layer.bottom]
    return result


def train(commands: Commands, net: Any, out: Path, rate: float, iterations: int, seed: int) -> float:
    """Trains with Adam and this rate, and returns the mean loss of the last 50 iterations. Files are put into `out`."""
    solver = caffe_pb2.SolverParameter(
        train_net=str(out / "train.prototxt"), base_lr=rate, lr_policy="fixed", type="Adam", momentum=0.9,
        momentum2=0.999, weight_decay=0.0005, max_iter=iterations, display=10, average_loss=10,
        snapshot_prefix=str(out / "net"), random_seed=seed, solver_mode=caffe_pb2.SolverParameter.CPU,
    )  # fmt: skip
    write_text(out / "train.prototxt", to_text(net))
    write_text(out / "solver.prototxt", to_text(solver))
    log = out / "train.log"
    log.unlink(missing_ok=True)
    commands.run(log, "-m", "caffe.cli.train", "-solver", out / "solver.prototxt")
    losses = [loss for iteration, _, loss in read_training_log(log).losses if iteration > iterations - _LAST]
    return sum(losses) / len(losses)


def _command(arguments: Sequence[str]) -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter,
        epilog="example: python experiments/small_objects/decoder_trainings.py build/compare_networks/deeppcb "
        "--networks ssd dssd dssd-near_one --rates 0.002 0.0004",
    )  # fmt: skip
    parser.add_argument(
        "folder", type=Path, help="directory of an experiment, with lmdb/trainval and labelmap.prototxt"
    )
    parser.add_argument("--networks", nargs="+", default=list(NETWORKS), choices=NETWORKS, help="default: all of them")
    parser.add_argument("--rates", nargs="+", type=float, default=[0.002, 0.0004], help="default: 0.002 0.0004")
    parser.add_argument("--iterations", type=int, default=250, help="at least 50 (default: %(default)s)")
    parser.add_argument("--seed", type=int, default=1, help="seed of weights and order (default: %(default)s)")
    parser.add_argument("--out", type=Path, default=Path("build/decoder_trainings"), help="default: %(default)s")
    options = parser.parse_args(arguments)
    if options.iterations < _LAST:
        raise CaffeError(f"--iterations {options.iterations}: must be at least {_LAST}")
    folder, out = options.folder.resolve(), options.out.resolve()
    lmdb, labels = folder / "lmdb" / "trainval", folder / "labelmap.prototxt"
    if not lmdb.is_dir():
        raise CaffeError(f"{folder} is not the directory of an experiment: it has no lmdb/trainval")
    commands = Commands()
    print(f"{'loss with a learning rate of':30}" + "".join(f"{rate:>10g}" for rate in options.rates))
    for name in options.networks:
        print(f"{name:30}", end="", flush=True)
        for rate in options.rates:
            place = out / f"{name}_{rate:g}_seed{options.seed}"
            place.mkdir(parents=True, exist_ok=True)
            net = small_net(name, lmdb, labels)
            print(f"{train(commands, net, place, rate, options.iterations, options.seed):10.2f}", end="", flush=True)
        print()


def main(argv: Sequence[str] | None = None) -> int:
    """The command line; returns the exit status."""
    return run("decoder_trainings.py", _command, argv)


if __name__ == "__main__":
    sys.exit(main())
