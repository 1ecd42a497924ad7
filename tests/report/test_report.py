"""The page of `caffe report`: in a browser and without one, and what it warns of."""

from __future__ import annotations

import html
import re
import shutil
from dataclasses import dataclass
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from markupsafe import escape

from caffe.cli.report import main
from caffe.detection import voc
from caffe.detection.image_folder import Images
from caffe.report import checks, page
from caffe.report.analysis import analyze
from caffe.report.charts import reach_figure
from caffe.report.runs import Run, find_run, interval
from tests.report.browser import CHROMIUM, open_page

_ATTACK = "parent.document.title='ran'"
HOSTILE = f'<script>{_ATTACK}</script><img src=x onerror="{_ATTACK}">&amp;$x$'
CLASSES = ("cat", HOSTILE)


def box_of(number: int) -> tuple[int, int, int, int]:
    """The object of an image of 120 x 90; all differ."""
    x, y = 5 + 7 * (number % 10), 4 + 5 * (number % 8)
    return x, y, x + 20 + number % 13, y + 15 + number % 9


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A data set in VOC's form with 24 test images of two classes, one of them with a hostile name."""
    root = tmp_path_factory.mktemp("voc")
    for name in ("Annotations", "JPEGImages", "ImageSets/Main"):
        (root / name).mkdir(parents=True)
    random = np.random.default_rng(1)
    names = [f"t{i:02}" for i in range(24)]
    for number, name in enumerate(names):
        image = random.integers(0, 255, (9, 12, 3), dtype=np.uint8)
        cv2.imwrite(str(root / "JPEGImages" / f"{name}.jpg"), cv2.resize(image, (120, 90)))
        corners = "".join(
            f"<{edge}>{value}</{edge}>"
            for edge, value in zip(("xmin", "ymin", "xmax", "ymax"), box_of(number), strict=True)
        )
        (root / "Annotations" / f"{name}.xml").write_text(
            f"<annotation><size><width>120</width><height>90</height><depth>3</depth></size>"
            f"<object><name>{html.escape(CLASSES[number % 2])}</name><difficult>0</difficult>"
            f"<bndbox>{corners}</bndbox></object></annotation>"
        )
    (root / "ImageSets/Main/test.txt").write_text("\n".join(names))
    (root / "ImageSets/Main/trainval.txt").write_text("other\n")
    return root


def results(folder: Path, shift: int = 0, score: float = 0.9) -> Path:
    """A run's directory with a detection for each object, moved by `shift` pixels in every third image."""
    (folder / "results").mkdir(parents=True)
    for label in range(len(CLASSES)):
        lines = []
        for number in range(label, 24, 2):
            x1, y1, x2, y2 = box_of(number)
            move = shift if number % 3 == 0 else 0
            lines.append(f"t{number:02} {score - number / 100:.4f} {x1 + move} {y1} {x2 + move} {y2}\n")
        # The hostile name cannot be that of a file; the tests of escaping rename the class.
        (folder / "results" / f"comp4_det_test_{'cat' if not label else 'dog'}.txt").write_text("".join(lines))
    return folder


@pytest.fixture(scope="module")
def rendered(data: Path, tmp_path_factory: pytest.TempPathFactory) -> str:
    """A page about two models, one with two seeds, in which every name is hostile."""
    root = tmp_path_factory.mktemp("runs")
    truth = voc.read_ground_truth(data / "Annotations", data / "ImageSets/Main/test.txt")
    runs, analyses = [], {}
    for place, (name, shift) in enumerate(((f"a {HOSTILE}", 0), (f"a {HOSTILE}", 9), ("b" + "x" * 60, 12))):
        found = find_run(name, results(root / str(place), shift))
        found.results = {HOSTILE if label == "dog" else label: path for label, path in found.results.items()}
        if place == 2:
            del found.results["cat"]
        found.solver_text = f"# {HOSTILE}"
        runs.append(found)
        analyses[place] = analyze(found, truth, eleven_points=True, threshold=0.5)
    return page.render(
        page.Inputs(
            HOSTILE, page.group(runs, analyses), truth, Images(data / "JPEGImages"),
            data / "ImageSets/Main/trainval.txt", facts={"Note": HOSTILE},
        )
    )  # fmt: skip


