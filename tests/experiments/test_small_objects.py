"""The experiment on small objects: its data sets, its plan, its statistics and its tables."""

from __future__ import annotations

import argparse
import json
import math
import re
from pathlib import Path

import numpy as np
import pytest

from caffe.detection import voc
from caffe.engine.layer import TEST
from caffe.engine.net import Net
from caffe.errors import CaffeError, DataError
from caffe.proto.text import to_text
from experiments.small_objects import cost, get_data, intervals, preparation, run, scoring, table, voc_layout
from experiments.small_objects.commands import Commands, OutOfTime
from experiments.small_objects.normalization import KEPT, normalize, normalized
from experiments.small_objects.plan import ARMS, DEFAULT_ARMS, GROUPS, Plan, runs, select
from experiments.small_objects.preparation import Folder
from experiments.small_objects.training import Training
from prototxt_gen.dsod300 import DSOD300
from prototxt_gen.mdssd300 import MDSSD300
from prototxt_gen.network import Network
from prototxt_gen.ssd300 import SSD300
from tests.conftest import ROOT
from tests.narrow import narrow_deploy
from tests.prototxt_gen.shape_calculation import calculate

PLAN = Plan(
    data="made", folder="/data/made", width="1/8", weights="ssd.caffemodel", iterations=1200, points=4, batch=8,
    base_lr=0.0005, augmentation="mirror", gpu="none", precision="fp32",
)  # fmt: skip


# ---- statistics


def test_students_t() -> None:
    """Compares the table with the integral of the density."""
    for degrees, t in enumerate(intervals._T, 1):
        x = np.linspace(0, t, 200_001)
        scale = math.exp(math.lgamma((degrees + 1) / 2) - math.lgamma(degrees / 2)) / math.sqrt(degrees * math.pi)
        density = scale * (1 + x * x / degrees) ** (-(degrees + 1) / 2)
        area = float(((density[1:] + density[:-1]) / 2).sum() * (x[1] - x[0]))
        assert area == pytest.approx(0.475, abs=4e-6), degrees


def test_summary_by_hand() -> None:
    found = intervals.summarize([1.0, 2.0, 6.0])
    assert found.n == 3
    assert found.mean == 3
    assert found.deviation == pytest.approx(math.sqrt(7))
    assert found.half_width == pytest.approx(4.3027 * math.sqrt(7 / 3))
    assert not found.decided
    assert intervals.summarize([1.0, 1.1, 1.2]).decided


def test_summaries_of_few_values() -> None:
    assert intervals.summarize([2.0, math.nan])[:2] == (1, 2)
    assert math.isnan(intervals.summarize([2.0]).half_width)
    assert not intervals.summarize([2.0]).decided
    assert intervals.summarize([]).n == 0
    assert not intervals.summarize([]).decided


def test_differences_are_paired_by_seed() -> None:
    """Seeds differ a lot and arms only a little; only the seeds that both have count."""
    found = intervals.paired({1: 10.1, 2: 20.2, 3: 30.1, 7: 0.0}, {1: 10.0, 2: 20.0, 3: 30.0, 8: 99.0})
    assert found.n == 3
    assert found.mean == pytest.approx(0.4 / 3)
    assert found.deviation == pytest.approx(np.std([0.1, 0.2, 0.1], ddof=1))


# ---- the plan


def test_arms_are_the_comparison() -> None:
    assert {(a.network, a.boxes) for a in ARMS.values() if a.start != "scratch"} == {
        *((network, boxes) for network in ("ssd300", "mdssd300") for boxes in ("released", "designed")),
        ("mdssd300-shallow", "designed"),
    }
    control = ARMS["mdssd300-shallow-designed-function"]
    assert (control.generator, control.flags) == ("mdssd300", ["--without_deep_side"])
    assert (ARMS["mdssd300-designed"].generator, ARMS["mdssd300-designed"].flags) == ("mdssd300", [])
    assert all(ARMS[name].start == "trunk" for name in DEFAULT_ARMS)
    assert {name for _, first, second in table.DIFFERENCES for name in (first, second)} == set(ARMS)


