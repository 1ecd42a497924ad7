"""Steps are done once, and again when what they depend on has changed; training goes on from its snapshots."""

from __future__ import annotations

import subprocess
import sys
from fractions import Fraction
from pathlib import Path

import pytest

from caffe.errors import CaffeError
from caffe.recipe.commands import Place, Step
from caffe.recipe.rule import Recipe, Weights
from caffe.recipe.steps import Steps, executable, fingerprint
from caffe.recipe.training import best_snapshot, keep_apart, newest, run_training

RECIPE = Recipe("ssd300", Weights(Path("w"), True, Fraction(1, 8), 300), Fraction(1, 8), 8, None, 400, "Adam",
                0.1, "", 100, None)  # fmt: skip


class Runner:
    """Records commands in place of running them, and ends them with a status."""

    def __init__(self, status: int = 0) -> None:
        self.ran: list[str] = []
        self.status = status

    def __call__(self, words: list[str]) -> int:
        self.ran.append(words[-1])
        return self.status


def do(out: Path, *steps: tuple[str, str], begin: str = "folder", runner: Runner | None = None) -> list[str]:
    """Calls steps of one command each, given by name and last word; returns what ran."""
    runner = runner or Runner()
    all_steps = Steps(out, len(steps), begin)
    for name, word in steps:
        all_steps(Step(name, name, (("convert_annoset", word),)), runner)
    return runner.ran


