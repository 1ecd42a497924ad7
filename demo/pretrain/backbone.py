"""Writes the net and solver that pretrain SSD's backbone, narrow, as a classifier of crops (see pretrain.sh).

python demo/pretrain/backbone.py --crops crops --output backbone --width 1/8
"""

from __future__ import annotations

import argparse
import sys
from fractions import Fraction
from pathlib import Path

sys.path.append(str(Path(__file__).resolve().parent.parent.parent))

from caffe.net_spec import NetSpec
from caffe.net_spec import layers as L
from caffe.net_spec import params as P
from prototxt_gen.layers import Width
from prototxt_gen.vgg import vgg16


def net(crops: Path, width: Width, classes: int) -> str:
    """conv1_1 to fc7 as in SSD, averaged over the picture, and a linear classifier."""
    spec = NetSpec()
    spec.data, spec.label = L.ImageData(
        ntop=2,
        image_data_param=dict(source=f"{crops}/list.txt", root_folder=f"{crops}/", batch_size=64, shuffle=True),
        transform_param=dict(mirror=True, mean_value=[104, 117, 123]),
    )
    last = vgg16(spec, "data", width)
    spec.pool = L.Pooling(spec[last], pool=P.Pooling.AVE, global_pooling=True)
    spec.kind = L.InnerProduct(spec.pool, num_output=classes, weight_filler=dict(type="xavier"))
    spec.accuracy = L.Accuracy(spec.kind, spec.label)
    spec.loss = L.SoftmaxWithLoss(spec.kind, spec.label)
    return f'name: "backbone"\n{spec.to_proto()}'


def solver(folder: Path, iterations: int) -> str:
    return f"""net: "{folder}/backbone.prototxt"
type: "Adam"
base_lr: 0.001
momentum: 0.9
momentum2: 0.999
lr_policy: "multistep"
gamma: 0.2
stepvalue: {iterations * 3 // 4}
max_iter: {iterations}
display: 20
average_loss: 20
snapshot_prefix: "{folder}/backbone"
random_seed: 1
solver_mode: CPU
"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--crops", type=Path, required=True, help="directory that crops.py wrote")
    parser.add_argument(
        "--output", type=Path, required=True, help="directory for backbone.prototxt and solver.prototxt"
    )
    parser.add_argument("--width", type=Fraction, required=True, help="share of the channels, as for ssd300.py")
    parser.add_argument("--classes", type=int, default=7, help="with the background (default: %(default)s)")
    parser.add_argument("--iterations", type=int, default=800, help="of 64 crops (default: %(default)s)")
    options = parser.parse_args()
    options.output.mkdir(parents=True, exist_ok=True)
    (options.output / "backbone.prototxt").write_text(net(options.crops, Width(options.width), options.classes))
    (options.output / "solver.prototxt").write_text(solver(options.output, options.iterations))


if __name__ == "__main__":
    main()
