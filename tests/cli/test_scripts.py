"""The scripts: which Python they take, and which `caffe` command train.sh and speed.sh come to."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest

from tests import processes

SCRIPTS = processes.ROOT / "scripts"
#: a Python that has caffe, and prints what it is asked to run
GOOD = """#!/bin/sh
case "$*" in "-P -c import caffe._C") exit 0 ;; esac
[ "$0|$1|$2|$3" = "$0|-P|-m|caffe.cli.caffe" ] && shift 3
printf "%s|" "$@"
"""
#: one that has not
BAD = "#!/bin/sh\nexit 1\n"


def put(path: Path, text: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    path.chmod(0o755)
    return path


@pytest.fixture
def model(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A model folder, and a Python that prints the arguments of `caffe`."""
    monkeypatch.setenv("PYTHON", str(put(tmp_path / "bin" / "python", GOOD)))
    monkeypatch.chdir(tmp_path)
    folder = tmp_path / "m"
    folder.mkdir()
    (folder / "solver.prototxt").write_text('base_lr: 1\nsnapshot_prefix: "m/net x"\n')
    (folder / "deploy.prototxt").write_text("")
    return folder


def run(script: str, *words: str) -> subprocess.CompletedProcess[str]:
    return processes.run([SCRIPTS / script, *words])


def test_training_resumes_or_starts_from_the_weights(model: Path) -> None:
    done = run("train.sh", "m", "-weights", "v w.caffemodel", "-gpu", "0,1")
    begin = "train|-solver|m/solver.prototxt|-log_dir|m/log|"
    assert done.stdout == begin + "-snapshot|auto|-weights|v w.caffemodel|-gpu|0,1|"


def test_starting_again(model: Path) -> None:
    done = run("train.sh", "m", "-overwrite", "-gpu", "0")
    assert done.stdout == "train|-solver|m/solver.prototxt|-log_dir|m/log|-overwrite|-gpu|0|"


def test_train_a_solver_of_another_name(model: Path) -> None:
    (model / "solver.prototxt").rename(model / "solver_ft.prototxt")
    done = run("train.sh", "m/solver_ft.prototxt")
    assert done.stdout == "train|-solver|m/solver_ft.prototxt|-log_dir|m/log|-snapshot|auto|"


def test_dssd_goes_on_with_the_training_that_has_not_ended(model: Path) -> None:
    dssd = model.parent / "d"
    dssd.mkdir()
    (model / "solver.prototxt").write_text('max_iter: 9\nsnapshot_prefix: "m/net x"\n')
    (dssd / "solver.prototxt").write_text('max_iter: 8\nsnapshot_prefix: "d/net"\n')
    (dssd / "solver_ft.prototxt").write_text('max_iter: 7\nsnapshot_prefix: "d/net_ft"\n')
    arguments = ("train_dssd.sh", "m", "d", "r.caffemodel", "-gpu", "0")
    done = run(*arguments)
    assert (done.returncode, "r.caffemodel does not exist" in done.stderr) == (1, True)
    put(model.parent / "r.caffemodel", "")
    done = run(*arguments)
    assert done.stdout == "train|-solver|m/solver.prototxt|-log_dir|m/log|-snapshot|auto|-weights|r.caffemodel|-gpu|0|"
    assert (done.returncode, "m/net x_iter_9.caffemodel does not exist" in done.stderr) == (1, True)
    put(model / "net x_iter_9.caffemodel", "")
    done = run(*arguments)
    assert done.stdout.endswith(
        "train|-solver|d/solver.prototxt|-log_dir|d/log|-snapshot|auto|-weights|m/net x_iter_9.caffemodel|-gpu|0|"
    )
    put(dssd / "net_iter_8.caffemodel", "")
    done = run(*arguments)
    assert done.stdout.endswith(
        "train|-solver|d/solver_ft.prototxt|-log_dir|d/log|-snapshot|auto|-weights|d/net_iter_8.caffemodel|-gpu|0|"
    )
    put(dssd / "net_ft_iter_7.caffemodel", "")
    done = run(*arguments)
    assert (done.returncode, done.stdout.splitlines()[-1]) == (0, "DSSD is trained: d/net_ft_iter_7.caffemodel")


