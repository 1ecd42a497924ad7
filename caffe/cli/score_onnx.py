"""`caffe score_onnx -models float.onnx,int8.onnx -source test_lmdb -label_map_file labelmap.prototxt`."""

from __future__ import annotations

import math
import sys
from collections.abc import Sequence
from pathlib import Path

from caffe.cli.export_onnx import import_onnx
from caffe.cli.flags import LABEL_MAP, FlagParser, number, run
from caffe.cli.net_flags import accept_unused, set_up_log
from caffe.errors import counted

EPILOG = """
Runs exported detectors in ONNX Runtime on every image of an LMDB, in turns. Shows each one's mAP (11 points), its AP_N of
extra-small and small objects, and the processor time per image, with decoding and suppression, without reading the image.

example:
  caffe score_onnx -models mdssd300.onnx,mdssd300_int8.onnx -source examples/VOC0712/VOC0712_test_lmdb \\
      -label_map_file models/labelmap_voc.prototxt
"""


def main(argv: Sequence[str] | None = None) -> int:
    return run("caffe score_onnx", _command, argv)


def _command(argv: Sequence[str]) -> None:
    parser = FlagParser(
        prog="caffe score_onnx", description="Scores exported detectors in ONNX Runtime, and times them.", epilog=EPILOG
    )
    parser.flag("models", required=True, help="the .onnx files, separated by ','")
    parser.flag("source", required=True, help="the LMDB of annotated images")
    parser.flag("label_map_file", aliases=LABEL_MAP, required=True, help="the LabelMap with the classes' names")
    parser.flag("mean_value", default="104,117,123", help="the mean of the images, blue, green, red")
    parser.flag("threads", default=1, type=number(int, 1), help="the number of threads")
    accept_unused(parser)
    flags = parser.parse_args(argv)
    set_up_log(flags)
    import_onnx()
    from caffe.data.image_finder import channel_means
    from caffe.export.onnx_score import score_detectors

    paths = [path for path in flags.models.split(",") if path]
    scores = score_detectors(paths, flags.source, channel_means(flags.mean_value), flags.label_map_file, flags.threads)
    width = max(len(Path(path).name) for path in paths)
    print(f"{counted(scores[0].images, 'image')}, {instructions()}")
    print(f"{'':{width}}     mAP      XS       S    ms/image  relative")
    for path, score in zip(paths, scores, strict=True):
        sizes = "".join(f"{_percent(value):>8}" for value in (score.average_precision, *score.small))
        relative = score.milliseconds / scores[0].milliseconds
        print(f"{Path(path).name:{width}}{sizes}{score.milliseconds:12.2f}{relative:10.2f}")


def _percent(value: float) -> str:
    return "–" if math.isnan(value) else f"{100 * value:.1f}"


def instructions() -> str:
    """Whether the processor has the instructions that make 8-bit products fast."""
    try:
        flags = set(Path("/proc/cpuinfo").read_text(encoding="utf-8").split())
    except OSError:
        return "it is not known whether this processor has VNNI"
    vnni = sorted(flags & {"avx512_vnni", "avx_vnni"})
    return f"a processor with {', '.join(vnni)}" if vnni else "a processor without VNNI: INT8 gains little on it"


if __name__ == "__main__":
    sys.exit(main())
