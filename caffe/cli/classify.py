"""`classify image.jpg scores.npy`: class scores of images with any classification net (original: python/classify.py)."""

from __future__ import annotations

import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

import caffe
from caffe.cli.flags import WEIGHTS, FlagParser, run
from caffe.cli.net_flags import add_allow_python, only_look
from caffe.errors import CaffeError, DataError
from caffe.files import replacing

EPILOG = """
example:
  classify photographs/ scores.npy --model_def deploy.prototxt --pretrained_model net.caffemodel --mean_file mean.npy
"""


def main(argv: Sequence[str] | None = None) -> int:
    return run("classify", _command, argv)


def add_net_flags(parser: FlagParser) -> None:
    """Adds the flags for the net, the device, and how an image becomes the net's input."""
    parser.flag("model_def", required=True, help="the net's deploy prototxt")
    parser.flag("pretrained_model", aliases=WEIGHTS, required=True, help="its weights, .caffemodel or .h5")
    parser.max_pixels()
    add_allow_python(parser)
    # It takes no value: the next word may be a file name.
    parser.add_argument("-gpu", "--gpu", action="store_true", help="compute on the GPU")
    parser.flag("mean_file", default="", help=".npy of the mean, channels x height x width or one value per channel")
    parser.flag("input_scale", type=float, help="factor after the mean is subtracted")
    parser.flag("raw_scale", type=float, default=255.0, help="factor before, from images in [0, 1]")
    parser.flag("channel_swap", type=numbers, default="2,1,0", help="order of channels; 2,1,0 makes RGB into BGR")


def numbers(text: str) -> list[int]:
    """Integers separated by commas."""
    return [int(part) for part in text.split(",")]


def load_array(path: str) -> np.ndarray[Any, Any]:
    """An array from a .npy file; raises DataError for anything else."""
    try:
        array = np.load(path, allow_pickle=False)
    except ValueError as error:
        raise DataError(f"{path}: not a .npy file of numbers: {error}") from None
    if not isinstance(array, np.ndarray):
        raise DataError(f"{path}: holds several arrays; give one of them as a .npy file")
    return array


def _command(argv: Sequence[str]) -> None:
    parser = FlagParser(prog="classify", description="Writes the class scores of images.", epilog=EPILOG)
    parser.add_argument("input_file", help="an image, a folder of them, or a .npy of images (N x height x width x 3)")
    parser.add_argument("output_file", help="the .npy to write: N x classes")
    add_net_flags(parser)
    parser.add_argument("--center_only", action="store_true", help="score only the center, not the mean of ten crops")
    parser.flag("images_dim", type=numbers, default="256,256", help="height,width that images are resized to first")
    parser.flag("ext", default="jpg", help="extension of the images in a folder")
    flags = parser.parse_args(argv)
    only_look(flags)

    images = _images(Path(flags.input_file).expanduser(), flags.ext)
    if flags.gpu:
        caffe.set_mode_gpu()
    else:
        caffe.set_mode_cpu()
    classifier = caffe.Classifier(
        flags.model_def,
        flags.pretrained_model,
        image_dims=flags.images_dim,
        mean=load_array(flags.mean_file) if flags.mean_file else None,
        input_scale=flags.input_scale,
        raw_scale=flags.raw_scale,
        channel_swap=flags.channel_swap,
    )
    print(f"Classifying {len(images)} inputs.")
    start = time.perf_counter()
    predictions = classifier.predict(images, not flags.center_only)
    print(f"Done in {time.perf_counter() - start:.2f} s.")
    print(f"Saving results into {flags.output_file}")
    with replacing(flags.output_file) as temporary, open(temporary, "wb") as file:
        np.save(file, predictions)


def _images(path: Path, ending: str) -> Sequence[np.ndarray[Any, Any]]:
    if path.suffix == ".npy":
        array = load_array(str(path))
        if array.ndim != 4:
            raise DataError(
                f"{path}: images must be N x height x width x channels, but this array has shape {array.shape}"
            )
        return list(array)
    from caffe import io

    if not path.is_dir():
        return [io.load_image(path)]
    names = sorted(path.glob(f"*.{ending}"))
    if not names:
        raise CaffeError(f"{path}: no file with extension .{ending}; give --ext")
    return [io.load_image(name) for name in names]


if __name__ == "__main__":
    sys.exit(main())