def test_groups_are_the_networks_of_all_families() -> None:
    generators = {path.stem for path in (ROOT / "prototxt_gen").glob("*.py") if path.stem[-3:].isdecimal()}
    assert set(GROUPS["families"]) == generators
    assert len(generators) == 9
    found = select(["families-300", "ssd300-designed-scratch", "ssd300-released"], ["designed", "released"])
    assert [arm.name for arm in found] == [
        *(f"{name}-{boxes}-scratch" for boxes in ("designed", "released") for name in GROUPS["families-300"]),
        "ssd300-released",
    ]
    assert set(ARMS) >= {arm.name for arm in select(["families"], ["designed", "released"])}
    assert ARMS["dssd321-released-scratch"].flags == ["--offset", "centered", "--from_scratch"]
    assert ARMS["ssd513-designed-scratch"].flags == ["--offset", "centered"]
    assert ARMS["dsod300-designed-scratch"].flags == []
    assert ARMS["ssd300-designed-scratch"].model != ARMS["ssd300-designed"].model, "batch normalization costs time"
    assert ARMS["ssd300-designed-function"].model == ARMS["ssd300-designed"].model


def test_unknown_arms() -> None:
    with pytest.raises(CaffeError, match=r"--arms family: there is no such arm; similar ones: families"):
        select(["family"], ["designed"])
    with pytest.raises(CaffeError, match=r"similar ones: .*ssd512-designed-scratch"):
        select(["ssd512-designed"], ["designed"])


def test_checkpoints_are_snapshots() -> None:
    for iterations in (1, 2, 7, 100, 1200, 1987):
        for points in (1, 2, 4, 5):
            plan = Plan(**{**vars(PLAN), "points": points})
            found, interval = plan.checkpoints(iterations), plan.snapshot_interval(iterations)
            assert found[-1] == iterations
            assert all(i % interval == 0 for i in found[:-1])
            assert len(found) == min(points, len(found)) <= points
    assert PLAN.checkpoints(1200) == [300, 600, 900, 1200]
    assert PLAN.snapshot_interval(1200) == 150


def test_a_plan_stays_as_it_began(tmp_path: Path) -> None:
    PLAN.save(tmp_path / "plan.json")
    PLAN.save(tmp_path / "plan.json")
    assert Plan.read(tmp_path / "plan.json") == PLAN
    other = Plan(**{**vars(PLAN), "iterations": 600, "width": "1/4"})
    with pytest.raises(CaffeError, match=r"started with width '1/8', not '1/4', iterations 1200, not 600.*--out"):
        other.save(tmp_path / "plan.json")
    (tmp_path / "plan.json").write_text('{"data": 1}')
    with pytest.raises(CaffeError, match="is not a plan of this program"):
        PLAN.save(tmp_path / "plan.json")


def test_longer_arms_take_as_much_time(tmp_path: Path) -> None:
    costs = {"ssd300-released": {"seconds_per_iteration": 0.5}, "mdssd300-released": {"seconds_per_iteration": 0.8}}
    folder = Folder(tmp_path, PLAN)
    folder.costs.write_text(json.dumps(costs))
    assert folder.iterations(ARMS["ssd300-released-longer"]) == 1920
    assert folder.iterations(ARMS["ssd300-released"]) == 1200


def test_seeds_are_finished_one_by_one(tmp_path: Path) -> None:
    arms = [ARMS["ssd300-released"], ARMS["mdssd300-released"]]
    found = [(r.seed, r.arm.name) for r in runs(tmp_path, arms, [1, 2])]
    assert found == [(s, a.name) for s in (1, 2) for a in arms]


