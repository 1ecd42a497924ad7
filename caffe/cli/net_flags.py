"""Flags that `caffe test`, `caffe time` and `caffe train` share, and the net that they name."""

from __future__ import annotations

import argparse
import os
import sys
from typing import TYPE_CHECKING

from caffe import log
from caffe.cli.flags import PRECISIONS, FlagParser, boolean
from caffe.errors import CaffeError

if TYPE_CHECKING:
    from caffe.engine.net import Net

PHASES = {"TRAIN": 0, "TEST": 1}
#: every flag of the original; a command accepts those that it does not use, as gflags did
_ALL = ("solver", "gpu", "snapshot", "weights", "model", "phase", "level", "stage", "iterations", "sigint_effect",
        "sighup_effect", "logtostderr", "alsologtostderr")  # fmt: skip


def accept_unused(parser: FlagParser) -> None:
    """Lets a command accept the flags of other commands, without showing them in its help."""
    taken = {option.lstrip("-") for action in parser._actions for option in action.option_strings}
    for name in _ALL:
        if name not in taken:
            parser.flag(name, help=argparse.SUPPRESS)
    parser.flag("minloglevel", help="drop log lines below this level: 1 keeps warnings, 2 errors", type=int)
    parser.flag("log_dir", default="", help="also write the log to a file in this directory")


def add_net_state(parser: FlagParser) -> None:
    """The flags -level and -stage."""
    parser.flag("level", default=0, type=int, help="network level, for layers with min_level or max_level rules")
    parser.flag("stage", default="", help="network stages separated by ',', for layers with stage or not_stage rules")


def add_acceleration(parser: FlagParser) -> None:
    """The flags -precision, -compile, -graph and -tune, which change a net's speed and the last digits of its numbers."""
    parser.flag(
        "precision", default="fp32", choices=PRECISIONS,
        help="fp32: the original's numbers; tf32 (GPU): convolutions of rounded inputs; bf16: convolutions in bfloat16",
    )  # fmt: skip
    parser.flag(
        "compile",
        default=False,
        type=boolean,
        help="compile the net with torch.compile: takes minutes, then runs faster",
    )
    parser.flag("graph", default=False, type=boolean, help="GPU: run passes as CUDA graphs, if the layers allow it")
    add_tune(parser)


def add_tune(parser: FlagParser) -> None:
    """The flag -tune."""
    parser.flag(
        "tune",
        default=False,
        type=boolean,
        help="GPU: time cuDNN's algorithms, and several streams in CUDA graphs, and take the fastest: seconds at the "
        "start, and last digits may differ from run to run",
    )


def add_allow_python(parser: FlagParser) -> None:
    """The flag -allow_python, of commands that look at a net which may be a stranger's; see `only_look`."""
    parser.flag(
        "allow_python",
        default=False,
        type=boolean,
        help='let layers of type "Python" run the modules that the net names',
    )


def only_look(flags: argparse.Namespace) -> None:
    """From now on nets run no Python layers, unless -allow_python is given, and their layers write no files."""
    from caffe.runtime import runtime

    runtime.python_layers = flags.allow_python
    runtime.layers_write = False


def accelerate(flags: argparse.Namespace) -> None:
    """Applies the flags of `add_acceleration` to nets that are made from now on."""
    from caffe.engine import acceleration

    acceleration.use(flags.precision, flags.compile, flags.graph, flags.tune)


def stages(flags: argparse.Namespace) -> list[str]:
    """The stages of a -stage flag."""
    return [stage for stage in flags.stage.split(",") if stage]


def set_up_log(flags: argparse.Namespace) -> None:
    """Applies -minloglevel, which like GLOG_minloglevel drops lines below that level, and -log_dir.

    On a terminal the hundreds of lines on how the nets are set up are left out, unless a level was given.
    """
    if flags.minloglevel is not None:
        os.environ["GLOG_minloglevel"] = str(flags.minloglevel)
    elif sys.stderr.isatty() and "GLOG_minloglevel" not in os.environ:
        log.hidden_files.update(("net.cpp", "layer_factory.hpp"))
    if flags.log_dir and os.environ.get("RANK", "0") == "0":
        log.keep_copy(flags.log_dir)


def build_net(flags: argparse.Namespace, phase: int) -> Net:
    """The net of -model in a phase, with -level and -stage, and its fillers' weights."""
    from caffe.engine.net import Net
    from caffe.proto.text import read_net

    return Net(read_net(flags.model), phase, flags.level, stages(flags))


def build_trained_net(flags: argparse.Namespace, phase: int) -> Net:
    """The same with the weights of -weights, files separated by ','. A warning lists the layers that no file has."""
    from caffe.engine.weights import load_net
    from caffe.proto.text import read_net

    return load_net(read_net(flags.model), weight_files(flags.weights), phase, flags.level, stages(flags))


def weight_files(weights: str) -> list[str]:
    """The files of a -weights flag, each of which must exist."""
    files = [path for path in weights.split(",") if path]
    for path in files:
        if not os.path.isfile(path):
            raise CaffeError(f"-weights {path}: no such file")
        if path.endswith((".solverstate", ".solverstate.h5")):
            model = path.replace(".solverstate", ".caffemodel")
            raise CaffeError(f"-weights {path}: a solver state has no weights; resume with -snapshot, or give {model}")
    return files
