"""upgrade_net_proto_text: rewrites a net's prototxt of an older format in the current one."""

from __future__ import annotations

import sys
from collections.abc import Sequence

from caffe import log
from caffe.cli.flags import FlagParser, run
from caffe.proto import caffe_pb2
from caffe.proto.text import read_text, write_text
from caffe.proto.upgrade import net_needs_upgrade, upgrade_net

_DESCRIPTION = """\
Rewrites a net's prototxt in the current format: V0 and V1 layers (`layers { type: CONVOLUTION }`), `input_dim` and the
other input fields, transformations inside data_param, BatchNorm with three `param`. Every command upgrades what it
reads, so this only avoids the messages. The file's comments and layout are not kept."""

_EXAMPLE = """example:
  upgrade_net_proto_text old/train_val.prototxt train_val.prototxt"""


def _command(argv: Sequence[str]) -> int:
    parser = FlagParser("upgrade_net_proto_text", description=_DESCRIPTION, epilog=_EXAMPLE)
    parser.add_argument("net_proto_file_in", help="the net's prototxt")
    parser.add_argument("net_proto_file_out", help="the upgraded file; may be the same")
    flags = parser.parse_args(argv)
    net = read_text(flags.net_proto_file_in, caffe_pb2.NetParameter())
    whole = True
    if net_needs_upgrade(net):
        whole = upgrade_net(net, flags.net_proto_file_in)
        if not whole:
            log.error(
                "upgrade_net_proto_text.cpp:40", "Encountered error(s) while upgrading prototxt; see details above."
            )
    else:
        log.error("upgrade_net_proto_text.cpp:44", f"File already in latest proto format: {flags.net_proto_file_in}")
    write_text(flags.net_proto_file_out, net)
    log.info("upgrade_net_proto_text.cpp:51", f"Wrote upgraded NetParameter text proto to {flags.net_proto_file_out}")
    return 0 if whole else 1


def main(argv: Sequence[str] | None = None) -> int:
    return run("upgrade_net_proto_text", _command, argv)


if __name__ == "__main__":
    sys.exit(main())
