"""`compute_image_mean`: the mean image of a database."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from caffe import log
from caffe.cli.convert_annoset import check_backend
from caffe.cli.flags import FlagParser, run
from caffe.errors import DataError

if TYPE_CHECKING:
    from caffe.data.lmdb_source import LmdbSource

_EPILOG = """\
Prints the mean of each channel, for transform_param's mean_value, and writes the mean image, for its mean_file. All
images must have the same size. Databases of annotated images work as well.

    compute_image_mean train_lmdb mean.binaryproto
"""


def main(argv: Sequence[str] | None = None) -> int:
    return run("compute_image_mean", _main, argv)


def _main(argv: Sequence[str]) -> None:
    parser = FlagParser(prog="compute_image_mean", description="Computes the mean image of an LMDB.", epilog=_EPILOG)
    parser.add_argument("database", metavar="INPUT_DB", help="LMDB of Datum or AnnotatedDatum records")
    parser.add_argument("output", metavar="OUTPUT_FILE", nargs="?", default="", help="mean image to write (BlobProto)")
    parser.flag("backend", default="lmdb", help="database to read; only lmdb")
    parser.max_pixels()
    flags = parser.parse_args(argv)
    check_backend(flags.backend)
    from caffe.data.lmdb_source import LmdbSource
    from caffe.proto import caffe_pb2

    mean = mean_image(LmdbSource(flags.database))
    if flags.output:
        blob = caffe_pb2.BlobProto(num=1, channels=mean.shape[0], height=mean.shape[1], width=mean.shape[2])
        blob.data.extend(mean.astype(np.float32).ravel().tolist())
        log.info("compute_image_mean.cpp:103", f"Write to {flags.output}")
        path = Path(flags.output)
        temporary = path.with_name(f".{path.name}.writing-{os.getpid()}")
        temporary.write_bytes(blob.SerializeToString())
        os.replace(temporary, path)
    log.info("compute_image_mean.cpp:109", f"Number of channels: {mean.shape[0]}")
    for channel, value in enumerate(mean.mean(axis=(1, 2))):
        log.info("compute_image_mean.cpp:114", f"mean_value channel [{channel}]:{value:g}")


def mean_image(source: LmdbSource) -> np.ndarray[tuple[int, ...], np.dtype[np.float64]]:
    """The mean [C, H, W] of a database's images; raises DataError if their sizes differ."""
    from tqdm import tqdm

    from caffe.data.images import decode_datum

    annotated = source.holds_annotations()
    total: np.ndarray[tuple[int, ...], np.dtype[np.float64]] | None = None
    for index in tqdm(range(len(source)), desc="averaging", unit=" images", disable=None, leave=False):
        datum = source.annotated_datum(index).datum if annotated else source.datum(index)
        image = decode_datum(datum, source.where(index)).transpose(2, 0, 1)
        if total is None:
            total = np.zeros(image.shape, np.float64)
        if image.shape != total.shape:
            raise DataError(
                f"{source.where(index)} is {image.shape[2]} × {image.shape[1]} × {image.shape[0]}, but the first is "
                f"{total.shape[2]} × {total.shape[1]} × {total.shape[0]} (width × height × channels). A mean image "
                "needs images of the same size: convert with -resize_width and -resize_height"
            )
        total += image
    assert total is not None, "a source has records"
    return total / len(source)


if __name__ == "__main__":
    raise SystemExit(main())
