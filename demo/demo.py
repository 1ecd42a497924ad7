"""From nothing to a scored detector: writes scenes, builds LMDBs, generates a narrow MDSSD300, trains, scores and
draws.

Every step is a command that a user of the project would type; it is printed before it runs. The results stay in a
directory, whose path is printed last: weights, log, loss curve, VOC result files, AP of each class, pictures with
boxes.
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
from pathlib import Path

DEMO = Path(__file__).resolve().parent
ROOT = DEMO.parent
BIN = Path(sys.executable).parent
#: a narrow SSD300 that pretrain/pretrain.sh made from other scenes; the demo starts from it, as the paper from SSD
PRETRAINED = DEMO / "pretrain" / "ssd300_narrow.caffemodel"
#: share of the channels; that of the pretrained weights
WIDTH = "0.125"
#: images per update
BATCH = 8
#: held-out scenes to draw the detections on
PICTURES = 24
#: SUMMARY is written when all steps are done; MARKER marks a directory as an earlier run's
SUMMARY = "summary.json"
MARKER = ".demo"
EXAMPLES = """
examples:
  python demo/demo.py                                           as `make demo` runs it
  python demo/demo.py --seed 2 --iterations 600 --output longer_run
"""


def shown(part: str) -> str:
    """A path as a user in the project's directory would type it."""
    return part.replace(f"{BIN}/", "").replace(f"{ROOT}/", "")


class Steps:
    """Prints and runs commands one after another; ends the program at the first that fails."""

    def __init__(self, total: int) -> None:
        self.total = total
        self.seconds: dict[str, float] = {}

    def __call__(self, title: str, *commands: list[str | Path]) -> None:
        begun = time.monotonic()
        print(f"\n[{len(self.seconds) + 1}/{self.total}] {title}", flush=True)
        for command in commands:
            words = [str(word) for word in command]
            print(f"$ {' '.join(shlex.quote(shown(word)) for word in words)}", flush=True)
            # The project's commands and scripts have to be those of this Python.
            path = f"{BIN}{os.pathsep}{os.environ.get('PATH', '')}"
            status = subprocess.run(
                words, cwd=ROOT, env=os.environ | {"PATH": path, "PYTHON": sys.executable}
            ).returncode
            if status:
                sys.exit(f"demo: that command failed (status {status})")
        self.seconds[title] = time.monotonic() - begun


def fresh(folder: Path) -> None:
    """Creates `folder`, and replaces an earlier run there; refuses to remove anything else."""
    if folder.exists() and any(folder.iterdir()):
        if not (folder / MARKER).exists():
            sys.exit(
                f"demo: {folder} is not an earlier run of the demo and is left alone; name another directory with --output"
            )
        shutil.rmtree(folder)
    folder.mkdir(parents=True, exist_ok=True)
    (folder / MARKER).touch()


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter, epilog=EXAMPLES
    )
    parser.add_argument("--seed", type=int, default=1, help="of scenes and training (default: %(default)s)")
    parser.add_argument("--train", type=int, default=1200, help="training images (default: %(default)s)")
    parser.add_argument("--test", type=int, default=200, help="held-out images (default: %(default)s)")
    parser.add_argument("--iterations", type=int, default=300, help="training, 8 images each (default: %(default)s)")
    parser.add_argument(
        "--weights", type=Path, default=PRETRAINED, help="what training starts from (default: %(default)s)"
    )
    options = parser.parse_args()

    run: Path = options.output.resolve()
    data, lists, model, results = (run / name for name in ("data", "lists", "model", "results"))
    labels, sizes = data / "scenes" / "labelmap.prototxt", lists / "test_name_size.txt"
    lmdb = data / "scenes" / "lmdb"
    held_out = data / "scenes" / "ImageSets" / "Main" / "test.txt"
    weights = f"{model}/mdssd300_iter_{options.iterations}.caffemodel"
    fresh(run)
    begun = time.monotonic()
    steps = Steps(6)

    steps(
        "Scenes: a data set in VOC's layout",
        [sys.executable, DEMO / "scenes.py", "--output", data / "scenes", "--train", options.train,
         "--test", options.test, "--seed", options.seed],
    )  # fmt: skip
    steps(
        "Lists and LMDBs",
        [ROOT / "scripts/create_list.sh", data, lists],
        [ROOT / "scripts/create_data.sh", "-n", "scenes", "-r", data, "-l", lists, "-m", labels],
    )
    steps(
        f"MDSSD300 with {WIDTH} of the channels",
        [sys.executable, ROOT / "prototxt_gen/mdssd300.py", "--width", WIDTH, "--name", "scenes",
         "--label_map", labels, "--train_lmdb", lmdb / "scenes_trainval_lmdb", "--test_lmdb", lmdb / "scenes_test_lmdb",
         "--test_name_size", sizes, "--gpus", "none", "--batch", BATCH,
         "--augmentation", "mirror", "--solver_type", "Adam", "--base_lr", 0.0005, "--max_iter", options.iterations,
         "--steps", options.iterations * 3 // 4, "--test_interval", options.iterations,
         "--snapshot", options.iterations, "--snapshot_prefix", f"{model}/mdssd300", "--random_seed", options.seed,
         "--result_dir", results, "--output", model],
    )  # fmt: skip
    steps(
        "Training, from a narrow SSD300",
        [
            BIN / "caffe",
            "train",
            "-solver",
            model / "solver.prototxt",
            "-weights",
            options.weights.resolve(),
            "-log_dir",
            run / "log",
        ],
        [BIN / "plot_training_log", 6, run / "loss.png", run / "log" / "caffe.INFO"],
    )
    steps(
        "Scoring the held-out scenes",
        [ROOT / "scripts/score_voc.sh", results, "--voc", data / "scenes", "--sizes", "--label_map_file", labels,
         "--out", run / "score"],
    )  # fmt: skip
    names = held_out.read_text().split()[:PICTURES]
    (run / "pictures.txt").write_text("".join(f"{data}/scenes/JPEGImages/{name}.jpg\n" for name in names))
    steps(
        "Pictures of the held-out scenes",
        [ROOT / "scripts/detect.sh", model / "deploy.prototxt", weights, run / "pictures.txt", "-labelmap_file", labels,
         "-draw", run / "pictures"],
    )  # fmt: skip

    score = json.loads((run / "score" / "score.json").read_text())
    (run / SUMMARY).write_text(json.dumps({"seconds": steps.seconds, "score": score}, indent=2))
    print(
        f"\nDone in {(time.monotonic() - begun) / 60:.1f} minutes. mAP, loss curve, pictures and weights are in\n{run}"
    )


if __name__ == "__main__":
    main()
