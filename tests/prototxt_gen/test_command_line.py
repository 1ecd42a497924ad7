"""The generators as programs: what they write, their flags and their errors."""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import Any

import lmdb
import pytest
from google.protobuf import text_format

from caffe.proto import caffe_pb2
from prototxt_gen.command_line import main
from prototxt_gen.mdssd300 import MDSSD300
from prototxt_gen.mdssd512 import MDSSD512
from prototxt_gen.settings import DATASETS, divide_batch, even_test_batch
from prototxt_gen.ssd300 import SSD300
from tests.processes import python
from tests.prototxt_gen.sources import KINDS, NETWORKS, OTHERS, ROOT, copy_label_maps, generated

CELLS = 'item { name: "none_of_the_above" label: 0 } item { name: "RBC" label: 1 } item { name: "WBC" label: 2 }'


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working directory with only the label maps."""
    copy_label_maps(tmp_path)
    (tmp_path / "cells.prototxt").write_text(CELLS)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def make_lmdb(path: Path, records: int) -> None:
    with lmdb.open(str(path)) as environment, environment.begin(write=True) as transaction:
        for index in range(records):
            transaction.put(f"{index:08d}".encode(), b"record")


def read(path: str, kind: str) -> Any:
    message = caffe_pb2.SolverParameter() if kind == "solver" else caffe_pb2.NetParameter()
    return text_format.Parse((Path(path) / f"{kind}.prototxt").read_text(), message)


def layer(net: Any, type_name: str) -> Any:
    return next(layer for layer in net.layer if layer.type == type_name)


def test_checked_in_models_are_what_the_generators_emit(folder: Path) -> None:
    """Run without flags, or with flags that say the same, a generator reproduces the checked-in bytes."""
    for name, network in {**NETWORKS, **OTHERS}.items():
        kinds = [*KINDS, "train_ft", "solver_ft"] if network.fine_tuning else KINDS
        for dataset, flags in (("VOC", []), ("COCO", ["--dataset", "coco"])):
            others = ["--gpus", "0", "--dataset", dataset.lower(), "--output", f"models/{name}/{dataset}"]
            for spelling in (flags, others) if name == "MDSSD300" else (flags,):
                assert main(network, spelling) == 0
                for kind in kinds:
                    path = Path("models") / name / dataset / f"{kind}.prototxt"
                    expected = (ROOT / path).read_bytes()
                    assert (folder / path).read_bytes() == expected, f"{path} was edited: see models/README.md"


@pytest.mark.parametrize(
    "flags",
    ["--gpus 0,1", "--max_iter 100", "--random_seed 1", "--width 1/2", "--name mine", "--without_deep_side"],
)
def test_other_settings_leave_the_checked_in_models_alone(flags: str, folder: Path) -> None:
    assert main(MDSSD300, flags.split()) == 0
    assert sorted(path.name for path in (folder / "models").iterdir()) == [
        "labelmap_coco.prototxt",
        "labelmap_voc.prototxt",
    ]
    net, name = ("MDSSD300x0.5" if "width" in flags else "MDSSD300"), ("mine" if "name" in flags else "VOC")
    net += "-shallow" if "deep" in flags else ""
    assert sorted(path.stem for path in (folder / "jobs" / net / name).iterdir()) == sorted(KINDS)
    solver = read(f"jobs/{net}/{name}", "solver")
    assert solver.train_net == f"jobs/{net}/{name}/train.prototxt"
    assert solver.snapshot_prefix == f"jobs/{net}/{name}/{net}_{name}"


def test_what_is_replaced_is_said_first(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(SSD300, ["--gpus", "0,1"]) == 0
    assert "replacing" not in capsys.readouterr().out
    assert main(SSD300, ["--gpus", "0,1"]) == 0
    assert "replacing" not in capsys.readouterr().out
    (folder / "jobs/SSD300/VOC/test.prototxt").write_text("name: 'mine'\n")
    assert main(SSD300, ["--gpus", "0,1", "--max_iter", "10"]) == 0
    out = capsys.readouterr().out
    by = "made by: python prototxt_gen/ssd300.py --gpus 0,1\n"
    assert f"replacing jobs/SSD300/VOC/solver.prototxt, {by}" in out
    assert "replacing jobs/SSD300/VOC/test.prototxt, not made by a generator\n" in out
    assert out.index("replacing jobs/SSD300/VOC/solver.prototxt") < out.index("wrote jobs/SSD300/VOC/train.prototxt")


def test_runs_as_a_program_without_arguments(folder: Path) -> None:
    done = python(ROOT / "prototxt_gen" / "mdssd300.py", cwd=folder, check=True)
    assert "caffe train -solver models/MDSSD300/VOC/solver.prototxt" in done.stdout
    assert sorted(path.stem for path in (folder / "models/MDSSD300/VOC").iterdir()) == sorted(KINDS)


def test_schedule_of_the_paper() -> None:
    for name, batch in (("MDSSD300", 32), ("MDSSD512", 16)):
        for data, max_iter, steps in (("VOC", 120_000, [60_000, 100_000]), ("COCO", 320_000, [160_000, 280_000])):
            solver = generated(name, data, "solver")
            assert (solver.max_iter, list(solver.stepvalue), solver.lr_policy) == (max_iter, steps, "multistep")
            rates = (solver.base_lr, solver.gamma, solver.momentum, solver.weight_decay)
            assert rates == pytest.approx((1e-3, 0.1, 0.9, 5e-4))
            assert (solver.eval_type, solver.ap_version, solver.iter_size) == ("detection", "11point", 1)
            assert layer(generated(name, data, "train"), "AnnotatedData").data_param.batch_size == batch


def test_own_data(folder: Path) -> None:
    make_lmdb(folder / "train_lmdb", 3)
    make_lmdb(folder / "test_lmdb", 12)
    (folder / "test_name_size.txt").write_text("".join(f"image_{i} 480 640\n" for i in range(12)))
    flags = "--label_map cells.prototxt --num_classes 3 --train_lmdb train_lmdb --test_lmdb test_lmdb"
    flags += (
        " --test_name_size test_name_size.txt --output out --result_dir found --gpus none --batch 8 --random_seed 3"
    )
    assert main(MDSSD300, [*flags.split(), "--max_iter", "1200", "--test_interval", "300"]) == 0

    solver = read("out", "solver")
    assert list(solver.test_iter) == [2]
    assert (solver.max_iter, list(solver.stepvalue), solver.snapshot) == (1200, [600, 1000], 1200)
    assert (solver.test_interval, solver.random_seed) == (300, 3)
    assert solver.solver_mode == caffe_pb2.SolverParameter.CPU
    assert not solver.HasField("device_id")
    assert solver.snapshot_prefix == "out/MDSSD300_cells"
    assert (solver.train_net, list(solver.test_net)) == ("out/train.prototxt", ["out/test.prototxt"])
    train, test, deploy = (read("out", kind) for kind in ("train", "test", "deploy"))
    assert train.name == "MDSSD300_cells_train"
    assert layer(train, "AnnotatedData").data_param.source == "train_lmdb"
    assert layer(train, "AnnotatedData").data_param.batch_size == 8
    assert layer(test, "AnnotatedData").data_param.batch_size == 6
    assert layer(train, "MultiBoxLoss").multibox_loss_param.num_classes == 3
    assert layer(test, "DetectionEvaluate").detection_evaluate_param.num_classes == 3
    assert layer(deploy, "DetectionOutput").detection_output_param.num_classes == 3
    assert list(layer(deploy, "Reshape").reshape_param.shape.dim) == [0, -1, 3]
    heads = {head.name: head.convolution_param.num_output for head in deploy.layer if head.name.endswith("_mbox_conf")}
    assert heads["module1_mbox_conf"] == 12
    assert heads["module3_mbox_conf"] == 18
    save = layer(test, "DetectionOutput").detection_output_param.save_output_param
    assert (save.output_directory, save.num_test_image, save.name_size_file) == ("found", 12, "test_name_size.txt")
    assert (save.output_format, save.output_name_prefix) == ("VOC", "comp4_det_test_")
    assert not layer(deploy, "DetectionOutput").detection_output_param.HasField("save_output_param")


def test_gpus_and_memory(folder: Path) -> None:
    assert main(SSD300, ["--gpus", "2,3", "--images_per_gpu", "8", "--output", "out"]) == 0
    solver = read("out", "solver")
    assert (solver.device_id, solver.iter_size) == (2, 2)
    assert layer(read("out", "train"), "AnnotatedData").data_param.batch_size == 8


def test_narrow(folder: Path) -> None:
    """A width keeps names, boxes and classes, and every channel count a multiple of 8."""
    assert main(MDSSD300, ["--width=0.25"]) == 0
    narrow, whole = read("jobs/MDSSD300x0.25/VOC", "train"), generated("MDSSD300", "VOC", "train")
    assert [layer.name for layer in narrow.layer] == [layer.name for layer in whole.layer]
    for thin, wide in zip(narrow.layer, whole.layer, strict=True):
        if "mbox" not in thin.name and thin.type in ("Convolution", "Deconvolution"):
            assert thin.convolution_param.num_output == wide.convolution_param.num_output / 4
            assert thin.convolution_param.num_output % 8 == 0
        elif thin.type == "Normalize":  # as large a number in each channel
            assert thin.norm_param.scale_filler.value == 10
        else:
            assert thin == wide


def test_frozen_layers_do_not_learn(folder: Path) -> None:
    assert main(MDSSD300, ["--freeze", "conv1,conv3_3", "--output", "out"]) == 0
    rates = {
        net_layer.name: [(param.lr_mult, param.decay_mult) for param in net_layer.param]
        for net_layer in read("out", "train").layer
        if net_layer.param
    }
    frozen = {name for name, values in rates.items() if values == [(0, 0), (0, 0)]}
    assert frozen == {"conv1_1", "conv1_2", "conv3_3"}
    assert rates["conv3_2"] == [(1, 1), (2, 0)]


def test_short_runs(folder: Path) -> None:
    assert main(SSD300, ["--augmentation", "mirror", "--solver_type", "Adam", "--output", "short"]) == 0
    data = layer(read("short", "train"), "AnnotatedData")
    assert data.transform_param.mirror
    assert not data.transform_param.HasField("expand_param")
    assert not data.transform_param.HasField("distort_param")
    assert not data.annotated_data_param.batch_sampler
    solver = read("short", "solver")
    assert (solver.type, solver.momentum, solver.momentum2) == ("Adam", pytest.approx(0.9), pytest.approx(0.999))


def test_coco_results(folder: Path) -> None:
    assert main(MDSSD512, ["--dataset", "coco", "--output", "out"]) == 0
    save = layer(read("out", "test"), "DetectionOutput").detection_output_param.save_output_param
    assert (save.output_format, save.output_name_prefix, save.num_test_image) == ("COCO", "detections_mdssd512", 5000)


@pytest.mark.parametrize(
    ("batch", "gpus", "fits", "expected"),
    [(32, 1, None, (32, 1)), (32, 2, None, (16, 1)), (32, 2, 8, (8, 2)), (32, 0, 5, (4, 8)), (30, 3, 9, (5, 2))],
)
def test_batch_division_keeps_the_whole(batch: int, gpus: int, fits: int | None, expected: tuple[int, int]) -> None:
    each, iter_size = divide_batch(batch, gpus, fits)
    assert (each, iter_size) == expected
    assert each * iter_size * max(1, gpus) == batch


@pytest.mark.parametrize(("images", "expected"), [(4952, 8), (5000, 8), (36, 6), (53, 1), (5, 5)])
def test_test_batch_divides_the_images(images: int, expected: int) -> None:
    assert even_test_batch(images) == expected


NO_BACKGROUND = 'item { name: "RBC" label: 1 } item { name: "WBC" label: 2 }'
GAP = 'item { name: "background" label: 0 } item { name: "RBC" label: 2 }'
TWICE = 'item { name: "background" label: 0 } item { name: "a" label: 1 } item { name: "b" label: 1 }'


@pytest.mark.parametrize(
    ("flags", "files", "message"),
    [
        ("--label_map none.prototxt", {}, "--label_map none.prototxt: not found; create_label_map makes one"),
        ("--label_map map", {"map": NO_BACKGROUND}, "map has no background class; add this line"),
        ("--label_map map", {"map": GAP}, "map: label 1 is missing; 2 items need the labels 0 to 1"),
        ("--label_map map", {"map": TWICE}, "--label_map: label map 'map': label 1 is given to 'a' and 'b'"),
        ("--label_map map", {"map": 'item { label: 0 name: "b" }'}, "map has the background alone"),
        ("--label_map map", {"map": "layer { }"}, "map: a net's prototxt where a label map's should be"),
        ("--label_map map", {"map": "thing { }"}, "map:1:1:"),
        ("--num_classes 20", {}, "--num_classes 20, but models/labelmap_voc.prototxt has 21 classes"),
        ("--gpus 0,1,2", {}, "a batch of 32 cannot be divided over 3 GPUs; give --batch 30 or 33"),
        ("--gpus 0,0", {}, "'0,0' is not a list of different device numbers"),
        ("--train_lmdb nowhere", {}, "--train_lmdb: no database at 'nowhere'. Build one with convert_annoset"),
        ("--train_lmdb models", {}, "--train_lmdb: 'models' is not an LMDB: it has no data.mdb"),
        ("--train_lmdb map", {"map": "x"}, "--train_lmdb: 'map' is not an LMDB"),
        ("--test_lmdb models", {}, "--test_lmdb also takes --test_name_size"),
        ("--test_name_size nowhere", {}, "--test_name_size: cannot open name size file 'nowhere'"),
        (
            "--test_name_size list",
            {"list": "a 3 4\nb 3\n"},
            "--test_name_size: name size file 'list', line 2: 'b 3' is not",
        ),
        ("--test_name_size list", {"list": "\n"}, "name size file 'list' lists no images"),
        ("--test_name_size list --num_test_images 3", {"list": "a 3 4\n"}, "--num_test_images 3, but list lists 1"),
        ("--test_name_size list", {"list": "a 3 4\n"}, "lists 1 image, but VOC's test data, examples/VOC0712"),
        ("--steps 5,4", {}, "--steps 5,4: iterations must increase, from 1 to max_iter (120000)"),
        ("--steps 5 --max_iter 4", {}, "--steps 5: iterations must increase, from 1 to max_iter (4)"),
        ("--width 0", {}, "'0' is not a share such as 0.25 or 1/4"),
        ("--freeze conv1,conv11", {}, "--freeze conv11: no layer with weights has this name"),
        ("--batch 0", {}, "'0' is not a positive integer"),
        ("--no_such_flag", {}, "unrecognized arguments: --no_such_flag"),
    ],
)
def test_mistakes(
    flags: str, files: dict[str, str], message: str, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for name, text in files.items():
        (folder / name).write_text(text)
    try:
        status = main(MDSSD300, [*flags.split(), "--output", "out"])
    except SystemExit as exit:
        status = int(str(exit.code))
    assert status == 1
    assert message in capsys.readouterr().err
    assert not (folder / "out").exists()


OWN = ("--label_map cells.prototxt", "--train_lmdb train", "--test_lmdb test", "--test_name_size list")


@pytest.mark.parametrize("given", [g for n in range(5) for g in itertools.combinations(OWN, n)], ids=" ".join)
@pytest.mark.parametrize("dataset", ["voc", "coco"])
def test_data_of_two_sets_is_never_mixed(
    given: tuple[str, ...], dataset: str, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Every combination of the flags that name data is refused, with the missing flag named, or uses the right files."""
    make_lmdb(folder / "train", 3)
    make_lmdb(folder / "test", 12)
    (folder / "list").write_text("".join(f"image_{i} 480 640\n" for i in range(12)))
    flags = " ".join(given)
    status = main(SSD300, [*flags.split(), "--dataset", dataset, "--output", "out"])
    error, own = capsys.readouterr().err, "--label_map" in flags
    missing = [flag for flag in ("--train_lmdb", "--test_lmdb", "--test_name_size") if flag not in flags]
    if own and missing:
        assert (
            f"VOC's data can't be used with it; give {' and '.join(missing)} too".replace("VOC", dataset.upper())
            in error
        )
    elif "--test_lmdb" in flags and "--test_name_size" in missing:
        assert "--test_lmdb also takes --test_name_size FILE" in error
    elif "--test_name_size" in flags and "--test_lmdb" in missing:
        assert "list lists 12 images, but" in error
        assert "name the data of the list: --test_lmdb" in error
    else:
        assert error == ""
        train, test = (layer(read("out", kind), "AnnotatedData") for kind in ("train", "test"))
        defaults = DATASETS[dataset]
        assert train.data_param.source == (defaults.train_lmdb if "--train_lmdb" in missing else "train")
        assert test.data_param.source == (defaults.test_lmdb if "--test_lmdb" in missing else "test")
        label_map = "cells.prototxt" if own else defaults.label_map
        assert {data.annotated_data_param.label_map_file for data in (train, test)} == {label_map}
        output = layer(read("out", "test"), "DetectionOutput").detection_output_param.save_output_param
        assert output.name_size_file == (defaults.test_name_size if "--test_lmdb" in missing else "list")
        assert output.num_test_image == (defaults.num_test_images if "--test_lmdb" in missing else 12)
        assert output.output_directory == ("results/cells/SSD300" if own else defaults.result_dir.format(net="SSD300"))
        return
    assert status == 1
    assert not (folder / "out").exists()


