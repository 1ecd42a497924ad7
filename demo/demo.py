"""From nothing to scored detectors: draws scenes, builds LMDBs, designs default boxes, generates a narrow MDSSD300 and
SSD300, trains and scores both, draws their detections, and writes a report that compares them.

Every step is a command that a user could type. It is printed before it runs. The results remain in a directory, whose
path is printed last: weights, logs, loss curves, VOC result files, AP of each class, pictures with boxes, and
report.html, which shows it all.
"""

from __future__ import annotations

import argparse
import json
import os
import shlex
import shutil
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

DEMO = Path(__file__).resolve().parent
ROOT = DEMO.parent
BIN = Path(sys.executable).parent
#: a narrow SSD300 that pretrain/pretrain.sh trained on other scenes; the demo starts from it, like the paper
PRETRAINED = DEMO / "pretrain" / "ssd300_narrow.caffemodel"
#: share of the channels, the same as in the pretrained weights
WIDTH = "0.125"
#: images per update
BATCH = 4
#: small objects copied within a training image, at most
PASTED = 3
#: 1.5 times as many default boxes as MDSSD300 has in the paper; only Module 1 gets new ones, so that the heads from SSD
#: keep their weights
MAX_BOXES = 46_848
#: the first two blocks of VGG are frozen: they would take much of the time, and have already learned from scenes
FROZEN = "conv1,conv2"
#: number of held-out scenes on which detections are drawn
PICTURES = 24
#: the lowest score that is drawn; small objects have lower scores than large ones
DRAWN = "0.4"
#: SUMMARY is written after all steps; MARKER marks a directory as that of an earlier run
SUMMARY = "summary.json"
MARKER = ".demo"
EXAMPLES = """
examples:
  python demo/demo.py                                           as `make demo` runs it
  python demo/demo.py --seed 2 --iterations 2000 --output longer_run
  python demo/demo.py --only-mdssd                              without SSD300: faster, and nothing to compare
  python demo/demo.py --compare                                 also trains SSD300 with designed boxes
"""


def shown(part: str) -> str:
    """Returns a path as a user in the project's directory would type it."""
    return part.replace(f"{BIN}/", "").replace(f"{ROOT}/", "")


@dataclass(frozen=True)
class Model:
    """A network that the demo trains: its name in paths, and the sources whose default boxes are designed."""

    name: str
    title: str
    generator: str
    sources: str = ""
    max_boxes: int = 0

    @property
    def prototxt(self) -> Path:
        """The published network, whose sources and boxes are the starting point of a design."""
        return ROOT / "models" / self.generator.upper() / "VOC" / "deploy.prototxt"


MDSSD = Model("mdssd300", "MDSSD300", "mdssd300", "module1", MAX_BOXES)
#: what MDSSD300 is compared with, and a control: do the boxes alone make the difference?
SSD = Model("ssd300", "SSD300", "ssd300")
CONTROL = Model("ssd300_designed", "SSD300 with designed boxes", "ssd300", "conv4_3_norm", 13_098)


class Steps:
    """Prints and runs commands one after another. Exits at the first one that fails."""

    def __init__(self, total: int) -> None:
        self.total = total
        self.seconds: dict[str, float] = {}

    def __call__(self, title: str, *commands: list[str | Path]) -> None:
        begun = time.monotonic()
        print(f"\n[{len(self.seconds) + 1}/{self.total}] {title}", flush=True)
        for command in commands:
            words = [str(word) for word in command]
            print(f"$ {' '.join(shlex.quote(shown(word)) for word in words)}", flush=True)
            # The commands and scripts have to use this Python.
            path = f"{BIN}{os.pathsep}{os.environ.get('PATH', '')}"
            status = subprocess.run(
                words, cwd=ROOT, env=os.environ | {"PATH": path, "PYTHON": sys.executable}
            ).returncode
            if status:
                sys.exit(f"demo: this command failed (status {status})")
        self.seconds[title] = time.monotonic() - begun


