"""`caffe speed`: images a second of whole detectors, one image at a time (the paper's Table V)."""

from __future__ import annotations

import argparse
import json
import platform
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from time import perf_counter
from typing import TYPE_CHECKING, Any

from caffe.cli import devices
from caffe.cli.flags import WEIGHTS, FlagParser, number, run
from caffe.cli.net_flags import add_acceleration
from caffe.errors import CaffeError, DataError
from caffe.files import write_text

if TYPE_CHECKING:
    from torch import Tensor

    from caffe.engine.net import Net

_MODELS = Path(__file__).resolve().parents[2] / "models"
#: the four networks of the paper
DEFAULT = ("SSD300", "MDSSD300", "SSD512", "MDSSD512")
EXAMPLES = """\
MODEL is a deploy prototxt, or a directory with deploy.prototxt. Without MODEL: SSD and MDSSD at 300 and 512 pixels.

examples:
  caffe speed -images 200 -json speed.json
  caffe speed -images 50 models/*/VOC
  caffe speed -gpu 0 models/MDSSD300/VOC -weights mdssd_iter_120000.caffemodel -image_dir VOC2007/JPEGImages

Each figure is for one image at a time, after a few untimed ones: the net alone (from pixels in memory to the scores of
every default box), with NMS, with decoding (the JPEG is read, decoded and resized), and with both. Without -weights they
are random. NMS then gets far more boxes than from a trained net, so its figures are a lower limit. An operation is a
multiplication or an addition, of convolutions and inner products. 'caffe time' times one net layer by layer.
"""
#: untimed images before each measurement
_WARM = 3
#: generated images, of VOC's usual size, if no directory is given
_GENERATED, _HEIGHT, _WIDTH = 16, 375, 500


