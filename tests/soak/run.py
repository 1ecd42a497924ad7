"""A training that is killed, stopped, starved of disk and resumed for as long as asked, and what it used meanwhile."""

from __future__ import annotations

import json
import os
import random
import re
import resource
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import IO

import cv2
import numpy as np

from caffe.data.lmdb_source import LmdbWriter
from caffe.proto import caffe_pb2
from tests.processes import ROOT

IMAGES, TEST_IMAGES, HEIGHT, WIDTH = 120, 24, 120, 160
_KEEP = 3
_SAMPLE_SECONDS = 2.0
#: less than a snapshot, more than a log line
_SMALL_FILE = 20_000

_DATA = """
layer {{ name: "data" type: "AnnotatedData" top: "data" top: "label" include {{ phase: {phase} }}
  transform_param {{ mean_value: 104 mean_value: 117 mean_value: 123 {augmentation}
    resize_param {{ prob: 1 resize_mode: WARP height: 64 width: 64 interp_mode: LINEAR interp_mode: AREA
      interp_mode: NEAREST interp_mode: CUBIC interp_mode: LANCZOS4 }} }}
  data_param {{ source: "{source}" batch_size: {batch} backend: LMDB }}
  annotated_data_param {{ label_map_file: "labelmap.prototxt" {samplers} }} }}
"""
_AUGMENTATION = """mirror: true emit_constraint { emit_type: CENTER }
    distort_param { brightness_prob: 0.5 brightness_delta: 32 contrast_prob: 0.5 contrast_lower: 0.5 contrast_upper: 1.5
      hue_prob: 0.5 hue_delta: 18 saturation_prob: 0.5 saturation_lower: 0.5 saturation_upper: 1.5 random_order_prob: 0.5 }
    expand_param { prob: 0.5 max_expand_ratio: 4 }
    noise_param { prob: 0.1 hist_eq: true inverse: true decolorize: true gauss_blur: true posterize: true erode: true
      clahe: true jpeg: 60 saltpepper: true
      saltpepper_param { fraction: 0.05 value: 0 value: 128 value: 255 } }"""
_SAMPLERS = "batch_sampler { max_sample: 1 max_trials: 1 } " + " ".join(
    "batch_sampler { sampler { min_scale: 0.3 max_scale: 1 min_aspect_ratio: 0.5 max_aspect_ratio: 2 } "
    f"sample_constraint {{ min_jaccard_overlap: {least} }} max_sample: 1 max_trials: 50 }}"
    for least in (0.1, 0.5, 0.9)
)
_NET = """
layer { name: "c1" type: "Convolution" bottom: "data" top: "c1" convolution_param { num_output: 16 kernel_size: 3 stride: 2
  pad: 1 weight_filler { type: "msra" } } }
layer { name: "r1" type: "ReLU" bottom: "c1" top: "c1" }
layer { name: "c2" type: "Convolution" bottom: "c1" top: "c2" convolution_param { num_output: 32 kernel_size: 3 stride: 2
  pad: 1 weight_filler { type: "msra" } } }
layer { name: "bn" type: "BatchNorm" bottom: "c2" top: "c2" }
layer { name: "s" type: "Scale" bottom: "c2" top: "c2" scale_param { bias_term: true } }
layer { name: "r2" type: "ReLU" bottom: "c2" top: "c2" }
layer { name: "drop" type: "Dropout" bottom: "c2" top: "c2" dropout_param { dropout_ratio: 0.1 } }
layer { name: "c3" type: "Convolution" bottom: "c2" top: "c3" convolution_param { num_output: 48 kernel_size: 3 stride: 2
  pad: 1 weight_filler { type: "msra" } } }
layer { name: "r3" type: "ReLU" bottom: "c3" top: "c3" }
layer { name: "norm" type: "Normalize" bottom: "c3" top: "norm" norm_param { across_spatial: false channel_shared: false
  scale_filler { type: "constant" value: 10 } } }
layer { name: "prior" type: "PriorBox" bottom: "norm" bottom: "data" top: "prior" prior_box_param { min_size: 16
  max_size: 30 aspect_ratio: 2 flip: true variance: 0.1 variance: 0.1 variance: 0.2 variance: 0.2 } }
layer { name: "loc" type: "Convolution" bottom: "norm" top: "loc" convolution_param { num_output: 16 kernel_size: 3 pad: 1
  weight_filler { type: "xavier" } } }
layer { name: "lp" type: "Permute" bottom: "loc" top: "lp" permute_param { order: 0 order: 2 order: 3 order: 1 } }
layer { name: "lf" type: "Flatten" bottom: "lp" top: "lf" }
layer { name: "conf" type: "Convolution" bottom: "norm" top: "conf" convolution_param { num_output: 12 kernel_size: 3 pad: 1
  weight_filler { type: "xavier" } } }
layer { name: "cp" type: "Permute" bottom: "conf" top: "cp" permute_param { order: 0 order: 2 order: 3 order: 1 } }
layer { name: "cf" type: "Flatten" bottom: "cp" top: "cf" }
layer { name: "loss" type: "MultiBoxLoss" bottom: "lf" bottom: "cf" bottom: "prior" bottom: "label" top: "loss"
  include { phase: TRAIN } loss_param { normalization: VALID } multibox_loss_param { num_classes: 3
  neg_pos_ratio: 3 neg_overlap: 0.5 } }
layer { name: "cr" type: "Reshape" bottom: "cf" top: "cr" include { phase: TEST }
  reshape_param { shape { dim: 0 dim: -1 dim: 3 } } }
layer { name: "sm" type: "Softmax" bottom: "cr" top: "sm" include { phase: TEST } softmax_param { axis: 2 } }
layer { name: "sf" type: "Flatten" bottom: "sm" top: "sf" include { phase: TEST } }
layer { name: "found" type: "DetectionOutput" bottom: "lf" bottom: "sf" bottom: "prior" top: "found"
  include { phase: TEST } detection_output_param { num_classes: 3 nms_param { nms_threshold: 0.45 top_k: 100 }
  keep_top_k: 50 confidence_threshold: 0.01 save_output_param { output_directory: "results" output_name_prefix: "det_"
  label_map_file: "labelmap.prototxt" name_size_file: "sizes.txt" } } }
layer { name: "eval" type: "DetectionEvaluate" bottom: "found" bottom: "label" top: "eval" include { phase: TEST }
  detection_evaluate_param { num_classes: 3 overlap_threshold: 0.5 } }
"""
_SOLVER = f"""
net: "net.prototxt" base_lr: 0.002 lr_policy: "fixed" momentum: 0.9 weight_decay: 0.0005 max_iter: 100000000
display: 20 average_loss: 20 snapshot: 40 snapshot_prefix: "snapshots/soak" solver_mode: CPU random_seed: 1
test_iter: {TEST_IMAGES // 8} test_interval: 60 eval_type: "detection" ap_version: "11point"
"""


