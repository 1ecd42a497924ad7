"""The data for training and testing: a data set's own or the flags', never one's classes with another's images."""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from caffe.data.label_map import LabelMap
from caffe.data.lmdb_source import LmdbSource
from caffe.data.name_size import read_name_sizes
from caffe.errors import CaffeError, DataError, counted
from prototxt_gen.settings import DATASETS, Dataset

BACKGROUND_ITEM = 'item { name: "none_of_the_above" label: 0 display_name: "background" }'
LIST_MADE_BY = "scripts/create_data.sh and get_image_size make it"


@dataclass(frozen=True)
class Inputs:
    """What the nets read. Paths are relative to the folder that `caffe train` is run in."""

    label_map: str
    num_classes: int
    #: whether the label map has other classes than the data set
    own_classes: bool
    train_lmdb: str
    test_lmdb: str
    test_name_size: str
    num_test_images: int


def dataset_inputs(dataset: Dataset) -> Inputs:
    """The files that `dataset` names itself, of which the label map alone must be there."""
    return Inputs(
        label_map=dataset.label_map,
        num_classes=read_classes(dataset.label_map).num_classes,
        own_classes=False,
        train_lmdb=dataset.train_lmdb,
        test_lmdb=dataset.test_lmdb,
        test_name_size=dataset.test_name_size,
        num_test_images=dataset.num_test_images,
    )


def find_inputs(dataset: Dataset, flags: argparse.Namespace) -> Inputs:
    """The files that `flags` name, and `dataset`'s for those they don't.

    Raises CaffeError where a file is missing or can't be read, where flags contradict the files, and where a default
    would belong to another data set than what the flags name.
    """
    label_map = flags.label_map or dataset.label_map
    if flags.label_map and not Path(label_map).is_file():
        raise CaffeError(f"--label_map {label_map}: not found; create_label_map makes one for your own classes")
    with _of_flag("label_map", flags):
        classes = read_classes(label_map)
    if flags.num_classes not in (None, classes.num_classes):
        raise CaffeError(
            f"--num_classes {flags.num_classes}, but {label_map} has {classes.num_classes} classes with the "
            "background; leave --num_classes out, or give the right --label_map"
        )
    own_classes = flags.label_map is not None and not _same_classes(classes, dataset.label_map)
    if own_classes:
        _check_own_data(label_map, classes, dataset, flags)
    if flags.train_lmdb:
        with _of_flag("train_lmdb", flags):
            LmdbSource(flags.train_lmdb)
    test_name_size, num_test_images = _test_images(dataset, flags)
    return Inputs(
        label_map=label_map,
        num_classes=classes.num_classes,
        own_classes=own_classes,
        train_lmdb=flags.train_lmdb or dataset.train_lmdb,
        test_lmdb=flags.test_lmdb or dataset.test_lmdb,
        test_name_size=test_name_size,
        num_test_images=num_test_images,
    )


def read_classes(label_map: str) -> LabelMap:
    """A label map whose labels are 0 (the background), 1, 2, … without gaps."""
    if not Path(label_map).is_file():
        raise DataError(
            f"label map {label_map} not found; run this in the folder that holds models/, or give --label_map FILE"
        )
    classes = LabelMap.read(label_map)
    if 0 not in classes:
        raise DataError(f"label map {label_map} has no background class; add this line to it:\n  {BACKGROUND_ITEM}")
    if len(classes.items) == 1:
        raise DataError(f"label map {label_map} has the background alone; add an item for each class")
    for expected, item in enumerate(classes.items):
        if item.label != expected:
            raise DataError(
                f"label map {label_map}: label {expected} is missing; "
                f"{len(classes.items)} items need the labels 0 to {len(classes.items) - 1}"
            )
    return classes


@contextmanager
def _of_flag(name: str, flags: argparse.Namespace) -> Iterator[None]:
    """Errors about the file that `flags` has as `name` say so."""
    try:
        yield
    except DataError as error:
        if getattr(flags, name):
            raise DataError(f"--{name}: {error}") from None
        raise


def _same_classes(classes: LabelMap, label_map: str) -> bool:
    """Whether the file `label_map` has these classes. A copy of VOC's label map elsewhere is still VOC's."""
    if not Path(label_map).is_file():
        return False
    return [(item.name, item.label) for item in LabelMap.read(label_map).items] == [
        (item.name, item.label) for item in classes.items
    ]


def _check_own_data(label_map: str, classes: LabelMap, dataset: Dataset, flags: argparse.Namespace) -> None:
    """Classes of one's own take data of one's own: no default of `dataset` would fit them."""
    missing = [f"--{name}" for name in ("train_lmdb", "test_lmdb", "test_name_size") if not getattr(flags, name)]
    if not missing:
        return
    for name, other in DATASETS.items():
        if other is not dataset and _same_classes(classes, other.label_map):
            raise CaffeError(f"--label_map {label_map} has the classes of {other.name}; give --dataset {name} too")
    raise CaffeError(
        f"--label_map {label_map} has other classes than {dataset.name}, so {dataset.name}'s data can't be used with "
        f"it; give {' and '.join(missing)} too. scripts/create_list.sh and scripts/create_data.sh make the data"
    )


def _test_images(dataset: Dataset, flags: argparse.Namespace) -> tuple[str, int]:
    """The list of test images and how many there are, which the list, the LMDB and the flags must agree on."""
    name_size = flags.test_name_size or dataset.test_name_size
    lmdb = flags.test_lmdb or dataset.test_lmdb
    if flags.test_lmdb and not flags.test_name_size:
        raise CaffeError(
            f"--test_lmdb also takes --test_name_size FILE, the list of its images (name height width); {LIST_MADE_BY}"
        )
    records = listed = None
    if flags.test_lmdb or Path(lmdb).is_dir():
        with _of_flag("test_lmdb", flags):
            records = len(LmdbSource(lmdb))
    if flags.test_name_size or Path(name_size).is_file():
        with _of_flag("test_name_size", flags):
            listed = len(read_name_sizes(name_size))

    if records is not None and listed is not None and records != listed:
        raise CaffeError(
            f"the test data {lmdb} holds {records} images, but {name_size} lists {listed}; "
            "make both from one list of images, and name both: --test_lmdb, --test_name_size"
        )
    known, where = (records, f"{lmdb} holds") if listed is None else (listed, f"{name_size} lists")
    if known is None:
        return name_size, flags.num_test_images or dataset.num_test_images
    if flags.num_test_images not in (None, known):
        raise CaffeError(f"--num_test_images {flags.num_test_images}, but {where} {known}; leave --num_test_images out")
    if records is None and flags.test_name_size and known != dataset.num_test_images:
        raise CaffeError(
            f"--test_name_size {name_size} lists {counted(known, 'image')}, but {dataset.name}'s test data, {lmdb}, which is "
            f"not there yet, has {dataset.num_test_images}; name the data of the list: --test_lmdb"
        )
    return name_size, known
