"""Generated networks with a sixteenth of the channels."""

from __future__ import annotations

from dataclasses import replace
from fractions import Fraction
from typing import Any

from prototxt_gen.layers import Width
from prototxt_gen.mdssd300 import MDSSD300
from prototxt_gen.network import FIRST, Network, deploy_net, train_net
from prototxt_gen.settings import Settings

CLASSES = 5


def narrow_settings(
    batch: int, *, width: Fraction = Fraction(1, 16), classes: int = CLASSES, dataset: str = "voc"
) -> Settings:
    """Settings of a net without data; of a sixteenth of the channels and five classes, unless others are given."""
    return Settings(
        net_name="narrow", augmentation="full", solver_type="SGD",
        dataset=dataset, scales="released", width=Width(width), label_map="",
        num_classes=classes, train_lmdb="", test_lmdb="", test_name_size="", num_test_images=1, test_batch=1, gpus=(),
        batch_per_gpu=batch, iter_size=1, base_lr=1, max_iter=1, steps=(), snapshot=1, snapshot_prefix="",
        test_interval=1, random_seed=None, result_dir="", result_prefix="", result_format="VOC", output="",
    )  # fmt: skip


def narrow_deploy(network: Network = MDSSD300) -> Any:
    """The deploy net, batch 1."""
    return deploy_net(network, narrow_settings(1))


def narrow_train(batch: int = 2, network: Network = MDSSD300, training: str = FIRST) -> Any:
    """The net of a training, its data layer replaced by an Input of images and six label rows."""
    net = train_net(network, replace(narrow_settings(batch), training=training))
    data = net.layer[0]
    tops = list(data.top)
    data.Clear()
    data.name, data.type = "data", "Input"
    data.top.extend(tops)
    for shape in ((batch, 3, network.size, network.size), (1, 1, 6, 8)):
        data.input_param.shape.add().dim.extend(shape)
    return net
