"""The flags of commands that compare VOC result files with their ground truth, and what they name."""

from __future__ import annotations

import argparse
import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from caffe.cli.flags import LABEL_MAP, FlagParser, number
from caffe.data.label_map import LabelMap
from caffe.detection import hoiem, voc
from caffe.errors import DataError, shown

EPILOG = """\
RESULTS is the directory where DetectionOutput wrote comp4_det_test_<class>.txt (its save_output_param). Ground truth is
either a directory in VOC's layout and the name of a list in its ImageSets/Main, or a directory of XML annotations and a
list of image names.
"""


@dataclass(frozen=True)
class Compared:
    """Ground truth, and the detections of each model by class, all models with the same classes."""

    truth: voc.GroundTruth
    models: dict[str, dict[str, voc.Detections]]

    @property
    def strangers(self) -> list[str]:
        """The classes with results but without an object to find."""
        return [name for name in next(iter(self.models.values())) if self.truth.count(name) == 0]


def add(parser: FlagParser) -> None:
    """Adds RESULTS and the flags for the ground truth."""
    parser.add_argument("results", metavar="RESULTS", nargs="+", help="directory of a model's result files")
    parser.flag("voc", help="directory with Annotations and ImageSets/Main, such as VOCdevkit/VOC2007")
    parser.flag("set", default="test", help="list in ImageSets/Main, with --voc")
    parser.flag("annotations", help="directory of the XML annotations, instead of --voc")
    parser.flag("list", help="file of image names, one per line, with --annotations")
    parser.flag("prefix", default="comp4_det_test_", help="prefix of the result files' names")
    parser.flag("names", help="names of the models, separated by ',' (default: what differs in their directories)")
    parser.flag(
        "label_map_file", aliases=LABEL_MAP, help="use the classes of this LabelMap (default: those with a result file)"
    )
    parser.flag("overlap", type=number(float, 0, 1, over=True), default=0.5, help="overlap at which an object is found")
    parser.flag(
        "similar", help="file of sets of similar classes, such as `cat, dog` (default: VOC's for VOC's classes)"
    )


def check(parser: FlagParser, flags: argparse.Namespace) -> None:
    """Ends with a usage error for flags that do not go together."""
    if bool(flags.voc) == bool(flags.annotations and flags.list):
        parser.error("give either --voc, or --annotations and --list")
    if flags.names and len(flags.names.split(",")) != len(flags.results):
        parser.error(f"--names has {len(flags.names.split(','))} names for {len(flags.results)} directories of results")


def read(flags: argparse.Namespace) -> Compared:
    """Reads everything. Raises DataError for files that are missing, broken, or of another data set."""
    names = [n.strip() for n in flags.names.split(",")] if flags.names else model_names(flags.results)
    if len(set(names)) < len(names) or not all(names):
        raise DataError(f"models need different names, not {', '.join(map(repr, names))}: give --names")
    files = {name: voc.find_result_files(path, flags.prefix) for name, path in zip(names, flags.results, strict=True)}
    if flags.label_map_file:
        classes = [i.name for i in LabelMap.read(flags.label_map_file).items if i.label != 0]
        for path, of_model in zip(flags.results, files.values(), strict=True):
            absent = [name for name in classes if name not in of_model]
            if absent:
                raise DataError(
                    f"'{path}' has no {flags.prefix}{absent[0]}.txt"
                    + (f", and no files for {len(absent) - 1} other classes of the label map" if absent[1:] else "")
                )
        files = {model: {name: of_model[name] for name in classes} for model, of_model in files.items()}
    _refuse_different_classes(files)
    if flags.voc:
        truth = voc.read_ground_truth(*voc.in_layout(flags.voc, flags.set))
    else:
        truth = voc.read_ground_truth(flags.annotations, flags.list)
    found = {model: {name: voc.read_detections(path) for name, path in paths.items()} for model, paths in files.items()}
    compared = Compared(truth, found)
    with_results = list(next(iter(found.values())))
    if len(compared.strangers) == len(with_results):
        raise DataError(
            f"none of the classes with results ({_listed(with_results)}) is in the annotations, which contain "
            f"{_listed(truth.classes) or 'no object'}"
        )
    for model in found.values():
        for name, detections in model.items():
            voc.check_detections(name, detections, truth)
    return compared


def similar(flags: argparse.Namespace, compared: Compared) -> hoiem.SimilarClasses | None:
    """Returns the sets of `--similar`, or None for the default."""
    if not flags.similar:
        return None
    known = {*compared.truth.classes, *(name for model in compared.models.values() for name in model)}
    return hoiem.SimilarClasses.read(flags.similar, known)


def _refuse_different_classes(files: Mapping[str, Mapping[str, Path]]) -> None:
    """Raises DataError if a model has no results for a class of another one: their means could not be compared."""
    everything = list(dict.fromkeys(name for of_model in files.values() for name in of_model))
    lacking = [
        f"'{shown(model)}' has none for {_listed([name for name in everything if name not in of_model])}"
        for model, of_model in files.items()
        if len(of_model) < len(everything)
    ]
    if lacking:
        raise DataError(
            f"the models have results for different classes: {'; '.join(lacking)}. --label_map_file with the classes "
            "that all have compares these"
        )


def _listed(names: Sequence[str]) -> str:
    """The first names for a message."""
    more = f" and {len(names) - 10} more" if len(names) > 10 else ""
    return ", ".join(shown(name, 40) for name in names[:10]) + more


def model_names(paths: Sequence[str]) -> list[str]:
    """Returns a short name for each directory: its last parts, without those that are the same in all."""
    parts = [Path(os.path.abspath(path)).parts[1:] or ("results",) for path in paths]
    while len(parts) > 1 and all(len(p) > 1 and p[-1] == parts[0][-1] for p in parts):
        parts = [p[:-1] for p in parts]
    while len(parts) > 1 and all(len(p) > 1 and p[0] == parts[0][0] for p in parts):
        parts = [p[1:] for p in parts]
    if len(parts) == 1:
        # Main, the test set's directory, says nothing about the model
        return [next((part for part in reversed(parts[0]) if part not in ("Main", "results")), parts[0][-1])]
    return ["/".join(p) for p in parts]


def file_stem(name: str) -> str:
    """Returns a name as a part of a file's name: other characters than letters, digits, `.`, `-`, `_` become `_`."""
    stem = re.sub(r"[^\w.-]", "_", name)[:80]
    return f"_{stem}" if stem.startswith(".") or not stem else stem
