"""ssd_detect and plot_detections on a net that finds given objects, and on a real trained one."""

from __future__ import annotations

import json
import re
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest

import caffe
from caffe.cli import plot_detections, ssd_detect
from caffe.detection.box_drawing import Box, class_color, draw_boxes
from tests.pictures import read_picture
from tests.processes import run

MODEL = """
layer { name: "data" type: "Input" top: "data" input_param { shape { dim: 1 dim: 3 dim: 8 dim: 8 } } }
layer { name: "pool" type: "Pooling" bottom: "data" top: "pool" pooling_param { pool: AVE kernel_size: 4 stride: 4 } }
layer { name: "loc" type: "Convolution" bottom: "pool" top: "loc"
  convolution_param { num_output: 4 kernel_size: 1 weight_filler { type: "constant" value: 0 } } }
layer { name: "loc_perm" type: "Permute" bottom: "loc" top: "loc_perm"
  permute_param { order: 0 order: 2 order: 3 order: 1 } }
layer { name: "loc_flat" type: "Flatten" bottom: "loc_perm" top: "loc_flat" }
layer { name: "conf" type: "Convolution" bottom: "pool" top: "conf"
  convolution_param { num_output: 2 kernel_size: 1 weight_filler { type: "constant" value: 0 } } }
layer { name: "conf_perm" type: "Permute" bottom: "conf" top: "conf_perm"
  permute_param { order: 0 order: 2 order: 3 order: 1 } }
layer { name: "conf_flat" type: "Flatten" bottom: "conf_perm" top: "conf_flat" }
layer { name: "prior" type: "PriorBox" bottom: "pool" bottom: "data" top: "prior"
  prior_box_param { min_size: 4 clip: false variance: 0.1 step: 4 offset: 0.5 } }
layer { name: "found" type: "DetectionOutput" bottom: "loc_flat" bottom: "conf_flat" bottom: "prior" top: "found"
  detection_output_param { num_classes: 2 code_type: CENTER_SIZE confidence_threshold: 0.05
    nms_param { nms_threshold: 0.45 } keep_top_k: 10 } }
"""


@pytest.fixture(autouse=True)
def _log_level(monkeypatch: pytest.MonkeyPatch) -> None:
    """The command silences the log of its process, which other tests share."""
    monkeypatch.setenv("GLOG_minloglevel", "1")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A net whose score of class 1 in each quarter of an image is its mean brightness / 255, and an image for it."""
    (tmp_path / "deploy.prototxt").write_text(MODEL)
    net = caffe.Net(str(tmp_path / "deploy.prototxt"), caffe.TEST)
    net.params["conf"][0].data[1] = 1 / 255 / 3
    net.save(str(tmp_path / "weights.caffemodel"))
    (tmp_path / "map").write_text(
        'item { name: "bg" label: 0 } item { name: "light" label: 1 display_name: "a light" }'
    )
    image = np.zeros((40, 80, 3), np.uint8)
    image[:20, :40], image[20:, 40:] = 204, 51
    cv2.imwrite(str(tmp_path / "light.png"), image)
    return tmp_path


def command(folder: Path, *flags: str, images: str = "light.png") -> list[str]:
    paths = [str(folder / name) for name in ("deploy.prototxt", "weights.caffemodel", images)]
    return [*paths, "-mean_value", "0", *flags]


def test_list_as_the_original_writes_it(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert ssd_detect.main(command(folder)) == 0
    name = folder / "light.png"
    assert capsys.readouterr().out == f"{name} 1 0.8 0 0 40 20\n{name} 1 0.2 40 20 80 40\n"


def test_start_loads_only_what_a_detection_needs(folder: Path) -> None:
    """PyTorch's compiler takes longer to load than a narrow net to build and run; custom operators must not call for it."""
    program = (
        "import sys\n"
        "from caffe.cli import ssd_detect\n"
        f"ssd_detect.main({command(folder)!r})\n"
        "print('loaded:', *sys.modules)"
    )
    done = run([sys.executable, "-c", program])
    *found, last = done.stdout.splitlines()
    assert len(found) == 2, done.stderr
    loaded = set(last.split())
    assert "torch" in loaded
    assert loaded & {"torch._dynamo", "sympy", "h5py", "matplotlib", "pycocotools", "PIL", "yaml", "onnx"} == set()


