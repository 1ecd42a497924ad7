"""`score_coco`: COCO's average precision and recall of a JSON list of detections."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

from caffe.cli.flags import FlagParser, run
from caffe.data.image_list import read_lines
from caffe.detection import coco, report
from caffe.errors import DataError
from caffe.files import replacing

_EPILOG = """\
RESULTS is the JSON that DetectionOutput wrote (output_format: "COCO"), ANNOTATIONS the instances file of the set:

    score_coco results/minival/detections_minival_ssd300_results.json annotations/instances_minival2014.json

Images may be named by id or by file name in RESULTS. AP is the mean over overlaps 0.50 to 0.95. Small objects are
smaller than 32 x 32 pixels, large ones larger than 96 x 96.
"""


def main(argv: Sequence[str] | None = None) -> int:
    return run("score_coco", _main, argv)


def _main(argv: Sequence[str]) -> None:
    parser = FlagParser(prog="score_coco", description="Scores COCO results with pycocotools.", epilog=_EPILOG)
    parser.add_argument("results", metavar="RESULTS", help="JSON list of image_id, category_id, bbox, score")
    parser.add_argument("annotations", metavar="ANNOTATIONS", help="COCO instances file")
    parser.flag("list", help="file of image ids, one per line, to score on (default: all in ANNOTATIONS)")
    parser.flag("out", help="JSON file to write the score to")
    flags = parser.parse_args(argv)
    image_ids = None
    if flags.list:
        try:
            image_ids = [int(line.split()[0]) for _, line in read_lines(flags.list)]
        except ValueError:
            raise DataError(f"'{flags.list}' does not start every line with an image id") from None
    score = coco.evaluate(flags.results, flags.annotations, image_ids)
    print(f"{score.images} images, {score.detections} detections\n\n{report.coco_table(score)}", end="")
    if flags.out:
        with replacing(Path(flags.out)) as temporary:
            temporary.write_text(json.dumps(asdict(score), indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    raise SystemExit(main())