def fresh(folder: Path) -> None:
    """Creates `folder`, or empties it if it is that of an earlier run. Refuses to remove anything else."""
    if folder.exists() and any(folder.iterdir()):
        if not (folder / MARKER).exists():
            sys.exit(f"demo: {folder} is not an earlier run of the demo and is not changed; choose another --output")
        shutil.rmtree(folder)
    folder.mkdir(parents=True, exist_ok=True)
    (folder / MARKER).touch()


class Run:
    """The files of one run, and the steps that create them."""

    def __init__(self, folder: Path, options: argparse.Namespace, steps: Steps) -> None:
        self.folder, self.options, self.steps = folder, options, steps
        self.scenes = folder / "data" / "scenes"
        self.labels = self.scenes / "labelmap.prototxt"
        self.lmdbs = self.scenes / "lmdb"

    def make_data(self) -> None:
        """Draws the scenes and builds their lists and LMDBs."""
        options = self.options
        self.steps(
            "Scenes: a data set in VOC's layout",
            [sys.executable, DEMO / "scenes.py", "--output", self.scenes, "--train", options.train,
             "--test", options.test, "--seed", options.seed],
        )  # fmt: skip
        data, lists = self.scenes.parent, self.folder / "lists"
        self.steps(
            "Lists and LMDBs, with copies of small objects in the training images",
            [ROOT / "scripts/create_list.sh", data, lists],
            [ROOT / "scripts/create_data.sh", "-n", "scenes", "-r", data, "-l", lists, "-m", self.labels,
             "-a", f"--paste-small {PASTED}"],
        )  # fmt: skip

    def paths(self, model: Model) -> tuple[Path, Path]:
        """Returns the directory of a model's nets and weights, and that of its detections."""
        if model is MDSSD:
            return self.folder / "model", self.folder / "results"
        return self.folder / model.name / "model", self.folder / model.name / "results"

    def train(self, model: Model) -> None:
        """Designs the default boxes of one model, generates its nets, trains it and scores it."""
        options, (folder, results) = self.options, self.paths(model)
        boxes: list[str | Path] = []
        if model.sources:
            boxes = ["--boxes", folder.parent / "boxes" / "boxes.json"]
            self.steps(
                f"Default boxes for {model.title} that fit the scenes",
                [BIN / "design_boxes", self.lmdbs / "scenes_trainval_lmdb", "-net", model.prototxt,
                 "-label_map_file", self.labels, "-sources", model.sources, "-max_boxes", str(model.max_boxes),
                 "-balance", "none",
                 "-out", folder.parent / "boxes"],
            )  # fmt: skip
        last = options.iterations
        self.steps(
            f"{model.title} with {WIDTH} of the channels, initialized from a trained SSD300",
            [sys.executable, ROOT / f"prototxt_gen/{model.generator}.py", "--width", WIDTH, "--name", "scenes",
             "--label_map", self.labels, "--train_lmdb", self.lmdbs / "scenes_trainval_lmdb",
             "--test_lmdb", self.lmdbs / "scenes_test_lmdb",
             "--test_name_size", self.folder / "lists" / "test_name_size.txt", *boxes,
             "--start_from", options.weights.resolve(), "--freeze", FROZEN, "--gpus", "none", "--batch", str(BATCH),
             "--augmentation", "mirror", "--solver_type", "Adam", "--base_lr", "0.0007", "--max_iter", str(last),
             "--steps", str(last * 3 // 4), "--test_interval", str(last), "--snapshot", str(last),
             "--snapshot_prefix", folder / model.generator, "--random_seed", str(options.seed),
             "--result_dir", results, "--output", folder],
        )  # fmt: skip
        log = folder.parent / "log"
        self.steps(
            f"Training {model.title}",
            [BIN / "caffe", "train", "-solver", folder / "solver.prototxt", "-weights", folder / "start.caffemodel",
             "-log_dir", log],
            [BIN / "plot_training_log", "6", folder.parent / "loss.png", log / "caffe.INFO"],
        )  # fmt: skip
        self.steps(
            f"Scoring {model.title} on the held-out scenes",
            [ROOT / "scripts/score_voc.sh", results, "--voc", self.scenes, "--sizes", "--label_map_file", self.labels,
             "--out", folder.parent / "score"],
        )  # fmt: skip

    def draw(self, model: Model, names: list[str]) -> None:
        """Draws the model's detections on the scenes `names`."""
        folder, _ = self.paths(model)
        images = folder.parent / "pictures.txt"
        images.write_text("".join(f"{self.scenes}/JPEGImages/{name}.jpg\n" for name in names))
        self.steps(
            f"Pictures of the held-out scenes by {model.title}",
            [ROOT / "scripts/detect.sh", folder / "deploy.prototxt",
             folder / f"{model.generator}_iter_{self.options.iterations}.caffemodel", images,
             "-labelmap_file", self.labels, "-draw", folder.parent / "pictures", "-draw_threshold", DRAWN],
        )  # fmt: skip

    def report(self, models: Sequence[Model]) -> None:
        """Writes one page about the models, MDSSD300 last."""
        runs = [f"{model.title}={self.paths(model)[0].parent}" for model in (*models[1:], models[0])]
        self.steps(
            "The report",
            [BIN / "caffe", "report", "-voc", self.scenes, "-title", "Drawn scenes",
             "-out", self.folder / "report.html", *runs],
        )  # fmt: skip

    def score(self, model: Model) -> dict[str, object]:
        """Returns the contents of the model's score.json."""
        folder, _ = self.paths(model)
        found: dict[str, object] = json.loads((folder.parent / "score" / "score.json").read_text())
        return found


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter, epilog=EXAMPLES
    )
    parser.add_argument(
        "--output", type=Path, default=ROOT / "demo_run", help="directory for all files (default: demo_run)"
    )
    parser.add_argument("--seed", type=int, default=1, help="seed of the scenes and of training (default: %(default)s)")
    parser.add_argument("--train", type=int, default=1200, help="training images (default: %(default)s)")
    parser.add_argument("--test", type=int, default=200, help="held-out images (default: %(default)s)")
    parser.add_argument(
        "--iterations", type=int, default=1400, help="training iterations of 4 images (default: %(default)s)"
    )
    parser.add_argument(
        "--weights", type=Path, default=PRETRAINED, help="trained SSD300 to start from (default: %(default)s)"
    )
    networks = parser.add_mutually_exclusive_group()
    networks.add_argument("--only-mdssd", action="store_true", help="train MDSSD300 alone, not SSD300 too")
    networks.add_argument(
        "--compare", action="store_true",
        help="train SSD300 a second time, with designed boxes: do the boxes alone make the difference?",
    )  # fmt: skip
    options = parser.parse_args()
    if options.iterations < 4:
        parser.error(
            f"--iterations {options.iterations}: at least 4 are needed, because the rate falls at three quarters"
        )

    folder: Path = options.output.resolve()
    fresh(folder)
    begun = time.monotonic()
    models = (MDSSD,) if options.only_mdssd else (MDSSD, SSD, CONTROL) if options.compare else (MDSSD, SSD)
    compared = len(models) > 1
    run = Run(folder, options, Steps(3 + sum(4 + bool(model.sources) for model in models) + compared))
    run.make_data()
    names = (run.scenes / "ImageSets" / "Main" / "test.txt").read_text().split()[:PICTURES]
    for model in models:
        run.train(model)
        run.draw(model, names)
    if compared:
        run.steps(
            "The same scenes by SSD300 and by MDSSD300",
            [sys.executable, DEMO / "side_by_side.py", "--output", folder / "comparison.jpg", "--count", "5",
             "--annotations", run.scenes / "Annotations",
             "SSD300", folder / "ssd300" / "pictures", "MDSSD300", folder / "pictures"],
        )  # fmt: skip

    run.report(models)

    scores = {model.name: run.score(model) for model in models}
    summary = {"seconds": run.steps.seconds, "score": scores[MDSSD.name], "scores": scores}
    (folder / SUMMARY).write_text(json.dumps(summary, indent=2))
    minutes = (time.monotonic() - begun) / 60
    print(
        f"\nDone in {minutes:.1f} minutes. The report is\n{folder / 'report.html'}\nWeights, log and pictures are beside it."
    )


if __name__ == "__main__":
    main()