def test_one_image_that_cannot_be_read_is_named_once(folder: Path, capfd: pytest.CaptureFixture[str]) -> None:
    (folder / "text.jpg").write_text("no image")
    assert ssd_detect.main(command(folder, images="text.jpg")) == 1
    assert capfd.readouterr().err.count("cannot decode the image") == 1


def test_weights_of_a_net_of_another_width(folder: Path, capfd: pytest.CaptureFixture[str]) -> None:
    wide = MODEL.replace("num_output: 2 kernel_size: 1", "num_output: 4 kernel_size: 1").replace(
        "num_classes: 2", "num_classes: 4"
    )
    (folder / "deploy.prototxt").write_text(wide)
    assert ssd_detect.main(command(folder)) == 1
    assert "another width or other classes: use the prototxts that they were trained with" in capfd.readouterr().err


def test_files_and_pictures(folder: Path) -> None:
    flags = ["-out_file", "list.txt", "-json", "list.json", "-draw", "pictures", "-labelmap_file", "map"]
    flags = [f if f.startswith("-") else str(folder / f) for f in flags]
    assert ssd_detect.main(command(folder, "-confidence_threshold", "0.5", *flags)) == 0
    assert (folder / "list.txt").read_text().count("\n") == 1
    (listed,) = json.loads((folder / "list.json").read_text())
    assert [(d["name"], d["label"]) for d in listed["detections"]] == [("a light", 1)]
    picture, image = read_picture(folder / "pictures/light.png"), read_picture(folder / "light.png")
    changed = (picture != image).any(axis=2)
    assert changed[:21, :41].any()
    assert not changed[21:].any()  # 0.2 is under 0.6

    assert plot_detections.main([str(folder / "list.txt"), "/", "--save-dir", str(folder / "plots")]) == 0
    assert [p.name for p in (folder / "plots").iterdir()] == ["light.png.png"]


