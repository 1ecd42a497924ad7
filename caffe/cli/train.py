"""`caffe train`: trains or finetunes the net of a solver prototxt."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence
from contextlib import nullcontext
from typing import Any

from caffe import log
from caffe.cli import devices
from caffe.cli.flags import FlagParser, boolean, number, run
from caffe.cli.net_flags import (
    accelerate,
    accept_unused,
    add_acceleration,
    add_net_state,
    set_up_log,
    stages,
    weight_files,
)
from caffe.cli.side_outputs import add_side_outputs, watchers
from caffe.cli.startup import loading
from caffe.cli.version import provenance
from caffe.errors import CaffeError

EXAMPLES = """\
examples:
  caffe train -solver solver.prototxt                                   from random weights, on the CPU
  caffe train -solver solver.prototxt -weights vgg.caffemodel -gpu 0    finetune on a GPU
  caffe train -solver solver.prototxt -snapshot x_iter_2000.solverstate resume where that snapshot was taken
  caffe train -solver solver.prototxt -gpu 0,1                          two GPUs; batch_size is for each of them

Weights and solver state go to <snapshot_prefix>_iter_<N>.caffemodel and .solverstate. Ctrl-C stops with a snapshot.
So does SIGTERM, with exit status 143; SIGUSR1 and SIGHUP write a snapshot and training goes on. Whatever else ends a
run, the last iteration is written if its weights are good.
The log goes to standard error; 'parse_log' and 'plot_training_log' read it. With -log_dir a copy of it, metrics.csv (one
row per display and test) and sheets of test images with boxes go to that directory.
"""


def parser() -> FlagParser:
    """The command's flags."""
    p = FlagParser("caffe train", description="Train or finetune a model.", epilog=EXAMPLES)
    p.flag("solver", default="", help="the solver prototxt: which net, how long, which learning rate")
    p.flag("gpu", default="", help=devices.GPU_HELP + "; the effective batch is multiplied by their number")
    p.flag("snapshot", default="", help="a .solverstate to resume from")
    p.flag("weights", default="", help="pretrained .caffemodel files to start from, separated by ','")
    add_net_state(p)
    add_acceleration(p)
    p.flag(
        "sigint_effect",
        default="",
        help="what Ctrl-C does: snapshot, stop (with a snapshot) or none (default: stop; none in a background job)",
    )
    p.flag(
        "sighup_effect",
        default="",
        help="what SIGHUP does: snapshot, stop or none (default: snapshot; none under nohup)",
    )
    p.flag(
        "stop_seconds",
        default=25.0,
        type=number(float, 0, over=True),
        help="seconds after SIGTERM by which training must have stopped; then the last whole iteration is written",
    )
    p.flag("cpu_ranks", default=1, type=int, help="train with this many processes on the CPU, as on that many GPUs")
    p.flag(
        "rank_timeout",
        default=600.0,
        type=float,
        help="seconds after which a process that does not answer counts as dead",
    )
    p.flag(
        "ignore_nonfinite", default=False, type=boolean, help="go on after a loss of nan or inf, as the original does"
    )
    p.max_pixels()
    accept_unused(p)
    add_side_outputs(p)
    return p


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the command; its exit status."""
    return run("caffe train", _command, argv)


def _command(argv: Sequence[str]) -> int:
    with loading():
        flags = parser().parse_args(argv)
        set_up_log(flags)
        _check(flags)
        param = _solver_parameter(flags)
        gpus = _gpus(flags, param)
        # The rest needs torch.distributed, which takes a while to import.
        from caffe.solver import launch, ranks
        from caffe.solver.requests import Action

    ranks_wanted = max(len(gpus), flags.cpu_ranks)
    if ranks.started_by_launcher():
        return _one_of_several(flags, param, gpus)
    if ranks_wanted > 1:
        return launch.launch(
            launch.caffe_command(["train", *argv]),
            ranks_wanted,
            sigint=Action.named(flags.sigint_effect, "sigint_effect"),
            sighup=Action.named(flags.sighup_effect, "sighup_effect"),
            stop_seconds=flags.stop_seconds,
        )
    devices.use(gpus[0] if gpus else None)
    return _train(flags, param, gpus, None)


def _one_of_several(flags: argparse.Namespace, param: Any, gpus: list[int]) -> int:
    """Trains as one rank. Our launcher, if it started this process, reports the error."""
    from caffe.solver import ranks

    local = ranks.local_rank()
    if gpus and local >= len(gpus):
        raise CaffeError(
            f"process {local} of this machine has no GPU: -gpu names {len(gpus)}; start that many processes"
        )
    devices.use(gpus[local] if gpus else None)
    try:
        with ranks.joined(bool(gpus), flags.rank_timeout) as exchange:
            return _train(flags, param, gpus, exchange)
    except CaffeError:
        if ranks.LAUNCHED not in os.environ:
            raise
        return 1


def _check(flags: argparse.Namespace) -> None:
    from caffe.solver.requests import Action
    from caffe.solver.snapshots import check_is_solver_state

    if not flags.solver:
        raise CaffeError("need a solver definition to train: give -solver solver.prototxt")
    if flags.snapshot and flags.weights:
        raise CaffeError("give -snapshot to resume training or -weights to finetune, but not both")
    if flags.cpu_ranks < 1:
        raise CaffeError(f"-cpu_ranks is {flags.cpu_ranks}; it must be at least 1")
    if flags.cpu_ranks > 1 and flags.gpu:
        raise CaffeError("give -gpu or -cpu_ranks, not both")
    if os.environ.get("RANK", "0") == "0":  # with several machines, only the first one needs them
        if flags.snapshot:
            check_is_solver_state(flags.snapshot)
        weight_files(flags.weights)
    Action.named(flags.sigint_effect, "sigint_effect")
    Action.named(flags.sighup_effect, "sighup_effect")


def _solver_parameter(flags: argparse.Namespace) -> Any:
    from caffe.proto.text import read_solver

    param = read_solver(flags.solver)
    param.train_state.level = flags.level
    param.train_state.stage.extend(stages(flags))
    return param


def _gpus(flags: argparse.Namespace, param: Any) -> list[int]:
    """The GPUs to train on: those of -gpu, else the solver's device if its solver_mode is GPU and there is one."""
    import torch

    from caffe.proto import caffe_pb2

    if flags.gpu or flags.cpu_ranks > 1 or param.solver_mode == caffe_pb2.SolverParameter.CPU:
        return devices.parse_gpus(flags.gpu)
    if not torch.cuda.is_available():
        # GPU is also the default of solver_mode.
        log.warning(log.here(), "The solver asks for a GPU, but there is none: training on the CPU instead.")
        return []
    return devices.parse_gpus(str(param.device_id))


