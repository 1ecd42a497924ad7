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
from caffe.cli.flags import WEIGHTS, FlagParser, boolean, number, run
from caffe.cli.net_flags import (
    accelerate,
    accept_unused,
    add_acceleration,
    add_net_state,
    set_up_log,
    stages,
    weight_files,
)
from caffe.cli.resuming import AUTO, how_to_go_on, newest, warn_of_later
from caffe.cli.side_outputs import add_side_outputs, watchers
from caffe.cli.startup import loading
from caffe.cli.version import provenance
from caffe.errors import CaffeError

EXAMPLES = """\
examples:
  caffe train -solver solver.prototxt                                   from random weights, on the CPU
  caffe train -solver solver.prototxt -weights vgg.caffemodel -gpu 0    finetune on a GPU
  caffe train -solver solver.prototxt -snapshot x_iter_2000.solverstate resume where that snapshot was taken
  caffe train -solver solver.prototxt -snapshot auto -keep 3            resume from the newest, or start; keep three
  caffe train -solver solver.prototxt -gpu 0,1                          two GPUs; batch_size is for each of them

Weights and solver state go to <snapshot_prefix>_iter_<N>.caffemodel and .solverstate, with checksums in .sha256; the
best weights by the first test net's score to <snapshot_prefix>_best.caffemodel. Snapshots of another run are not
overwritten. Ctrl-C stops with a snapshot. So does SIGTERM, with exit status 143; SIGUSR1 and SIGHUP write a snapshot,
and training goes on. Whatever else ends a run, the last iteration is written if its weights are good.
The log goes to standard error; 'parse_log' and 'plot_training_log' read it. With -log_dir a copy of it, metrics.csv (one
row per display and test) and sheets of test images with boxes go to that directory.
"""


