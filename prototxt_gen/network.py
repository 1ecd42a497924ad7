"""A complete network and its three nets: for training, for testing and for deployment."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from caffe.default_boxes.boxes_file import read_boxes
from caffe.default_boxes.layout import Shapes
from caffe.errors import CaffeError
from caffe.net_spec import NetSpec
from prototxt_gen.data import input_data, test_data, train_data
from prototxt_gen.default_boxes import box_sizes
from prototxt_gen.detection import detection_evaluate, detection_output, multibox_loss
from prototxt_gen.layers import Width
from prototxt_gen.multibox_head import PLAIN_HEAD, Head, Source, multibox_head
from prototxt_gen.settings import DATASETS, Settings


@dataclass(frozen=True)
class Schedule:
    """How a network is trained on a data set: the learning rate falls to a tenth at each of `steps`."""

    base_lr: float
    max_iter: int
    steps: tuple[int, ...]


#: the trainings of a network that is trained in two of them, and the only one if all its layers learn from the start
FIRST, FINE_TUNING, WHOLE = "", "ft", "whole"


@dataclass(frozen=True, kw_only=True)
class Network(ABC):
    """A detector that predicts from several blobs. Derived classes are the families; their fields describe a member."""

    name: str
    #: height and width of the input in pixels
    size: int
    #: images per update of the weights, over all GPUs
    batch: int
    #: the most of them that a GPU takes at a time; iter_size completes the batch
    images_per_gpu: int | None = None
    #: blobs with predictions, shallow to deep
    sources: tuple[Source, ...]
    head: Head = PLAIN_HEAD
    #: by data set; of those that are not in it, the data set's own
    schedules: Mapping[str, Schedule] = field(default_factory=dict)
    #: the second training, with other fixed parts than the first, by data set
    fine_tuning: Mapping[str, Schedule] = field(default_factory=dict)
    #: the weights that training starts from; None if it starts from random numbers
    weights: str | None = "<a trained SSD>.caffemodel"
    #: whether --start_from can make initial weights from those of a trained SSD
    starts_from_ssd: bool = False

    @property
    def fuses(self) -> bool:
        """Whether it has fusion modules whose deep sides can be left out."""
        return False

    def without_deep_sides(self) -> Network:
        """Returns the network without the deep sides of its fusion modules, a control."""
        return self

    @abstractmethod
    def add_body(self, net: NetSpec, width: Width, training: str) -> None:
        """Adds the layers from `data` to the blobs with predictions. training: FIRST, FINE_TUNING or WHOLE."""

    def schedule(self, dataset: str) -> Schedule:
        """Returns the schedule of the (first) training."""
        own = DATASETS[dataset]
        return self.schedules.get(dataset) or Schedule(0.001, own.max_iter, own.steps)

    def box_sizes(self, scales: str, dataset: str) -> list[tuple[float, float]]:
        """Returns (min_size, max_size) of each source, in pixels. Module 1, if it is there, has Module 2's."""
        sizes = box_sizes(scales, dataset, self.size)
        return sizes[:1] * (len(self.sources) - len(sizes)) + sizes

    def default_boxes(self, scales: str, dataset: str) -> tuple[Shapes, ...]:
        """Returns the default boxes of each source with these sizes."""
        pairs = zip(self.sources, self.box_sizes(scales, dataset), strict=True)
        return tuple(source.shapes(*sizes) for source, sizes in pairs)

    def boxes_of(self, path: str) -> tuple[Shapes, ...]:
        """Reads the default boxes of each source from a file of design_boxes.

        Raises DataError if the file is for a different network.
        """
        sources = [(source.blob, (float(source.step), float(source.step))) for source in self.sources]
        return read_boxes(path).shapes_for(self.name, (self.size, self.size), sources)


def train_net(network: Network, settings: Settings) -> Any:
    """Returns the net for training: from an LMDB to `mbox_loss`."""
    net = NetSpec()
    train_data(
        net,
        network.size,
        source=settings.train_lmdb,
        batch_size=settings.batch_per_gpu,
        label_map=settings.label_map,
        augmentation=settings.augmentation,
    )
    _detector(net, network, settings)
    multibox_loss(net, settings.num_classes)
    proto = _named(net, f"{settings.net_name}_train")
    freeze(proto, settings.frozen)
    return proto


def test_net(network: Network, settings: Settings) -> Any:
    """Returns the net that the solver tests: from an LMDB to result files and `detection_eval`."""
    net = NetSpec()
    test_data(
        net, network.size, source=settings.test_lmdb, batch_size=settings.test_batch, label_map=settings.label_map
    )
    _detector(net, network, settings)
    save = dict(
        output_directory=settings.result_dir,
        output_name_prefix=settings.result_prefix,
        output_format=settings.result_format,
        label_map_file=settings.label_map,
        name_size_file=settings.test_name_size,
        num_test_image=settings.num_test_images,
    )
    detection_output(net, settings.num_classes, save)
    detection_evaluate(net, settings.num_classes, settings.test_name_size)
    return _named(net, f"{settings.net_name}_test")


def deploy_net(network: Network, settings: Settings) -> Any:
    """Returns the net for deployment: from an image to `detection_out`. It reads and writes no files."""
    net = NetSpec()
    input_data(net, network.size)
    _detector(net, network, settings)
    detection_output(net, settings.num_classes)
    return _named(net, f"{settings.net_name}_deploy")


def freeze(proto: Any, names: Sequence[str]) -> None:
    """Sets the learning rates of layers to 0, so that their weights do not change and backward ends above them.

    A name is that of a layer, or the part before a "_": conv1 stands for conv1_1 and conv1_2. Raises CaffeError for a
    name that matches no layer with weights.
    """
    learned = [layer for layer in proto.layer if layer.param]
    for name in names:
        chosen = [layer for layer in learned if layer.name == name or layer.name.startswith(f"{name}_")]
        if not chosen:
            raise CaffeError(f"--freeze {name}: no layer with weights has this name; examples: conv1, conv4_3")
        for layer in chosen:
            for param in layer.param:
                param.lr_mult = param.decay_mult = 0


def _detector(net: NetSpec, network: Network, settings: Settings) -> None:
    network.add_body(net, settings.width, settings.training)
    boxes = settings.boxes or network.default_boxes(settings.scales, settings.dataset)
    multibox_head(
        net, network.sources, boxes, settings.num_classes, network.head, settings.width, settings.training == FINE_TUNING,
        centered=settings.offset == "centered",
    )  # fmt: skip


def _named(net: NetSpec, name: str) -> Any:
    proto = net.to_proto()
    proto.name = name
    return proto