def _train(flags: argparse.Namespace, param: Any, gpus: list[int], exchange: Any) -> int:
    import torch

    from caffe.data.feed.memory import keep_freed_memory
    from caffe.engine.weights import copy_trained_from
    from caffe.runtime import runtime
    from caffe.solver.deadline import Deadline
    from caffe.solver.fine_tuning import warn_if_from_scratch
    from caffe.solver.log_reader import MADE_WITH
    from caffe.solver.requests import TERMINATED, Action, SignalRequests
    from caffe.solver.solver import Solver

    accelerate(flags)
    keep_freed_memory()
    root = runtime.rank == 0
    if root:
        _say_devices(gpus)
        log.info(log.here(), f"{MADE_WITH} {provenance()}")
        requests = SignalRequests(
            Action.named(flags.sigint_effect, "sigint_effect"), Action.named(flags.sighup_effect, "sighup_effect")
        )
    else:
        requests = SignalRequests(Action.NONE, Action.NONE, sigusr1=Action.NONE)
    try:
        with loading():
            solver = Solver(
                param, exchange=exchange, requests=requests, stop_on_nonfinite=not flags.ignore_nonfinite,
                watchers=watchers(flags) if root else (),
            )  # fmt: skip
            if flags.snapshot:
                _root_info(root, "caffe.cpp:241", f"Resuming from {flags.snapshot}")
                solver.restore(flags.snapshot)
            for path in weight_files(flags.weights) if root else ():
                log.info("caffe.cpp:155", f"Finetuning from {path}")
                for net in (solver.net, *solver.test_nets):
                    copy_trained_from(net, path)
        if root and not flags.weights and not flags.snapshot:
            warn_if_from_scratch(solver.net)
        _root_info(root, "caffe.cpp:251", "Starting Optimization")
        try:
            with requests, Deadline(flags.stop_seconds, solver.last_resort) if root else nullcontext():
                solver.solve()
        finally:
            for net in (solver.net, *solver.test_nets):
                net.close()
    except torch.OutOfMemoryError as error:
        raise CaffeError(f"out of GPU memory: {_first_sentence(error)}. {_smaller_batch(param)}") from error
    except (MemoryError, RuntimeError) as error:
        if isinstance(error, RuntimeError) and "DefaultCPUAllocator" not in str(error):
            raise
        raise CaffeError(f"out of memory: {_allocation(error)}. {_smaller_batch(param)}") from error
    if solver.terminated:
        return TERMINATED
    _root_info(root, "caffe.cpp:254", "Optimization Done.")
    return 0


def _say_devices(gpus: list[int]) -> None:
    import torch

    if not gpus:
        log.info("caffe.cpp:210", "Use CPU.")
        return
    log.info("caffe.cpp:217", f"Using GPUs {', '.join(map(str, gpus))}")
    for i in gpus:
        log.info("caffe.cpp:222", f"GPU {i}: {torch.cuda.get_device_name(i)}")


def _root_info(root: bool, where: str, message: str) -> None:
    if root:
        log.info(where, message)


def _first_sentence(error: BaseException) -> str:
    return str(error).partition(". ")[0].removeprefix("CUDA out of memory. ")


def _allocation(error: BaseException) -> str:
    """PyTorch's or NumPy's message, without the place in PyTorch's source."""
    return str(error).rpartition("DefaultCPUAllocator: ")[2].splitlines()[0].rstrip(".") if str(error) else "no reason"


def _smaller_batch(param: Any) -> str:
    return (
        f"Halve batch_size in the training net and set iter_size: {param.iter_size * 2} in the solver; "
        "the effective batch stays the same"
    )


if __name__ == "__main__":
    sys.exit(main())
