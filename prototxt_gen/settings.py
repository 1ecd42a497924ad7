"""The settings of a generator's run: its flags combined with the data set's defaults and the files that they name."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from caffe.default_boxes.layout import Shapes
from caffe.errors import CaffeError
from prototxt_gen.layers import Width


@dataclass(frozen=True)
class Dataset:
    """The defaults for a data set. Paths are relative to the folder that `caffe train` is run in."""

    name: str
    label_map: str
    train_lmdb: str
    test_lmdb: str
    #: one line per test image, in the LMDB's order: name height width
    test_name_size: str
    num_test_images: int
    result_dir: str
    #: what DetectionOutput writes: VOC's text file per class, or COCO's JSON list
    result_format: str
    max_iter: int
    #: the learning rate falls to a tenth at each
    steps: tuple[int, ...]


DATASETS = {
    "voc": Dataset(
        name="VOC",
        label_map="models/labelmap_voc.prototxt",
        train_lmdb="examples/VOC0712/VOC0712_trainval_lmdb",
        test_lmdb="examples/VOC0712/VOC0712_test_lmdb",
        test_name_size="data/VOC0712/test_name_size.txt",
        num_test_images=4952,
        result_dir="results/VOC2007/{net}/Main",
        result_format="VOC",
        max_iter=120_000,
        steps=(60_000, 100_000),
    ),
    "coco": Dataset(
        name="COCO",
        label_map="models/labelmap_coco.prototxt",
        train_lmdb="examples/coco/coco_train2017_lmdb",
        test_lmdb="examples/coco/coco_val2017_lmdb",
        test_name_size="data/coco/val2017_name_size.txt",
        num_test_images=5000,
        result_dir="results/COCO/{net}",
        result_format="COCO",
        max_iter=320_000,
        steps=(160_000, 280_000),
    ),
}


@dataclass(frozen=True)
class Settings:
    """Everything that the nets and the solver need besides the network itself."""

    #: e.g. MDSSD300_VOC
    net_name: str
    dataset: str
    scales: str
    width: Width
    label_map: str
    num_classes: int
    train_lmdb: str
    test_lmdb: str
    test_name_size: str
    num_test_images: int
    test_batch: int
    gpus: tuple[int, ...]
    batch_per_gpu: int
    iter_size: int
    augmentation: str
    solver_type: str
    base_lr: float
    max_iter: int
    steps: tuple[int, ...]
    snapshot: int
    snapshot_prefix: str
    test_interval: int
    random_seed: int | None
    result_dir: str
    result_prefix: str
    result_format: str
    output: str
    #: the default boxes of each source where a file gives them, in place of `scales`
    boxes: tuple[Shapes, ...] | None = None
    #: layers that do not learn: their names, or the part before a "_"
    frozen: tuple[str, ...] = ()
    #: where the default boxes are centered: "published", or "centered" on their cells
    offset: str = "published"
    #: which training this is, of a network that is trained in two: network.FIRST, FINE_TUNING or WHOLE
    training: str = ""
    #: whether fusion modules have their deep sides
    deep_side: bool = True


def divide_batch(batch: int, num_gpus: int, fits: int | None) -> tuple[int, int]:
    """(images per GPU, iter_size), whose product with the number of GPUs is exactly `batch`.

    `fits` is the maximum number of images in a GPU's memory, None for no limit. The product matters: a learning rate is
    chosen for the number of images per update.
    """
    devices = max(1, num_gpus)
    if batch % devices:
        near = [n * devices for n in (batch // devices, batch // devices + 1) if n > 0]
        raise CaffeError(
            f"a batch of {batch} cannot be divided over {devices} GPUs; give --batch {' or '.join(map(str, near))}, "
            f"or --gpus with a number of GPUs that divides {batch}"
        )
    each = batch // devices
    iter_size = next(n for n in range(1, each + 1) if each % n == 0 and (fits is None or each // n <= fits))
    return each // iter_size, iter_size


def even_test_batch(num_images: int, at_most: int = 8) -> int:
    """The largest batch that the images fill exactly, so that no image is tested twice in the last one."""
    return next(batch for batch in range(at_most, 0, -1) if num_images % batch == 0)


def scaled_steps(steps: Sequence[int], length: int, max_iter: int) -> tuple[int, ...]:
    """The steps of a run of `length` iterations, scaled to a run of `max_iter`."""
    return tuple(round(step * max_iter / length) for step in steps)


def check_steps(steps: Sequence[int], max_iter: int) -> None:
    """Raises CaffeError unless the steps increase and are within the run."""
    if any(a >= b for a, b in zip((0, *steps), (*steps, max_iter + 1), strict=True)):
        raise CaffeError(
            f"--steps {','.join(map(str, steps))}: iterations must increase, from 1 to max_iter ({max_iter})"
        )
