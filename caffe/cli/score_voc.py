"""`score_voc`: mAP of VOC result files, as the VOC development kit computes it."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from pathlib import Path

from tqdm import tqdm

from caffe.cli.flags import LABEL_MAP, FlagParser, boolean, run
from caffe.data.label_map import LabelMap
from caffe.detection import hoiem, report, voc
from caffe.detection.average_precision import mean
from caffe.errors import DataError
from caffe.files import replacing

_EPILOG = """\
RESULTS is the directory where DetectionOutput wrote comp4_det_test_<class>.txt (its save_output_param). Ground truth is
either a directory in VOC's layout and the name of a list in its ImageSets/Main:

    score_voc results/VOC2007/SSD_300x300/Main --voc ~/data/VOCdevkit/VOC2007 --set test

or a directory of XML annotations and a list of image names:

    score_voc results --annotations BCCD/Annotations --list BCCD/ImageSets/Main/test.txt --area

--sizes and --diagnose are the analysis of Hoiem et al. (ECCV 2012), for classes with ten objects or more. --similar
names a file with sets of classes that are easily confused, one per line, such as `cat, dog, horse`.
"""


def main(argv: Sequence[str] | None = None) -> int:
    return run("score_voc", _main, argv)


def _main(argv: Sequence[str]) -> None:
    parser = FlagParser(prog="score_voc", description="Scores VOC result files: AP by class and mAP.", epilog=_EPILOG)
    parser.add_argument("results", metavar="RESULTS", help="directory of the result files")
    parser.flag("voc", help="directory with Annotations and ImageSets/Main, such as VOCdevkit/VOC2007")
    parser.flag("set", default="test", help="list in ImageSets/Main, with --voc")
    parser.flag("annotations", help="directory of the XML annotations, instead of --voc")
    parser.flag("list", help="file of image names, one per line, with --annotations")
    parser.flag("prefix", default="comp4_det_test_", help="prefix of the result files' names")
    parser.flag(
        "label_map_file",
        aliases=LABEL_MAP,
        help="score the classes of this LabelMap (default: those with a result file)",
    )
    parser.flag("overlap", type=float, default=0.5, help="overlap at which an object is found")
    parser.flag("area", type=boolean, default=False, help="AP as the area under the curve (VOC 2010 on), not 11 points")
    parser.flag("sizes", type=boolean, default=False, help="also AP_N by object size, XS to XL (MDSSD, Table IV)")
    parser.flag(
        "diagnose", type=boolean, default=False,
        help="also kinds of false positives and their impact; with --out, all values in diagnosis.json",
    )  # fmt: skip
    parser.flag(
        "similar", help="file of sets of similar classes, for --diagnose (default: VOC's if all classes are VOC's)"
    )
    parser.flag(
        "objects_per_image", type=float, default=hoiem.OBJECTS_PER_IMAGE,
        help="with --sizes and --diagnose: number of objects that precision is normalized to, per image",
    )  # fmt: skip
    parser.flag("out", help="directory for score.txt, score.json and precision-recall curves")
    flags = parser.parse_args(argv)
    if bool(flags.voc) == bool(flags.annotations and flags.list):
        parser.error("give either --voc, or --annotations and --list")
    if flags.similar and not flags.diagnose:
        parser.error("--similar needs --diagnose")
    if not 0 < flags.objects_per_image < math.inf:
        parser.error(f"--objects_per_image must be a positive number, not {flags.objects_per_image}")

    files = voc.find_result_files(flags.results, flags.prefix)
    if flags.label_map_file:
        names = [i.name for i in LabelMap.read(flags.label_map_file).items if i.label != 0]
        absent = [name for name in names if name not in files]
        if absent:
            raise DataError(
                f"'{flags.results}' has no {flags.prefix}{absent[0]}.txt"
                + (f", and no files for {len(absent) - 1} other classes of the label map" if absent[1:] else "")
            )
        files = {name: files[name] for name in names}
    folder = Path(flags.annotations or Path(flags.voc) / "Annotations")
    image_list = Path(flags.list or Path(flags.voc) / "ImageSets" / "Main" / f"{flags.set}.txt")
    truth = voc.read_ground_truth(folder, image_list)
    strangers = [name for name in files if truth.count(name) == 0]
    if len(strangers) == len(files):
        raise DataError(
            f"none of the classes with results ({', '.join(files)}) is in the annotations, which contain "
            f"{', '.join(truth.classes) or 'no object'}"
        )
    known = {*truth.classes, *files}
    similar = hoiem.SimilarClasses.read(flags.similar, known) if flags.similar else None
    found = {name: voc.read_detections(path) for name, path in files.items()}
    scores = [
        voc.score_class(name, detections, truth, eleven_points=not flags.area, threshold=flags.overlap)
        for name, detections in tqdm(found.items(), desc="scoring", unit="class", disable=None, leave=False)
    ]
    text = report.voc_table(scores)
    diagnoses: dict[str, hoiem.ClassDiagnosis] = {}
    if flags.sizes or flags.diagnose:
        diagnoses = hoiem.diagnose(
            truth, found, similar=similar, objects_per_image=flags.objects_per_image, threshold=flags.overlap
        )
        text += "\n" + report.size_table(list(diagnoses.values()))
    if flags.diagnose:
        text += "\n" + report.diagnosis_table(list(diagnoses.values()))
    print(f"{len(truth.images)} images, {'area under the curve' if flags.area else '11-point'} AP\n\n{text}", end="")
    for name in strangers:
        print(f"\nThe ground truth has no '{name}': its AP counts as 0.")
    few = [name for name in found if name not in diagnoses and name not in strangers]
    if few and (flags.sizes or flags.diagnose):
        print(f"\nNot analyzed by size (fewer than {hoiem.LEAST_OBJECTS} objects): {', '.join(few)}.")
    if flags.out:
        written = _write(Path(flags.out), text, scores, diagnoses, full=flags.diagnose)
        print(f"\nWritten to {flags.out}: {', '.join(written)}")


def _write(
    folder: Path, text: str, scores: Sequence[voc.ClassScore], diagnoses: dict[str, hoiem.ClassDiagnosis], *, full: bool
) -> list[str]:
    """Writes the files of --out and returns their names. full: also write diagnosis.json."""
    folder.mkdir(parents=True, exist_ok=True)
    values = {
        "mAP": mean([s.average_precision for s in scores]),
        "AP": {s.name: s.average_precision for s in scores},
        "AP_N by size": {
            name: {
                size: None if math.isnan(group.average_precision) else group.average_precision
                for size, group in zip(hoiem.SIZES, diagnosis.size, strict=True)
            }
            for name, diagnosis in diagnoses.items()
        },
    }
    contents = {"score.txt": text, "score.json": json.dumps(values, indent=1) + "\n"}
    if full:
        analysis = {name: hoiem.as_json(diagnosis) for name, diagnosis in diagnoses.items()}
        contents["diagnosis.json"] = json.dumps(analysis, indent=1) + "\n"
    for name, content in contents.items():
        with replacing(folder / name) as temporary:
            temporary.write_text(content, encoding="utf-8")
    report.plot_curves(scores, folder)
    return [*contents, "precision_recall*.png"]


if __name__ == "__main__":
    raise SystemExit(main())
