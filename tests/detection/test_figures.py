"""Plots: what they draw, on usual and on strange input, and that files and pages can hold them."""

from __future__ import annotations

import warnings
import xml.etree.ElementTree as ElementTree
from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np
import pytest
from matplotlib.figure import Figure

from caffe.detection import confusion, figures, hoiem, tide, voc
from tests.detection.made import made

STRANGE = ("$x_1$", "_hidden", "<script>alert(1)</script>", "猫", "a\\frac", "tab\tnew\nline", "long " * 40, "%s {0}")


@pytest.fixture(scope="module")
def data() -> tuple[voc.GroundTruth, dict[str, voc.Detections]]:
    return made(4, 40)


@pytest.fixture(scope="module")
def diagnoses(data: Any) -> list[hoiem.ClassDiagnosis]:
    return list(hoiem.diagnose(*data).values())


def texts(figure: Figure) -> list[str]:
    return [t.get_text() for t in figure.findobj(mpl.text.Text) if t.get_text()]


def test_size_figure_has_a_column_per_model(diagnoses: list[hoiem.ClassDiagnosis]) -> None:
    figure = figures.size_figure({"SSD300": diagnoses, "MDSSD300": diagnoses[:2]})
    assert [axes.get_title() for axes in figure.axes] == ["SSD300", "MDSSD300"]
    names = [t.get_text() for t in figure.axes[0].get_xticklabels()]
    assert names == [d.name for d in diagnoses]
    bars = [c for c in figure.axes[0].containers if isinstance(c, mpl.container.ErrorbarContainer)]
    drawn = [float(y) for bar in bars for y in np.asarray(bar.lines[0].get_ydata())]
    groups = [g for d in diagnoses for g in d.size if g.objects]
    assert sorted(drawn) == pytest.approx(sorted(g.average_precision for g in groups))
    heights = [float(np.ptp(segment[:, 1])) for bar in bars for segment in bar.lines[2][0].get_segments()]
    assert sorted(heights) == pytest.approx(sorted(2 * g.error for g in groups))
    # one of the three classes is drawn for one model only
    others = [c for c in figure.axes[1].containers if isinstance(c, mpl.container.ErrorbarContainer)]
    assert 0 < sum(np.size(bar.lines[0].get_ydata()) for bar in others) < len(drawn)


def test_many_classes_take_several_rows(diagnoses: list[hoiem.ClassDiagnosis]) -> None:
    renamed = [hoiem.ClassDiagnosis(**{**vars(diagnoses[i % 3]), "name": f"c{i}"}) for i in range(8)]
    assert len(figures.size_figure({"a": renamed, "b": renamed}).axes) == 4
    assert len(figures.aspect_figure({"a": renamed}).axes) == 2


def test_models_below_each_other(diagnoses: list[hoiem.ClassDiagnosis]) -> None:
    models = {name: diagnoses for name in ("a", "b", "c")}
    for draw in (figures.size_figure, figures.kinds_figure):
        figure = draw(models, across=2)
        assert [axes.get_title() for axes in figure.axes] == ["a", "b", "c", ""]
        assert [axes.axison for axes in figure.axes] == [True, True, True, False]
        assert figure.get_figwidth() < 0.7 * draw(models).get_figwidth()
        assert len(draw({"a": diagnoses}, across=2).axes) == 1


def test_kinds_at_each_rank(diagnoses: list[hoiem.ClassDiagnosis]) -> None:
    figure = figures.class_kinds_figure(diagnoses[:1])
    (loc, *_) = figure.axes[0].collections
    first = diagnoses[0].false_positives
    false = np.flatnonzero(np.any([first.kind(kind) for kind in ("loc", "sim", "oth", "bg")], axis=0))
    share = first.loc[false].mean()
    edge = np.asarray(loc.get_paths()[0].vertices)
    assert edge[edge[:, 0] == len(false)][:, 1].max() == pytest.approx(share)


def test_sensitivity_shows_the_impact(diagnoses: list[hoiem.ClassDiagnosis]) -> None:
    summary = hoiem.impact(diagnoses)
    shown = texts(figures.sensitivity_figure({"SSD": diagnoses}))
    for value in (summary["size"]["least"], summary["aspect"]["greatest"]):
        assert f"{value:.3f}" in shown
    assert f"SSD ({summary['all']['AP_N']:.3f})" in shown


def test_tide_figure(data: Any) -> None:
    result = tide.tide(*data)
    shown = texts(figures.tide_figure({"SSD": result}))
    for kind, error in result.errors.items():
        assert kind in shown
        assert f"{100 * error.delta:.1f}" in shown


def test_confusion_figure(data: Any) -> None:
    matrix = confusion.confusion_matrix(*data, score=0.2)
    shown = texts(figures.confusion_figure(matrix, "SSD"))
    assert {str(v) for v in matrix.counts[matrix.counts > 0].tolist()} <= set(shown)
    assert {"missed", "no object", "SSD", *matrix.names} <= set(shown)