def prepare(folder: Path) -> None:
    """The data, net and solver of the training."""
    for split, count in (("train", IMAGES), ("test", TEST_IMAGES)):
        _write_records(folder / split, count)
    (folder / "snapshots").mkdir(exist_ok=True)
    (folder / "labelmap.prototxt").write_text("".join(f'item {{ name: "n{i}" label: {i} }}\n' for i in range(3)))
    (folder / "sizes.txt").write_text("".join(f"{i} {HEIGHT} {WIDTH}\n" for i in range(TEST_IMAGES)))
    data = _DATA.format(phase="TRAIN", source="train", batch=8, augmentation=_AUGMENTATION, samplers=_SAMPLERS)
    data += _DATA.format(phase="TEST", source="test", batch=8, augmentation="", samplers="batch_sampler { }")
    (folder / "net.prototxt").write_text(f'name: "soak"\n{data}{_NET}')
    (folder / "solver.prototxt").write_text(_SOLVER)


def _write_records(path: Path, count: int) -> None:
    """Rectangles of two colors on noise."""
    rng = np.random.default_rng(count)
    with LmdbWriter(path, replace=True) as writer:
        for number in range(count):
            image = rng.integers(60, 120, (HEIGHT, WIDTH, 3), np.uint8)
            record = caffe_pb2.AnnotatedDatum(type=caffe_pb2.AnnotatedDatum.BBOX)
            for label in (1, 2):
                group = record.annotation_group.add(group_label=label)
                for instance in range(int(rng.integers(1, 4))):
                    width, height = (int(side) for side in rng.integers(8, 60, 2))
                    x, y = int(rng.integers(0, WIDTH - width)), int(rng.integers(0, HEIGHT - height))
                    cv2.rectangle(
                        image, (x, y), (x + width, y + height), (0, 0, 255) if label == 1 else (255, 0, 0), -1
                    )
                    box = group.annotation.add(instance_id=instance).bbox
                    box.xmin, box.xmax = x / WIDTH, (x + width) / WIDTH
                    box.ymin, box.ymax = y / HEIGHT, (y + height) / HEIGHT
            record.datum.encoded, record.datum.channels = True, 3
            record.datum.data = cv2.imencode(".jpg", image)[1].tobytes()
            writer.put(f"{number:08d}_{number}.jpg".encode(), record.SerializeToString())


# ---- what processes use