def test_the_last_whole_snapshot(tmp_path: Path) -> None:
    training = Training(Folder(tmp_path, PLAN), next(runs(tmp_path, [ARMS["ssd300-released"]], [1])))
    assert training.reached() == 0
    training.snapshots.mkdir(parents=True)
    for name in ("net_iter_150", "net_iter_300", "net_iter_450"):
        (training.snapshots / f"{name}.caffemodel").touch()
        if name != "net_iter_450":  # killed between the two files
            (training.snapshots / f"{name}.solverstate").touch()
    assert training.reached() == 300
    training._remove_old_snapshots()
    assert sorted(p.name for p in training.snapshots.iterdir()) == [
        "net_iter_300.caffemodel",
        "net_iter_300.solverstate",
    ]
    assert training.unscored() == [300, 600, 900, 1200]
    training.score_file(300).write_text("{}")
    assert training.unscored() == [600, 900, 1200]


def test_from_random_numbers_there_are_no_weights(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    commands: list[list[str]] = []

    def train(self: Commands, log: Path, *words: object) -> float:
        commands.append([*map(str, words)])
        return 0.0

    monkeypatch.setattr(Commands, "run_until_stopped", train)
    folder = Folder(tmp_path, PLAN)
    for name in ("ssd300-designed-scratch", "ssd300-designed", "ssd300-designed-function"):
        training = Training(folder, next(runs(tmp_path, [ARMS[name]], [1])))
        with pytest.raises(CaffeError, match="training ended after 0 of 1200 iterations"):
            training._train(Commands(), 1200)
    given = [words[words.index("-weights") + 1] if "-weights" in words else None for words in commands]
    assert given == [
        None, str(folder.trunk), str(tmp_path / "runs/ssd300-designed-function/seed1/start.caffemodel"),
    ]  # fmt: skip


# ---- normalization


@pytest.mark.parametrize("network", [SSD300, MDSSD300])
def test_normalization_of_a_network_without_any(network: Network) -> None:
    plain = narrow_deploy(network)
    changed = normalized(plain)
    activated = {layer.bottom[0] for layer in plain.layer if layer.type == "ReLU"}
    convolutions = [layer.name for layer in plain.layer if layer.type == "Convolution" and layer.top[0] in activated]
    added = [layer for layer in changed.layer if layer.type == "BatchNorm"]
    assert [layer.name for layer in added] == [f"{name}_bn" for name in convolutions]
    assert {round(layer.batch_norm_param.moving_average_fraction, 6) for layer in added} == {KEPT}
    assert [layer for layer in changed.layer if layer.type not in ("BatchNorm", "Scale")] == list(plain.layer)
    assert normalized(changed) == changed


def test_normalization_of_a_network_that_has_it() -> None:
    plain = narrow_deploy(DSOD300)
    changed = normalized(plain)
    assert len(changed.layer) == len(plain.layer)
    for layer in changed.layer:
        if layer.type == "BatchNorm":
            assert layer.batch_norm_param.moving_average_fraction == pytest.approx(KEPT)
            layer.batch_norm_param.ClearField("moving_average_fraction")
    for layer in plain.layer:
        if layer.type == "BatchNorm":
            layer.batch_norm_param.ClearField("moving_average_fraction")
    assert changed == plain


def test_normalized_files(tmp_path: Path) -> None:
    (tmp_path / "train.prototxt").write_text(f"# Made by: a generator\n{to_text(narrow_deploy(SSD300))}")
    (tmp_path / "solver.prototxt").write_text("base_lr: 1\n")
    (tmp_path / "solver_ft.prototxt").write_text("base_lr: 1\n")
    normalize(tmp_path)
    text = (tmp_path / "train.prototxt").read_text()
    assert text.startswith("# Made by: a generator\n")
    assert "conv1_1_bn" in text
    assert (tmp_path / "solver.prototxt").read_text() == "base_lr: 1\n"
    normalize(tmp_path)
    assert (tmp_path / "train.prototxt").read_text() == text


# ---- commands and flags


def test_commands_tell_why_they_failed(tmp_path: Path) -> None:
    log = tmp_path / "logs" / "x.log"
    with pytest.raises(CaffeError, match=r"x\.log failed \(status 3\); its last lines:\n  one\n  two"):
        Commands().run(log, "-c", "print('one'); print('two', flush=True); raise SystemExit(3)")
    assert Commands().run(log, "-c", "pass") > 0


def test_commands_are_stopped_by_sigterm(tmp_path: Path) -> None:
    """Like `caffe train`, this does something more when it is terminated."""
    program = (
        "import signal\n"
        "signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGTERM])\n"
        "signal.sigwait([signal.SIGTERM])\n"
        "print('snapshot')"
    )
    commands = Commands(seconds=2)
    commands.need(0)
    assert commands.run_until_stopped(tmp_path / "x.log", "-c", program) < 30
    assert (tmp_path / "x.log").read_text() == "snapshot\n"
    with pytest.raises(OutOfTime):
        commands.need(0)


@pytest.mark.parametrize(("text", "seconds"), [("90", 90), ("90s", 90), ("10m", 600), ("1.5h", 5400)])
def test_durations(text: str, seconds: float) -> None:
    assert run.duration(text) == seconds


@pytest.mark.parametrize("text", ["", "0", "0m", "ten", "10d", "-5m", "nan"])
def test_durations_that_are_none(text: str) -> None:
    with pytest.raises(argparse.ArgumentTypeError, match="is not a time such as"):
        run.duration(text)


def test_errors_of_the_command_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "Annotations").mkdir()
    arguments = ["--folder", str(tmp_path), "--out", str(tmp_path / "out")]
    assert run.main(["--data", "a/b", *arguments]) == 1
    assert "may contain only letters" in capsys.readouterr().err
    assert run.main(["--data", "a", *arguments, "--weights", "none.caffemodel"]) == 1
    assert "none.caffemodel: no such file" in capsys.readouterr().err
    assert run.main(["--data", "a", "--folder", str(tmp_path / "out"), "--out", str(tmp_path / "out")]) == 1
    assert "it has no Annotations" in capsys.readouterr().err
    assert run.main(["--data", "a", *arguments]) == 1
    assert "it has no ImageSets/Main/trainval.txt" in capsys.readouterr().err
    assert run.main(["--data", "a", *arguments, "--arms", "ssd300-realeased"]) == 1
    assert "there is no such arm; similar ones: ssd300-released" in capsys.readouterr().err
    scratch = ["--weights", "none.caffemodel", "--arms", "families"]
    assert run.main(["--data", "b", *arguments[:2], "--out", str(tmp_path / "other"), *scratch]) == 1
    assert "it has no ImageSets" in capsys.readouterr().err, "no weights are needed"