def parser() -> FlagParser:
    """The command's flags."""
    p = FlagParser("caffe speed", description="Measure the images a second of detectors.", epilog=EXAMPLES)
    p.add_argument("models", metavar="MODEL", nargs="*", help="deploy prototxt, or a directory with deploy.prototxt")
    p.flag("weights", aliases=WEIGHTS, default="", help="weights of the models, separated by ',', in the same order")
    p.flag("images", default=2000, type=number(int, 1), help="images to time")
    p.flag("image_dir", help="directory of the images (default: generated ones of 500 x 375)")
    p.flag("gpu", default="", help="run on this GPU; default: the CPU")
    p.flag("json", help="also write the figures to this file, for caffe report -speed")
    add_acceleration(p)
    return p


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the command; its exit status."""
    return run("caffe speed", _command, argv)


def _command(argv: Sequence[str]) -> None:
    flags = parser().parse_args(argv)
    paths = [_deploy(name) for name in flags.models or [str(_MODELS / name / "VOC") for name in DEFAULT]]
    weights = [path for path in flags.weights.split(",") if path]
    if weights and len(weights) != len(paths):
        raise CaffeError(
            f"-weights has {len(weights)} files for {len(paths)} models; give one for each, in their order"
        )
    files = _files(flags)

    from caffe.cli.net_flags import accelerate
    from caffe.detection.report import table

    devices.use_one(flags.gpu)
    accelerate(flags)
    rows = []
    for place, path in enumerate(paths):
        rows.append(_measure(path, weights[place] if weights else None, files, flags.images))
    print(
        table(
            ["model", "input", "net", "with NMS", "with decoding", "with both", "parameters", "operations"],
            [[row["name"], row["input"], *(f"{row[key]:.2f}" for key in ("net", "nms", "decoding", "decoding_nms")),
              f"{row['parameters'] / 1e6:.1f} M", f"{row['operations'] / 1e9:.1f} G"] for row in rows],
        ), end="",
    )  # fmt: skip
    where = _machine(flags.gpu)
    print(f"\nimages a second, batch 1, {flags.images:,} images, {flags.precision}, on {where}")
    if not weights:
        print("random weights: NMS gets far more boxes than from a trained net")
    if flags.json:
        import torch

        values = {
            "machine": where, "threads": torch.get_num_threads(), "precision": flags.precision, "images": flags.images,
            "batch": 1, "python": platform.python_version(), "torch": torch.__version__,
            "weights": "given" if weights else "random", "models": rows,
        }  # fmt: skip
        write_text(flags.json, json.dumps(values, indent=1) + "\n")


def _deploy(name: str) -> Path:
    path = Path(name) / "deploy.prototxt" if Path(name).is_dir() else Path(name)
    if not path.is_file():
        raise CaffeError(f"{path} does not exist; the programs in prototxt_gen write it")
    return path


def _files(flags: argparse.Namespace) -> Sequence[bytes | Path]:
    """The images: paths, or encoded ones in memory."""
    if flags.image_dir:
        from caffe.data.image_finder import find_images

        if not Path(flags.image_dir).is_dir():
            raise DataError(f"-image_dir '{flags.image_dir}' is not a directory")
        return [*find_images([flags.image_dir])][: flags.images]
    import cv2
    import numpy as np

    random = np.random.default_rng(0)
    files: list[bytes | Path] = []
    for _ in range(min(_GENERATED, flags.images)):
        coarse = random.integers(0, 256, (_HEIGHT // 8, _WIDTH // 8, 3), dtype=np.uint8)
        files.append(cv2.imencode(".jpg", cv2.resize(coarse, (_WIDTH, _HEIGHT)))[1].tobytes())
    return files


def _measure(path: Path, weights: str | None, files: Sequence[bytes | Path], count: int) -> dict[str, Any]:
    """Images a second of one model in four ways, with its size."""
    import cv2
    import numpy as np
    import torch

    from caffe import log
    from caffe.engine.cuda_graph import GraphedForward
    from caffe.engine.layer import TEST
    from caffe.engine.net import Net
    from caffe.engine.prepack import prepack
    from caffe.engine.weights import copy_trained_from, share_trained_layers_with
    from caffe.proto.text import read_net

    param = read_net(path)
    detection = [i for i, layer in enumerate(param.layer) if layer.type == "DetectionOutput"]
    if len(detection) != 1:
        raise CaffeError(f"{path} has {len(detection)} DetectionOutput layers; a detector has one")
    torch.manual_seed(1)
    with log.quiet():
        full = Net(param, TEST)
        if weights is not None:
            copy_trained_from(full, weights)
        del param.layer[detection[0] :]
        bare = Net(param, TEST)
        share_trained_layers_with(bare, full)
    if len(full.inputs) != 1:
        raise CaffeError(
            f"{path} has {len(full.inputs)} inputs; a detector on images has one: give the deploy prototxt"
        )
    parameters, operations = sum(p.numel() for p in full.learnable_params), _operations(full)
    name, size = full.inputs[0], full.blobs[full.inputs[0]].shape
    mean = torch.tensor([104.0, 117.0, 123.0], device=full.device)

    def pixels(file: bytes | Path) -> torch.Tensor:
        data = file.read_bytes() if isinstance(file, Path) else file
        image = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR)
        if image is None:
            raise DataError(f"{file if isinstance(file, Path) else 'an image'}: is not an image")
        return torch.from_numpy(cv2.resize(image, (size[3], size[2])))

    def planes(image: torch.Tensor) -> torch.Tensor:
        return (image.to(full.device).float() - mean).permute(2, 0, 1)[None].contiguous()

    ready = [pixels(file) for file in files]
    with torch.no_grad():
        _estimate_statistics(bare, {name: planes(ready[0])})
    runs: list[Callable[..., Any]] = []
    for net in (bare, full):
        net.inference_steps = prepack(net)
        for step in net.steps:
            step.layer.static_shape = step.layer.type_name == "DetectionOutput"
        runs.append(GraphedForward(net) if net.device.type == "cuda" else net)

    def forward(which: int, image: torch.Tensor) -> None:
        outputs = runs[which]({name: planes(image)}, frozenset())[1]
        for output in outputs.values():
            output.cpu()

    figures = {}
    with torch.no_grad():
        for key, which, decode in (("net", 0, False), ("nms", 1, False), ("decoding", 0, True),
                                   ("decoding_nms", 1, True)):  # fmt: skip
            for i in range(-min(_WARM, count), count):
                if i == 0:
                    began = perf_counter()
                forward(which, pixels(files[i % len(files)]) if decode else ready[i % len(files)])
            figures[key] = round(count / (perf_counter() - began), 3)
    return {"name": full.name.removesuffix("_deploy") or path.parent.parent.name, "input": f"{size[3]} x {size[2]}", **figures,
            "parameters": parameters, "operations": operations}  # fmt: skip


def _estimate_statistics(net: Net, batch: dict[str, Tensor]) -> None:
    """Gives BatchNorm layers without statistics those of a batch.

    Otherwise each would multiply its input by 1 / sqrt(eps), and the scores of a deep net would not be finite.
    """
    from caffe.engine.layer_types.normalization import BatchNorm

    layers = [step.layer for step in net.steps if isinstance(step.layer, BatchNorm) and not step.layer.blobs[2].any()]
    for layer in layers:
        layer.use_global_stats = False
    if layers:
        net(batch)
    for layer in layers:
        layer.use_global_stats = True


def _operations(net: Any) -> int:
    """Multiplications and additions of one image's convolutions and inner products, by their shapes."""
    count = 0
    for step in net.steps:
        if step.layer.type_name in ("Convolution", "Deconvolution", "InnerProduct"):
            place = step.bottoms[0] if step.layer.type_name == "Deconvolution" else step.tops[0]
            positions = 1
            for side in net.blobs[place].shape[2:] if step.layer.type_name != "InnerProduct" else ():
                positions *= int(side)
            count += 2 * positions * step.layer.blobs[0].numel()
    return count


def _machine(gpu: str) -> str:
    """The processor, or the GPU, in words."""
    import torch

    if gpu:
        return str(torch.cuda.get_device_name())
    model = platform.processor() or platform.machine()
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        model = next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), model)
    except OSError:
        pass
    return f"{model}, {torch.get_num_threads()} thread{'s' if torch.get_num_threads() > 1 else ''}"


if __name__ == "__main__":
    sys.exit(main())