def test_batches_folders_and_lists_give_the_same(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (folder / "images").mkdir()
    for i in range(5):
        cv2.imwrite(str(folder / f"images/{i}.png"), np.full((10 + i, 20, 3), 40 * i + 40, np.uint8))
    names = sorted(map(str, (folder / "images").iterdir()))
    (folder / "list").write_text("\r\n".join(names) + "\r\n")
    outputs = []
    for images, batch in (("images", "1"), ("images", "3"), ("list", "2")):
        assert ssd_detect.main(command(folder, "-batch_size", batch, images=images)) == 0
        outputs.append(capsys.readouterr().out)
    assert outputs[0] == outputs[1] == outputs[2]
    assert outputs[0].count("\n") == 20


@pytest.mark.parametrize(
    ("breakage", "flags", "message"),
    [
        (("light.png", "no image"), [], r"light\.png: cannot decode the image"),
        (None, ["-labelmap_file", "none"], "cannot read label map 'none'"),
        (
            ("map", 'item { name: "a" label: 5 }'),
            ["-labelmap_file", "map"],
            "num_classes: 2 .* label map .* has 6 classes: it belongs to another net",
        ),
        (None, ["-mean_value", "1,2"], "Specify either 1 mean_value or as many as channels: 3, not 2"),
        (None, ["-mean_value", "a"], "mean_value 'a': give numbers"),
        (("deploy.prototxt", 'layer { name: "x" type: "Input" top: "x" }'), [], "has 0 DetectionOutput layers"),
        (("weights.caffemodel", "x"), [], r"weights\.caffemodel"),
    ],
)
def test_errors(
    folder: Path, breakage: tuple[str, str] | None, flags: list[str], message: str,
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    monkeypatch.chdir(folder)
    if breakage:
        (folder / breakage[0]).write_text(breakage[1])
    assert ssd_detect.main(command(folder, *flags, "-out_file", str(folder / "out.txt"))) == 1
    captured = capsys.readouterr()
    assert re.search(message, captured.err), captured.err
    assert not (folder / "out.txt").exists()


def test_a_damaged_file_does_not_end_a_run(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (folder / "images").mkdir()
    for name in ("a.png", "c.webp", "d.bmp", "e.tif"):
        cv2.imwrite(str(folder / "images" / name), np.full((10, 20, 3), 200, np.uint8))
    (folder / "images/b.jpg").write_bytes(b"no image")
    found = folder / "found.txt"
    assert ssd_detect.main(command(folder, "-out_file", str(found), images="images")) == 2
    captured = capsys.readouterr()
    assert "4 images" in captured.out
    assert "1 of 5 files could not be read and were left out" in captured.err
    assert {Path(line.split()[0]).name for line in found.read_text().splitlines()} == {
        "a.png",
        "c.webp",
        "d.bmp",
        "e.tif",
    }
    assert ssd_detect.main(command(folder, "-skip_broken", images="images")) == 0


def test_scale_and_class_thresholds(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert ssd_detect.main(command(folder, "-scale", "0.5")) == 0
    assert [line.split()[2] for line in capsys.readouterr().out.splitlines()] == ["0.4", "0.1"]
    labels = ["-labelmap_file", str(folder / "map")]
    for text in ("light=0.5", "a light=0.5", "1=0.5"):
        assert ssd_detect.main(command(folder, "-class_thresholds", text, *labels)) == 0
        assert capsys.readouterr().out.count("\n") == 1
    assert ssd_detect.main(command(folder, "-class_thresholds", "dark=0.5", *labels)) == 1
    assert "'dark' is not a class; label map" in capsys.readouterr().err


def test_slices_see_what_the_whole_image_hides(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A spot of 4 × 4 pixels fills a quarter of a slice of 8 × 8, but little of an image of 64 × 64."""
    image = np.zeros((64, 64, 3), np.uint8)
    image[40:44, 16:20] = 255
    cv2.imwrite(str(folder / "spot.png"), image)
    strong = ["-confidence_threshold", "0.9"]
    assert ssd_detect.main(command(folder, *strong, images="spot.png")) == 0
    assert capsys.readouterr().out == ""
    for size in ("8x8", "AUTO"):
        assert (
            ssd_detect.main(command(folder, *strong, "-slices", size, "-slice_overlap", "0.5", images="spot.png")) == 0
        )
        assert capsys.readouterr().out == f"{folder / 'spot.png'} 1 1 16 40 20 44\n"


def test_a_folder_is_scored_in_slices(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (folder / "images").mkdir()
    image = np.zeros((64, 64, 3), np.uint8)
    image[40:44, 16:20] = 255
    cv2.imwrite(str(folder / "images/spot.png"), image)
    flags = ["-slices", "AUTO", "-slice_overlap", "0.5", "-labelmap_file", str(folder / "map")]
    assert ssd_detect.main(command(folder, *flags, "-result_dir", str(folder / "results"), images="images")) == 0
    best = (folder / "results/comp4_det_test_light.txt").read_text().splitlines()[0]
    assert best == "spot 1 16.00 40.00 20.00 44.00"


def test_video_frames_and_a_drawn_video(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    film = str(folder / "film.avi")
    writer = cv2.VideoWriter(film, cv2.VideoWriter.fourcc(*"MJPG"), 10, (64, 48))
    for level in (40, 120, 240):
        writer.write(np.full((48, 64, 3), level, np.uint8))
    writer.release()
    (folder / "list.txt").write_text(f"{film}\n")
    flags = ["-file_type", "video", "-confidence_threshold", "0.3"]
    assert ssd_detect.main(command(folder, *flags, images="list.txt")) == 0
    names = [line.split()[0] for line in capsys.readouterr().out.splitlines()]
    assert names == [f"{film}_000001"] * 4 + [f"{film}_000002"] * 4
    assert (
        ssd_detect.main(command(folder, *flags, "-draw", str(folder / "drawn"), "-max_frames", "2", images="film.avi"))
        == 0
    )
    capture = cv2.VideoCapture(str(folder / "drawn/film.mp4"))
    assert [capture.read()[0] for _ in range(3)] == [True, True, False]
    assert ssd_detect.main(command(folder, "-file_type", "video", images="light.png.avi")) == 1
    assert "cannot be opened" in capsys.readouterr().err
    assert ssd_detect.main(command(folder, images="film.avi")) == 1
    assert "film.avi' is a video; -file_type video reads its frames" in capsys.readouterr().err
    assert ssd_detect.main(command(folder, "-file_type", "webcam", images="film.avi")) == 1
    assert "film.avi' is not the number of a camera" in capsys.readouterr().err


def test_list_and_jpeg_pictures_at_once(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    flags = ["-draw", str(folder / "drawn"), "-draw_format", "jpg", "-print_list"]
    assert ssd_detect.main(command(folder, *flags)) == 0
    assert capsys.readouterr().out.count("\n") == 2
    assert (folder / "drawn/light.jpg").read_bytes()[:2] == b"\xff\xd8"


@pytest.mark.parametrize("name", ["label_map_file", "labelmap", "label_map", "-label-map-file"])
def test_other_spellings_of_flags(folder: Path, name: str, capsys: pytest.CaptureFixture[str]) -> None:
    paths = ["-model", str(folder / "deploy.prototxt"), "-weights", str(folder / "weights.caffemodel")]
    marked = folder / "marked"
    marked.write_bytes(b"\xef\xbb\xbf" + (folder / "map").read_bytes())  # with a byte-order mark
    words = [*paths, "-mean_value=0", f"-{name}={marked}", "-json", str(folder / "o.json"), str(folder / "light.png")]
    assert ssd_detect.main(words) == 0
    assert json.loads((folder / "o.json").read_text())[0]["detections"][0]["name"] == "a light"


def test_plot_errors(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    listing = folder / "found.txt"
    listing.write_text("gone.png 1 0.9 0 0 5 5\n")
    assert plot_detections.main([str(listing), str(folder), "--save-dir", str(folder / "p")]) == 1
    assert "image 'gone.png' is not in" in capsys.readouterr().err
    listing.write_text("light.png 1 0.9 0 0\n")
    assert plot_detections.main([str(listing), str(folder), "--save-dir", str(folder / "p")]) == 1
    assert "found.txt:1: 'light.png 1 0.9 0 0' is not a detection" in capsys.readouterr().err


def test_drawing_stays_inside_and_leaves_the_image_alone() -> None:
    image = np.zeros((30, 40, 1), np.uint8)
    boxes = [Box(1, "thing: 0.90", -50, -10, 500, 1e9), Box(2, "", float("nan"), 3, 5, 5)]
    drawn = draw_boxes(image, boxes)
    assert drawn.shape == (30, 40, 3)
    assert not image.any()
    assert (drawn == class_color(1)).all(axis=2).any()
    assert len({class_color(label) for label in range(81)}) == 81


def test_a_real_face_detector(shared: Path, tmp_path: Path) -> None:
    data = shared / "data" / "facedetect"
    net = data / "yufacedetectnet-open-v2.prototxt", data / "yufacedetectnet-open-v2.caffemodel"
    flags = ["-mean_value", "103.94,116.78,123.68", "-json", str(tmp_path / "faces.json")]
    assert ssd_detect.main([*map(str, net), str(data / "faces.jpg"), *flags]) == 0
    (listed,) = json.loads((tmp_path / "faces.json").read_text())
    height, width = read_picture(data / "faces.jpg").shape[:2]
    theirs = np.load(data / "yufacedetectnet-open-v2.reference.npz")["detection_out"][0, 0]
    ours = [
        [d["score"], d["xmin"] / width, d["ymin"] / height, d["xmax"] / width, d["ymax"] / height]
        for d in listed["detections"]
    ]
    np.testing.assert_allclose(ours, theirs[np.argsort(-theirs[:, 2], kind="stable"), 2:], atol=1e-4)


def test_a_camera_that_is_missing(folder: Path, capfd: pytest.CaptureFixture[str]) -> None:
    """One message, without OpenCV's own lines about what it tried."""
    paths = [str(folder / name) for name in ("deploy.prototxt", "weights.caffemodel")]
    assert ssd_detect.main([*paths, "9876", "-file_type", "webcam"]) == 1
    (line,) = capfd.readouterr().err.splitlines()
    assert line.startswith("ssd_detect: camera 9876 cannot be opened, or OpenCV cannot decode its frames")