@dataclass
class Sample:
    """At `seconds` after the start, of all processes of the training together."""

    seconds: float
    life: int
    processes: int
    #: their memory, shared pages counted once
    megabytes: float
    descriptors: int
    #: in /dev/shm, of the whole machine
    shared_megabytes: float
    iteration: int


def _family(pid: int) -> list[int]:
    found = [pid]
    for parent in found:
        try:
            for task in os.listdir(f"/proc/{parent}/task"):
                found += [int(child) for child in Path(f"/proc/{parent}/task/{task}/children").read_text().split()]
        except OSError:
            continue
    return found


def _uses(pid: int) -> tuple[float, int] | None:
    try:
        rollup = Path(f"/proc/{pid}/smaps_rollup").read_text()
        return int(rollup.partition("\nPss:")[2].split()[0]) / 1024, len(os.listdir(f"/proc/{pid}/fd"))
    except (OSError, IndexError):
        return None  # it has just ended


def _shared_memory() -> float:
    status = os.statvfs("/dev/shm")
    return (status.f_blocks - status.f_bfree) * status.f_frsize / 2**20


# ---- lives


@dataclass
class Life:
    """One run of `caffe train`, from start to its end."""

    number: int
    ranks: int
    workers: int
    event: str
    seconds: float = 0
    status: int = 0
    first: int = 0
    last: int = 0
    orphans: int = 0
    warnings: list[str] = field(default_factory=list)


EVENTS = ("kill", "kill", "terminate", "interrupt", "kill a worker", "full disk", "full disk, then kill")
#: the exit status that each must end with: 1 where the last snapshot cannot be written; others may end in any way
_STATUS = {"kill": -9, "terminate": 143, "interrupt": 0, "full disk": 1, "full disk, then kill": -9}


