"""`score_coco`: COCO's average precision and recall of a JSON list of detections."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict

from caffe.cli import voc_flags
from caffe.cli.flags import FlagParser, run
from caffe.data.image_list import read_lines
from caffe.detection import coco, coco_submission, report
from caffe.detection.coco_files import read_results
from caffe.errors import DataError, counted
from caffe.files import check_target, write_text

_EPILOG = """\
RESULTS is the JSON that DetectionOutput wrote (output_format: "COCO"), ANNOTATIONS the instances file of the set:

    score_coco results/minival/detections_minival_ssd300_results.json annotations/instances_minival2014.json

Several RESULTS are shown side by side. Images may be named by id or by file name in RESULTS. AP is the mean over
overlaps 0.50 to 0.95. Small objects are smaller than 32 x 32 pixels, large ones larger than 96 x 96; other sizes:

    score_coco results.json annotations.json --areas tiny:0-16,small:16-32,rest:32-
    score_coco results.json aitod_test_v1.json --areas aitod

The file for COCO's test server, checked (test-dev has no annotations, so nothing is scored):

    score_coco results.json annotations/image_info_test-dev2017.json --submit upload --algorithm mdssd300
"""


def main(argv: Sequence[str] | None = None) -> int:
    return run("score_coco", _main, argv)


def _main(argv: Sequence[str]) -> None:
    parser = FlagParser(prog="score_coco", description="Scores COCO results with pycocotools.", epilog=_EPILOG)
    parser.add_argument(
        "results", metavar="RESULTS", nargs="+", help="JSON list of image_id, category_id, bbox, score"
    )  # fmt: skip
    parser.add_argument("annotations", metavar="ANNOTATIONS", help="COCO instances file")
    parser.flag("list", help="file of image ids, one per line, to score on (default: all in ANNOTATIONS)")
    parser.flag("areas", default="coco", help="sizes of objects: coco, aitod, or NAME:FROM-TO,… in pixels")
    parser.flag("max_dets", help="numbers of detections per image, increasing (default: 1,10,100; aitod: 1,100,1500)")
    parser.flag("names", help="names of the models, separated by ',' (default: what differs in their files)")
    parser.flag("out", help="JSON file to write the score to; for several RESULTS, scores by name")
    parser.flag("submit", help="directory for the test server's file, instead of scoring")
    parser.flag("algorithm", help="with --submit: name of the method in the file's name")
    parser.flag("subset", default="test-dev2017", help="with --submit: name of the set in the file's name")
    flags = parser.parse_args(argv)
    if bool(flags.submit) != bool(flags.algorithm):
        parser.error("--submit and --algorithm go together")
    if flags.submit:
        if len(flags.results) > 1:
            parser.error("--submit takes one RESULTS")
        _submit(flags.results[0], flags.annotations, flags.submit, flags.algorithm, flags.subset)
        return
    names = [n.strip() for n in flags.names.split(",")] if flags.names else voc_flags.model_names(flags.results)
    if len(names) != len(flags.results) or len(set(names)) < len(names) or not all(names):
        parser.error(f"--names must be {len(flags.results)} different names")
    areas = coco.parse_areas(flags.areas)
    preset = coco.PRESETS.get(flags.areas, coco.PRESETS["coco"])[1]
    max_dets = coco.parse_max_dets(flags.max_dets) if flags.max_dets else preset
    image_ids = None
    if flags.list:
        try:
            image_ids = [int(line.split()[0]) for _, line in read_lines(flags.list)]
        except ValueError:
            raise DataError(f"'{flags.list}' does not start every line with an image id") from None
    if flags.out:
        check_target(flags.out)
    dataset = coco.read_instances(flags.annotations)
    scores = {
        name: coco.score(dataset, read_results(path, dataset), image_ids, areas=areas, max_dets=max_dets)
        for name, path in zip(names, flags.results, strict=True)
    }
    first = scores[names[0]]
    found = " and ".join(counted(score.detections, "detection") for score in scores.values())
    print(f"{counted(first.images, 'image')}, {found}\n\n{report.coco_table(scores)}", end="")
    for name, score in scores.items():
        if not score.detections:
            print(f"\n'{name}' has no detections: is confidence_threshold too high, or has the net not learned yet?")
    if flags.out:
        values = {name: asdict(score) for name, score in scores.items()}
        write_text(flags.out, json.dumps(values if len(values) > 1 else values[names[0]], indent=1) + "\n")


def _submit(results: str, info: str, folder: str, algorithm: str, subset: str) -> None:
    """Writes the server's file and says what is in it."""
    written = coco_submission.write_submission(results, info, folder, algorithm, subset)
    print(
        f"{counted(written.images, 'image')}, {counted(written.detections, 'detection')}: all ids, boxes and scores are valid"
    )
    if written.empty:
        print(f"Images without a detection: {written.empty:,}. Is the file of the whole set?")
    if written.crowded:
        print(f"Images with more than 100 detections, of which the server takes the best: {written.crowded:,}")
    print(f"Written: {written.json} and, to upload, {written.archive}")


if __name__ == "__main__":
    raise SystemExit(main())