def parser() -> FlagParser:
    """The command's flags."""
    p = FlagParser("caffe train", description="Train or finetune a model.", epilog=EXAMPLES)
    p.flag("solver", default="", help="the solver prototxt: which net, how long, which learning rate")
    p.flag("gpu", default="", help=devices.GPU_HELP + "; the effective batch is multiplied by their number")
    p.flag(
        "snapshot",
        default="",
        help="a .solverstate to resume from; auto: the newest whole one under snapshot_prefix, else start from -weights",
    )
    p.flag("weights", aliases=WEIGHTS, default="", help="pretrained .caffemodel files to start from, separated by ','")
    p.flag(
        "skip_mismatched",
        default=False,
        type=boolean,
        help="with -weights: initialize layers whose shape differs from the file's, instead of an error; each is named",
    )
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
    p.flag("keep", default=None, type=number(int, 1), help="keep only this many snapshots, the newest (default: all)")
    p.flag(
        "patience",
        default=None,
        type=number(int, 1),
        help="stop when this many tests in a row had no better score than that of <snapshot_prefix>_best.caffemodel",
    )
    p.flag(
        "overwrite",
        default=False,
        type=boolean,
        help="start again though there are snapshots under snapshot_prefix; they are removed after the first new one",
    )
    p.flag(
        "skip_bad_records",
        default=0,
        type=number(int, 0),
        help="leave out up to this many training records (on each rank) that cannot be read; they are listed at the end",
    )
    p.flag("base_lr", default=None, type=number(float, 0, over=True), help="a learning rate to use instead of base_lr")
    p.flag(
        "skip_iterations",
        default=0,
        type=number(int, 0),
        help="move on in the data by the records of this many iterations",
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
        from caffe.solver.snapshot_files import check_nothing_is_overwritten, check_start_stays

        param = _solver_parameter(flags)
        if flags.overwrite:
            check_start_stays(param, weight_files(flags.weights) if _first_rank() else ())
        elif not flags.snapshot and _first_rank():
            check_nothing_is_overwritten(param)
        gpus = _gpus(flags, param)
        # The rest needs torch.distributed, which takes a while to import.
        from caffe.solver import launch, ranks
        from caffe.solver.requests import Action

    ranks_wanted = max(len(gpus), flags.cpu_ranks)
    if ranks.started_by_launcher():
        return _one_of_several(argv, flags, param, gpus)
    if ranks_wanted > 1:
        return launch.launch(
            launch.caffe_command(["train", *argv]),
            ranks_wanted,
            sigint=Action.named(flags.sigint_effect, "sigint_effect"),
            sighup=Action.named(flags.sighup_effect, "sighup_effect"),
            stop_seconds=flags.stop_seconds,
        )
    devices.use(gpus[0] if gpus else None)
    return _train(argv, flags, param, gpus, None)


def _one_of_several(argv: Sequence[str], flags: argparse.Namespace, param: Any, gpus: list[int]) -> int:
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
            return _train(argv, flags, param, gpus, exchange)
    except CaffeError:
        if ranks.LAUNCHED not in os.environ:
            raise
        return 1


def _check(flags: argparse.Namespace) -> None:
    from caffe.solver.requests import Action
    from caffe.solver.snapshots import check_is_solver_state

    if not flags.solver:
        raise CaffeError("need a solver definition to train: give -solver solver.prototxt")
    if flags.snapshot and flags.weights and flags.snapshot != AUTO:
        raise CaffeError("give -snapshot to resume training or -weights to finetune, but not both")
    if flags.skip_mismatched and not flags.weights:
        raise CaffeError("-skip_mismatched needs -weights: the file whose layers may not fit")
    if flags.snapshot and flags.overwrite:
        raise CaffeError("give -snapshot to resume training or -overwrite to start it again, but not both")
    if flags.cpu_ranks < 1:
        raise CaffeError(f"-cpu_ranks is {flags.cpu_ranks}; it must be at least 1")
    if flags.cpu_ranks > 1 and flags.gpu:
        raise CaffeError("give -gpu or -cpu_ranks, not both")
    if _first_rank():  # with several machines, only the first one needs them
        if flags.snapshot and flags.snapshot != AUTO:
            check_is_solver_state(flags.snapshot)
        if flags.snapshot != AUTO:  # there they may not be needed any more
            weight_files(flags.weights)
    Action.named(flags.sigint_effect, "sigint_effect")
    Action.named(flags.sighup_effect, "sighup_effect")


def _first_rank() -> bool:
    """Whether this process is the only one, the one that starts the others, or rank 0."""
    return os.environ.get("RANK", "0") == "0"


def _solver_parameter(flags: argparse.Namespace) -> Any:
    from caffe.proto.text import read_solver

    param = read_solver(flags.solver)
    param.train_state.level = flags.level
    param.train_state.stage.extend(stages(flags))
    if flags.base_lr is not None:
        param.base_lr = flags.base_lr
    if flags.patience is not None and not (param.test_iter and param.test_interval):
        raise CaffeError("-patience counts tests, but the solver has none: give it test_iter and test_interval")
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


def _train(argv: Sequence[str], flags: argparse.Namespace, param: Any, gpus: list[int], exchange: Any) -> int:
    import torch

    from caffe.data.feed import bad_records
    from caffe.data.feed.memory import keep_freed_memory
    from caffe.runtime import runtime
    from caffe.solver.best import BestWeights
    from caffe.solver.deadline import Deadline
    from caffe.solver.divergence import LossNotFiniteError
    from caffe.solver.fine_tuning import warn_if_from_scratch
    from caffe.solver.log_reader import MADE_WITH
    from caffe.solver.requests import TERMINATED, Action, SignalRequests
    from caffe.solver.solver import Solver

    accelerate(flags)
    bad_records.allow(flags.skip_bad_records)
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
            best = BestWeights(param, flags.patience)
            if flags.overwrite and root:
                best.forget()
            solver = Solver(
                param,
                exchange=exchange,
                requests=requests,
                stop_on_nonfinite=not flags.ignore_nonfinite,
                best=best,
                keep=flags.keep,
                overwrite=flags.overwrite,
                skip_iterations=flags.skip_iterations,
                watchers=watchers(flags) if root else (),
            )
            snapshot = flags.snapshot
            if snapshot == AUTO:
                snapshot = newest(param) if root else ""
                snapshot = exchange.from_root("snapshot", snapshot) if exchange else snapshot
            if snapshot:
                _root_info(root, "caffe.cpp:241", f"Resuming from {snapshot}")
                solver.restore(snapshot)
                best.resume()
                if root and flags.snapshot != AUTO:
                    warn_of_later(param, solver.iter)
            start = snapshot, solver.iter
            if flags.weights and root and not snapshot:
                _finetune(solver, weight_files(flags.weights), flags.skip_mismatched)
        if root and not flags.weights and not snapshot:
            warn_if_from_scratch(solver.net)
        _root_info(root, "caffe.cpp:251", "Starting Optimization")
        try:
            with requests, Deadline(flags.stop_seconds, solver.last_resort) if root else nullcontext():
                solver.solve()
        except LossNotFiniteError as error:
            again = how_to_go_on(argv, flags.weights, param, error, start, flags.skip_iterations)
            raise CaffeError(f"{error}. {again}") from error
        finally:
            bad_records.log_left_out()
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


def _finetune(solver: Any, files: Sequence[str], skip_mismatched: bool) -> None:
    from caffe.engine.weights import copy_trained_from, describe_unset

    copied = set()
    for path in files:
        log.info("caffe.cpp:155", f"Finetuning from {path}")
        copied |= copy_trained_from(solver.net, path, skip_mismatched=skip_mismatched)
        for net in solver.test_nets:
            copy_trained_from(net, path, skip_mismatched=skip_mismatched)
    unset = describe_unset(solver.net, copied, ", ".join(files))
    if unset:
        log.info(log.here(), unset)


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
