"""Where the checkout is, and what its generators emit."""

from __future__ import annotations

import contextlib
import shutil
import tempfile
from functools import cache
from pathlib import Path
from typing import Any

from google.protobuf import text_format

from caffe.proto import caffe_pb2
from prototxt_gen.command_line import main
from prototxt_gen.dsod300 import DSOD300
from prototxt_gen.dssd321 import DSSD321
from prototxt_gen.dssd513 import DSSD513
from prototxt_gen.mdssd300 import MDSSD300
from prototxt_gen.mdssd512 import MDSSD512
from prototxt_gen.network import Network
from prototxt_gen.ssd300 import SSD300
from prototxt_gen.ssd321 import SSD321
from prototxt_gen.ssd512 import SSD512
from prototxt_gen.ssd513 import SSD513

ROOT = Path(__file__).resolve().parent.parent.parent
NETWORKS: dict[str, Network] = {network.name: network for network in (SSD300, SSD512, MDSSD300, MDSSD512)}
#: those that the paper compares with
OTHERS: dict[str, Network] = {network.name: network for network in (SSD321, SSD513, DSSD321, DSSD513, DSOD300)}
KINDS = ("train", "test", "deploy", "solver")


def copy_label_maps(folder: Path) -> None:
    """The label maps of VOC and COCO, where the generators look for them."""
    (folder / "models").mkdir()
    for name in ("voc", "coco"):
        shutil.copy(ROOT / "models" / f"labelmap_{name}.prototxt", folder / "models")


@cache
def generated_text(network: str, dataset: str, kind: str, *flags: str) -> str:
    """A file of models/ as a run without further flags writes it, or one that a run with `flags` writes."""
    with tempfile.TemporaryDirectory() as name, contextlib.chdir(name), contextlib.redirect_stdout(None):
        copy_label_maps(Path(name))
        assert main({**NETWORKS, **OTHERS}[network], ["--dataset", dataset.lower(), *flags]) == 0
        return Path("jobs" if flags else "models", network, dataset, f"{kind}.prototxt").read_text()


def generated(network: str, dataset: str, kind: str, *flags: str) -> Any:
    """The same, parsed; a message of its own for each caller."""
    message = caffe_pb2.SolverParameter() if kind.startswith("solver") else caffe_pb2.NetParameter()
    return text_format.Parse(generated_text(network, dataset, kind, *flags), message)