def test_speed(model: Path) -> None:
    done = run("speed.sh", "m", "-gpu", "0")
    assert done.stdout == "speed|m|-gpu|0|"


def test_comparing_networks(model: Path) -> None:
    done = run("compare_networks.sh", "my data", "--networks", "ssd300", "--quick")
    program = processes.ROOT / "experiments" / "small_objects" / "compare.py"
    assert done.stdout == f"-P|{program}|my data|--networks|ssd300|--quick|"
    done = run("compare_networks.sh")
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.startswith("usage: scripts/compare_networks.sh DATA")


def test_missing_model(model: Path) -> None:
    assert run("train.sh").returncode == 1
    done = run("train.sh", "nowhere")
    assert done.returncode == 1
    assert "nowhere/" in done.stderr


@pytest.fixture
def checkout(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A checkout with nothing but scripts, and an environment that names no Python besides a python3 without caffe."""
    shutil.copytree(SCRIPTS, tmp_path / "checkout" / "scripts")
    put(tmp_path / "usr" / "python3", BAD)
    for name in ("PYTHON", "VIRTUAL_ENV", "CONDA_PREFIX"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("PATH", f"{tmp_path / 'usr'}:{os.defpath}")
    monkeypatch.chdir(tmp_path)
    return tmp_path / "checkout"


#: where a Python may be, the first choice first
PLACES = {"PYTHON": "mine/python3.12", "VIRTUAL_ENV": "venv/bin/python", "CONDA_PREFIX": "conda/bin/python"}
COMMANDS = {
    "create_list.sh": ["a", "b"],
    "detect.sh": ["a", "b"],
    "get_voc.sh": ["a"],
    "score_coco.sh": ["a"],
    "score_voc.sh": ["a"],
    "speed.sh": ["m"],
    "train.sh": ["m"],
    "create_data.sh": ["-l", "lists", "-r", "r"],
}


@pytest.mark.parametrize("script", COMMANDS)
def test_every_script_finds_python_alike(script: str, checkout: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """PYTHON, the active environment, .venv, python3: the first that has caffe, but PYTHON whatever else there is."""
    where = checkout.parent
    for name in ("m/solver.prototxt", "m/deploy.prototxt", "lists/test.txt"):
        put(where / name, "")

    def taken() -> str:
        done = processes.run([checkout / "scripts" / script, *COMMANDS[script]])
        assert done.returncode == 0, done.stderr
        return done.stdout.splitlines()[-1].partition("|")[0]

    def good(name: str, place: str) -> None:
        put(where / place, GOOD.replace('printf "', f'printf "{name}|'))

    done = processes.run([checkout / "scripts" / script, *COMMANDS[script]])
    assert done.returncode == 1
    assert f"{script}: no Python with caffe installed; tried: {where}/usr/python3\n'make setup' in" in done.stderr
    good("python3", "usr/python3")
    put(checkout / ".venv/bin/python", BAD)  # half made
    assert taken() == "python3"
    good(".venv", "checkout/.venv/bin/python")
    assert taken() == ".venv"
    for name, before in (("CONDA_PREFIX", ".venv"), ("VIRTUAL_ENV", "CONDA_PREFIX")):
        put(where / PLACES[name], BAD)
        monkeypatch.setenv(name, str((where / PLACES[name]).parent.parent))
        assert taken() == before
        good(name, PLACES[name])
        assert taken() == name
    good("PYTHON", PLACES["PYTHON"])
    monkeypatch.setenv("PYTHON", PLACES["PYTHON"])  # relative to here
    assert taken() == "PYTHON"
    put(where / PLACES["PYTHON"], BAD)
    done = processes.run([checkout / "scripts" / script, *COMMANDS[script]])
    assert done.returncode == 1
    assert f"no Python with caffe installed; tried: PYTHON={where}/mine/python3.12\n" in done.stderr
