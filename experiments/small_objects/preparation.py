"""Prepares what all trainings of a data set share: label map, lists, LMDBs, default boxes, initial weights, costs."""

from __future__ import annotations

import json
import shlex
from pathlib import Path
from typing import Any

from caffe.data.image_list import read_lines
from caffe.data.label_map import LabelMap
from caffe.detection.voc import GroundTruth, read_ground_truth
from caffe.errors import CaffeError, DataError
from caffe.files import write_text
from caffe.proto import caffe_pb2
from caffe.proto.weights import read_weights, write_weights
from experiments.small_objects.commands import ROOT, Commands
from experiments.small_objects.decoder_control import change
from experiments.small_objects.normalization import normalize
from experiments.small_objects.plan import NETWORKS, Arm, Plan

#: the share of the iterations after which the learning rate falls to a tenth
_STEP = 0.75


class Folder:
    """The files of one experiment that its runs share."""

    def __init__(self, out: Path, plan: Plan) -> None:
        self.out, self.plan = out, plan
        self.data = Path(plan.folder)
        self.labels = out / "labelmap.prototxt"
        self.lists = out / "lists"
        self.instances = out / "instances_test.json"
        self.trunk = out / "start" / "trunk.caffemodel"
        self.costs = out / "costs.json"

    def lmdb(self, name: str) -> Path:
        """Returns the path of the LMDB of a list."""
        return self.out / "lmdb" / name

    def model(self, arm: Arm) -> Path:
        """Returns the directory of an arm's prototxts that are used only for its boxes and its cost."""
        return self.out / "models" / arm.model

    def boxes(self, network: str) -> Path:
        """Returns the path of the default boxes that design_boxes proposes for a network."""
        return self.out / "boxes" / network / "boxes.json"

    def truth(self) -> GroundTruth:
        """Reads the ground truth of the test images."""
        return read_ground_truth(self.data / "Annotations", self.data / "ImageSets" / "Main" / "test.txt")

    def cost(self, arm: Arm) -> dict[str, float]:
        """Returns the cost of an arm's network; see cost.py."""
        values = json.loads(self.costs.read_text(encoding="utf-8"))
        return dict(values[arm.model])

    def iterations(self, arm: Arm) -> int:
        """Returns the iterations of an arm. `longer` arms get the time of MDSSD with the same boxes and start."""
        if not arm.longer:
            return self.plan.iterations
        ratio = self.cost(arm.mdssd)["seconds_per_iteration"] / self.cost(arm)["seconds_per_iteration"]
        return round(self.plan.iterations * max(ratio, 1.0))


def generate(
    commands: Commands, folder: Folder, arm: Arm, output: Path, iterations: int, seed: int, *, start: bool = False
) -> None:
    """Writes the prototxts of an arm. start: also write start.caffemodel, which computes what the SSD does."""
    plan = folder.plan
    boxes = ["--boxes", folder.boxes(arm.generator)] if arm.boxes == "designed" else []
    commands.run(
        output / "generate.log", ROOT / "prototxt_gen" / f"{arm.generator}.py", *arm.flags, "--width", plan.width,
        "--name", plan.data, "--label_map", folder.labels, "--train_lmdb", folder.lmdb("trainval"),
        "--test_lmdb", folder.lmdb("test"),
        "--test_name_size", folder.lists / "test_name_size.txt", "--gpus", plan.gpu, "--batch", plan.batch,
        "--augmentation", plan.augmentation, "--solver_type", "Adam", "--base_lr", plan.base_lr,
        "--max_iter", iterations, "--steps", max(1, round(iterations * _STEP)), "--test_interval", iterations + 1,
        "--snapshot", plan.snapshot_interval(iterations), "--snapshot_prefix", output / "snapshots" / "net",
        "--random_seed", seed, "--result_dir", output / "results", "--output", output, *boxes,
        *(["--start_from", plan.weights] if start else []),
    )  # fmt: skip


def complete(arm: Arm, output: Path) -> None:
    """Changes the nets of an arm that `generate` wrote as its start and its control need it. It may be called again."""
    if arm.start == "scratch":
        normalize(output)
    if arm.control:
        change(output, arm.control)


def prepare(commands: Commands, folder: Folder, arms: list[Arm]) -> None:
    """Creates what does not exist yet, step by step. The file of a step appears last and complete."""
    log = folder.out / "log"
    if not folder.labels.exists():
        _label_map(commands, folder)
    if not (folder.lists / "test_name_size.txt").exists() or not (folder.lists / "trainval.txt").exists():
        commands.run(
            log / "create_list.log", "-m", "caffe.cli.create_list", "-datasets", folder.data.name, folder.data.parent,
            folder.lists,
        )  # fmt: skip
    for name in ("trainval", "test"):
        if not (folder.lmdb(name) / "data.mdb").exists():
            more = shlex.split(folder.plan.annoset) if name == "trainval" else []
            commands.run(
                log / "convert_annoset.log", "-m", "caffe.cli.convert_annoset", "-anno_type=detection",
                f"-label_map_file={folder.labels}", "-check_label", "-encode_type=jpg", "-encoded", "-redo", *more,
                folder.data.parent, folder.lists / f"{name}.txt", folder.lmdb(name),
            )  # fmt: skip
    if not folder.instances.exists():
        write_text(folder.instances, json.dumps(instances(folder.truth())) + "\n")
    if not folder.trunk.exists() and any(arm.start == "trunk" for arm in arms):
        _trunk(folder)
    models: set[Arm] = set()
    for arm in arms:
        start = "scratch" if arm.start == "scratch" else "trunk"
        # the length of `longer` arms depends on both networks
        for network in {arm.network, arm.generator, *(NETWORKS if arm.longer else ())}:
            model = Arm(network, arm.boxes, start)
            models |= {model, Arm(model.generator, "released")}
    limit = ["-max_boxes", folder.plan.max_boxes] if folder.plan.max_boxes else []
    for model in sorted(models, key=lambda model: (model.boxes != "released", model.name)):
        generator = model.generator
        if model.boxes == "designed" and not folder.boxes(generator).exists():
            commands.run(  # boxes are designed for the net with the released ones
                log / "design_boxes.log", "-m", "caffe.cli.design_boxes",
                "-net", folder.model(Arm(generator, "released")) / "deploy.prototxt", folder.lmdb("trainval"),
                "-out", folder.boxes(generator).parent, *limit,
            )  # fmt: skip
        if not (folder.model(model) / "solver.prototxt").exists():
            generate(commands, folder, model, folder.model(model), folder.plan.iterations, 1)
        complete(model, folder.model(model))


