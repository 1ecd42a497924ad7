"""`extract_features`: runs a net over its data layer's records and stores blobs as LMDBs of Datum."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from contextlib import ExitStack

import numpy as np

from caffe import log
from caffe.cli import devices
from caffe.cli.flags import FlagParser, run
from caffe.errors import CaffeError

EPILOG = """\
Each item of each batch becomes one Datum with the blob's channels, height and width, and its values as float_data. The
key is the item's number with ten digits.

example:
  extract_features vgg.caffemodel val.prototxt fc6,fc7 fc6_lmdb,fc7_lmdb 10 lmdb GPU 0
"""


def parser() -> FlagParser:
    """The command's arguments, in the order of the original's."""
    p = FlagParser("extract_features", description="Store a trained net's blobs as features.", epilog=EPILOG)
    p.add_argument("pretrained_net_param", help="trained weights (.caffemodel)")
    p.add_argument("feature_extraction_proto_file", help="the net's prototxt, with a data layer")
    p.add_argument("blob_names", help="the blobs to store, separated by ','")
    p.add_argument("dataset_names", help="one LMDB to write per blob, separated by ','")
    p.add_argument("num_mini_batches", type=int, help="how many batches to run")
    p.add_argument("db_type", choices=["lmdb"], help="the kind of database")
    p.add_argument("device", nargs="?", default="CPU", choices=["CPU", "GPU"], help="where to run (default: CPU)")
    p.add_argument("device_id", nargs="?", type=int, default=0, help="which GPU (default: 0)")
    p.max_pixels()
    return p


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the command; its exit status."""
    return run("extract_features", _command, argv)


def _command(argv: Sequence[str]) -> int:
    flags = parser().parse_args(argv)
    names, paths = flags.blob_names.split(","), flags.dataset_names.split(",")
    if len(names) != len(paths):
        raise CaffeError(f"{len(names)} blob names and {len(paths)} dataset names; give one dataset for each blob")
    if flags.num_mini_batches < 1:
        raise CaffeError(f"num_mini_batches is {flags.num_mini_batches}; it must be at least 1")
    import torch

    from caffe.data.lmdb_source import LmdbWriter
    from caffe.engine.layer import TEST
    from caffe.engine.net import Net
    from caffe.engine.weights import copy_trained_from
    from caffe.proto.text import read_net
    from caffe.solver.progress import Progress

    devices.use_one(str(flags.device_id) if flags.device == "GPU" else "")
    net = Net(read_net(flags.feature_extraction_proto_file), TEST)
    copy_trained_from(net, flags.pretrained_net_param)
    unknown = [name for name in names if name not in net.blob_names]
    if unknown:
        raise CaffeError(
            f"{flags.feature_extraction_proto_file}: no blob named {', '.join(unknown)}; it has: {', '.join(net.blob_names)}"
        )
    count = 0
    with ExitStack() as stack:
        stack.callback(net.close)
        writers = [stack.enter_context(LmdbWriter(path)) for path in paths]
        progress = stack.enter_context(Progress(flags.num_mini_batches, unit="batch"))
        stack.enter_context(torch.no_grad())
        log.error("extract_features.cpp:133", "Extracting Features")
        for _ in range(flags.num_mini_batches):
            _, blobs = net(keep=names)
            arrays = [blobs[name].float().cpu().numpy() for name in names]
            for writer, array in zip(writers, arrays, strict=True):
                for i, item in enumerate(array):
                    writer.put(f"{count + i:010d}".encode(), _datum(item))
            count += len(arrays[0])
            progress.advance()
    for name in names:
        log.error("extract_features.cpp:176", f"Extracted features of {count} query images for feature blob {name}")
    log.error("extract_features.cpp:181", "Successfully extracted the features!")
    return 0


def _datum(item: np.ndarray) -> bytes:
    """One item of a blob, of up to three axes, as a serialized Datum."""
    from caffe.proto import caffe_pb2

    if item.ndim > 3:
        raise CaffeError(f"a blob of shape N x {' x '.join(map(str, item.shape))} does not fit a Datum (N x C x H x W)")
    channels, height, width = (*item.shape, 1, 1, 1)[:3]
    datum = caffe_pb2.Datum(channels=channels, height=height, width=width)
    datum.float_data.extend(item.reshape(-1).tolist())
    return datum.SerializeToString()


if __name__ == "__main__":
    sys.exit(main())
