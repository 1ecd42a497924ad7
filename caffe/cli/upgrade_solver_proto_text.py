"""upgrade_solver_proto_text: rewrites a solver's prototxt of an older format in the current one."""

from __future__ import annotations

import sys
from collections.abc import Sequence

from caffe import log
from caffe.cli.flags import FlagParser, run
from caffe.proto import caffe_pb2
from caffe.proto.text import read_text, write_text
from caffe.proto.upgrade import upgrade_solver

_DESCRIPTION = """\
Rewrites a solver's prototxt in the current format: the enum `solver_type: ADAM` becomes `type: "Adam"`. Every
command upgrades what it reads, so this only avoids the messages. The file's comments and layout are not kept."""

_EXAMPLE = """example:
  upgrade_solver_proto_text old/solver.prototxt solver.prototxt"""


def _command(argv: Sequence[str]) -> int:
    parser = FlagParser("upgrade_solver_proto_text", description=_DESCRIPTION, epilog=_EXAMPLE)
    parser.add_argument("solver_proto_file_in", help="the solver's prototxt")
    parser.add_argument("solver_proto_file_out", help="the upgraded file; may be the same")
    flags = parser.parse_args(argv)
    solver = read_text(flags.solver_proto_file_in, caffe_pb2.SolverParameter())
    if not upgrade_solver(solver, flags.solver_proto_file_in):
        where = "upgrade_solver_proto_text.cpp:41"
        log.error(where, f"File already in latest proto format: {flags.solver_proto_file_in}")
    write_text(flags.solver_proto_file_out, solver)
    log.info(
        "upgrade_solver_proto_text.cpp:48",
        f"Wrote upgraded SolverParameter text proto to {flags.solver_proto_file_out}",
    )
    return 0


def main(argv: Sequence[str] | None = None) -> int:
    return run("upgrade_solver_proto_text", _command, argv)


if __name__ == "__main__":
    sys.exit(main())