def test_a_long_curve_is_thinned() -> None:
    count = 100_000
    score = voc.ClassScore("cat", 0.5, np.linspace(1, 0, count), np.linspace(0, 1, count), 10, count)
    (line,) = figures.curve_figure([score]).axes[0].lines
    x = np.asarray(line.get_xdata())
    assert len(x) < 5000
    assert x[[0, -1]].tolist() == [0, 1]


def test_nothing_to_draw(data: Any) -> None:
    truth, found = data
    empty = {name: voc.Detections((), np.zeros(0), np.zeros((0, 4))) for name in found}
    none = list(hoiem.diagnose(truth, empty).values())
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for models in ({"SSD": none}, {"SSD": list[hoiem.ClassDiagnosis]()}):
            for draw in (figures.size_figure, figures.kinds_figure, figures.sensitivity_figure):
                assert figures.svg(draw(models)).startswith("<svg")
        assert "no false positives" in texts(figures.kinds_figure({"SSD": none}))
        figures.svg(figures.tide_figure({"SSD": tide.tide(truth, empty)}))
        figures.svg(figures.confusion_figure(confusion.confusion_matrix(truth, empty)))
        figures.svg(figures.curve_figure([voc.score_class("cat", empty["cat"], truth, eleven_points=True)]))


def test_strange_names(data: Any, diagnoses: list[hoiem.ClassDiagnosis], recwarn: pytest.WarningsRecorder) -> None:
    truth, found = data
    renamed = [hoiem.ClassDiagnosis(**{**vars(diagnoses[i % 3]), "name": n}) for i, n in enumerate(STRANGE)]
    models = {STRANGE[0]: renamed[:2], STRANGE[1]: renamed[6:]}
    empty = np.zeros(0)
    plots = [
        figures.size_figure(models), figures.kinds_figure(models), figures.class_kinds_figure(renamed[:4], STRANGE[0]),
        figures.sensitivity_figure(models), figures.tide_figure({name: tide.tide(truth, found) for name in STRANGE}),
        figures.confusion_figure(
            confusion.ConfusionMatrix(STRANGE, np.ones((len(STRANGE) + 1,) * 2, np.int64), 0.5, 0.5)
        ),
        figures.curve_figure([voc.ClassScore(name, 0.5, empty, empty, 1, 0) for name in STRANGE]),
    ]  # fmt: skip
    for figure in plots:
        text = figures.svg(figure)
        assert "<script" not in text
        root = ElementTree.fromstring(text)
        assert root.tag == "{http://www.w3.org/2000/svg}svg"
        assert "currentColor" in text
    legend = plots[-1].axes[0].get_legend()
    assert legend is not None
    assert len(legend.get_texts()) == len(STRANGE)
    assert len(recwarn) == 0


@pytest.mark.parametrize("models", [1, 2])
def test_nothing_is_cut_off_or_covered(data: Any, diagnoses: list[hoiem.ClassDiagnosis], models: int) -> None:
    """Legends and labels are inside their figure, and no legend below the panels covers their labels."""
    diagnosed = {f"MDSSD300-{number}": diagnoses for number in range(models)}
    drawn = {
        "size": figures.size_figure(diagnosed),
        "sensitivity": figures.sensitivity_figure(diagnosed),
        "kinds": figures.kinds_figure(diagnosed),
        "kinds by class": figures.class_kinds_figure(diagnoses[:models]),
        "tide": figures.tide_figure({name: tide.tide(*data) for name in diagnosed}),
        "confusion": figures.confusion_figure(confusion.confusion_matrix(*data, score=0.5)),
    }
    for name, figure in drawn.items():
        figure.draw_without_rendering()
        whole = figure.bbox
        legends = [legend.get_window_extent() for legend in figure.legends]
        labels = [axes.xaxis.label.get_window_extent() for axes in figure.axes if axes.get_xlabel()]
        for box in (*legends, *labels):
            assert whole.x0 <= box.x0 < box.x1 <= whole.x1, name
            assert whole.y0 <= box.y0 < box.y1 <= whole.y1, name
        assert not [legend for legend in legends for label in labels if legend.overlaps(label)], name


def test_files(diagnoses: list[hoiem.ClassDiagnosis], tmp_path: Path) -> None:
    figure = figures.kinds_figure({"SSD": diagnoses})
    assert figures.save(figure, tmp_path, "kinds") == ["kinds.svg", "kinds.png"]
    assert sorted(p.name for p in tmp_path.iterdir()) == ["kinds.png", "kinds.svg"]
    assert (tmp_path / "kinds.png").read_bytes().startswith(b"\x89PNG")
    ElementTree.parse(tmp_path / "kinds.svg")
