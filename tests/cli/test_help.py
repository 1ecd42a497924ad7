"""Every command, script and generator answers --help with an example and status 0, and does nothing else."""

from __future__ import annotations

import argparse
import importlib
import re
import shutil
import sys
import tomllib
from functools import partial
from pathlib import Path

import pytest

from caffe.cli import caffe
from caffe.cli.flags import LABEL_MAP, WEIGHTS, FlagParser
from prototxt_gen.command_line import main as generate
from prototxt_gen.ssd300 import SSD300
from tests.processes import ROOT, run

SCRIPTS = {
    name: entry.partition(":")[0]
    for name, entry in tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["scripts"].items()
}
COMMANDS = {**SCRIPTS, **{f"caffe {command}": f"caffe.cli.{command}" for command in caffe.COMMANDS}}
#: modules that are commands under another name
WRAPPERS = {"detect.sh": "ssd_detect", "get_voc.sh": "download_voc", "get_weights.sh": "get_weights"}
PROGRAMS = [
    *sorted((ROOT / "scripts").glob("*")),
    *sorted((ROOT / "demo").glob("*.py")),
    *sorted((ROOT / "demo/pretrain").glob("*.*")),
    *sorted((ROOT / "prototxt_gen").glob("*.py")),
]


def is_program(path: Path) -> bool:
    """Whether it is a program: a script, or a module with a main part."""
    if path.suffix == ".py":
        return "\nif __name__ ==" in path.read_text()
    return path.is_file() and path.suffix != ".caffemodel"


def has_example(text: str, *names: str) -> bool:
    """A line that calls it by one of its names, except the usage line."""
    call = "|".join(re.escape(name) for name in names)
    return re.search(rf"^(?!usage:).*(^|[ /])({call}) ", re.sub(r"$", " ", text, flags=re.M), re.M) is not None


@pytest.mark.parametrize("name", COMMANDS)
def test_commands(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    try:
        status = importlib.import_module(COMMANDS[name]).main(["--help"])
    except SystemExit as ended:
        status = ended.code
    out, err = capsys.readouterr()
    assert (status, err) == (0, "")
    assert re.search(rf"^usage: {name} ", out, re.M)
    assert has_example(out, name)
    assert list(tmp_path.iterdir()) == []


def test_precisions_are_the_engines() -> None:
    from caffe.cli.flags import PRECISIONS
    from caffe.engine import acceleration

    assert acceleration.PRECISIONS == PRECISIONS


#: what takes time to load, and no command needs for its help
HEAVY = {
    "PIL", "cv2", "h5py", "jinja2", "lmdb", "matplotlib", "onnx", "onnxruntime", "pycocotools", "safetensors", "torch",
    "yaml",
}  # fmt: skip


@pytest.mark.parametrize("name", COMMANDS)
def test_help_loads_nothing_heavy(name: str) -> None:
    """Help must not wait for what decodes images, runs nets, draws plots, or reads other formats."""
    program = (
        "import importlib, sys\n"
        f"try: importlib.import_module({COMMANDS[name]!r}).main(['--help'])\n"
        "except SystemExit: pass\n"
        "print('loaded:', *sys.modules)"
    )
    done = run([sys.executable, "-c", program], seconds=60)
    assert done.returncode == 0
    loaded = set(done.stdout.splitlines()[-1].split())
    assert "caffe.cli" in loaded
    assert loaded & HEAVY == set()


class Parsed(Exception):
    """Ends a command when it parses its flags."""


@pytest.mark.parametrize("name", [*COMMANDS, "generator"])
def test_a_label_map_and_weights_have_the_same_names_everywhere(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Names of the original's commands and of their relatives, with one dash or two, with - or _."""
    seen: list[FlagParser] = []

    def parse(parser: FlagParser, *_: object) -> None:
        seen.append(parser)
        raise Parsed

    monkeypatch.setattr(FlagParser, "parse_known_args", parse)
    main = partial(generate, SSD300) if name == "generator" else importlib.import_module(COMMANDS[name]).main
    if name == "caffe":
        assert main(["--help"]) == 0
        return
    with pytest.raises(Parsed):
        main([])
    (parser,) = seen
    actions = parser._option_string_actions
    for names in (LABEL_MAP, WEIGHTS):
        own = [
            action for option, action in actions.items()
            if option.lstrip("-").replace("-", "_") in names and action.help != argparse.SUPPRESS
        ]  # fmt: skip
        for spelling in names if own else ():
            for word in (spelling, spelling.replace("_", "-")):
                for dashes in ("-", "--"):
                    assert parser._own_name(f"{dashes}{word}=x").endswith("=x")
                    assert actions[parser._own_name(f"{dashes}{word}")] is own[0]


def test_values_are_not_flags() -> None:
    parser = FlagParser("x")
    parser.flag("label_map_file", aliases=LABEL_MAP, help="")
    parser.flag("max_iter", type=int, help="")
    parser.add_argument("file")
    flags = parser.parse_args(["label-map", "--labelmap=a-b_c", "-max-iter", "-3"])
    assert (flags.file, flags.label_map_file, flags.max_iter) == ("label-map", "a-b_c", -3)


@pytest.mark.parametrize(
    "program", [path for path in PROGRAMS if is_program(path)], ids=lambda path: str(path.relative_to(ROOT))
)
def test_programs(program: Path, tmp_path: Path) -> None:
    """In a copy of the checkout, where any change would be noticed."""
    checkout, home = tmp_path / "checkout", tmp_path / "home"
    for folder in ("scripts", "demo", "prototxt_gen"):
        shutil.copytree(ROOT / folder, checkout / folder, ignore=shutil.ignore_patterns("*.caffemodel", "__pycache__"))
    home.mkdir()
    before = sorted(tmp_path.rglob("*"))
    inside = program.relative_to(ROOT)
    command = [sys.executable, inside] if program.suffix == ".py" else [checkout / inside]
    environment = {"HOME": str(home), "PYTHON": sys.executable, "PYTHONDONTWRITEBYTECODE": "1"}
    done = run([*command, "--help"], cwd=checkout, env=environment, seconds=60)
    assert (done.returncode, done.stderr) == (0, "")
    assert re.search(r"^usage: ", done.stdout, re.M)
    assert has_example(done.stdout, program.name, WRAPPERS.get(program.name, program.stem))
    assert sorted(tmp_path.rglob("*")) == before


def test_parts_of_scripts_are_no_commands() -> None:
    for part in (ROOT / "scripts/lib").iterdir():
        assert not part.stat().st_mode & 0o111
    for program in PROGRAMS:
        if program.suffix == ".sh":
            assert program.stat().st_mode & 0o111


@pytest.mark.parametrize("words", [["--version"], ["-version"], ["version"], ["train", "--version"]])
def test_versions(words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    import caffe as pycaffe

    try:
        status: str | int | None = caffe.main(words)
    except SystemExit as ended:
        status = ended.code
    assert status == 0
    package = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]
    first, second = capsys.readouterr().out.splitlines()
    assert first.startswith(f"caffe version {pycaffe.__version__} (")
    assert second.startswith(f"mdssd-caffe version {package} (this package), with PyTorch 2.")