@dataclass(frozen=True)
class Scored:
    """What a verdict needs of an Analysis."""

    mean_ap: float
    found: dict[str, None]


class Elements(HTMLParser):
    """Collects the elements of a page and their attributes."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.found: list[tuple[str, dict[str, str | None]]] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found.append((tag, dict(attrs)))


def test_stands_alone_and_escapes(rendered: str) -> None:
    assert len(rendered.encode()) < page.LIMIT
    elements = Elements(rendered).found
    assert not [tag for tag, _ in elements if tag in ("script", "iframe", "object", "embed", "base", "form")]
    ids = {attributes["id"] for _, attributes in elements if "id" in attributes}
    for tag, attributes in elements:
        assert not [name for name in attributes if name.startswith("on")], tag
        for name in ("src", "href", "xlink:href", "srcset", "data"):
            value = attributes.get(name)
            assert value is None or value.startswith("data:") or value[1:] in ids, f"<{tag} {name}={value[:60]}>"
    assert "url(http" not in rendered
    assert "@import" not in rendered
    assert str(escape(HOSTILE)) in rendered
    policy = [attributes["content"] for tag, attributes in elements if attributes.get("http-equiv")]
    assert policy == ["default-src 'none'; img-src data:; style-src 'unsafe-inline'"]
    images = [attributes for tag, attributes in elements if tag == "img"]
    assert len(images) >= 5
    assert all(attributes["alt"] for attributes in images)
    assert len([tag for tag, _ in elements if tag == "svg"]) >= 8


def test_number_that_matters_is_first_with_its_interval(rendered: str) -> None:
    value = re.search(r'<div class="value">([\d.]+) <small>± ([\d.]+)</small>', rendered)
    assert value is not None
    # mAP 100 and 50 or more of the second seed: the interval of two runs is wide.
    assert float(value[1]) < 100
    assert float(value[2]) > 10
    assert rendered.index('class="value"') < rendered.index("<section")
    assert 'class="verdict"' not in rendered, "means over different classes cannot be compared"
    assert "The models have different classes" in rendered


@pytest.mark.skipif(CHROMIUM is None, reason="needs Chromium")
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_in_a_browser(rendered: str, tmp_path: Path, scheme: str) -> None:
    """Nothing is wider than the window, all text is legible, nothing is missing, and no name runs as a script."""
    for width, seen in open_page(rendered, tmp_path, scheme).items():
        assert seen["dark"] is (scheme == "dark")
        assert seen["scroll"] <= seen["client"] == width
        assert seen["images"] >= 5
        assert seen["broken"] == 0
        assert seen["requested"] == []
        assert seen["scripts"] == 0
        assert seen["height"] > 3000
        assert seen["contrast"] >= 4.5  # what WCAG asks for


def detections(boxes: np.ndarray, scores: float = 0.9) -> voc.Detections:
    return voc.Detections(tuple(f"t{i:02}" for i in range(len(boxes))), np.full(len(boxes), scores), boxes)


def test_constant_boxes(data: Path) -> None:
    truth = voc.read_ground_truth(data / "Annotations", data / "ImageSets/Main/test.txt")
    objects = np.array([box_of(i) for i in range(24)], float)
    constant = np.tile([[30.0, 20, 60, 50]], (24, 1)) + np.arange(24)[:, None] % 2
    (warning,) = checks.constant_boxes(truth, {"cat": detections(constant)}, {})
    assert "“cat”: the best box is nearly the same in 100 % of 24 images" in warning
    assert checks.constant_boxes(truth, {"cat": detections(objects)}, {}) == []
    # Constant in units of the image, as a net's output is, but not in pixels.
    sizes = {f"t{i:02}": (100 + 40 * i, 90 + 30 * i) for i in range(24)}
    scaled = constant * np.array([[*sizes[f"t{i:02}"], *sizes[f"t{i:02}"]] for i in range(24)]) / 100
    assert checks.constant_boxes(truth, {"cat": detections(scaled)}, {}) == []
    assert len(checks.constant_boxes(truth, {"cat": detections(scaled)}, sizes)) == 1


def test_results_of_other_images_with_the_same_names(data: Path) -> None:
    truth = voc.read_ground_truth(data / "Annotations", data / "ImageSets/Main/test.txt")
    objects = np.array([box_of(i) for i in range(24)], float)
    assert checks.other_images(truth, {"cat": detections(objects)}) == []
    assert checks.other_images(truth, {"cat": detections(objects + 4)}) == [], "poor, but of these images"
    mixed = np.random.default_rng(2).permutation(24)
    (warning,) = checks.other_images(truth, {"cat": detections(objects[mixed]), HOSTILE: detections(objects, 0.1)})
    assert "do not fit the objects of their own image better than those of other images" in warning
    assert checks.other_images(truth, {"cat": detections(objects[mixed][:7])}) == [], "too few images to say it"
    assert checks.other_images(truth, {}) == []


def test_detections_outside_of_their_images() -> None:
    boxes = np.array([box_of(i) for i in range(24)], float)
    sizes = dict.fromkeys((f"t{i:02}" for i in range(24)), (120, 90))
    assert checks.outside({"cat": detections(boxes)}, sizes) == []
    (warning,) = checks.outside({"cat": detections(boxes + np.arange(24)[:, None] // 23 * 90)}, sizes)
    assert warning.startswith("1 of 24 detections have their center outside the image, such as in “t23”.")
    assert checks.outside({"cat": detections(boxes + 500)}, {}) == []


def test_list_of_sizes_of_other_images(tmp_path: Path) -> None:
    path = tmp_path / "test_name_size.txt"
    path.write_text("t00 90 120\nt01 120 90\n")
    (warning,) = checks.listed_sizes(path, {"t00": (120, 90), "t01": (120, 90), "t02": (5, 5)})
    assert "is wrong for 1 of 3 images: “t01” has 120 × 90 pixels, not 90 × 120" in warning
    assert checks.listed_sizes(path, {"t00": (120, 90)}) == []
    assert checks.listed_sizes(tmp_path / "gone.txt", {"t00": (120, 90)}) == []


def test_what_a_run_was_made_with(data: Path, tmp_path: Path) -> None:
    for name, line in (("new", "Made with mdssd-caffe 0.1.0, PyTorch 2.13, commit 1a2b<b>"), ("old", "Use CPU.")):
        folder = tmp_path / name / "log"
        folder.mkdir(parents=True)
        prefix = "I20261126 10:00:00.000000     7 train.py:1] "
        (folder / "caffe.INFO").write_text(
            "".join(f"{prefix}{each}\n" for each in (line, "Solving net", "Made with lies", "Iteration 0, loss = 4"))
        )
    assert find_run("m", tmp_path / "new").made_with == "mdssd-caffe 0.1.0, PyTorch 2.13, commit 1a2b<b>"
    assert find_run("m", tmp_path / "old").made_with == ""
    out = tmp_path / "r.html"
    assert main(["-voc", str(data), "-out", str(out), str(tmp_path / "new"), str(tmp_path / "old")]) == 0
    text = out.read_text()
    assert "trained with mdssd-caffe 0.1.0, PyTorch 2.13, commit 1a2b&lt;b&gt;" in text
    assert "trained with unknown versions: there is no log that names them" in text


def test_silent_classes(data: Path) -> None:
    truth = voc.read_ground_truth(data / "Annotations", data / "ImageSets/Main/test.txt")
    low = detections(np.array([box_of(i) for i in range(24)], float), 0.31)
    first, second = checks.silent_classes(truth, {"cat": low})
    assert "No detection at all of “<script>" in first
    assert "No score is over 0.5 (the highest is 0.31)" in second


def test_images_of_training_among_the_test_images(data: Path, tmp_path: Path) -> None:
    folder = tmp_path / "images"
    shutil.copytree(data / "JPEGImages", folder)
    shutil.copy(folder / "t05.jpg", folder / "copy.jpg")
    (folder / "new.jpg").write_bytes(b"x" + (folder / "t06.jpg").read_bytes()[1:])
    (tmp_path / "train.txt").write_text("copy\nnew\nt07\nmissing\n")
    names = [f"t{i:02}" for i in range(24)]
    (warning,) = checks.shared_images(Images(folder), names, tmp_path / "train.txt")
    assert "1 with the same name, such as “t07”" in warning
    assert "1 with the same content, such as “copy” and “t05”" in warning
    (tmp_path / "train.txt").write_text("new\n")
    assert checks.shared_images(Images(folder), names, tmp_path / "train.txt") == []


def test_best_score_of_a_class(data: Path, tmp_path: Path) -> None:
    truth = voc.read_ground_truth(data / "Annotations", data / "ImageSets/Main/test.txt")
    (tmp_path / "cat.txt").write_text(
        "".join(
            f"t{i:02} {score} {' '.join(map(str, box_of(i if right else i + 5)))}\n"
            for i, score, right in ((0, 0.9, True), (2, 0.8, True), (4, 0.7, False), (6, 0.7, True), (8, 0.2, False))
        )
    )
    analysis = analyze(
        Run("m", tmp_path, results={"cat": tmp_path / "cat.txt"}), truth, eleven_points=True, threshold=0.5
    )
    best = analysis.operating["cat"]
    # 3 of 4 right at 0.7, of 12 objects: F1 6/16; equal scores are taken together.
    assert best.score == pytest.approx(0.7)
    assert (best.precision, best.recall, best.f1) == pytest.approx((3 / 4, 3 / 12, 6 / 16))


def test_interval_over_seeds() -> None:
    assert interval([0.5]) is None
    found = interval([0.895, 0.883, 0.877])
    assert found is not None
    assert found[0] == pytest.approx(0.885)
    assert found[1] == pytest.approx(4.303 * np.std([0.895, 0.883, 0.877], ddof=1) / np.sqrt(3), rel=1e-6)


@pytest.mark.parametrize("row", ['{"reached": []}', '{"reached": null}', "{}", '{"reached": 1' + "0" * 400 + "}"])
def test_other_values_in_reach_json_are_not_drawn(tmp_path: Path, row: str) -> None:
    folder = results(tmp_path / "run")
    (folder / "reach.json").write_text(f'{{"net": {{"by size": {{"0-8": {row}, "8-16": {{"reached": 0.5}}}}}}}}')
    figure = reach_figure({"run": find_run("run", folder).boxes or {}})
    assert figure is not None
    (line,) = figure.axes[0].lines
    np.testing.assert_array_equal(np.asarray(line.get_ydata()), [np.nan, 50.0])


def test_unfinished_run(data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "run" / "log").mkdir(parents=True)
    (tmp_path / "run" / "solver.prototxt").write_text(
        'test_net: "gone.prototxt" max_iter: 500 display: 10 random_seed: 3'
    )
    (tmp_path / "run" / "log" / "metrics.csv").write_text(
        "iteration,seconds,phase,loss,learning_rate,images_per_second,detection_eval\n"
        "0,1,train,9.5,0.1,4,\n10,2,train,8.5,0.1,4,\n20,3,test,,,,0.25\n30,3,tra"
    )
    out = tmp_path / "r.html"
    assert main(["-voc", str(data), "-out", str(out), str(tmp_path / "run")]) == 0
    assert "run: not scored yet" in capsys.readouterr().out
    text = out.read_text()
    assert "is unfinished: 20 of 500 iterations." in text
    assert "There are no result files yet" in text


@pytest.mark.parametrize(
    ("file", "line", "message"),
    [
        ("results/comp4_det_test_cat.txt", "elsewhere 0.5 1 1 9 9\n", "not in the image list, e.g. 'elsewhere'"),
        ("results/comp4_det_test_cat.txt", "t00 nan 1 1 9 9\n", "finite"),
        ("results/comp4_det_test_cow.txt", "", "are the results of another data set?"),
        ("log/metrics.csv", "a,b\n1,2\n", "its first columns are not"),
        ("notes.txt", "", "is it the directory of a run?"),
        (
            "results/comp4_det_test_cat.txt",
            "t00 0.9 1 1 9 9\nt02 0.8 1 1",
            "line 2: 't02 0.8 1 1' is not `image score xmin",
        ),
        ("reach.json", '{"net": {"by size": {"all": 3}}}', "is not the JSON that design_boxes writes"),
        ("reach.json", '{"net": {', "is not JSON"),
    ],
)
def test_bad_input(
    file: str, line: str, message: str, data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "run" / file
    path.parent.mkdir(parents=True)
    path.write_text(line)
    assert main(["-voc", str(data), "-out", str(tmp_path / "r.html"), f"m={tmp_path / 'run'}"]) == 1
    err = capsys.readouterr().err
    assert message in err
    assert err.count("\n") == 1
    assert "Traceback" not in err
    assert not (tmp_path / "r.html").exists()


def test_refused_before_the_analysis(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """What would only come up after minutes of analysis is checked first."""
    run = str(results(tmp_path / "run"))
    (tmp_path / "file").touch()
    (tmp_path / "images").mkdir()
    shutil.copy(data / "JPEGImages" / "t00.jpg", tmp_path / "images")
    (tmp_path / "speed.json").write_text(
        '{"machine": "m", "precision": "p", "models": [{"name": "a", "input": "b", "net": NaN, "nms": 1, '
        '"decoding_nms": 1, "parameters": 1, "operations": 1}]}'
    )
    monkeypatch.setattr("caffe.report.analysis.analyze", lambda *_, **__: pytest.fail("analyzed"))
    for flags, message in (
        (["-out", str(tmp_path)], "it is a directory"),
        (["-out", str(tmp_path / "file" / "r.html")], "is not a directory"),
        (["-images", str(tmp_path / "images")], "image 't01' is not in"),
        (["-images", str(tmp_path / "images")], "(23 missing in all)"),
        (["-speed", str(tmp_path / "speed.json")], "is not the JSON that scripts/speed.sh -json writes"),
    ):
        assert main(["-voc", str(data), "-out", str(tmp_path / "r.html"), *flags, run]) == 1
        err = capsys.readouterr().err
        assert message in err
        assert err.count("\n") == 1
    assert sorted(path.name for path in tmp_path.iterdir()) == ["file", "images", "run", "speed.json"]


def test_result_file_that_is_cut_within_its_last_number(data: Path, tmp_path: Path) -> None:
    """Such a line reads like a whole one, so that only the missing line break says it."""
    run = results(tmp_path / "run")
    file = run / "results" / "comp4_det_test_cat.txt"
    assert checks.unended_files([file]) == []
    file.write_text(file.read_text()[:-2])
    assert main(["-voc", str(data), "-out", str(tmp_path / "r.html"), str(run)]) == 0
    assert "The last line of “comp4_det_test_cat.txt” does not end." in (tmp_path / "r.html").read_text()
    file.write_text("")
    assert checks.unended_files([file]) == []


def test_verdict() -> None:
    def model(name: str, *scores: float, classes: tuple[str, ...] = ("cat",)) -> page.Model:
        analyses: list[Any] = [Scored(score, dict.fromkeys(classes)) for score in scores]
        return page.Model(name, [], analyses)

    first, second = model("a", 0.80, 0.81, 0.82), model("b", 0.70, 0.71, 0.72)
    assert page._verdict([second, first]) == (
        "a has the highest mAP, 10.0 points above b. Their intervals over seeds do not overlap."
    )
    assert page._verdict([first, model("c", 0.80, 0.82, 0.79)]).endswith("overlap: it may be chance.")
    assert "whether another seed would say the same" in page._verdict([first, model("c", 0.5)])
    assert page._verdict([first, model("c", 0.81)]) == "a and c have the same mAP."
    assert page._verdict([first]) == ""
    assert page._verdict([first, model("c", 0.5, classes=("cat", "dog"))]) == ""


def test_too_many_detections(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """As of result files with ten million lines; the limit is lowered here."""
    monkeypatch.setattr("caffe.detection.coco._MOST_DETECTIONS", 10)
    assert main(["-voc", str(data), "-out", str(tmp_path / "r.html"), str(results(tmp_path / "run"))]) == 1
    err = capsys.readouterr().err
    assert "24 detections are too many to score" in err
    assert err.count("\n") == 1
    assert not (tmp_path / "r.html").exists()
