"""`caffe <command>`: the program's commands, each in a module of its own."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from difflib import get_close_matches
from importlib import import_module

USAGE = """\
caffe: train, score and time networks described by prototxt files

usage: caffe <command> <flags>

commands:
  train           train or finetune a model
  test            score a model
  time            benchmark model execution time, layer by layer
  speed           measure the images a second of whole detectors
  report          make one HTML page about trained detectors
  device_query    show GPU diagnostic information
  export_onnx     write a model for ONNX Runtime and other software
  score_onnx      score exported detectors in ONNX Runtime, and time them
  import_weights  make a .caffemodel from the weights of another framework
  export_weights  write a .caffemodel as the weights of another framework
  check_nets      say which prototxts build and run, and what the others lack
  version         show the versions of Caffe, of this package and of PyTorch

'caffe <command> --help' shows a command's flags. They may be written -flag value, --flag value or --flag=value.

  caffe train -solver models/SSD300/VOC/solver.prototxt -weights VGG_ILSVRC_16_layers_fc_reduced.caffemodel
  caffe train -solver solver.prototxt -snapshot snapshots/mdssd_iter_2000.solverstate -gpu 0,1
  caffe test  -model test.prototxt -weights mdssd_iter_120000.caffemodel -iterations 619 -gpu 0
  caffe time  -model deploy.prototxt -phase TEST
  caffe report -voc VOCdevkit/VOC2007 MDSSD300=models/MDSSD300/VOC
  caffe export_onnx -model deploy.prototxt -weights mdssd_iter_120000.caffemodel -out mdssd.onnx
"""

COMMANDS = (
    "train", "test", "time", "speed", "report", "device_query", "export_onnx", "score_onnx",
    "import_weights", "export_weights", "check_nets", "version",
)  # fmt: skip


def _split(argv: Sequence[str]) -> tuple[str | None, list[str]]:
    """The command's name and the other arguments; flags may stand before the command."""
    for i, word in enumerate(argv):
        previous = argv[i - 1] if i else ""
        if not word.startswith("-") and (i == 0 or not previous.startswith("-") or "=" in previous or word in COMMANDS):
            return word, [*argv[:i], *argv[i + 1 :]]
    return None, list(argv)


def main(argv: Sequence[str] | None = None) -> int:
    """Runs a command; its exit status."""
    words = list(sys.argv[1:] if argv is None else argv)
    command, rest = _split(words)
    if command is None and any(word.lstrip("-") == "version" for word in words):
        command, rest = "version", []
    if command is None:
        print(USAGE, end="")
        return 0 if any(word.lstrip("-") in ("help", "h") for word in words) else 1
    if command not in COMMANDS:
        near = get_close_matches(command, COMMANDS, n=1)
        hint = f"; did you mean '{near[0]}'?" if near else ""
        print(
            f"caffe: unknown action: {command}{hint}\nAvailable caffe actions: {', '.join(COMMANDS)}", file=sys.stderr
        )
        return 1
    # Imported on demand: `caffe --help` need not wait for PyTorch.
    run: Callable[[Sequence[str]], int] = import_module(f"caffe.cli.{command}").main
    return run(rest)


if __name__ == "__main__":
    sys.exit(main())
