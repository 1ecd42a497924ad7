#!/usr/bin/env python3
"""Downloads a data set of the experiment, checks it, and converts it to the layout of PASCAL VOC.

    python experiments/small_objects/get_data.py deeppcb ~/data/small_objects

creates ~/data/small_objects/deeppcb with JPEGImages, Annotations and ImageSets/Main. Without a network, --source names
the directory of a data set that was downloaded and unpacked elsewhere. `scenes` are drawn, not downloaded.

A data set is the tree of one commit. A server may compress that tree again at any time, so the checksum is not that of
the archive but of the tree: the SHA-256 of a list with the SHA-256 and the path of each file that is used.
"""

from __future__ import annotations

import argparse
import hashlib
import shutil
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

sys.path.append(str(Path(__file__).resolve().parent.parent.parent))

from tqdm import tqdm

from caffe.cli.flags import run
from caffe.data.build.download import Archive, download, unpack
from caffe.errors import DataError
from experiments.small_objects.commands import ROOT
from experiments.small_objects.voc_layout import convert

SERVER = "https://codeload.github.com"
#: scenes for training and for testing, and their seed, which differs from that of the pretrained net's scenes
SCENES = ("--train", "1200", "--test", "400", "--seed", "1")


@dataclass(frozen=True)
class Published:
    """A data set in a public repository (owner/name) at a commit: the parts used, their checksum, and the license."""

    repository: str
    commit: str
    parts: tuple[str, ...]
    sha256: str
    licence: str


PUBLISHED = {
    "bccd": Published(
        "Shenggan/BCCD_Dataset", "d272fb14cdff6e473fafeeeba32aba5f560e9e43", ("BCCD", "LICENSE"),
        "b5fa7e32e92e3cfdbc59cdfbc09b4ff959804ac2a06c7ed59f89833c1fd97879", "MIT",
    ),
    "deeppcb": Published(
        "tangsanli5201/DeepPCB", "08e98c4db5922613fb97176eb3d6497d48260cb1", ("PCBData", "LICENSE"),
        "f80e14cf4efde4a69b7b7bbbc9f868d4e2e369740c1e03a7f488cc361f69c87e",
        "MIT; its README asks that it be used for research only",
    ),
    "cells": Published(
        "maxKudi/Cell-Dataset", "f02ae84a70e99b24ea4551557bfacc6572a07648", ("Original Dataset", "LICENSE"),
        "09ccc41a7e44bf2a69ea350005b85974a9d81cbf2000d0bc51f0d63cf8079cb1", "MIT",
    ),
    "fod": Published(
        "thenorthwes/fodadataset", "39ed3b9d98a4c33e283963ae6a7a1e2b456bbdca",
        ("Annotations", "ImageSets", "JPEGImages"), "235f3934680b6271e1a4fafde6e3dcce394bd28065fcb9b3c486e868458fad48",
        "none in this copy; its authors' repository FOD-UNOmaha/FOD-data is under MIT",
    ),
}  # fmt: skip


def tree_sha256(folder: Path, parts: Sequence[str]) -> str:
    """Returns the SHA-256 of lines `<SHA-256 of a file>  <path>`, sorted by path, for the files in `parts`."""
    files = [
        path for part in parts for path in ([folder / part] if (folder / part).is_file() else _below(folder / part))
    ]
    names = sorted(path.relative_to(folder).as_posix() for path in files)
    total = hashlib.sha256()
    for name in tqdm(names, desc="checking", unit="file", disable=None, leave=False):
        digest = hashlib.sha256((folder / name).read_bytes()).hexdigest()
        total.update(f"{digest}  {name}\n".encode())
    return total.hexdigest()


def _below(folder: Path) -> list[Path]:
    return [path for path in folder.rglob("*") if path.is_file()]


def fetch(name: str, folder: Path) -> Path:
    """Downloads and unpacks a data set below `folder`. Returns its directory."""
    data = PUBLISHED[name]
    archives = folder / "archives"
    stem = f"{data.repository.partition('/')[2]}-{data.commit}"
    named = archives / f"{stem}.tar.gz"
    if not (archives / f".{named.name}.unpacked").exists():
        try:
            archive = download(Archive(f"{data.repository}/tar.gz/{data.commit}", None), SERVER, archives)
        except DataError as error:
            raise DataError(
                f"{str(error).partition('. ')[0]}. Without a network, download {data.repository} at commit "
                f"{data.commit} elsewhere, and pass its directory to --source"
            ) from None
        archive.rename(named)
        unpack(named, archives)
        named.unlink()
    return archives / stem


def check(name: str, source: Path) -> None:
    """Raises DataError unless the files that are used are those of the commit."""
    data = PUBLISHED[name]
    missing = [part for part in data.parts if not (source / part).exists()]
    if missing:
        raise DataError(f"'{source}' has no '{missing[0]}': it is not the tree of {data.repository}")
    found = tree_sha256(source, data.parts)
    if found != data.sha256:
        raise DataError(
            f"'{source}' does not contain the files of {data.repository} at {data.commit}: their SHA-256 is {found}, but "
            f"should be {data.sha256}. Remove the directory and download it again"
        )


def main(argv: Sequence[str] | None = None) -> int:
    """The command line; returns the exit status."""
    return run("get_data.py", _main, argv)


def _main(argv: Sequence[str]) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("name", choices=["scenes", *PUBLISHED], help="name of the data set")
    parser.add_argument("folder", type=Path, help="parent directory; the data set's directory in it gets its name")
    parser.add_argument("--source", type=Path, help="directory of the published data set, instead of downloading it")
    flags = parser.parse_args(argv)
    name, target = flags.name, flags.folder.expanduser() / flags.name
    if (target / "ImageSets" / "Main" / "test.txt").is_file():
        print(f"{target} already exists")
        return
    target.parent.mkdir(parents=True, exist_ok=True)
    partial = target.with_name(f"{name}.part")
    shutil.rmtree(partial, ignore_errors=True)
    if name == "scenes":
        command = [sys.executable, str(ROOT / "demo" / "scenes.py"), "--output", str(partial), *SCENES]
        if subprocess.run(command).returncode:
            raise DataError("the scenes could not be drawn")
    else:
        source = flags.source or fetch(name, target.parent)
        check(name, source)
        print(f"{PUBLISHED[name].repository}, license: {PUBLISHED[name].licence}")
        convert(name, source, partial)
    partial.rename(target)
    print(f"wrote {target}")


if __name__ == "__main__":
    raise SystemExit(main())
