"""upgrade_net_proto_binary: rewrites weights of an older format in the current one."""

from __future__ import annotations

import sys
from collections.abc import Sequence

from caffe import log
from caffe.cli.flags import FlagParser, run
from caffe.proto import caffe_pb2
from caffe.proto.binary import read_binary, write_binary
from caffe.proto.upgrade import net_needs_upgrade, upgrade_net

_DESCRIPTION = """\
Rewrites a .caffemodel in the current format: V0 and V1 layers become `layer`, with the same weights. Every command
upgrades what it reads, so this only avoids the messages. It needs memory for several copies of the file."""

_EXAMPLE = """example:
  upgrade_net_proto_binary bvlc_2013.caffemodel bvlc.caffemodel"""


def _command(argv: Sequence[str]) -> int:
    parser = FlagParser("upgrade_net_proto_binary", description=_DESCRIPTION, epilog=_EXAMPLE)
    parser.add_argument("net_proto_file_in", help="the .caffemodel")
    parser.add_argument("net_proto_file_out", help="the upgraded file; may be the same")
    flags = parser.parse_args(argv)
    net = read_binary(flags.net_proto_file_in, caffe_pb2.NetParameter())
    whole = True
    if net_needs_upgrade(net):
        whole = upgrade_net(net, flags.net_proto_file_in)
        if not whole:
            log.error(
                "upgrade_net_proto_binary.cpp:40", "Encountered error(s) while upgrading the net; see details above."
            )
    else:
        log.error("upgrade_net_proto_binary.cpp:44", f"File already in latest proto format: {flags.net_proto_file_in}")
    write_binary(flags.net_proto_file_out, net)
    log.info(
        "upgrade_net_proto_binary.cpp:51", f"Wrote upgraded NetParameter binary proto to {flags.net_proto_file_out}"
    )
    return 0 if whole else 1


def main(argv: Sequence[str] | None = None) -> int:
    return run("upgrade_net_proto_binary", _command, argv)


if __name__ == "__main__":
    sys.exit(main())
