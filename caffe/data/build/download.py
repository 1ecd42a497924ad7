"""Downloads that resume, are checked, and are unpacked safely."""

from __future__ import annotations

import hashlib
import os
import shutil
import tarfile
import urllib.error
import urllib.request
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from tqdm import tqdm

from caffe.errors import DataError

_CHUNK = 1 << 20
_TIMEOUT_SECONDS = 60


@dataclass(frozen=True)
class Archive:
    """A file on a server, and the MD5 or SHA-256 sum of what it should be; neither where none is known.

    `sha256` may be its beginning: some files have the first digits in their names.
    """

    path: str
    md5: str | None = None
    sha256: str | None = None

    @property
    def name(self) -> str:
        return PurePosixPath(self.path).name

    def wrong(self, file: Path) -> tuple[str, str, str] | None:
        """The kind of sum, the file's and the one that it should have, unless they agree or none is known."""
        for kind, name, wanted in (("md5", "MD5", self.md5), ("sha256", "SHA-256", self.sha256)):
            if wanted is not None and not (found := _sum(file, kind)).startswith(wanted):
                return name, found, wanted
        return None


def download(archive: Archive, server: str, folder: Path) -> Path:
    """Downloads an archive into `folder`, resuming an earlier attempt. Raises DataError if that fails or the sum
    differs.

    Until it is complete and checked, the file is named <archive>.part.
    """
    whole, part = folder / archive.name, folder / f"{archive.name}.part"
    if whole.is_file():
        if (differs := archive.wrong(whole)) is None:
            print(f"{whole} is already there")
            return whole
        raise DataError(
            f"'{whole}' is not the published archive (its {differs[0]} sum differs). Remove it and run this again"
        )
    try:
        folder.mkdir(parents=True, exist_ok=True)
        _fetch(f"{server.rstrip('/')}/{archive.path}", part)
    except urllib.error.HTTPError as error:
        raise DataError(
            f"{error.url}: the server answers {error.code} {error.reason}. -server names a mirror"
        ) from None
    except urllib.error.URLError as error:
        raise DataError(
            f"cannot reach {server}: {error.reason}. Is this machine online? Name a mirror with -server, or put "
            f"{archive.name} into {folder} yourself"
        ) from None
    except (TimeoutError, ConnectionError) as error:
        raise DataError(f"the connection to {server} was lost ({error}). Run this again to resume it") from None
    except OSError as error:
        raise DataError(f"cannot write '{part}': {error.strerror}") from None
    if (differs := archive.wrong(part)) is not None:
        part.unlink()
        kind, found, wanted = differs
        raise DataError(
            f"{archive.name}: what {server} sent has {kind} {found}, the published archive {wanted}. It was removed; "
            "try again, or another -server"
        )
    os.replace(part, whole)
    return whole


def _fetch(url: str, part: Path) -> None:
    """Appends to `part` what it still lacks of `url`."""
    start = part.stat().st_size if part.is_file() else 0
    request = urllib.request.Request(url, headers={"Range": f"bytes={start}-"} if start else {})
    try:
        response = urllib.request.urlopen(request, timeout=_TIMEOUT_SECONDS)
    except urllib.error.HTTPError as error:
        if error.code == 416 and start:
            return  # nothing left to send: the part is complete, or the check will show that it is not
        raise
    with response:
        if response.status != 206:
            start = 0  # a server that cannot resume sends everything
        length = int(response.headers.get("Content-Length") or 0)
        with (
            open(part, "ab" if start else "wb") as file,
            tqdm(
                total=start + length or None, initial=start, unit="B", unit_scale=True, desc=part.stem, disable=None
            ) as progress,
        ):
            received = 0
            while chunk := response.read(_CHUNK):
                file.write(chunk)
                received += len(chunk)
                progress.update(len(chunk))
        if received < length:
            raise ConnectionError(f"received {received:,} of {length:,} bytes")


def _sum(path: Path, kind: str) -> str:
    digest = hashlib.new(kind, usedforsecurity=False)
    with (
        open(path, "rb") as file,
        tqdm(
            total=path.stat().st_size, unit="B", unit_scale=True, desc="checking", disable=None, leave=False
        ) as progress,
    ):
        while chunk := file.read(_CHUNK):
            digest.update(chunk)
            progress.update(len(chunk))
    return digest.hexdigest()


def unpack(archive: Path, folder: Path) -> None:
    """Unpacks a tar into `folder`, once (a marker file records it). Only plain files and directories are accepted."""
    note = folder / f".{archive.name}.unpacked"
    if note.exists():
        print(f"{archive.name} is already unpacked")
        return
    try:
        with tarfile.open(archive) as tar:
            for member in tqdm(tar, desc=f"unpacking {archive.name}", unit=" files", disable=None):
                target = folder / member.name
                if not target.resolve().is_relative_to(folder.resolve()) or not (member.isreg() or member.isdir()):
                    raise DataError(f"'{archive}' holds '{member.name}', which is not a plain file below its directory")
                if member.isdir():
                    target.mkdir(parents=True, exist_ok=True)
                    continue
                target.parent.mkdir(parents=True, exist_ok=True)
                source = tar.extractfile(member)
                assert source is not None
                with source, open(target, "wb") as file:
                    shutil.copyfileobj(source, file, _CHUNK)
        note.touch()
    except (tarfile.TarError, EOFError) as error:
        raise DataError(f"cannot unpack '{archive}': {error}") from None
    except OSError as error:
        raise DataError(f"cannot unpack '{archive}' into '{folder}': {error.strerror or error}") from None