def test_done_steps_are_not_done_again(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert do(tmp_path, ("a", "1"), ("b", "2"), ("c", "3")) == ["1", "2", "3"]
    assert do(tmp_path, ("a", "1"), ("b", "2"), ("c", "3")) == []
    assert "[3/3] c: done before" in capsys.readouterr().out
    assert do(tmp_path, ("a", "1"), ("b", "other"), ("c", "3")) == ["other", "3"]
    assert do(tmp_path, ("a", "1"), ("b", "other"), ("c", "3"), begin="new photographs") == ["1", "other", "3"]
    (tmp_path / "steps.json").write_text("[")
    with pytest.raises(CaffeError, match="is damaged; remove it"):
        do(tmp_path)


def test_what_was_removed_is_made_again(tmp_path: Path) -> None:
    runner = Runner()
    step = Step("a", "a", (("convert_annoset", "1"),), (tmp_path / "lmdb",))
    (tmp_path / "lmdb").mkdir()
    for _ in range(2):
        Steps(tmp_path, 1, "")(step, runner)
    assert runner.ran == ["1"]
    (tmp_path / "lmdb").rmdir()
    Steps(tmp_path, 1, "")(step, runner)
    assert runner.ran == ["1", "1"]


def test_a_failure_is_the_end_and_is_done_again(tmp_path: Path) -> None:
    with pytest.raises(CaffeError, match=r"this command failed \(status 1\): convert_annoset 1"):
        do(tmp_path, ("a", "1"), ("b", "2"), runner=Runner(1))
    with pytest.raises(KeyboardInterrupt):
        do(tmp_path, ("a", "1"), ("b", "2"), runner=Runner(130))
    assert do(tmp_path, ("a", "1"), ("b", "2")) == ["1", "2"]


def test_the_script_repeats_the_commands(tmp_path: Path) -> None:
    out = tmp_path / "out"
    steps = Steps(out, 1, "")
    words = ("cp", str(tmp_path / "a file"), str(tmp_path / "copy"))
    (tmp_path / "a file").write_text("x")
    out.mkdir()
    steps(Step("copy", "Copy", (words,)))
    (tmp_path / "copy").unlink()
    subprocess.run([out / "commands.sh"], check=True)
    assert (tmp_path / "copy").read_text() == "x"


def test_programs_run_with_this_interpreter() -> None:
    assert executable(("python", "x.py", "-a")) == [sys.executable, "x.py", "-a"]
    assert executable(("caffe", "train")) == [sys.executable, "-P", "-m", "caffe.cli.caffe", "train"]


def test_changed_photographs_are_noticed(tmp_path: Path) -> None:
    (tmp_path / "a").write_text("1")
    before = fingerprint(tmp_path, tmp_path / "out")
    (tmp_path / "out").mkdir()
    (tmp_path / "out/b").write_text("1")
    assert fingerprint(tmp_path, tmp_path / "out") == before
    (tmp_path / "a").write_text("12")
    assert fingerprint(tmp_path, tmp_path / "out") != before


# ---- training


def model(out: Path, *iterations: int, net: str = "layer {}") -> Place:
    place = Place(out)
    place.model.mkdir(parents=True, exist_ok=True)
    (out / "log").mkdir(exist_ok=True)
    (place.model / "train.prototxt").write_text(f"# Made by: a command\n{net}\n")
    for each in iterations:
        for kind in ("caffemodel", "solverstate"):
            (place.model / f"ssd300_iter_{each}.{kind}").write_text("")
    return place


def log(place: Place, name: str, **scores: float) -> None:
    begin = "I20261126 00:00:00.000000  1 solver.cpp:1] "
    lines = [f"{begin}Solving x"]
    for iteration, score in scores.items():
        lines += [f"{begin}Iteration {iteration[1:]}, Testing net (#0)",
                  f"{begin}    Test net output #0: detection_eval = {score}"]  # fmt: skip
    (place.out / "log" / name).write_text("\n".join(lines) + "\n")


def test_snapshots_of_the_same_net_and_data_stay(tmp_path: Path) -> None:
    place = model(tmp_path)
    assert newest(place, RECIPE) == (0, None)
    keep_apart(place, "data")
    model(tmp_path, 100, 900, 1000)
    keep_apart(place, "data")
    assert newest(place, RECIPE) == (1000, place.model / "ssd300_iter_1000.solverstate")


@pytest.mark.parametrize(("data", "net"), [("more data", "layer {}"), ("data", "another net")])
def test_snapshots_of_others_are_put_aside(data: str, net: str, tmp_path: Path) -> None:
    place = model(tmp_path)
    keep_apart(place, "data")
    model(tmp_path, 100, net=net)
    log(place, "caffe.1.log", i100=0.5)
    keep_apart(place, data)
    assert newest(place, RECIPE) == (0, None)
    assert (tmp_path / "before_1/ssd300_iter_100.caffemodel").is_file()
    assert (tmp_path / "before_1/caffe.1.log").is_file()


def test_the_best_snapshot(tmp_path: Path) -> None:
    """Over the logs of several runs; a test whose snapshot is gone does not count, and of equals the latest is best."""
    place = model(tmp_path, 100, 200, 300)
    log(place, "caffe.1.log", i100=0.5, i200=0.7)
    log(place, "caffe.2.log", i300=0.7, i400=0.9)
    (place.out / "log/caffe.3.log").write_text("")
    path, why = best_snapshot(place, RECIPE)
    assert path.name == "ssd300_iter_300.caffemodel"
    assert why == "iteration 300 (mAP by iteration: 100: 50.0, 200: 70.0, 300: 70.0)"


def test_without_tests_the_last_snapshot_is_taken(tmp_path: Path) -> None:
    place = model(tmp_path, 7)
    assert best_snapshot(place, RECIPE)[0].name == "ssd300_iter_7.caffemodel"
    with pytest.raises(CaffeError, match="has no snapshot"):
        best_snapshot(model(tmp_path / "empty"), RECIPE)


_TRAINING = r"""
import sys
begin = "{}20261126 00:00:00.000000  1 solver.cpp:1] {}\n"
for level, text in (("I", "Creating Layer data"), ("I", "Initializing net from parameters:"),
                    ("I", "Iteration 50, loss = 2.5"), ("W", "a warning"),
                    ("I", "Iteration 60, Testing net (#0)"),
                    ("I", "    Test net output #0: detection_eval = 0.625")):
    sys.stderr.write(begin.format(level, text))
    if text.endswith(":"):
        sys.stderr.write("name: 'a net'\nlayer {}\n")
sys.stderr.write("caffe train: an error\n")
sys.exit(3)
"""


def test_progress_of_training(capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("caffe.recipe.training._EVERY", -1)
    assert run_training([sys.executable, "-c", _TRAINING], 100, 0) == 3
    out, err = capfd.readouterr()
    assert "50 of 100 iterations, loss 2.5" in out
    assert "test after 60 iterations: mAP 62.5" in out
    assert "a warning" in err
    assert "caffe train: an error" in err
    assert "Creating Layer" not in out + err
    assert "a net" not in out + err