class Soak:
    """Runs lives, one after the other, and collects samples of what they use."""

    def __init__(self, folder: Path, seed: int, say: Callable[[str], None]) -> None:
        self.folder, self.rng, self.say = folder, random.Random(seed), say
        self.lives: list[Life] = []
        self.samples: list[Sample] = []
        self.problems: list[str] = []
        self._began = time.monotonic()
        self._iteration = 0

    def run(self, seconds: float, longest: float = 120) -> None:
        """Lives of 10 to `longest` seconds until `seconds` have passed."""
        while (left := seconds - (time.monotonic() - self._began)) > 5:
            event = self.rng.choice(EVENTS)
            life = Life(len(self.lives), self.rng.choice((1, 1, 2)), self.rng.choice((0, 1, 2)), event)
            if event == "kill a worker" and not life.workers:
                life.workers = 1
            self.lives.append(life)
            self._live(life, min(left, self.rng.uniform(10, longest)))
            self._judge(life)

    def newest(self) -> tuple[int, Path] | None:
        """The newest solver state and its iteration."""
        states = [(int(re.findall(r"_(\d+)\.", path.name)[0]), path) for path in self._snapshots("solverstate")]
        return max(states, default=None)

    def _snapshots(self, suffix: str) -> list[Path]:
        return list((self.folder / "snapshots").glob(f"soak_iter_*.{suffix}"))

    def _live(self, life: Life, seconds: float) -> None:
        newest = self.newest()
        life.first = newest[0] if newest else 0
        command = [sys.executable, "-P", "-m", "caffe.cli.caffe", "train", "-solver", "solver.prototxt"]
        command += ["-snapshot", "auto", "-keep", str(_KEEP)]
        command += ["-cpu_ranks", str(life.ranks), "-rank_timeout", "60"] if life.ranks > 1 else []
        small = "full disk" in life.event

        def before() -> None:
            for number in (signal.SIGINT, signal.SIGHUP, signal.SIGTERM):
                signal.signal(number, signal.SIG_DFL)
            if small:
                # a write beyond it fails, as on a full disk
                resource.setrlimit(resource.RLIMIT_FSIZE, (_SMALL_FILE, resource.RLIM_INFINITY))
                signal.signal(signal.SIGXFSZ, signal.SIG_IGN)

        log = self.folder / "log" / f"{life.number:05d}.log"
        log.parent.mkdir(exist_ok=True)
        with open(log, "wb") as output:
            process = subprocess.Popen(
                command, cwd=self.folder, stdout=output, stderr=subprocess.PIPE, start_new_session=True, preexec_fn=before,
                env={**os.environ, "CAFFE_DATA_WORKERS": str(life.workers), "PYTHONPATH": str(ROOT)},
            )  # fmt: skip
        assert process.stderr is not None
        os.set_blocking(process.stderr.fileno(), False)
        began, acted = time.monotonic(), False
        with open(log, "ab") as output:
            while True:
                self._copy(process, output, life)
                members = _family(process.pid)
                self._sample(life, members)
                if process.poll() is not None:
                    break
                if not acted and time.monotonic() - began > seconds and life.last > life.first:
                    acted = True
                    self._act(life.event, process.pid, members)
                elif time.monotonic() - began > seconds + 180:
                    self.problems.append(f"life {life.number} ({life.event}): it did not end, and was killed")
                    os.killpg(process.pid, signal.SIGKILL)
                time.sleep(0.2 if acted else _SAMPLE_SECONDS)
            time.sleep(0.5)
            self._copy(process, output, life)
        process.stderr.close()
        life.seconds, life.status = round(time.monotonic() - began, 1), process.wait()
        life.orphans = self._orphans(process.pid)

    def _copy(self, process: subprocess.Popen[bytes], output: IO[bytes], life: Life) -> None:
        """Takes the log so far; the limit of file sizes would else end it."""
        assert process.stderr is not None
        while True:
            try:
                text = os.read(process.stderr.fileno(), 1 << 16)
            except BlockingIOError:
                return
            if not text:
                return
            output.write(text)
            for line in text.decode(errors="replace").splitlines():
                if found := re.search(r"Iteration (\d+)", line):
                    life.last = max(life.last, int(found[1]))
                    self._iteration = life.last
                if line.startswith(("W", "E", "caffe train:", "Traceback")):
                    life.warnings.append(line[:300])

    def _act(self, event: str, pid: int, members: list[int]) -> None:
        if event == "kill a worker":
            victims = [member for member in members[1:] if _name(member).startswith(("python", "pt_", "caffe"))]
            os.kill(self.rng.choice(victims or members), signal.SIGKILL)
        elif event in ("terminate", "full disk"):
            os.kill(pid, signal.SIGTERM)
        elif event == "interrupt":
            os.kill(pid, signal.SIGINT)
        else:
            os.kill(pid, signal.SIGKILL)

    def _sample(self, life: Life, members: list[int]) -> None:
        uses = [use for member in members if (use := _uses(member)) is not None]
        if uses:
            self.samples.append(
                Sample(
                    round(time.monotonic() - self._began, 1),
                    life.number,
                    len(uses),
                    round(sum(m for m, _ in uses), 1),
                    sum(d for _, d in uses),
                    round(_shared_memory(), 1),
                    self._iteration,
                )
            )

    def _orphans(self, session: int) -> int:
        """Processes of a life that outlive it by more than the time in which ranks notice; they are ended."""
        deadline = time.monotonic() + 90
        while (left := _in_session(session)) and time.monotonic() < deadline:
            time.sleep(0.2)
        for pid in left:
            os.kill(pid, signal.SIGKILL)
        return len(left)

    def _judge(self, life: Life) -> None:
        """What was wrong with a life, and room for the next one."""
        text = f"life {life.number} ({life.event}, {life.ranks} ranks, {life.workers} workers)"
        if life.orphans:
            self.problems.append(f"{text}: left {life.orphans} processes")
        if any("Traceback" in warning for warning in life.warnings):
            self.problems.append(f"{text}: a stack trace")
        wanted = _STATUS.get(life.event)
        if wanted is not None and life.status != wanted:
            self.problems.append(f"{text}: ended with status {life.status} instead of {wanted}")
        newest = self.newest()
        reached = newest[0] if newest else 0
        if reached < life.first:
            self.problems.append(f"{text}: the newest snapshot went back from {life.first} to {reached}")
        # rank 0 may be the one that was killed, and it is the one that writes
        writer_killed = any("rank 0 was killed" in warning for warning in life.warnings)
        graceful = life.event in ("terminate", "interrupt", "kill a worker") and not writer_killed
        if graceful and life.last > life.first and reached < life.last:
            self.problems.append(f"{text}: iteration {life.last} was reached, but the newest snapshot has {reached}")
        self.say(f"{text}: iterations {life.first} to {life.last}, status {life.status}, newest snapshot {reached}")
        for path in (self.folder / "snapshots").glob(".*.tmp"):
            if time.time() - path.stat().st_mtime > 60:
                path.unlink()

    def write(self, path: Path) -> None:
        """Lives and samples as JSON."""
        values = {
            "lives": [asdict(life) for life in self.lives],
            "samples": [asdict(sample) for sample in self.samples],
        }
        path.write_text(json.dumps(values | {"problems": self.problems}, indent=1) + "\n")


def _name(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/comm").read_text().strip()
    except OSError:
        return ""


def _in_session(session: int) -> list[int]:
    found = []
    for entry in Path("/proc").glob("[0-9]*"):
        try:
            words = (entry / "stat").read_text().rpartition(")")[2].split()
        except OSError:
            continue
        if int(words[3]) == session and words[0] != "Z":
            found.append(int(entry.name))
    return found


def clear(folder: Path) -> None:
    """An empty folder."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