def test_a_folder_is_worked_on_once(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    import fcntl

    (tmp_path / "Annotations").mkdir()
    (tmp_path / "out").mkdir()
    with open(tmp_path / "out" / ".lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        assert run.main(["--data", "a", "--folder", str(tmp_path), "--out", str(tmp_path / "out")]) == 1
    assert "is using this directory" in capsys.readouterr().err


# ---- preparation and scoring


@pytest.fixture
def truth() -> voc.GroundTruth:
    """Two images: a cat and a difficult cat in the first, a dog in the second."""
    cats = voc.Objects(np.array([[1.0, 1, 11, 21], [30, 30, 50, 50]]), np.array([False, True]))
    dogs = voc.Objects(np.array([[5.0, 5, 100, 105]]), np.array([False]))
    return voc.GroundTruth(("a", "b"), {"cat": {"a": cats}, "dog": {"b": dogs}})


def test_instances(truth: voc.GroundTruth) -> None:
    found = preparation.instances(truth)
    assert found["images"] == [{"id": 1, "file_name": "a"}, {"id": 2, "file_name": "b"}]
    assert [c["name"] for c in found["categories"]] == ["cat", "dog"]
    assert found["annotations"][0] == {
        "id": 1, "image_id": 1, "category_id": 1, "bbox": [1, 1, 10, 20], "area": 200, "iscrowd": 0,
    }  # fmt: skip
    assert [a["iscrowd"] for a in found["annotations"]] == [0, 1, 0]


def test_measures_of_perfect_and_of_no_detections(truth: voc.GroundTruth, tmp_path: Path) -> None:
    instances = tmp_path / "instances.json"
    instances.write_text(json.dumps(preparation.instances(truth)))
    results = tmp_path / "results"
    results.mkdir()
    (results / "comp4_det_test_cat.txt").write_text("a 0.9 1 1 11 21\n")
    (results / "comp4_det_test_dog.txt").write_text("b 0.9 5 5 100 105\n")
    found = scoring.score(results, truth, instances, ["cat", "dog"])["measures"]
    assert tuple(found) == scoring.MEASURES
    assert [found[m] for m in ("mAP", "COCO AP", "AP small", "AP large", "AR")] == pytest.approx([1] * 5)
    assert found["AP medium"] is None
    assert found["XS"] is None, "two objects are too few for groups"
    (results / "comp4_det_test_cat.txt").write_text("")
    (results / "comp4_det_test_dog.txt").write_text("")
    found = scoring.score(results, truth, instances, ["cat", "dog"])["measures"]
    assert (found["mAP"], found["COCO AP"], found["AP large"]) == (0, 0, 0)
    assert sorted(p.name for p in results.iterdir()) == ["comp4_det_test_cat.txt", "comp4_det_test_dog.txt"]


def test_the_trunk_has_no_heads(tmp_path: Path) -> None:
    from caffe.engine.weights import save
    from caffe.proto.weights import read_weights

    save(Net(narrow_deploy(SSD300), TEST), tmp_path / "ssd.caffemodel")
    folder = Folder(tmp_path / "out", Plan(**{**vars(PLAN), "weights": str(tmp_path / "ssd.caffemodel")}))
    preparation._trunk(folder)
    names = [layer.name for layer in read_weights(folder.trunk) if layer.blobs]
    assert {"conv1_1", "fc7", "conv9_2", "conv4_3_norm"} <= set(names)
    assert not [name for name in names if "mbox" in name]
    (tmp_path / "ssd.caffemodel").write_text("no weights")
    with pytest.raises(CaffeError, match=r"ssd\.caffemodel"):
        preparation._trunk(folder)


def test_costs_agree_with_arithmetic() -> None:
    for network in (SSD300, None):
        param = narrow_deploy(network) if network else narrow_deploy()
        net, sizes = Net(param, TEST), calculate(param, 1, 300)
        assert cost.multiply_adds(net) == sizes.multiply_adds
        assert cost.default_boxes(net) == (8732 if network else 31232)
        assert cost.parameters(net) == sum(math.prod(s) for shapes in sizes.parameters.values() for s in shapes)


def test_the_least_time_counts() -> None:
    calls: list[str] = []
    found = cost.least_seconds([lambda: calls.append("a"), lambda: calls.append("b")], turns=2, repeat=2)
    assert calls == list("aabbaabb")
    assert all(0 <= seconds < 1 for seconds in found)


# ---- data sets


def picture(folder: Path, name: str) -> Path:
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(name.encode())
    return path


def test_deeppcb(tmp_path: Path) -> None:
    source = tmp_path / "source"
    for name in ("00041000", "00041001", "12000000"):
        picture(source, f"PCBData/g/{name}_test.jpg")
        picture(source, f"PCBData/g/{name}_temp.jpg")
        boxes = source / "PCBData" / "g_not" / f"{name}.txt"
        boxes.parent.mkdir(exist_ok=True)
        boxes.write_text("466 441 493 470 3\n1 2 3 4 6\n")
    for name, images in (("trainval.txt", ("00041000", "00041001")), ("test.txt", ("12000000",))):
        (source / "PCBData" / name).write_text("\n".join(f"g/{i}.jpg g_not/{i}.txt" for i in images))
    voc_layout.convert("deeppcb", source, tmp_path / "out")
    assert (tmp_path / "out/ImageSets/Main/trainval.txt").read_text() == "00041000\n00041001\n"
    assert (tmp_path / "out/JPEGImages/12000000.jpg").read_bytes() == b"PCBData/g/12000000_test.jpg"
    found = voc.read_ground_truth(tmp_path / "out/Annotations", tmp_path / "out/ImageSets/Main/test.txt")
    assert found.classes == ["mousebite", "pin-hole"]
    assert found.objects["mousebite"]["12000000"].boxes.tolist() == [[466, 441, 493, 470]]
    (source / "PCBData/g_not/12000000.txt").write_text("466 441 493\n")
    with pytest.raises(DataError, match="is not the published data set 'deeppcb'"):
        voc_layout.convert("deeppcb", source, tmp_path / "again")


def xml(name: str) -> str:
    box = "<xmin>1</xmin><ymin>2.5</ymin><xmax>3</xmax><ymax>4</ymax>"
    size = "<size><width>225</width><height>219</height></size>"
    return f"<annotation>{size}<object><name>{name}</name><bndbox>{box}</bndbox></object></annotation>"


def test_cells_in_order_without_copies(tmp_path: Path) -> None:
    """100 images in five blocks of 20, the last for testing. Numbers are sorted as numbers, and a copy is left out."""
    folder = tmp_path / "source" / "Original Dataset"
    names = [*(f"c ({i})" for i in range(1, 61)), *(f"image_{i}" for i in range(1, 41))]
    for name in names:
        picture(folder, f"{name}.png")
        (folder / f"{name}.xml").write_text(xml("Living Cell"))
    picture(folder, "image_77.png").write_bytes(b"image_3.png")
    (folder / "image_77.xml").write_text(xml("Dead Cell"))
    voc_layout.convert("cells", tmp_path / "source", tmp_path / "out")
    training = (tmp_path / "out/ImageSets/Main/trainval.txt").read_text().split()
    test = (tmp_path / "out/ImageSets/Main/test.txt").read_text().split()
    assert training[:2] == ["c_0001", "c_0002"]
    assert test == [f"image_{i:04}" for i in range(21, 41)]
    assert len(training) == 80
    assert "<name>living_cell</name>" in (tmp_path / "out/Annotations/c_0001.xml").read_text()
    assert "<ymin>2.5</ymin>" in (tmp_path / "out/Annotations/c_0001.xml").read_text()


def test_blocks_of_frames_are_apart() -> None:
    frames = [voc_layout.Picture(f"{i}", Path(), 1, 1, []) for i in range(60)]
    training, test = (list(map(int, (p.name for p in part))) for part in voc_layout.by_blocks(frames, block=6, gap=2))
    assert test == [*range(24, 30), *range(54, 60)]
    assert training == [*range(22), *range(32, 52)]
    assert min(abs(a - b) for a in training for b in test) == 3


def test_names_are_escaped() -> None:
    text = voc_layout.annotation(
        voc_layout.Picture("a", Path("a.jpg"), 3, 2, [voc_layout.Item("<b> & c", (1, 2, 3, 4))])
    )
    assert "<name>&lt;b&gt; &amp; c</name>" in text


def test_the_checksum_is_of_paths_and_contents(tmp_path: Path) -> None:
    picture(tmp_path, "A/x.txt")
    picture(tmp_path, "LICENSE")
    picture(tmp_path, "unused.txt")
    before = get_data.tree_sha256(tmp_path, ("A", "LICENSE"))
    (tmp_path / "unused.txt").write_text("changed")
    assert get_data.tree_sha256(tmp_path, ("LICENSE", "A")) == before
    (tmp_path / "A/x.txt").rename(tmp_path / "A/y.txt")
    moved = get_data.tree_sha256(tmp_path, ("A", "LICENSE"))
    (tmp_path / "A/y.txt").write_text("changed")
    assert len({before, moved, get_data.tree_sha256(tmp_path, ("A", "LICENSE"))}) == 3


def test_another_tree_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ["bccd", str(tmp_path / "data"), "--source", str(tmp_path)]
    assert get_data.main(arguments) == 1
    assert "has no 'BCCD': it is not the tree of Shenggan/BCCD_Dataset" in capsys.readouterr().err
    picture(tmp_path, "BCCD/x")
    picture(tmp_path, "LICENSE")
    assert get_data.main(arguments) == 1
    assert re.search(r"their SHA-256 is [0-9a-f]{64}, but should be b5fa7e32", capsys.readouterr().err)
    assert not (tmp_path / "data" / "bccd").exists()


def test_bccd_is_the_published_one(shared: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert get_data.main(["bccd", str(tmp_path), "--source", str(shared / "data" / "bccd")]) == 0
    found = voc.read_ground_truth(tmp_path / "bccd/Annotations", tmp_path / "bccd/ImageSets/Main/test.txt")
    assert (len(found.images), found.count("Platelets")) == (72, 69)
    assert get_data.main(["bccd", str(tmp_path), "--source", "nowhere"]) == 0
    assert "already exists" in capsys.readouterr().out


# ---- tables


@pytest.fixture
def finished(tmp_path: Path) -> Path:
    """Two arms with two seeds, one of them with an unfinished third seed."""
    PLAN.save(tmp_path / "plan.json")
    values = {
        "ssd300-released": {1: (0.10, 0.800), 2: (0.12, 0.802)},
        "mdssd300-released": {1: (0.30, 0.799), 2: (0.321, 0.805)},
    }
    for arm, seeds in values.items():
        for seed, (small, whole) in seeds.items():
            for iteration in (300, 600, 900, 1200):
                share = iteration / 1200
                measures = {"XS": small * share, "mAP": whole * share, "AP large": None}
                path = tmp_path / "runs" / arm / f"seed{seed}" / f"score_{iteration}.json"
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_text(json.dumps({"measures": measures}))
    (tmp_path / "runs/ssd300-released/seed3").mkdir()
    (tmp_path / "runs/ssd300-released/seed3/score_300.json").write_text(json.dumps({"measures": {"mAP": 0.9}}))
    return tmp_path


def test_tables(finished: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert table.main([str(finished), "--json", str(finished / "table.json")]) == 0
    out = capsys.readouterr().out
    lines = {tuple(cell.strip() for cell in line.strip("| \n").split("|"))[:1]: line for line in out.splitlines()}
    assert lines[("ssd300-released",)]  # the last line of that name is of the curve
    assert "| ssd300-released | 2 | 11.0 ± 1.4 | – |" in out
    # the differences are 0.2 and 0.201, and −0.001 and 0.003
    assert "| MDSSD − SSD, released boxes, equal iterations | **+20.1 [+19.4, +20.7]** | – |" in out
    assert "| +0.1 [−2.4, +2.6] |" in out
    assert "| ssd300-released | 300 | 2.8 ± 0.4 | – | 45.0 ± 38.9 |" not in out
    data = json.loads((finished / "table.json").read_text())["made"]
    assert data["final"]["ssd300-released"]["XS"] == {"1": 0.1, "2": 0.12}
    assert data["final"]["ssd300-released"]["AP large"] == {"1": None, "2": None}
    assert data["differences"]["MDSSD − SSD, released boxes, equal iterations"]["mAP"]["n"] == 2
    assert data["curve"]["ssd300-released"]["300"]["mAP"]["3"] == 0.9
    assert data["plan"] == {name: value for name, value in vars(PLAN).items() if name not in ("folder", "weights")}


def test_tables_of_nothing(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert table.main([str(tmp_path)]) == 1
    assert "is not a directory of run.py" in capsys.readouterr().err
    PLAN.save(tmp_path / "plan.json")
    assert table.main([str(tmp_path)]) == 0
    assert "Nothing is finished yet." in capsys.readouterr().out


def test_an_interval_of_one_seed_is_none() -> None:
    assert table.interval(intervals.summarize([0.012])) == "+1.2"
    assert table.interval(intervals.summarize([-0.00001])) == "+0.0"
    assert table.spread(intervals.summarize([0.5])) == "50.0"