def test_classes_of_another_data_set_are_recognized(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(SSD300, ["--label_map", "models/labelmap_coco.prototxt"]) == 1
    assert "has the classes of COCO; give --dataset coco too" in capsys.readouterr().err
    (folder / "copy.prototxt").write_bytes((folder / "models/labelmap_voc.prototxt").read_bytes())
    assert main(SSD300, ["--label_map", "copy.prototxt"]) == 0
    train = read("jobs/SSD300/VOC", "train")
    assert train.name == "SSD300_VOC_train"
    assert layer(train, "AnnotatedData").annotated_data_param.label_map_file == "copy.prototxt"


def test_number_of_test_images(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """From the data where it is there, else from the flag, else the data set's own."""

    def found(*flags: str) -> int:
        assert main(SSD300, [*flags, "--output", "out"]) == 0
        output = layer(read("out", "test"), "DetectionOutput").detection_output_param.save_output_param
        return int(output.num_test_image)

    assert found() == 4952
    assert found("--num_test_images", "7") == 7
    (folder / "examples/VOC0712").mkdir(parents=True)
    make_lmdb(folder / "examples/VOC0712/VOC0712_test_lmdb", 3)
    assert found() == 3
    assert main(SSD300, ["--num_test_images", "7"]) == 1
    assert "--num_test_images 7, but examples/VOC0712/VOC0712_test_lmdb holds 3" in capsys.readouterr().err
    (folder / "data/VOC0712").mkdir(parents=True)
    (folder / "data/VOC0712/test_name_size.txt").write_text("a 3 4\n" * 3)
    assert found() == 3
    (folder / "data/VOC0712/test_name_size.txt").write_text("a 3 4\n")
    assert main(SSD300, []) == 1
    assert "holds 3 images, but data/VOC0712/test_name_size.txt lists 1" in capsys.readouterr().err
    # Data that is there but is another than the default's leaves models/ alone.
    (folder / "data/VOC0712/test_name_size.txt").write_text("a 3 4\n" * 3)
    assert main(SSD300, []) == 0
    assert (folder / "jobs/SSD300/VOC/solver.prototxt").exists()
    assert not (folder / "models/SSD300").exists()


def test_list_and_lmdb_must_agree(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    make_lmdb(folder / "test_lmdb", 2)
    (folder / "list").write_text("a 3 4\n")
    assert main(MDSSD300, ["--test_lmdb", "test_lmdb", "--test_name_size", "list"]) == 1
    assert "test_lmdb holds 2 images, but list lists 1" in capsys.readouterr().err


def test_empty_and_damaged_lmdb(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    make_lmdb(folder / "empty", 0)
    assert main(MDSSD300, ["--train_lmdb", "empty"]) == 1
    assert "--train_lmdb: database 'empty' is empty" in capsys.readouterr().err
    (folder / "bad").mkdir()
    (folder / "bad" / "data.mdb").write_bytes(b"no database" * 1000)
    assert main(MDSSD300, ["--train_lmdb", "bad"]) == 1
    assert "--train_lmdb: cannot read database 'bad'" in capsys.readouterr().err