def measure_costs(commands: Commands, folder: Folder, arms: list[Arm]) -> None:
    """Measures the networks with each kind of boxes, in turn. Those that were measured before keep their costs."""
    known = json.loads(folder.costs.read_text(encoding="utf-8")) if folder.costs.exists() else {}
    for boxes in sorted({arm.boxes for arm in arms}):
        chosen = [arm for arm in arms if arm.boxes == boxes]
        # from a trained SSD, SSD300 and MDSSD300 are compared, of which one may be missing here
        both = [Arm(network, boxes) for network in NETWORKS if any(arm.start != "scratch" for arm in chosen)]
        longest = [arm.mdssd for arm in chosen if arm.longer]
        models = {arm.model: folder.model(arm) for arm in (*both, *chosen, *longest)}
        new = {n: m for n, m in models.items() if n not in known and (m / "solver.prototxt").exists()}
        if not new or not all((folder.model(arm) / "solver.prototxt").exists() for arm in both):
            continue
        output = folder.out / "log" / f"costs_{boxes}.json"
        program = ROOT / "experiments" / "small_objects" / "cost.py"
        commands.run(
            folder.out / "log" / "cost.log", program, "--out", output, "--gpu", folder.plan.gpu,
            "--precision", folder.plan.precision, *new.values(),
        )  # fmt: skip
        measured = json.loads(output.read_text(encoding="utf-8"))
        known.update(zip(new, measured, strict=True))
        write_text(folder.costs, json.dumps(known, indent=1) + "\n")


def _label_map(commands: Commands, folder: Folder) -> None:
    lists = folder.data / "ImageSets" / "Main"
    missing = [name for name in ("trainval", "test") if not (lists / f"{name}.txt").is_file()]
    if missing:
        raise DataError(f"{folder.data} is not a data set in VOC's layout: it has no ImageSets/Main/{missing[0]}.txt")
    both = [{line.split()[0] for _, line in read_lines(lists / f"{name}.txt")} for name in ("trainval", "test")]
    if common := both[0] & both[1]:
        raise DataError(
            f"{folder.data}: {len(common)} images are in both lists, such as {min(common)}, so the test would be invalid"
        )
    classes = read_ground_truth(folder.data / "Annotations", lists / "trainval.txt").classes
    if not classes:
        raise DataError(f"{folder.data}: the training images have no objects")
    names = folder.out / "classes.txt"
    write_text(names, "".join(f"{name}\n" for name in classes))
    commands.run(
        folder.out / "log" / "create_label_map.log", "-m", "caffe.cli.create_label_map", "-include_background",
        "-delimiter", "\t", names, folder.labels,
    )  # fmt: skip


def instances(truth: GroundTruth) -> dict[str, Any]:
    """Returns the test set in COCO's instances format. Difficult objects are crowds, which do not have to be found."""
    numbers = {name: i for i, name in enumerate(truth.images, 1)}
    annotations: list[dict[str, Any]] = []
    for category, name in enumerate(truth.classes, 1):
        for image, objects in truth.objects[name].items():
            for (x0, y0, x1, y1), difficult in zip(objects.boxes.tolist(), objects.difficult.tolist(), strict=True):
                width, height = x1 - x0, y1 - y0
                annotations.append(
                    {
                        "id": len(annotations) + 1,
                        "image_id": numbers[image],
                        "category_id": category,
                        "bbox": [x0, y0, width, height],
                        "area": width * height,
                        "iscrowd": int(difficult),
                    }
                )
    return {
        "images": [{"id": number, "file_name": name} for name, number in numbers.items()],
        "annotations": annotations,
        "categories": [{"id": i, "name": name} for i, name in enumerate(truth.classes, 1)],
    }


def _trunk(folder: Folder) -> None:
    """Writes the trained SSD's layers without its prediction heads, which start from scratch in all arms."""
    kept = [
        layer
        for layer in read_weights(folder.plan.weights)
        if layer.blobs and not layer.name.endswith(("_mbox_loc", "_mbox_conf"))
    ]
    if not kept:
        raise CaffeError(f"--weights {folder.plan.weights}: it has no layer with weights")
    net = caffe_pb2.NetParameter(name="trunk")
    for layer in kept:
        net.layer.add(name=layer.name, type=layer.type)
    folder.trunk.parent.mkdir(parents=True, exist_ok=True)
    write_weights(folder.trunk, net, [layer.blobs for layer in kept])


def classes_of(folder: Folder) -> list[str]:
    """Returns the classes that are trained, without the background."""
    return [item.name for item in LabelMap.read(folder.labels).items if item.label != 0]
